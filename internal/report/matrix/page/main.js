// State lives in the address, so that a view can be sent to somebody.
function save() {
  const p = [];
  if (state.view !== "matrix") p.push("view=" + state.view);
  for (const k of ["filter", "traffic", "theme"]) if (state[k]) p.push(k + "=" + encodeURIComponent(state[k]));
  if (state.connected) p.push("connected=1");
  if (state.cell) p.push("cell=" + state.cell.join());
  if (state.group !== null) p.push("group=" + state.group);
  try { history.replaceState(null, "", p.length ? "#" + p.join("&") : location.pathname + location.search); } catch { /* not allowed here: the address stays as it is */ }
}
function load() {
  Object.assign(state, { view: "matrix", filter: "", traffic: "", theme: "", connected: false, cell: null, group: null });
  for (const kv of location.hash.slice(1).split("&")) {
    const i = kv.indexOf("=");
    if (i < 0) continue;
    const k = kv.slice(0, i);
    let v = "";
    try { v = decodeURIComponent(kv.slice(i + 1)); } catch { continue; }
    const ids = v.split(",").map(Number), known = ids.every(n => Number.isInteger(n) && groups[n]);
    if (k === "view" && (v === "matrix" || v === "graph")) state.view = v;
    else if (k === "filter" || k === "traffic") state[k] = v;
    else if (k === "theme" && (v === "light" || v === "dark")) state.theme = v;
    else if (k === "connected") state.connected = v === "1";
    else if (k === "cell" && ids.length === 2 && known) state.cell = ids;
    else if (k === "group" && ids.length === 1 && known) state.group = ids[0];
  }
}
function refresh() {
  applyFilters();
  $("panel").hidden = !state.cell && state.group === null; // its room counts in the layout
  if (state.view === "graph") showGraph(); else { graph = null; showMatrix(); }
  showPanel();
  if (state.view === "matrix") mark();
}
function dress() {
  if (state.theme) document.documentElement.dataset.theme = state.theme; else delete document.documentElement.dataset.theme;
  $("theme").textContent = { "": "◑ system", light: "☀ light", dark: "☾ dark" }[state.theme];
  for (const v of ["matrix", "graph"]) {
    $("tab-" + v).setAttribute("aria-selected", state.view === v ? "true" : "false");
    $("tab-" + v).tabIndex = state.view === v ? 0 : -1;
  }
  $("filter").value = state.filter;
  $("traffic").value = state.traffic;
  $("connected").checked = state.connected;
}
function start() {
  load();
  const s = data.summary, n = s.pairs.open + s.pairs.partly;
  const share = s.pairs.total ? n * 100 / s.pairs.total : 0;
  $("summary").textContent = [plural(s.pods, "pod") + " in " + plural(s.namespaces, "namespace"), plural(s.groups, "group"), plural(s.policies, "policy", "policies"),
    n.toLocaleString("en") + " of " + plural(s.pairs.total, "ordered pod pair") + (evidence ? " connect, as measured" : " may connect") + (s.pairs.total ? " (" + (n && share < 1 ? "under 1" : n < s.pairs.total && share > 99 ? "over 99" : Math.round(share)) + "%)" : ""),
    "isolated: " + s.isolated[0].toLocaleString("en") + " ingress, " + s.isolated[1].toLocaleString("en") + " egress",
    "dialect " + data.dialect].concat(data.ports ? ["only " + data.ports.join(", ")] : [], evidence ? [evidence.summary] : []).join(" · ");
  const anyUndefined = verdicts.some(v => v.undefined);
  for (const l of ["all", "some", "closed", "undefined", "self"]) if (l !== "undefined" || anyUndefined) $("legend").append(el("span", {}, el("i", { class: "lv-" + l }, symbols[l]), words[l]));
  const seen = new Set();
  for (const v of verdicts) for (const p of v.traffic) if (p.decision === "allow" && p.ports && seen.size < 200) for (const r of p.ports) seen.add(p.protocol + "/" + portText(r));
  for (const p of [...seen].sort()) $("ports").append(el("option", { value: p }));
  let timer = 0;
  for (const k of ["filter", "traffic"]) $(k).addEventListener("input", () => {
    state[k] = $(k).value;
    clearTimeout(timer);
    timer = setTimeout(() => { save(); refresh(); }, 120);
  });
  $("connected").addEventListener("change", () => { state.connected = $("connected").checked; save(); refresh(); });
  for (const v of ["matrix", "graph"]) {
    $("tab-" + v).addEventListener("click", () => { state.view = v; save(); dress(); refresh(); });
    $("tab-" + v).addEventListener("keydown", e => { if (e.key === "ArrowLeft" || e.key === "ArrowRight") { const o = $(v === "matrix" ? "tab-graph" : "tab-matrix"); o.click(); o.focus(); } });
  }
  $("theme").addEventListener("click", () => { state.theme = { "": "light", light: "dark", dark: "" }[state.theme]; save(); dress(); });
  let frame = 0;
  const redraw = () => { if (!frame) frame = requestAnimationFrame(() => { frame = 0; drawMatrix(false); }); };
  $("view").addEventListener("scroll", redraw);
  addEventListener("resize", redraw);
  addEventListener("hashchange", () => { load(); dress(); refresh(); });
  addEventListener("beforeprint", () => drawMatrix(shownRows.length * shownColumns.length <= 20000));
  addEventListener("afterprint", () => drawMatrix(false));
  addEventListener("keydown", e => {
    if (e.key === "Escape" && !$("panel").hidden) closePanel();
    else if (e.key === "/" && e.target.tagName !== "INPUT") { $("filter").focus(); e.preventDefault(); }
  });
  dress();
  refresh();
  document.body.dataset.ready = "1";
}
start();
