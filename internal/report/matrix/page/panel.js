// Choosing a cell or a group opens the panel.
function pick(r, c) {
  focusAt = [r, c];
  choose([shownRows[r], shownColumns[c]]);
}
function choose(cell) {
  state.cell = cell;
  state.group = null;
  save();
  showPanel();
  mark();
}
function pickGroup(id) {
  state.cell = null;
  state.group = id;
  save();
  showPanel();
  if (state.view === "graph" && graph && graph.partial) refreshGraph(); else mark();
}
function closePanel() {
  state.cell = state.group = null;
  save();
  showPanel();
  mark();
  if (state.view === "matrix" && table) focusCell(false);
}
function mark() {
  if (state.view === "graph") return markGraph();
  if (!table) return;
  if (state.cell) {
    const r = shownRows.indexOf(state.cell[0]), c = shownColumns.indexOf(state.cell[1]);
    if (r >= 0 && c >= 0) { focusAt = [r, c]; reveal(r, c); }
  }
  for (const td of table.querySelectorAll("td[data-c]")) {
    td.setAttribute("aria-selected", state.cell && shownRows[td.dataset.r] === state.cell[0] && shownColumns[td.dataset.c] === state.cell[1] ? "true" : "false");
  }
}
function showPanel() {
  const panel = $("panel");
  panel.textContent = "";
  panel.hidden = !state.cell && state.group === null;
  if (panel.hidden) return;
  panel.append(el("button", { type: "button", class: "close", "aria-label": "Close", title: "Close (Esc)", on: { click: closePanel } }, "×"));
  panel.append(...(state.cell ? explainCell(...state.cell) : explainGroup(state.group)));
  panel.scrollTop = 0;
}
const place = (o) => o.file ? el("span", { class: "place" }, o.file + (o.line ? ":" + o.line : "") + (o.path ? "  " + o.path : "")) : null;

function explainCell(from, to) {
  const a = groups[from], b = groups[to], id = cellOf(from, to);
  const out = [el("h2", {}, a.name, el("span", { class: "to" }, " → "), b.name)];
  if (id === null) return [...out, el("p", { class: "lead" }, "Not part of this report: neither end is a pod that was asked about.")];
  const v = verdicts[id];
  const of = d => v.traffic.filter(p => p.decision === d).map(pieceText).join(", ");
  const refuted = evidence && v.text.endsWith(" !");
  const lead = refuted ? "Predicted: " + (of("allow") || "nothing") + ". Packets found otherwise." : v.level === "self" ? "A pod always reaches itself." : v.level === "all" ? (data.ports ? "All the traffic in question is allowed." : "All traffic is allowed.")
    : v.level === "closed" && !v.undefined ? "Nothing is allowed." : of("allow") ? "Allowed: " + of("allow") + "." : "Nothing is certainly allowed.";
  out.push(el("p", { class: "lead" }, lead));
  if (from === to && a.size > 1) out.push(el("p", {}, "Between any two different pods of the group."));
  if (v.bypass && v.level !== "self") out.push(el("p", {}, "Not judged by policy: " + v.bypass + "."));
  const blocks = new Map();
  for (const p of v.traffic) {
    const key = [p.decision, p.ingress, p.egress].join();
    if (!blocks.has(key)) blocks.set(key, []);
    blocks.get(key).push(p);
  }
  if (!v.bypass) for (const ps of blocks.values()) {
    const p = ps[0], verb = { allow: "allowed", deny: "denied", undefined: "undefined" }[p.decision];
    const rest = p.decision === "deny" && blocks.size > 1;
    out.push(el("div", { class: "piece " + p.decision },
      el("b", {}, rest ? "everything else" : ps.map(pieceText).join(", ")), " – " + verb,
      el("dl", {}, side("leaving " + a.name, p.egress, a, "egress"), side("entering " + b.name, p.ingress, b, "ingress"))));
  }
  out.push(...measured(from, to, id));
  out.push(el("h3", {}, "Members"), members(a));
  if (from !== to) out.push(members(b));
  const links = el("div", { class: "links" });
  if (from !== to && cellOf(to, from) !== null) links.append(el("button", { type: "button", on: { click: () => choose([to, from]) } }, "⇄ other way round"));
  links.append(el("button", { type: "button", on: { click: () => pickGroup(from) } }, "about " + a.name));
  if (from !== to) links.append(el("button", { type: "button", on: { click: () => pickGroup(to) } }, "about " + b.name));
  out.push(links);
  const pa = endName(a, 0), pb = endName(b, from === to ? 1 : 0), tp = v.traffic.find(p => p.decision === "allow" && p.ports && named.slice(0, 3).includes(p.protocol));
  if (pa && pb) out.push(el("h3", {}, "On the command line"), el("pre", {}, "picket explain " + [pa, pb].map(shell).join(" ") + " " + (tp ? tp.protocol + "/" + tp.ports[0][0] : data.ports ? data.ports[0] : "tcp/80") + " -f …"));
  return out;
}
// measured says what the packets of a proof showed of a cell.
function measured(from, to, id) {
  if (!evidence || verdicts[id].level === "self") return [];
  const e = evidenceOf(from, to), out = [el("h3", {}, "Measured")];
  if (!e) return [...out, el("p", {}, "No packet could be sent between them.")];
  const wrong = e.wrong || [];
  out.push(el("p", {}, plural(e.packets, "packet") + " in " + e.proved + " of " + plural(e.cells, "cell") + (wrong.length ? " did what the policies say; " + plural(wrong.length, "packet") + " did not. They show: " + lookAt(id).text : ": as predicted.")));
  if (e.detail) out.push(el("details", {}, el("summary", {}, "cell by cell"), el("ul", {}, e.detail.map(d => el("li", {}, d)))));
  if (wrong.length) out.push(el("ul", { class: "wrong" }, wrong.slice(0, 200).map(w => el("li", {}, w)), wrong.length > 200 ? el("li", {}, "… " + (wrong.length - 200) + " more") : null));
  return out;
}
const shell = s => /^[\w./:-]+$/.test(s) ? s : "'" + s.replaceAll("'", "'\\''") + "'";
function endName(g, i) {
  if (g.pods) return g.pods[Math.min(i, g.pods.length - 1)];
  if (g.nodes) return "node/" + g.nodes[0];
  return g.external ? "external" : (g.addresses || [""])[0].split("/")[0];
}
function side(label, id, g, direction) {
  const dd = el("dd");
  if (id === undefined || id === null) {
    dd.append(g.kind === "addresses" ? "outside the cluster: no policy guards it" : "no policy can guard it");
  } else {
    const r = data.reasons[id];
    dd.append(r.text);
    if (r.rule !== undefined) {
      const rule = data.rules[r.rule];
      if (rule.name) dd.append(" (“" + rule.name + "”)");
      dd.append(place(rule) || "");
    } else if (r.kind === "isolated") {
      const ps = (g[direction] || []).map(i => data.policies[i]).filter(p => p.tier === r.tier);
      const list = ps.map(p => el("div", {}, "by " + p.kind + " " + p.name, place(p)));
      dd.append(...(ps.length > 2 ? [el("details", {}, el("summary", {}, "by " + ps.length + " policies"), list)] : list));
    } else if (r.policy !== undefined) {
      const p = data.policies[r.policy];
      dd.append(el("div", {}, p.kind + " " + p.name), place(p) || "");
    }
  }
  return [el("dt", {}, label), dd];
}
function members(g) {
  const all = g.pods || g.nodes || g.addresses || [];
  if (all.length <= 1 && g.name === all[0]) return el("div", {}, g.name);
  const what = g.pods ? "pod" : g.nodes ? "node" : "block";
  return el("details", all.length <= 4 ? { open: true } : {}, el("summary", {}, g.name + " – " + plural(all.length, what)),
    el("ul", {}, all.slice(0, 500).map(p => el("li", {}, p)), all.length > 500 ? el("li", {}, "… " + (all.length - 500) + " more") : null));
}
function explainGroup(id) {
  const g = groups[id], out = [el("h2", {}, g.name)];
  const lead = { pods: "pods that no policy can tell apart", hostPods: "pods on the host network: no policy guards them", nodes: "nodes", addresses: "addresses outside the cluster" }[g.kind];
  out.push(el("p", { class: "lead" }, g.pods && g.size === 1 && g.kind === "pods" ? "a pod" : (g.size ? g.size + " " : "") + lead), members(g));
  const set = state.view === "graph" && setOf.get(id) || [];
  if (set.length > 1) out.push(el("h3", {}, "Drawn together with"), ...set.filter(o => o !== id).slice(0, 100).map(o => el("button", { type: "button", class: "row", on: { click: () => pickGroup(o) } }, el("span", {}, groups[o].name))));
  if (g.kind === "pods") for (const d of ["ingress", "egress"]) {
    out.push(el("h3", {}, "Selected for " + d + " by"));
    const ps = (g[d] || []).map(i => data.policies[i]);
    out.push(ps.length ? el("ul", {}, ps.map(p => el("li", {}, p.kind + " " + p.name, place(p)))) : el("p", {}, "no policy: open for " + d));
  }
  const list = (title, others, cell, way) => {
    const open = others.filter(o => connects(cell(o)));
    out.push(el("h3", {}, title + " (" + open.length + ")"));
    if (!open.length) out.push(el("p", {}, "nobody"));
    for (const o of open.slice(0, 200)) out.push(el("button", { type: "button", class: "row", on: { click: () => choose(way(o)) } }, el("span", {}, groups[o].name), el("span", {}, lookAt(cell(o)).text)));
    if (open.length > 200) out.push(el("p", {}, "… " + (open.length - 200) + " more"));
  };
  if (rowAt.has(id)) list("May reach", data.columns, o => cellOf(id, o), o => [id, o]);
  if (columnAt.has(id)) list("May be reached by", data.rows, o => cellOf(o, id), o => [o, id]);
  return out;
}
