// The page: its parts in their places, the failures, the tables that other parts of the board give, the theme.

const FAILURE_COLUMNS = [
  { ...words("record", "cell", { head: true }), cell: (one) => recordLink(one.record, one.record) },
  words("status", "status"),
  words("phase", "phase"),
  { key: "asked", label: "asked", value: (one) => one.asked, cell: (one) => sized(one.asked), first: "descending" },
  { key: "free", label: "free", value: (one) => one.free, cell: (one) => sized(one.free), first: "descending" },
  words("why", "why"),
];

function summary() {
  const made = board.commits.length ? `, made at commit ${board.commits.join(", ")}` : "";
  const failed = failures.length ? `, ${fixed(failures.length, 0)} did not finish` : "";
  const settings = counted(board.settings.length, "setting");
  return `${counted(board.records, "record")}${failed}; ${counted(rows.length, "row")} in ${settings}${made}.`;
}

function makeFailures() {
  if (!failures.length) return;
  const section = addSection("failures", "Cells that did not finish");
  const place = element("div");
  section.append(place);
  const show = () => {
    const items = failures.filter((one) => passes(one));
    const columns = FAILURE_COLUMNS.filter((column) => items.some((one) => column.value(one) !== null));
    const sort = { key: "record", direction: "ascending" };
    const caption = "Cells that did not finish";
    const nothing = element("p", { class: "nothing" }, "None that passes the filters.");
    place.replaceChildren(items.length ? sortableTable({ caption, columns, items, sort }).node : nothing);
  };
  whenChosen((key) => (key === null || key in AXES) && show());
  show();
}

function makeSections() {
  for (const { title, note, head, rows: lines } of board.sections) {
    const section = addSection(slug(title), title);
    if (note) section.append(element("p", { class: "note" }, note));
    const columns = head.map((label, place) => {
      const figures = lines.every((line) => figureIn(line[place]) !== null || line[place] === UNKNOWN);
      const sorting = (line) => (line[place] === UNKNOWN ? null : figures ? figureIn(line[place]) : line[place]);
      return { key: String(place), label, left: !figures, head: place === 0, value: sorting, cell: (line) => line[place] };
    });
    section.append(sortableTable({ caption: title, columns, items: lines, sort: { key: "", direction: "ascending" } }).node);
  }
}

/** The figure that a text begins with, or null. */
function figureIn(text) {
  const found = /^[<+]?(-?[\d,]+(\.\d+)?)/.exec(text);
  return found ? Number(found[1].replaceAll(",", "")) : null;
}

function addSection(id, title) {
  const heading = element("h2", { id: `${id}-heading`, tabindex: "-1" }, title);
  const section = element("section", { id, "aria-labelledby": `${id}-heading` }, element("div", { class: "heading" }, heading));
  byId("sections").append(section);
  return section;
}

function slug(title) {
  return title.toLowerCase().replaceAll(/[^a-z0-9]+/g, "-").replaceAll(/^-|-$/g, "");
}

/** A link to each section; the address keeps what is chosen. */
function makeContents() {
  for (const section of document.querySelectorAll("main section[id]:not(#filter)")) {
    const heading = section.querySelector("h2");
    const go = (event) => {
      event.preventDefault();
      goTo(section);
    };
    byId("contents").append(element("a", { href: `#${section.id}`, click: go }, heading.textContent));
  }
}

function goTo(section) {
  section.scrollIntoView();
  section.querySelector("h2")?.focus({ preventScroll: true });
}

const darkOutside = matchMedia("(prefers-color-scheme: dark)");

/** As the system has it, until the button says otherwise. */
function makeTheme() {
  const root = document.documentElement;
  const dark = () => (root.dataset.theme ? root.dataset.theme === "dark" : darkOutside.matches);
  const label = () => (byId("theme").textContent = dark() ? "Light theme" : "Dark theme");
  try {
    root.dataset.theme = localStorage.getItem("theme") ?? "";
  } catch {
    root.dataset.theme = ""; // a browser that keeps nothing for files
  }
  byId("theme").addEventListener("click", () => {
    root.dataset.theme = dark() ? "light" : "dark";
    label();
    try {
      localStorage.setItem("theme", root.dataset.theme);
    } catch {
      return; // it holds until the page is closed
    }
  });
  darkOutside.addEventListener("change", label);
  label();
}

makeTheme();
byId("summary").textContent = summary();
makeFilters();
makeBoard();
makePareto();
makeFits();
makeFailures();
makeSections();
makeContents();
