// Test quality against a cost, of one setting: means with intervals, seeds, and the rows that no other one beats in both.

const COSTS = {
  peak: { label: "peak memory per rank", axis: "peak memory per rank, MiB", text: sized, seed: (seed) => seed.peak },
  step: { label: "step time", axis: "step time, ms", text: (ms) => `${fixed(ms, 1)} ms`, seed: (seed) => seed.step },
  seconds: { label: "training time", axis: "training time, s", text: (s) => `${digits(s)} s`, seed: (seed) => seed.seconds },
  trainable: { label: "trainable parameters", axis: "trainable parameters", text: (n) => fixed(n, 0), seed: () => null },
};
const ORDERS = 10; // from that ratio of the largest to the smallest on, costs are on a log scale
const MARGIN = { left: 46, right: 18, top: 14, bottom: 42 };
const SYMBOLS = {
  circle: "M0-5.5A5.5 5.5 0 1 1 0 5.5A5.5 5.5 0 1 1 0-5.5Z",
  square: "M-5-5H5V5H-5Z",
  diamond: "M0-7L7 0L0 7L-7 0Z",
  up: "M0-6.5L6.2 4.8H-6.2Z",
  down: "M0 6.5L6.2-4.8H-6.2Z",
  cross: "M-2-6H2V-2H6V2H2V6H-2V2H-6V-2H-2Z",
};
const COLOURS = 7;
const kinds = [...new Set(rows.map((row) => row.kind))].sort();

function makePareto() {
  whenChosen((key) => {
    if (key === null || key === "setting" || key === "cost" || key in AXES) showPareto();
  });
  new ResizeObserver(() => byId("plot").clientWidth !== drawnWidth && drawPlot()).observe(byId("plot"));
  showPareto();
}

let drawn = null; // what is plotted: the rows of a setting, the cost
let drawnWidth = 0;

/** The settings with scores among what passes the filters, one of them chosen. */
function showPareto() {
  const groups = grouped(filteredRows().filter((row) => row.test !== null), (row) => row.setting);
  const options = [...groups.keys()].map((setting) => [String(board.settings.indexOf(setting)), setting]);
  const [place, setting] = options.find(([key]) => key === value("setting")) ?? options[0] ?? ["", null];
  const cost = Object.hasOwn(COSTS, value("cost")) ? value("cost") : "peak";
  const titles = grouped(options, ([, one]) => one.title);
  const named = options.map(([key, one]) => [key, titles.get(one.title).length > 1 ? `${one.title} · ${one.details}` : one.title]);
  const costs = Object.entries(COSTS).map(([key, one]) => [key, one.label]);
  byId("pareto-form").replaceChildren(
    field("Setting", select(named, place, (chosen) => chooseAndStay("setting", chosen))),
    field("Cost", select(costs, cost, (chosen) => chooseAndStay("cost", chosen))),
  );
  byId("plot-records").replaceChildren();
  drawn = { setting, cost, shown: (groups.get(setting) ?? []).filter((row) => row[cost] !== null) };
  drawPlot();
}

/** The form is made anew by a choice: the focus goes to the same field. */
function chooseAndStay(key, chosen) {
  const place = key === "setting" ? 0 : 1;
  choose(key, chosen);
  byId("pareto-form").querySelectorAll("select")[place].focus();
}

function drawPlot() {
  const { setting, cost, shown } = drawn;
  const width = Math.min(byId("plot").clientWidth, 980);
  drawnWidth = byId("plot").clientWidth;
  if (!shown.length || width < 100) {
    byId("pareto-note").textContent = "";
    byId("plot").replaceChildren(element("p", { class: "nothing" }, "No row with a score and this cost passes the filters."));
    return;
  }
  byId("pareto-note").textContent =
    `${setting.title}, ${setting.details}. Points are means over seeds with the 95 % interval of the mean; the line across ` +
    "goes from the least to the greatest cost over seeds, small points are the seeds, and the stepped line joins the rows " +
    "that no other one beats in both. Hollow: with a regularizer.";
  const height = Math.max(300, Math.min(460, width * 0.6));
  const front = frontOf(shown, cost);
  const scales = scalesOf(shown, cost, width, height);
  const label = `Test score against ${COSTS[cost].label}, ${setting.title}`;
  byId("plot").replaceChildren(
    shape(
      "svg",
      { width, height, viewBox: `0 0 ${width} ${height}`, role: "group", "aria-label": label },
      ...axes(scales, cost, width, height),
      frontLine(front, scales, cost),
      ...shown.flatMap((row) => seedPoints(row, scales, cost)),
      ...shown.flatMap((row) => bars(row, scales, cost)),
      ...frontLabels(front, shown, scales, cost, width),
      ...[...shown].sort((one, other) => one[cost] - other[cost]).map((row) => point(row, scales, cost, front)),
    ),
    plotLegend(shown),
  );
}

function scalesOf(shown, cost, width, height) {
  const across = shown.flatMap((row) => [row[cost], ...costsOf(row, cost)]);
  const up = shown.flatMap((row) => [row.test, row.low, row.high, ...row.finished.map((seed) => seed.test)]);
  const known = up.filter((score) => score !== null);
  const [least, most] = [Math.min(...across), Math.max(...across)];
  return {
    log: least > 0 && most / least >= ORDERS,
    x: scaleOf(across, MARGIN.left, width - MARGIN.right, { log: least > 0 && most / least >= ORDERS }),
    y: scaleOf(known, height - MARGIN.bottom, MARGIN.top),
  };
}

/** Of the seeds that know it. */
function costsOf(row, cost) {
  return row.finished.map(COSTS[cost].seed).filter((one) => one !== null);
}

/** Cheapest first: each is better than all that cost no more. */
function frontOf(shown, cost) {
  const front = [];
  for (const row of [...shown].sort((one, other) => one[cost] - other[cost] || other.test - one.test)) {
    if (!front.length || row.test > front[front.length - 1].test) front.push(row);
  }
  return front;
}

function axes(scales, cost, width, height) {
  const [bottom, right] = [height - MARGIN.bottom, width - MARGIN.right];
  const across = scales.x.ticks(width < 500 ? 4 : 8).map((tick) => {
    const x = scales.x.at(tick);
    const text = shape("text", { x, y: bottom + 17, "text-anchor": "middle" }, compact(tick));
    return [shape("line", { class: "grid", x1: x, x2: x, y1: MARGIN.top, y2: bottom }), text];
  });
  const up = scales.y.ticks(6).map((tick) => {
    const y = scales.y.at(tick);
    const text = shape("text", { x: MARGIN.left - 8, y: y + 4, "text-anchor": "end" }, String(tick));
    return [shape("line", { class: "grid", x1: MARGIN.left, x2: right, y1: y, y2: y }), text];
  });
  const middle = (MARGIN.left + right) / 2;
  const name = `${COSTS[cost].axis}${scales.log ? " (log scale)" : ""}`;
  const titles = [
    shape("text", { class: "axis", x: middle, y: height - 6, "text-anchor": "middle" }, name),
    shape("text", { class: "axis", transform: `translate(11 ${(MARGIN.top + bottom) / 2}) rotate(-90)`, "text-anchor": "middle" }, "test %"),
  ];
  return [shape("g", { "aria-hidden": "true" }, ...across.flat(), ...up.flat(), ...titles)];
}

function compact(tick) {
  return new Intl.NumberFormat("en", { notation: "compact", maximumSignificantDigits: 3 }).format(tick);
}

function frontLine(front, scales, cost) {
  const at = front.map((row) => [scales.x.at(row[cost]), scales.y.at(row.test)]);
  const [[x, y], ...rest] = at;
  const d = `M${x} ${y}${rest.map(([right, top]) => `H${right}V${top}`).join("")}`;
  return shape("path", { class: "front", d, "aria-hidden": "true" });
}

function seedPoints(row, scales, cost) {
  const known = row.finished.filter((seed) => seed.test !== null);
  return known.map((seed) => {
    const at = { cx: scales.x.at(COSTS[cost].seed(seed) ?? row[cost]), cy: scales.y.at(seed.test), r: 2.2 };
    const title = `${row.title}, seed ${seed.seed}: ${fixed(seed.test, 1)} %`;
    const dot = shape("circle", { class: `seed ${colour(row)}`, ...at }, shape("title", {}, title));
    return shape("a", { href: address(seed.name), tabindex: "-1", "aria-hidden": "true" }, dot);
  });
}

function bars(row, scales, cost) {
  const [x, y] = [scales.x.at(row[cost]), scales.y.at(row.test)];
  const costs = costsOf(row, cost);
  const made = [];
  if (row.low !== null) made.push({ x1: x, x2: x, y1: scales.y.at(row.low), y2: scales.y.at(row.high) });
  if (costs.length > 1) made.push({ x1: scales.x.at(Math.min(...costs)), x2: scales.x.at(Math.max(...costs)), y1: y, y2: y });
  return made.map((ends) => shape("line", { class: `range ${colour(row)}`, ...ends, "aria-hidden": "true" }));
}

function point(row, scales, cost, front) {
  const lines = tipOf(row, cost, front);
  const group = shape("g", {
    class: `point ${colour(row)} ${row.regularizer === "none" ? "" : "hollow"}`,
    transform: `translate(${scales.x.at(row[cost])} ${scales.y.at(row.test)})`,
    role: "button",
    tabindex: "0",
    "aria-label": lines.join(", "),
    click: () => showRecords(row),
    keydown: (event) => {
      if (event.key !== "Enter" && event.key !== " ") return;
      event.preventDefault();
      showRecords(row);
    },
  });
  group.append(shape("circle", { class: "halo", r: 12 }), shape("path", { d: symbol(row) }));
  return explained(group, lines);
}

function tipOf(row, cost, front) {
  const interval = row.low === null ? "" : `, 95 % interval ${intervalText(row)}`;
  const deviation = row.deviation === null ? "" : ` ± ${fixed(row.deviation, 1)}`;
  const costs = Object.entries(COSTS).filter(([key]) => row[key] !== null);
  return [
    row.title,
    row.setting.title,
    `test ${fixed(row.test, 1)} %${deviation}${interval}, ${seedsText(row)}`,
    ...costs.map(([key, one]) => `${one.label} ${one.text(row[key])}`),
    ...(front.includes(row) ? ["on the front"] : []),
  ];
}

function showRecords(row) {
  byId("plot-records").replaceChildren(element("h3", {}, row.title), recordsOf(row));
}

function colour(row) {
  return `colour-${kinds.indexOf(row.kind) % COLOURS}`;
}

/** Of a method's family: with its colour no other family has it. */
function symbol(row) {
  const names = Object.keys(SYMBOLS);
  return SYMBOLS[names[kinds.indexOf(row.kind) % names.length]];
}

/** Names beside the points of the front, where there is room for them. */
function frontLabels(front, shown, scales, cost, width) {
  const taken = shown.map((row) => box(scales.x.at(row[cost]) - 7, scales.y.at(row.test) - 7, 14, 14));
  const made = [];
  for (const row of [...front].reverse()) {
    const [x, y, text] = [scales.x.at(row[cost]), scales.y.at(row.test), shortTitle(row)];
    const long = 6.4 * text.length;
    const places = [
      [x + 8, y - 21, "start", x + 8],
      [x - long - 8, y - 21, "end", x - 8],
      [x + 8, y + 7, "start", x + 8],
      [x - long / 2, y - 26, "middle", x],
    ];
    const free = places.find(([left, top]) => {
      const wanted = box(left, top, long, 14);
      return left > MARGIN.left && left + long < width && top > 0 && !taken.some((one) => overlap(one, wanted));
    });
    if (!free) continue;
    const [left, top, anchor, at] = free;
    taken.push(box(left, top, long, 14));
    made.push(shape("text", { class: "name", x: at, y: top + 11, "text-anchor": anchor, "aria-hidden": "true" }, text));
  }
  return made;
}

function shortTitle({ title }) {
  return title.length > 40 ? `${title.slice(0, 39)}…` : title;
}

function box(left, top, width, height) {
  return { left, top, right: left + width, bottom: top + height };
}

function overlap(one, other) {
  return one.left < other.right && other.left < one.right && one.top < other.bottom && other.top < one.bottom;
}

function plotLegend(shown) {
  const items = kinds
    .map((kind) => shown.find((row) => row.kind === kind))
    .filter((row) => row)
    .map((row) => {
      const mark = shape("svg", { width: 16, height: 16, viewBox: "-8 -8 16 16", class: `point ${colour(row)}`, "aria-hidden": "true" });
      mark.append(shape("path", { d: symbol(row) }));
      return element("li", {}, mark, row.kind.replaceAll("_", " "));
    });
  return element("ul", { class: "legend" }, ...items);
}
