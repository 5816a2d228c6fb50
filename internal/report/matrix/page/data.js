const data = JSON.parse(document.getElementById("data").textContent);
const $ = id => document.getElementById(id);
const groups = data.groups, verdicts = data.verdicts;
const state = { view: "matrix", filter: "", traffic: "", theme: "", connected: false, cell: null, group: null };
const symbols = { all: "●", some: "◐", closed: "–", undefined: "?", self: "○" };
const words = { all: "allowed", some: "some traffic", closed: "denied", undefined: "undefined", self: "a pod and itself" };

// el makes an element. Text only ever enters as text.
function el(tag, attrs, ...children) {
  const e = document.createElement(tag);
  for (const k in attrs) {
    if (k === "on") for (const t in attrs.on) e.addEventListener(t, attrs.on[t]);
    else if (attrs[k] === true) e.setAttribute(k, "");
    else if (attrs[k] !== null && attrs[k] !== undefined && attrs[k] !== false) e.setAttribute(k, attrs[k]);
  }
  for (const c of children.flat()) if (c !== null && c !== undefined) e.append(c);
  return e;
}
function svg(tag, attrs, ...children) {
  const e = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const k in attrs) e.setAttribute(k, attrs[k]);
  for (const c of children.flat()) if (c) e.append(c);
  return e;
}
// A proof's page has what packets showed of each cell.
const evidence = data.evidence || null;
const evidenceCells = evidence && evidence.cells.map(expand);
function evidenceOf(from, to) {
  const r = rowAt.get(from), c = columnAt.get(to), id = evidence && r !== undefined && c !== undefined ? evidenceCells[r][c] : null;
  return id === null || id === undefined ? null : evidence.results[id];
}
const plural = (n, one, many) => n.toLocaleString("en") + " " + (n === 1 ? one : many || one + "s");

// A row of cells comes as [verdict, count] for so many columns.
function expand(row) { return row.flatMap(([id, n]) => new Array(n).fill(id)); }
const cells = data.cells.map(expand);

// Where each group is on the axes, and what its search text is.
const rowAt = new Map(data.rows.map((g, i) => [g, i])), columnAt = new Map(data.columns.map((g, i) => [g, i]));
for (const g of groups) {
  g.size = (g.pods || g.nodes || []).length;
  g.space = (g.namespaces || []).length === 1 ? g.namespaces[0] : "";
  g.short = g.space && g.name.startsWith(g.space + "/") ? g.name.slice(g.space.length + 1) : g.name;
  g.search = [g.name, ...(g.pods || []), ...(g.workloads || []), ...(g.namespaces || []), ...(g.nodes || []), ...(g.addresses || []), g.external ? "external" : ""].join("\n").toLowerCase();
}
const cellOf = (from, to) => {
  const r = rowAt.get(from), c = columnAt.get(to);
  return r === undefined || c === undefined ? null : cells[r][c];
};

// The traffic filter: "tcp/80", "tcp/80-90", "udp", "443".
const named = ["tcp", "udp", "sctp", "icmp", "icmpv6"];
function parseTraffic(s) {
  const m = /^\s*(?:([a-z0-9]*[a-z][a-z0-9]*)(?:\/|$))?\s*(?:(\d{1,5})(?:-(\d{1,5}))?)?\s*$/i.exec(s);
  if (!m || (!m[1] && !m[2])) return null;
  return { protocol: (m[1] || "").toLowerCase(), from: m[2] ? +m[2] : null, to: m[3] ? +m[3] : m[2] ? +m[2] : null };
}
function concerns(piece, want) {
  const p = piece.protocol;
  if (want.protocol && p !== "all" && p !== want.protocol && !(p === "other" && !named.includes(want.protocol))) return false;
  if (want.from === null) return true;
  if (!want.protocol && !["all", "tcp", "udp", "sctp"].includes(p)) return false;
  return !piece.ports || piece.ports.some(([a, b]) => a <= want.to && b >= want.from);
}
const portText = ([a, b]) => a === b ? "" + a : a + "-" + b;
const pieceText = p => (p.family ? p.family + " " : "") + (p.protocol === "all" ? "all traffic" : p.protocol === "other" ? "other protocols" : p.protocol) + (p.ports ? "/" + p.ports.map(portText).join(",") : "");

// looks says how a verdict looks under the traffic filter.
let looks = [], want = null;
function lookAt(id) {
  if (looks[id]) return looks[id];
  const v = verdicts[id];
  let out = { level: v.level, text: v.text === "-" ? "–" : v.text.replace(/^- \?$/, "– ?") };
  if (want && v.level !== "self") {
    const ps = v.traffic.filter(p => concerns(p, want));
    const of = d => ps.filter(p => p.decision === d);
    const allow = of("allow"), undef = of("undefined");
    if (allow.length && allow.length === ps.length) out = { level: "all", text: "yes" };
    else if (allow.length) out = { level: "some", text: allow.map(pieceText).join(" ") };
    else if (undef.length) out = { level: "undefined", text: "?" };
    else out = { level: "closed", text: "no" };
  }
  return looks[id] = out;
}
const connects = id => id !== null && ["all", "some", "undefined"].includes(lookAt(id).level);

// What the filters leave over.
let shownRows = [], shownColumns = [], wanted = () => true;
function applyFilters() {
  want = state.traffic.trim() ? parseTraffic(state.traffic) : null;
  $("traffic").setAttribute("aria-invalid", state.traffic.trim() && !want ? "true" : "false");
  looks = [];
  const from = [], to = [], any = [];
  for (const w of state.filter.toLowerCase().split(/\s+/).filter(Boolean)) {
    if (w.startsWith("from:")) { if (w.length > 5) from.push(w.slice(5)); }
    else if (w.startsWith("to:")) { if (w.length > 3) to.push(w.slice(3)); }
    else any.push(w);
  }
  const has = (g, ws) => ws.every(w => groups[g].search.includes(w));
  let rows = data.rows.filter(g => has(g, from)), columns = data.columns.filter(g => has(g, to));
  wanted = () => true;
  if (any.length) {
    const match = new Set(groups.filter(g => has(g.id, any)).map(g => g.id));
    wanted = (r, c) => match.has(r) || match.has(c);
    const r0 = rows, c0 = columns, cm = c0.filter(c => match.has(c)), rm = r0.filter(r => match.has(r));
    rows = r0.filter(r => match.has(r) || cm.some(c => connects(cellOf(r, c))));
    columns = c0.filter(c => match.has(c) || rm.some(r => connects(cellOf(r, c))));
  }
  if (state.connected) {
    const r0 = rows;
    rows = rows.filter(r => columns.some(c => wanted(r, c) && connects(cellOf(r, c))));
    columns = columns.filter(c => r0.some(r => wanted(r, c) && connects(cellOf(r, c))));
  }
  shownRows = rows;
  shownColumns = columns;
  rowShown = new Set(rows);
  columnShown = new Set(columns);
  const hidden = data.rows.length - rows.length + data.columns.length - columns.length;
  $("status").textContent = plural(rows.length, "row") + " × " + plural(columns.length, "column") + (hidden ? " (filtered)" : "") +
    (state.traffic.trim() && !want ? " · traffic not understood: try tcp/443, udp or 8080" : "");
}
