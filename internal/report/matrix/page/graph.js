// The graph: namespaces as boxes, on a ring if they are few, else in shelves.
const edgeLimit = 1500;
let graph = null;
function showGraph() {
  const view = $("view");
  view.textContent = "";
  view.setAttribute("aria-label", "Graph");
  table = null;
  const ids = [...new Set([...shownRows, ...shownColumns])].sort((a, b) => a - b);
  if (!ids.length) { view.append(el("p", { class: "empty" }, "Nothing matches the filters.")); return; }
  let count = 0;
  for (const r of shownRows) for (const c of shownColumns) if (wanted(r, c) && connects(cellOf(r, c))) count++;
  const sets = count > 60 ? alike(ids) : ids.map(id => [id]);
  setOf = new Map();
  for (const set of sets) for (const id of set) setOf.set(id, set);
  let edges = [];
  for (const a of sets) for (const b of sets) {
    const [from, to] = a === b && a.length > 1 ? a : [a[0], b[0]];
    const l = seen(from, to);
    if (l && l.level !== "self") edges.push({ from, to, look: l });
  }
  const total = edges.length;
  if (total > edgeLimit) {
    edges = state.group === null ? [] : edges.filter(e => setOf.get(e.from).includes(state.group) || setOf.get(e.to).includes(state.group)).slice(0, edgeLimit);
    $("status").textContent = plural(total, "connection") + " are too many to draw at once: filter, or click a group to see its own";
  } else if (sets.length < ids.length) {
    $("status").textContent += " · groups that connect alike are drawn as one";
  }
  drawGraph(view, layout(sets, edges), edges, total > edgeLimit);
}
// seen is how a pair looks in the graph, null if it does not connect.
function seen(from, to) {
  if (!rowShown.has(from) || !columnShown.has(to) || !wanted(from, to)) return null;
  const id = cellOf(from, to);
  return id === null || lookAt(id).level === "closed" ? null : lookAt(id);
}
// alike puts groups of a namespace, and outside addresses, that connect to
// everybody in the same way into one set.
let setOf = new Map(), rowShown = new Set(), columnShown = new Set();
function alike(ids) {
  const text = (a, b) => { const l = seen(a, b); return l ? l.text : ""; };
  const twins = (a, b) => {
    const both = text(a, b);
    if (both !== text(b, a)) return false;
    for (const x of [a, b]) { const own = text(x, x); if (own !== "self" && own !== both && groups[x].pods) return false; }
    return ids.every(o => o === a || o === b || text(a, o) === text(b, o) && text(o, a) === text(o, b));
  };
  const byPlace = new Map();
  for (const id of ids) {
    const key = placeOf(groups[id]);
    if (!byPlace.has(key)) byPlace.set(key, []);
    const sets = byPlace.get(key), set = sets.find(s => twins(s[0], id));
    if (set) set.push(id); else sets.push([id]);
  }
  return [...byPlace.values()].flat();
}
const placeOf = g => g.space ? "n" + g.space : g.kind === "pods" || g.kind === "hostPods" ? "m" : "x" + g.kind;
const bare = g => g.short.replace(/ \(\d+ pods\)$/, "");
const setName = set => set.length === 1 ? groups[set[0]].short : set.length <= 3 ? set.map(id => bare(groups[id])).join(", ") : bare(groups[set[0]]) + ", " + bare(groups[set[1]]) + " +" + (set.length - 2);
const clip = (s, n) => s.length > n ? s.slice(0, n - 1) + "…" : s;
function layout(sets, edges) {
  const byKey = new Map();
  for (const set of sets) {
    const id = set[0], g = groups[id], name = setName(set), key = placeOf(g)[0] === "x" ? "x" + id : placeOf(g);
    if (!byKey.has(key)) byKey.set(key, { key, title: g.space || (key === "m" ? "several namespaces" : ""), nodes: [] });
    byKey.get(key).nodes.push({ id, set, text: clip(name, 34), w: Math.max(64, Math.min(34, name.length) * 7.4 + 24), h: 30 });
  }
  const boxes = [...byKey.values()], boxOf = new Map();
  for (const b of boxes) {
    const per = Math.max(4, Math.ceil(Math.sqrt(b.nodes.length * 2.2))), w = Math.max(...b.nodes.map(n => n.w)), top = b.title ? 34 : 0, pad = b.title ? 14 : 0;
    b.nodes.forEach((n, i) => { n.w = w; n.dx = pad + Math.floor(i / per) * (w + 14); n.dy = top + (i % per) * 42; for (const id of n.set) boxOf.set(id, b); });
    b.w = Math.max(pad * 2 + Math.ceil(b.nodes.length / per) * (w + 14) - 14, b.title.length * 8 + 28);
    b.h = top + Math.min(per, b.nodes.length) * 42 - 12 + pad;
  }
  const weight = new Map();
  for (const e of edges) {
    const a = boxOf.get(e.from), b = boxOf.get(e.to);
    if (a !== b) { const k = [boxes.indexOf(a), boxes.indexOf(b)].sort((x, y) => x - y).join(); weight.set(k, (weight.get(k) || 0) + 1); }
  }
  const pairs = [...weight].map(([k, n]) => [...k.split(",").map(Number), Math.min(n, 6)]);
  if (boxes.length <= 12) ring(boxes, pairs); else shelves(boxes);
  for (const b of boxes) for (const n of b.nodes) { n.x = b.x + n.dx; n.y = b.y + n.dy; }
  return boxes;
}
// ring puts the boxes on an ellipse, in the order that keeps connected ones
// close.
function ring(boxes, pairs) {
  const k = boxes.length, order = boxes.map((_, i) => i);
  const cost = o => { const at = []; o.forEach((b, i) => at[b] = i); return pairs.reduce((s, [a, b, n]) => { const d = Math.abs(at[a] - at[b]); return s + n * Math.min(d, k - d); }, 0); };
  for (let again = true, rounds = 0; again && rounds < 20; rounds++) {
    again = false;
    for (let i = 0; i < k; i++) for (let j = i + 1; j < k; j++) {
      const before = cost(order);
      [order[i], order[j]] = [order[j], order[i]];
      if (cost(order) < before) again = true; else [order[i], order[j]] = [order[j], order[i]];
    }
  }
  if (k === 1) { boxes[0].x = boxes[0].y = 0; return; }
  const W = Math.max(...boxes.map(b => b.w)), H = Math.max(...boxes.map(b => b.h));
  let rx = Math.max(250, W * k / 5.2), ry = Math.max(150, H * k / 4.6);
  for (let tries = 0; tries < 30; tries++) {
    order.forEach((b, i) => {
      const t = -Math.PI / 2 + (i + (k % 2 ? 0 : .5)) * 2 * Math.PI / k;
      boxes[b].x = rx * Math.cos(t) - boxes[b].w / 2;
      boxes[b].y = ry * Math.sin(t) - boxes[b].h / 2;
    });
    const clash = boxes.some((a, i) => boxes.some((b, j) => j > i && a.x < b.x + b.w + 50 && b.x < a.x + a.w + 50 && a.y < b.y + b.h + 40 && b.y < a.y + a.h + 40));
    if (!clash) return;
    rx *= 1.1; ry *= 1.1;
  }
}
function shelves(boxes) {
  boxes.sort((a, b) => b.h - a.h || (a.key < b.key ? -1 : 1));
  const width = Math.max(900, Math.sqrt(boxes.reduce((s, b) => s + (b.w + 60) * (b.h + 60), 0)) * 1.5);
  let x = 0, y = 0, tall = 0;
  for (const b of boxes) {
    if (x > 0 && x + b.w > width) { x = 0; y += tall + 60; tall = 0; }
    b.x = x; b.y = y; x += b.w + 60; tall = Math.max(tall, b.h);
  }
}
function border(n, tx, ty) {
  const cx = n.x + n.w / 2, cy = n.y + n.h / 2, dx = tx - cx, dy = ty - cy;
  const s = Math.min(dx ? (n.w / 2 + 3) / Math.abs(dx) : 1e9, dy ? (n.h / 2 + 3) / Math.abs(dy) : 1e9);
  return [cx + dx * s, cy + dy * s];
}
function drawGraph(view, boxes, edges, partial) {
  const root = svg("svg", { role: "group", "aria-label": "Graph of who may reach whom" });
  const defs = svg("defs", {});
  for (const l of ["all", "some", "undefined"]) defs.append(svg("marker", { id: "arrow-" + l, viewBox: "0 0 8 8", refX: 7, refY: 4, markerWidth: 9, markerHeight: 9, markerUnits: "userSpaceOnUse", orient: "auto" }, svg("path", { d: "M0 0 8 4 0 8z", class: "m-" + l })));
  const back = svg("g", {}), lines = svg("g", {}), front = svg("g", {}), at = new Map();
  for (const b of boxes) {
    if (b.title) {
      const t = svg("text", { x: b.x + 14, y: b.y + 22 });
      t.textContent = b.title;
      back.append(svg("g", { class: "cluster" }, svg("rect", { x: b.x, y: b.y, width: b.w, height: b.h, rx: 12 }), t));
    }
    for (const n of b.nodes) { for (const id of n.set) at.set(id, n); front.append(graphNode(n)); }
  }
  const labels = edges.length <= 40;
  for (const e of edges) lines.append(graphEdge(e, at.get(e.from), at.get(e.to), labels));
  root.append(defs, back, lines, front);
  const X = Math.min(...boxes.map(b => b.x)) - 50, Y = Math.min(...boxes.map(b => b.y)) - 40;
  const W = Math.max(...boxes.map(b => b.x + b.w)) + 50 - X, H = Math.max(...boxes.map(b => b.y + b.h)) + 40 - Y;
  graph = { root, home: [X, Y, W, H], box: null, partial };
  const zoom = el("div", { class: "zoom" }, [["+", 1 / 1.3, "Zoom in"], ["−", 1.3, "Zoom out"], ["⤢", 0, "Fit"]].map(([t, f, title]) =>
    el("button", { type: "button", title, "aria-label": title, on: { click: () => f ? zoomBy(f) : setBox(graph.home) } }, t)));
  view.append(el("div", { class: "graph" }, root, zoom));
  const big = Math.max(1, Math.min(540 / H, 800 / W)); // small graphs are not blown up
  setBox([X - W * (big - 1) / 2, Y - H * (big - 1) / 2, W * big, H * big]);
  graph.home = graph.box;
  panning(root);
  markGraph();
}
function graphNode(n) {
  const g = groups[n.id], t = svg("text", { x: n.x + n.w / 2, y: n.y + 20, "text-anchor": "middle" }), title = svg("title", {});
  t.textContent = n.text;
  title.textContent = n.set.map(id => groups[id].name).join("\n");
  const e = svg("g", { class: "node" + (g.pods ? "" : " outside"), tabindex: 0, role: "button", "aria-label": n.set.length > 1 ? n.text : g.name, "data-group": n.id }, svg("rect", { x: n.x, y: n.y, width: n.w, height: n.h, rx: g.pods ? 8 : 15 }), t, title);
  activate(e, () => pickGroup(n.id));
  return e;
}
function graphEdge(e, a, b, labelled) {
  let d, mx, my;
  if (a === b) {
    const x = a.x + a.w, y = a.y + a.h / 2;
    d = `M${x} ${y - 8}C${x + 38} ${y - 30} ${x + 38} ${y + 30} ${x + 3} ${y + 8}`;
    mx = x + 42; my = y + 4;
  } else {
    const ax = a.x + a.w / 2, ay = a.y + a.h / 2, bx = b.x + b.w / 2, by = b.y + b.h / 2, len = Math.hypot(bx - ax, by - ay), bend = Math.min(46, len * .14);
    const qx = (ax + bx) / 2 - (by - ay) / len * bend, qy = (ay + by) / 2 + (bx - ax) / len * bend;
    const [sx, sy] = border(a, qx, qy), [tx, ty] = border(b, qx, qy);
    d = `M${sx} ${sy}Q${qx} ${qy} ${tx} ${ty}`;
    mx = (sx + 2 * qx + tx) / 4; my = (sy + 2 * qy + ty) / 4 + 4;
  }
  const title = svg("title", {}), name = groups[e.from].name + " → " + groups[e.to].name + ": " + e.look.text;
  title.textContent = name;
  const g = svg("g", { class: "edge lv-" + e.look.level, tabindex: 0, role: "button", "aria-label": name, "data-from": e.from, "data-to": e.to },
    svg("path", { class: "hit", d }), svg("path", { class: "line", d, "marker-end": `url(#arrow-${e.look.level})` }), title);
  if (labelled) {
    const t = svg("text", { x: mx, y: my });
    if (a === b) t.style.textAnchor = "start";
    t.textContent = clip(e.look.text, 30);
    g.append(t);
  }
  activate(g, () => choose([e.from, e.to]));
  return g;
}
function activate(e, f) {
  e.addEventListener("click", f);
  e.addEventListener("keydown", k => { if (k.key === "Enter" || k.key === " ") { f(); k.preventDefault(); } });
}
function refreshGraph() {
  const box = graph.box;
  showGraph();
  setBox(box);
}
function markGraph() {
  if (!graph) return;
  const on = state.group !== null ? x => setOf.get(x) === setOf.get(state.group) : null, box = graph.root.parentNode;
  box.classList.toggle("focused", on !== null || state.cell !== null);
  const rep = id => (setOf.get(id) || [id])[0];
  const near = new Set((state.group !== null ? [state.group] : state.cell || []).map(rep));
  for (const e of graph.root.querySelectorAll(".edge")) {
    const f = +e.dataset.from, t = +e.dataset.to;
    const hit = on ? on(f) || on(t) : state.cell && rep(f) === rep(state.cell[0]) && rep(t) === rep(state.cell[1]);
    e.classList.toggle("near", !!hit);
    e.classList.toggle("picked", !!(hit && !on));
    if (hit) { near.add(rep(f)); near.add(rep(t)); }
  }
  for (const n of graph.root.querySelectorAll(".node")) {
    n.classList.toggle("near", near.has(+n.dataset.group));
    n.classList.toggle("picked", state.group !== null && +n.dataset.group === rep(state.group));
  }
}
function setBox(b) {
  graph.box = b;
  graph.root.setAttribute("viewBox", b.join(" "));
}
function zoomBy(f, px = .5, py = .5) {
  const [x, y, w, h] = graph.box;
  setBox([x + w * (1 - f) * px, y + h * (1 - f) * py, w * f, h * f]);
}
function panning(root) {
  let last = null;
  root.addEventListener("pointerdown", e => { if (e.target === root) { last = [e.clientX, e.clientY]; root.setPointerCapture(e.pointerId); } });
  root.addEventListener("pointermove", e => {
    if (!last) return;
    const r = root.getBoundingClientRect(), [x, y, w, h] = graph.box, s = Math.max(w / r.width, h / r.height);
    setBox([x - (e.clientX - last[0]) * s, y - (e.clientY - last[1]) * s, w, h]);
    last = [e.clientX, e.clientY];
  });
  root.addEventListener("pointerup", () => last = null);
  root.addEventListener("wheel", e => {
    const r = root.getBoundingClientRect();
    zoomBy(e.deltaY > 0 ? 1.12 : 1 / 1.12, (e.clientX - r.left) / r.width, (e.clientY - r.top) / r.height);
    e.preventDefault();
  }, { passive: false });
}
