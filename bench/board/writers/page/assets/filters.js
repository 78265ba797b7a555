// Filters: a fold-out list of boxes to tick for each axis. Nothing ticked is everything shown.

const AXES = {
  backbone: "Backbone",
  task: "Task",
  regime: "Regime",
  method: "Method",
  regularizer: "Regularizer",
  zero: "ZeRO",
  ranks: "Ranks",
  precision: "Precision",
};

/** Whether an item passes the filters, `except` one of them. Failures have the same axes as rows. */
function passes(item, except = null) {
  return Object.keys(AXES).every((axis) => {
    const wanted = axis === except ? [] : values(axis);
    return !wanted.length || wanted.includes(String(item[axis]));
  });
}

function filteredRows() {
  return rows.filter((row) => passes(row));
}

function makeFilters() {
  for (const axis of Object.keys(AXES)) {
    const options = [...grouped(rows, (row) => String(row[axis])).keys()];
    options.sort((one, other) => one.localeCompare(other, "en", { numeric: true }));
    if (options.length > 1) byId("filters").append(filter(axis, options));
  }
  byId("clear").addEventListener("click", () => {
    for (const axis of Object.keys(AXES)) chosen.delete(axis);
    choose("backbone");
  });
  document.addEventListener("pointerdown", (event) => closeFilters(event.target));
  document.addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    const open = document.querySelector(".filter[open]");
    closeFilters(null);
    if (open?.contains(document.activeElement)) open.querySelector("summary").focus();
  });
  whenChosen(updateFilters);
  updateFilters();
}

function filter(axis, options) {
  const boxes = options.map((option) => {
    const box = element("input", { type: "checkbox", value: option, change: () => tick(axis) });
    return element("label", {}, box, element("span", {}, option), element("span", { class: "number" }));
  });
  const list = element("fieldset", {}, element("legend", { class: "unseen" }, AXES[axis]), ...boxes);
  const summary = element("summary", {}, `${AXES[axis]} `, element("span", { class: "chosen" }));
  return element("details", { class: "filter", name: "filter", "data-axis": axis }, summary, list);
}

function tick(axis) {
  const boxes = document.querySelectorAll(`.filter[data-axis="${axis}"] input:checked`);
  choose(axis, ...[...boxes].map((box) => box.value));
}

/** Tick what is chosen, and tell how many rows each box would show with the other filters as they are. */
function updateFilters() {
  for (const details of document.querySelectorAll(".filter")) {
    const { axis } = details.dataset;
    const wanted = values(axis);
    const counts = grouped(rows.filter((row) => passes(row, axis)), (row) => String(row[axis]));
    for (const label of details.querySelectorAll("label")) {
      const box = label.querySelector("input");
      box.checked = wanted.includes(box.value);
      label.querySelector(".number").textContent = fixed(counts.get(box.value)?.length ?? 0, 0);
    }
    const text = wanted.length === 1 ? wanted[0] : wanted.length ? `${wanted.length} chosen` : "all";
    details.querySelector(".chosen").textContent = text;
    details.classList.toggle("active", wanted.length > 0);
  }
  const shown = filteredRows();
  const settings = new Set(shown.map((row) => row.setting)).size;
  const records = shown.reduce((sum, row) => sum + row.seeds.length, 0);
  byId("count").textContent =
    `${fixed(shown.length, 0)} of ${counted(rows.length, "row")}, ` +
    `${counted(settings, "setting")}, ${counted(records, "record")}`;
  byId("clear").hidden = !Object.keys(AXES).some((axis) => values(axis).length);
}

/** All but the one that `target` is in. */
function closeFilters(target) {
  for (const details of document.querySelectorAll(".filter[open]")) {
    if (!details.contains(target)) details.open = false;
  }
}
