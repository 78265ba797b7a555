// The tables of settings: what passes the filters, in the chosen columns, all sorted alike.

const AT_ONCE = 12; // tables before one asks for more
const NOTES = {
  overview:
    "Mean ± sample standard deviation over seeds; the interval is that of the mean, 95 %, of one seed that over its test " +
    "examples. Weights are selected on dev, " +
    "never on test. Rows that cannot be told apart share a rank. Dots are seeds. Every figure leads to its records.",
  quality:
    "Mean ± sample standard deviation over seeds; the interval is that of the mean, 95 %, of one seed that over its test " +
    "examples. IQM is the mean of the middle half.",
  speed: "Medians over seeds. Tokens are the text's own, without padding and prompts, in the steps after warm-up.",
  memory:
    "Of the rank and the seed that need most. Owners are those at the peak of a training step and add up to it. " +
    "On a GPU the peak is the allocator's, without one the bytes of live tensors.",
};
let tables = [];
let settingsShown = AT_ONCE;

function makeBoard() {
  for (const view of Object.keys(VIEWS)) {
    const input = element("input", { type: "radio", name: "view", value: view, change: () => choose("view", view) });
    byId("views").append(element("label", {}, input, element("span", {}, view)));
  }
  byId("together").addEventListener("change", (event) => choose("together", event.target.checked ? "yes" : ""));
  whenChosen((key) => {
    if (key === "sort") for (const table of tables) table.order(sortOf());
    else if (key === null || key === "view" || key === "together" || key in AXES) {
      settingsShown = AT_ONCE;
      showBoard();
    }
  });
  showBoard();
}

function view() {
  return Object.hasOwn(VIEWS, value("view")) ? value("view") : "overview";
}

function sortOf() {
  const [key, direction] = value("sort", "test:descending").split(":");
  return { key, direction: direction === "ascending" ? "ascending" : "descending" };
}

function showBoard() {
  const together = value("together") === "yes";
  byId("together").checked = together;
  for (const input of document.querySelectorAll("#views input")) input.checked = input.value === view();
  const legend = view() === "memory" ? [ownersLegend()] : [];
  byId("tables-note").replaceChildren(NOTES[view()], ...legend);
  const shown = filteredRows();
  const groups = together && shown.length ? [shown] : [...grouped(shown, (row) => row.setting).values()];
  tables = [];
  const sections = groups.slice(0, settingsShown).map((group) => (together ? whole(group) : settingSection(group)));
  const rest = groups.length - sections.length;
  const more = element("button", { type: "button", class: "more", click: moreSettings }, `Show ${rest} more tables`);
  const nothing = element("p", { class: "nothing" }, "No row passes these filters.");
  byId("settings").replaceChildren(...(shown.length ? sections : [nothing]), ...(rest ? [more] : []));
}

function moreSettings() {
  const before = settingsShown;
  settingsShown += 4 * AT_ONCE;
  showBoard();
  byId("settings").children[before]?.querySelector("h3").focus();
}

function settingSection(group) {
  const { setting } = group[0];
  const details = [setting.details];
  if (setting.constant.length) details.push(`one answer to all ${setting.constant.map((one) => fixed(one, 1)).join(" or ")} %`);
  const id = newId("setting");
  const section = element("section", { class: "setting", "aria-labelledby": id });
  section.append(
    element("h3", { id, tabindex: "-1" }, setting.title),
    element("p", { class: "details" }, details.join(", ")),
    tableOf(group, setting.title, []),
  );
  if (setting.detectable !== null && view() !== "speed" && view() !== "memory") {
    section.append(element("p", { class: "details" }, `Smallest difference that this design could detect: ${fixed(setting.detectable, 1)} points.`));
  }
  return section;
}

function whole(group) {
  const places = PLACE.filter((axis) => new Set(group.map((row) => row[axis])).size > 1);
  return element("section", { class: "setting" }, tableOf(group, "All rows", places));
}

/** A table of these rows; columns in which none has anything are left out. */
function tableOf(group, caption, places) {
  const all = columnsOf(group);
  const keys = VIEWS[view()].flatMap((key) => (key === "regularizer" ? [key, ...places] : [key]));
  const columns = keys.map((key) => all[key]).filter((column) => group.some((row) => column.value(row) !== null));
  const sorted = ({ key, direction }) => choose("sort", `${key}:${direction}`);
  const table = sortableTable({ caption, columns, items: group, sort: sortOf(), sorted, below: recordsOf });
  tables.push(table);
  return table.node;
}
