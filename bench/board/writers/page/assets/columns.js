// The columns of the tables of rows, and how their figures lead to records.

const VIEWS = {
  overview: ["rank", "method", "regularizer", "test", "interval", "seeds", "tokens", "step", "peak", "trainable"],
  quality: ["rank", "method", "regularizer", "test", "interval", "min", "iqm", "seeds", "dev", "sharpness"],
  speed: ["method", "regularizer", "seeds", "tokens", "samples", "step", "p90", "p99", "seconds", "flops", "mfu", "joules"],
  memory: ["method", "regularizer", "seeds", "peak", "owners", "evaluate", "predicted", "ratio", "trainable"],
};
const PLACE = ["backbone", "task", "regime", "zero", "ranks", "precision"]; // beside a row where settings are mixed

/** A figure of a row, linked to the record `seed`, or to the only one; otherwise a click opens the list of all. */
function figure(row, text, seed = row.seeds.length === 1 ? row.seeds[0] : null) {
  if (text === UNKNOWN || !seed) return text;
  return recordLink(seed.name, text, { class: "figure", tabindex: "-1", title: seed.name });
}

/** A column of numbers: `text(row)` shows what `value(row)` sorts by. */
function numbers(key, label, text, rest = {}) {
  const value = rest.value ?? ((row) => row[key]);
  return { key, label, value, opens: true, cell: (row) => figure(row, text(row), rest.seed?.(row)), ...rest };
}

function words(key, label, rest = {}) {
  return { key, label, left: true, value: (row) => row[key], cell: (row) => String(row[key] ?? UNKNOWN), ...rest };
}

/** All columns by key, for tables of `shown` rows: sizes in one unit, bars and seeds on one scale. */
function columnsOf(shown) {
  const best = { first: "descending" };
  const unit = unitOf(shown.flatMap((row) => [row.peak, row.evaluate, row.predicted]));
  const largest = Math.max(0, ...shown.map((row) => row.peak ?? 0));
  const scores = shown.flatMap((row) => row.finished.map((seed) => seed.test)).filter((test) => test !== null);
  const scale = { low: Math.min(...scores), high: Math.max(...scores) };
  const all = [
    numbers("rank", "rank", (row) => rankText(row), {
      hint: "rows that cannot be told apart share a rank, marked =",
    }),
    words("method", "method", { head: true, cell: methodCell }),
    words("regularizer", "regularizer"),
    ...PLACE.map((axis) => words(axis, axis === "zero" ? "ZeRO" : axis, { left: axis !== "ranks" })),
    numbers("test", "test %", (row) => spread(row.test, row.deviation), {
      ...best,
      hint: "mean ± sample standard deviation over seeds",
    }),
    numbers("interval", "95 % interval", intervalText, {
      ...best,
      value: (row) => row.low,
      hint: "of the mean, bootstrapped over seeds; of one seed Wilson's, over its test examples; sorted by the lower end",
    }),
    numbers("min", "min", (row) => fixed(row.min, 1), { ...best, hint: "the worst seed", seed: worst }),
    numbers("iqm", "IQM", (row) => fixed(row.iqm, 1), { ...best, hint: "interquartile mean over seeds" }),
    {
      key: "seeds",
      label: "seeds",
      left: true,
      wide: true,
      first: "descending",
      value: (row) => row.finished.length,
      cell: (row) => seedsCell(row, scale),
    },
    numbers("dev", "dev %", (row) => spread(row.dev, row.dev_deviation), best),
    numbers("sharpness", "sharpness", (row) => spread(row.sharpness, row.sharpness_deviation, 2), {
      hint: "rise of the loss around the inputs, per unit of radius",
    }),
    numbers("tokens", "tokens/s", (row) => fixed(row.tokens, 0), best),
    numbers("samples", "samples/s", (row) => fixed(row.samples, 1), best),
    numbers("step", "step ms", (row) => fixed(row.step, 1), { hint: "median step, median over seeds" }),
    numbers("p90", "p90", (row) => fixed(row.p90, 1), { hint: "of step times, ms" }),
    numbers("p99", "p99", (row) => fixed(row.p99, 1), { hint: "of step times, ms" }),
    numbers("seconds", "training s", (row) => digits(row.seconds), { hint: "the whole of training" }),
    numbers("flops", "GFLOP/step", (row) => digits(row.flops === null ? null : row.flops / 1e9)),
    numbers("mfu", "MFU %", (row) => fixed(row.mfu, 1), best),
    numbers("joules", "joules/step", (row) => digits(row.joules)),
    numbers("peak", `peak ${unit}/rank`, (row) => size(row.peak, unit), {
      hint: "of training, on the rank and for the seed that need most",
      seed: neediest,
    }),
    {
      key: "owners",
      label: "by owner",
      left: true,
      first: "descending",
      value: (row) => row.peak,
      cell: (row) => ownersBar(row, largest),
    },
    numbers("evaluate", `evaluation ${unit}`, (row) => size(row.evaluate, unit), { hint: "peak of evaluation" }),
    numbers("predicted", `predicted ${unit}`, (row) => size(row.predicted, unit), { hint: "by bench plan" }),
    numbers("ratio", "predicted / measured", (row) => fixed(row.ratio, 2)),
    numbers("trainable", "trainable", (row) => fixed(row.trainable, 0), { hint: "parameters" }),
  ];
  return Object.fromEntries(all.map((column) => [column.key, column]));
}

/** The method, and below it the hyper-parameters that dev chose. */
function methodCell(row) {
  return row.chosen === null ? row.method : [row.method, element("span", { class: "choice-of-dev" }, `chosen: ${row.chosen}`)];
}

function rankText(row) {
  return row.rank === null ? UNKNOWN : `${row.rank}${row.tied ? "=" : ""}`;
}

function intervalText(row) {
  return row.low === null ? UNKNOWN : `${fixed(row.low, 1)} – ${fixed(row.high, 1)}`;
}

function worst(row) {
  return row.finished.find((seed) => seed.test !== null && seed.test === row.min) ?? null;
}

function neediest(row) {
  return row.peak_record === null ? null : row.seeds[row.peak_record];
}

/** How many seeds, as a button that lists their records, and their scores as dots on the scale of the table. */
function seedsCell(row, scale) {
  const [done, all] = [row.finished.length, row.seeds.length];
  const button = element(
    "button",
    { type: "button", class: "records", "aria-expanded": "false", "aria-label": `${seedsText(row)}: records of ${row.title}` },
    done === all ? String(all) : `${done} of ${all}`,
  );
  return [button, strip(row, scale)];
}

function seedsText(row) {
  const [done, all] = [row.finished.length, row.seeds.length];
  return done === all ? counted(all, "seed") : `${done} of ${counted(all, "seed")}`;
}

function strip(row, { low, high }) {
  const known = row.finished.filter((seed) => seed.test !== null);
  if (!known.length) return null;
  const [width, height, margin] = [88, 14, 5];
  const place = (test) => margin + (high > low ? (test - low) / (high - low) : 0.5) * (width - 2 * margin);
  const dots = known.map((seed) => {
    const title = `seed ${seed.seed}: ${fixed(seed.test, 1)} %`;
    const dot = shape("circle", { cx: place(seed.test), cy: height / 2, r: 3 }, shape("title", {}, title));
    return shape("a", { href: address(seed.name), tabindex: "-1" }, dot);
  });
  const axis = shape("line", { x1: margin, x2: width - margin, y1: height / 2, y2: height / 2 });
  return shape("svg", { class: "strip", width, height, "aria-hidden": "true" }, axis, ...dots);
}

/** Memory at the peak of training, a piece for each owner; the longest bar is the largest peak of the table. */
function ownersBar(row, largest) {
  if (!row.owners || !largest) return UNKNOWN;
  const known = row.owners.map((amount, place) => ({ amount, place })).filter(({ amount }) => amount > 0);
  const pieces = known.map(({ amount, place }) => {
    const piece = element("span", { class: `owner-${place}` });
    piece.style.flexGrow = amount;
    return piece;
  });
  const lines = known.map(({ amount, place }) => `${board.owners[place]} ${sized(amount)}`);
  const label = `${row.title}: ${sized(row.peak)}: ${lines.join(", ")}`;
  const bar = element("span", { class: "bar", role: "img", tabindex: "0", "aria-label": label }, ...pieces);
  bar.style.width = `${(100 * row.peak) / largest}%`;
  return element("span", { class: "track" }, explained(bar, [`${row.title}, ${sized(row.peak)}`, ...lines]));
}

function ownersLegend() {
  const items = board.owners.map((owner, place) =>
    element("li", {}, element("span", { class: `swatch owner-${place}` }), owner),
  );
  return element("ul", { class: "legend" }, ...items);
}

/** The records of a row, a line for each seed. */
function recordsOf(row) {
  const unit = unitOf(row.seeds.map((seed) => seed.peak));
  const columns = [
    { key: "seed", label: "seed", cell: (seed) => String(seed.seed ?? UNKNOWN) },
    { key: "status", label: "status", left: true, cell: (seed) => seed.status },
    { key: "test", label: "test %", cell: (seed) => fixed(seed.test, 2) },
    { key: "dev", label: "dev %", cell: (seed) => fixed(seed.dev, 2) },
    { key: "step", label: "step ms", cell: (seed) => fixed(seed.step, 1) },
    { key: "seconds", label: "training s", cell: (seed) => digits(seed.seconds) },
    { key: "peak", label: `peak ${unit}`, cell: (seed) => size(seed.peak, unit) },
    { key: "record", label: "record", left: true, cell: (seed) => recordLink(seed.name, seed.name) },
  ];
  const known = columns.filter((column) => row.seeds.some((seed) => seed[column.key] !== null));
  const head = known.map((column) => element("th", { scope: "col", class: classOf(column) }, column.label));
  const lines = row.seeds.map((seed) =>
    element("tr", {}, ...known.map((column) => element("td", { class: classOf(column) }, column.cell(seed)))),
  );
  const caption = element("caption", { class: "unseen" }, `Records of ${row.title}`);
  const table = element("table", {}, caption, element("thead", {}, element("tr", {}, ...head)), element("tbody", {}, ...lines));
  return element("div", { class: "list" }, table);
}
