// A table that its heads sort. What is not known comes last, whichever way it is sorted.

const SHOWN = 100; // rows before one asks for the rest

/**
 * `columns`: {key, label, hint, left, value(row) to sort by, cell(row), first: the direction of a first click}.
 * `sort`: {key, direction}; `sorted(sort)`: told where a head is used. `below(row)`: what opens under a row, or null.
 */
function sortableTable({ caption, columns, items, sort, sorted, below = null }) {
  const head = element("tr", {}, ...columns.map((column) => headCell(column, (key) => change(key))));
  const body = element("tbody");
  const more = element("button", { type: "button", class: "more", click: () => showAll() });
  const table = element("table", {}, element("caption", { class: "unseen" }, caption), element("thead", {}, head), body);
  const box = element("div", { class: "scroll", tabindex: "-1" }, table);
  const made = new Map(); // item -> its lines
  let limit = SHOWN;

  function lines(item) {
    if (!made.has(item)) made.set(item, tableLines(columns, item, below));
    return made.get(item);
  }

  function order(next) {
    sort = next;
    columns.forEach((column, place) => {
      head.children[place].setAttribute("aria-sort", column.key === sort.key ? sort.direction : "none");
    });
    const column = columns.find((one) => one.key === sort.key);
    const all = column ? orderedBy(items, column.value, sort.direction) : items;
    body.replaceChildren(...all.slice(0, limit).flatMap(lines));
    more.hidden = items.length <= limit;
    more.textContent = `Show all ${fixed(items.length, 0)} rows`;
  }

  function change(key) {
    const column = columns.find((one) => one.key === key);
    const opposite = sort.direction === "ascending" ? "descending" : "ascending";
    const next = { key, direction: sort.key === key ? opposite : column.first ?? "ascending" };
    order(next);
    sorted?.(next);
  }

  function showAll() {
    limit = items.length;
    order(sort);
    box.focus();
  }

  order(sort);
  return { node: element("div", {}, box, more), order };
}

function headCell(column, change) {
  const button = element("button", { type: "button", click: () => change(column.key) }, column.label);
  const hint = column.hint ? { title: column.hint } : {};
  return element("th", { scope: "col", class: classOf(column), "data-key": column.key, ...hint }, button);
}

function tableLines(columns, item, below) {
  const cells = columns.map((column) => {
    const tag = column.head ? "th" : "td";
    return element(tag, { class: classOf(column), scope: column.head ? "row" : null }, column.cell(item));
  });
  const line = element("tr", {}, ...cells);
  if (!below) return [line];
  const under = element("tr", { class: "below", hidden: true }, element("td", { colspan: columns.length }));
  const toggle = line.querySelector("button.records");
  const open = () => {
    if (under.hidden && !under.firstChild.firstChild) under.firstChild.append(below(item));
    under.hidden = !under.hidden;
    toggle.setAttribute("aria-expanded", String(!under.hidden));
  };
  toggle?.addEventListener("click", open);
  for (const cell of line.querySelectorAll("td.opens")) {
    // for a pointer; keys have the button
    cell.addEventListener("click", (event) => event.target.closest("a, button") || open());
  }
  return [line, under];
}

function classOf(column) {
  const flags = { left: column.left, name: column.head, opens: column.opens, wide: column.wide };
  return Object.keys(flags).filter((flag) => flags[flag]).join(" ") || null;
}

function orderedBy(items, of, direction) {
  const sign = direction === "ascending" ? 1 : -1;
  const known = items.filter((item) => of(item) !== null);
  const compare = (one, other) =>
    typeof one === "string" ? one.localeCompare(other, "en", { numeric: true }) : one - other;
  known.sort((one, other) => sign * compare(of(one), of(other)));
  return [...known, ...items.filter((item) => of(item) === null)];
}
