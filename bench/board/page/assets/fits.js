// What fits my GPUs: the rows of a backbone that so many GPUs of so much memory can run, best first.

const RESERVE = 2; // GiB that stay free, as in bench plan: context, NCCL, fragmentation
const FIELDS = ["gpus", "memory", "model", "goal"];

function makeFits() {
  const models = [...new Set(rows.map((row) => row.backbone))].sort();
  const number = (key, otherwise, step) => {
    const input = element("input", { type: "number", min: step, step: "any", required: true, value: value(key, otherwise) });
    input.addEventListener("input", () => choose(key, input.value));
    return input;
  };
  const gpus = number("gpus", "1", 1);
  gpus.step = "1";
  const model = select(models.map((name) => [name, name]), value("model", models[0]), (name) => choose("model", name));
  byId("fits-form").append(
    field("Number of GPUs", gpus),
    field("GiB of each", number("memory", "24", 0)),
    field("Backbone", model),
    field("Task and regime", element("select", { id: "goal", change: (event) => choose("goal", event.target.value) })),
  );
  byId("fits-form").addEventListener("submit", (event) => event.preventDefault());
  byId("fits-note").textContent =
    "A row needs what its neediest rank held in its neediest phase, of all seeds: measured on a GPU by the allocator, on a CPU " +
    "as the bytes of live tensors, or predicted by bench plan where nothing was measured. " +
    `${RESERVE} GiB of each GPU stay free for context, NCCL and fragmentation. Quality is the mean on test; cells of random weights have none.`;
  whenChosen((key) => {
    if (key === null || FIELDS.includes(key)) showFits(model);
  });
  showFits(model);
}

function showFits(model) {
  if (rows.some((row) => row.backbone === value("model"))) model.value = value("model");
  const [goal, candidates] = goalOf(rows.filter((row) => row.backbone === model.value));
  const [gpus, memory] = [Number(value("gpus", "1")), Number(value("memory", "24"))];
  const wanted = candidates.filter((row) => row.setting.cost_only || goalName(row) === goal).map((row) => judged(row, gpus, memory));
  const fitting = wanted.filter((one) => one.why === "").sort(betterFirst);
  const rest = wanted.filter((one) => one.why !== "").sort((one, other) => (one.row.need ?? Infinity) - (other.row.need ?? Infinity));
  byId("fits-count").textContent = `${fitting.length} of ${counted(wanted.length, "row")} fit ${counted(gpus, "GPU")} of ${memory} GiB.`;
  byId("fits-tables").replaceChildren(
    ...(fitting.length ? [fitsTable(fitting, "What fits")] : []),
    ...(rest.length ? [element("h3", {}, "What does not"), fitsTable(rest, "What does not fit")] : []),
  );
}

function goalName(row) {
  return row.setting.cost_only ? `${row.task} · costs only` : `${row.task} · ${row.regime}`;
}

/** The task and regime that is asked for, of those these rows have; the field offers them. */
function goalOf(candidates) {
  const names = [...new Set(candidates.map(goalName))].sort();
  const scored = names.find((name) => !name.endsWith("costs only"));
  const goal = names.includes(value("goal")) ? value("goal") : scored ?? names[0];
  byId("goal").replaceChildren(...names.map((name) => element("option", { value: name, selected: name === goal }, name)));
  return [goal, candidates];
}

/** With why it does not fit, or "". */
function judged(row, gpus, memory) {
  const why = [];
  if (row.ranks > gpus) why.push(`${row.ranks} GPUs`);
  if (row.need === null) why.push(row.finished.length ? "memory not known" : `${row.seeds[0].status.replaceAll("_", " ")}, need not known`);
  else if (row.need / 1024 + RESERVE > memory) why.push(`${fixed(row.need / 1024 + RESERVE, 2)} GiB on each`);
  return { row, why: why.join(", ") };
}

function betterFirst(one, other) {
  return (other.row.test ?? -1) - (one.row.test ?? -1) || one.row.need - other.row.need;
}

function fitsTable(judgements, caption) {
  const why = new Map(judgements.map((one) => [one.row, one.why]));
  const items = judgements.map((one) => one.row);
  const all = columnsOf(items);
  const unit = unitOf(items.map((row) => row.need));
  const columns = [
    all.method,
    { key: "why", label: "needs", left: true, value: (row) => why.get(row) || null, cell: (row) => why.get(row) },
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
    { ...all.task, cell: goalName, label: "task" },
  ];
  const shown = columns.filter((column) => items.some((row) => column.value(row) !== null));
  return sortableTable({ caption, columns: shown, items, sort: { key: "", direction: "ascending" }, below: recordsOf }).node;
}

function microBatch(row) {
  const { micro, length } = row.setting;
  return micro === null ? UNKNOWN : length ? `${fixed(micro, 0)} × ${fixed(length, 0)}` : fixed(micro, 0);
}
