// The matrix. Only what is in sight is in the document, so that a thousand
// groups scroll as easily as ten.
let table = null, dims = null, focusAt = [0, 0], drawn = "";
function showMatrix() {
  const view = $("view");
  view.textContent = "";
  view.setAttribute("aria-label", "Matrix");
  drawn = "";
  if (!shownRows.length || !shownColumns.length) {
    table = null;
    view.append(el("p", { class: "empty" }, "Nothing matches the filters."));
    return;
  }
  const wide = shownColumns.length <= 14;
  const longest = Math.max(...shownRows.map(g => wide ? Math.max(groups[g].short.length, groups[g].space.length) : groups[g].name.length));
  const label = Math.min(360, Math.max(150, 40 + longest * 7.6));
  const texts = wide ? Math.max(...shownRows.map(r => Math.max(...shownColumns.map(c => cellOf(r, c) === null ? 0 : lookAt(cellOf(r, c)).text.length)))) : 0;
  const room = (innerWidth - 460 - label - 24) / shownColumns.length; // so that nothing moves when the panel opens
  dims = { wide, cell: wide ? Math.round(Math.max(104, Math.min(texts * 7.3 + 40, room, 190))) : 30, row: wide ? 46 : 30, label, head: wide ? 70 : 190 };
  table = el("table", { class: "matrix " + (wide ? "wide" : "dense"), role: "grid", "aria-rowcount": shownRows.length + 1, "aria-colcount": shownColumns.length + 1 });
  table.addEventListener("click", e => { const td = e.target.closest("td[data-c]"); if (td) pick(+td.dataset.r, +td.dataset.c); });
  table.addEventListener("keydown", gridKeys);
  table.addEventListener("mouseover", e => hot(e.target.closest("td[data-c]")));
  table.addEventListener("mouseleave", () => hot(null));
  view.append(table);
  focusAt = [Math.min(focusAt[0], shownRows.length - 1), Math.min(focusAt[1], shownColumns.length - 1)];
  drawMatrix(false);
}
function windowOf(all) {
  const view = $("view"), R = shownRows.length, C = shownColumns.length;
  if (all || R * C <= 3600) return [0, R, 0, C];
  const r0 = Math.max(0, Math.floor(view.scrollTop / dims.row) - 8), c0 = Math.max(0, Math.floor(view.scrollLeft / dims.cell) - 8);
  return [r0, Math.min(R, r0 + Math.ceil(view.clientHeight / dims.row) + 16), c0, Math.min(C, c0 + Math.ceil(view.clientWidth / dims.cell) + 16)];
}
function drawMatrix(all) {
  if (!table) return;
  const [r0, r1, c0, c1] = windowOf(all), key = [r0, r1, c0, c1].join();
  if (key === drawn) return;
  drawn = key;
  const C = shownColumns.length, R = shownRows.length, had = table.contains(document.activeElement) && document.activeElement.tagName === "TD";
  table.textContent = "";
  const cols = el("colgroup"), widths = [dims.label];
  if (c0 > 0) widths.push(c0 * dims.cell);
  for (let c = c0; c < c1; c++) widths.push(dims.cell);
  if (c1 < C) widths.push((C - c1) * dims.cell);
  for (const w of widths) { const col = el("col"); col.style.width = w + "px"; cols.append(col); }
  table.style.width = widths.reduce((a, b) => a + b, 0) + "px";
  const head = el("tr", { "aria-rowindex": 1 }, el("th", { class: "corner", scope: "col" }, "from ↓ to →"));
  if (c0 > 0) head.append(el("th", { "aria-hidden": "true" }));
  for (let c = c0; c < c1; c++) head.append(header(groups[shownColumns[c]], "col", c));
  if (c1 < C) head.append(el("th", { "aria-hidden": "true" }));
  const body = el("tbody");
  if (r0 > 0) body.append(spacer(r0, widths.length));
  for (let r = r0; r < r1; r++) {
    const tr = el("tr", { "aria-rowindex": r + 2 }, header(groups[shownRows[r]], "row", r));
    tr.style.height = dims.row + "px";
    if (c0 > 0) tr.append(el("td", { class: "space" }));
    for (let c = c0; c < c1; c++) tr.append(matrixCell(r, c));
    if (c1 < C) tr.append(el("td", { class: "space" }));
    body.append(tr);
  }
  if (r1 < R) body.append(spacer(R - r1, widths.length));
  table.append(cols, el("thead", {}, head), body);
  if (had) focusCell(false);
}
function spacer(rows, span) {
  const tr = el("tr", { "aria-hidden": "true" }, el("td", { class: "space", colspan: span }));
  tr.style.height = rows * dims.row + "px";
  return tr;
}
function header(g, scope, at) {
  const label = dims.wide
    ? [el("small", {}, g.space || (g.kind === "pods" || g.kind === "hostPods" ? "\u00a0" : "outside")), el("b", {}, g.short)]
    : scope === "col" ? el("span", {}, el("small", {}, g.space ? g.space + "/" : ""), g.short.replace(/ \(\d+ pods\)$/, ""))
      : el("b", {}, el("small", {}, g.space ? g.space + "/" : ""), g.short);
  const th = el("th", { scope, title: g.name, ["data-h" + scope]: at }, el("button", { type: "button", tabindex: -1, on: { click: () => pickGroup(g.id) } }, label));
  if (scope === "row") th.firstChild.style.height = dims.row - 1 + "px";
  return th;
}
function matrixCell(r, c) {
  const from = shownRows[r], to = shownColumns[c], id = cellOf(from, to);
  const at = { role: "gridcell", "data-r": r, "data-c": c, tabindex: r === focusAt[0] && c === focusAt[1] ? 0 : -1, "aria-colindex": c + 2 };
  if (id === null || !wanted(from, to)) {
    delete at["data-c"];
    return el("td", { ...at, "data-c": id === null ? null : c, class: "blank", "aria-label": "not shown" });
  }
  const l = lookAt(id), label = groups[from].name + " to " + groups[to].name + ": " + (l.level === "closed" ? "denied" : l.text);
  const chosen = state.cell && state.cell[0] === from && state.cell[1] === to;
  const td = el("td", { ...at, class: "lv-" + l.level + (evidence && l.text.endsWith(" !") ? " refuted" : ""), title: label, "aria-label": label, "aria-selected": chosen ? "true" : "false" });
  td.textContent = dims.wide ? (l.level === "closed" || l.level === "self" ? l.text : symbols[l.level] + " " + l.text.replace(/^\? ?(?=.)/, "")).replace("? ?", "?") : symbols[l.level];
  return td;
}
function hot(td) {
  if (!table) return;
  for (const e of table.querySelectorAll(".hot")) e.classList.remove("hot");
  if (!td) return;
  for (const e of table.querySelectorAll(`[data-hrow="${td.dataset.r}"],[data-hcol="${td.dataset.c}"]`)) e.classList.add("hot");
}
function gridKeys(e) {
  const td = e.target.closest("td");
  if (!td) return;
  const step = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1], PageUp: [-15, 0], PageDown: [15, 0], Home: [0, -1e9], End: [0, 1e9] }[e.key];
  if (step) {
    focusAt = [Math.max(0, Math.min(shownRows.length - 1, focusAt[0] + step[0])), Math.max(0, Math.min(shownColumns.length - 1, focusAt[1] + step[1]))];
    focusCell(true);
    e.preventDefault();
  } else if (e.key === "Enter" || e.key === " ") {
    pick(focusAt[0], focusAt[1]);
    e.preventDefault();
  }
}
function focusCell(scroll) {
  const [r, c] = focusAt;
  if (scroll) reveal(r, c);
  for (const t of table.querySelectorAll('td[tabindex="0"]')) t.tabIndex = -1;
  const td = table.querySelector(`td[data-r="${r}"][aria-colindex="${c + 2}"]`);
  if (td) { td.tabIndex = 0; td.focus({ preventScroll: true }); }
}
// reveal scrolls a cell into sight, and draws what is in sight then.
function reveal(r, c) {
  const view = $("view"), y = r * dims.row, x = c * dims.cell;
  if (y < view.scrollTop) view.scrollTop = y;
  if (y + dims.row + dims.head > view.scrollTop + view.clientHeight) view.scrollTop = y + dims.row + dims.head - view.clientHeight + 12;
  if (x < view.scrollLeft) view.scrollLeft = x;
  if (x + dims.cell + dims.label > view.scrollLeft + view.clientWidth) view.scrollLeft = x + dims.cell + dims.label - view.clientWidth + 12;
  drawMatrix(false);
}
