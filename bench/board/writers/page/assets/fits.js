// What fits my GPUs: the rows of a backbone that so many GPUs of so much memory can run, best first.

const RESERVE = 2; // GiB that stay free, as in bench plan: context, NCCL, fragmentation
const ASKED = { gpus: "8", memory: "80", model: "", goal: "" }; // by key in the address: what holds where it says nothing

function makeFits() {
  const models = [...new Set(rows.map((row) => row.backbone))].sort();
  const number = (key, least) => {
    const attributes = { id: key, type: "number", min: least, step: least || "any", required: true };
    return element("input", { ...attributes, input: (event) => choose(key, event.target.value) });
  };
  const options = (key, names) => {
    const made = select(names.map((name) => [name, name]), null, (name) => choose(key, name));
    made.id = key;
    return made;
  };
  byId("fits-form").append(
    field("Number of GPUs", number("gpus", 1)),
    field("GiB of each", number("memory", 0)),
    field("Backbone", options("model", models)),
    field("Task and regime", options("goal", [])),
  );
  byId("fits-form").addEventListener("submit", (event) => event.preventDefault());
  byId("fits-note").textContent =
    "A row needs what its neediest rank held in its neediest phase, of all seeds: measured on a GPU by the allocator, on a CPU " +
    "as the bytes of live tensors, or predicted by bench plan where nothing was measured. " +
    `${RESERVE} GiB of each GPU stay free for context, NCCL and fragmentation. Quality is the mean on test; cells of random weights have none.`;
  whenChosen((key) => {
    if (key === null || key in ASKED) showFits();
  });
  showFits();
}

/** What is asked, from the address, in the fields too: number of GPUs, GiB of each, backbone, task and regime. */
function asked() {
  const model = byId("model");
  if (rows.some((row) => row.backbone === value("model"))) model.value = value("model");
  const candidates = rows.filter((row) => row.backbone === model.value);
  const goals = [...new Set(candidates.map(goalName))].sort();
  const scored = goals.find((goal) => candidates.some((row) => !row.setting.cost_only && goalName(row) === goal));
  const goal = goals.includes(value("goal")) ? value("goal") : scored ?? goals[0];
  byId("goal").replaceChildren(...goals.map((name) => element("option", { value: name, selected: name === goal }, name)));
  for (const key of ["gpus", "memory"]) {
    if (byId(key) !== document.activeElement) byId(key).value = value(key, ASKED[key]);
  }
  const wanted = candidates.filter((row) => row.setting.cost_only || goalName(row) === goal);
  return { wanted, gpus: Number(value("gpus", ASKED.gpus)), memory: Number(value("memory", ASKED.memory)) };
}

function showFits() {
  const { wanted, gpus, memory } = asked();
  if (!(gpus >= 1 && memory > 0)) {
    byId("fits-count").textContent = "Expected a number of GPUs, and the GiB of one.";
    byId("fits-tables").replaceChildren();
    return;
  }
  const judgements = wanted.map((row) => ({ row, why: whyNot(row, gpus, memory) }));
  const fitting = judgements.filter((one) => !one.why).sort(betterFirst);
  const rest = judgements.filter((one) => one.why).sort(lessFirst);
  byId("fits-count").textContent = `${fitting.length} of ${counted(wanted.length, "row")} fit ${counted(gpus, "GPU")} of ${memory} GiB.`;
  byId("fits-tables").replaceChildren(
    ...(fitting.length ? [fitsTable(fitting, "What fits")] : []),
    ...(rest.length ? [element("h3", {}, "What does not fit"), fitsTable(rest, "What does not fit")] : []),
  );
}

function goalName(row) {
  return row.setting.cost_only ? `${row.task} · costs only` : `${row.task} · ${row.regime}`;
}

/** What more a row would need, or "". */
function whyNot(row, gpus, memory) {
  const needs = row.ranks > gpus ? [`${row.ranks} GPUs`] : [];
  const whole = row.need === null ? null : row.need / 1024 + RESERVE;
  if (whole === null) needs.push(`not known (${row.finished.length ? "not measured" : row.seeds[0].status.replaceAll("_", " ")})`);
  else if (whole > memory) needs.push(`${fixed(whole, 2)} GiB on each`);
  return needs.join(", ");
}

function betterFirst(one, other) {
  return (other.row.test ?? -1) - (one.row.test ?? -1) || one.row.need - other.row.need;
}

function lessFirst(one, other) {
  return (one.row.need ?? Infinity) - (other.row.need ?? Infinity) || 0; // not known: Infinity - Infinity
}

function fitsTable(judgements, caption) {
  const why = new Map(judgements.map((one) => [one.row, one.why]));
  const items = judgements.map((one) => one.row);
  const all = columnsOf(items);
  const unit = unitOf(items.map((row) => row.need));
  const columns = [
    all.method,
    { key: "why", label: "needs", left: true, wide: true, value: (row) => why.get(row) || null, cell: (row) => why.get(row) },
    all.regularizer,
    all.zero,
    all.ranks,
    numbers("micro", "micro-batch", microBatch, { value: (row) => row.setting.micro, hint: "examples on a rank in one pass, with at most so many tokens" }),
    all.precision,
    numbers("need", `${unit}/rank`, (row) => size(row.need, unit)),
    words("source", "from"),
    { ...all.test, label: "expected test %" },
    all.step,
    all.seeds,
    { ...all.task, cell: goalName, label: "task", wide: true },
  ];
  const shown = columns.filter((column) => items.some((row) => column.value(row) !== null));
  return sortableTable({ caption, columns: shown, items, sort: { key: "", direction: "ascending" }, below: recordsOf }).node;
}

function microBatch(row) {
  const { micro, length } = row.setting;
  return micro === null ? UNKNOWN : length ? `${fixed(micro, 0)} × ${fixed(length, 0)}` : fixed(micro, 0);
}
