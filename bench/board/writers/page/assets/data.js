// The board's data, unpacked: settings, rows with their settings and records, failures.

const board = JSON.parse(byId("data").textContent);
const rows = board.rows.map(unpackedRow);
for (const several of grouped(rows, (row) => `${board.settings.indexOf(row.setting)} ${row.rank}`).values()) {
  for (const row of several) row.tied = several.length > 1;
}
const failures = board.failures.rows.map((values) => named(board.failures.columns, values));

function named(columns, values) {
  return Object.fromEntries(columns.map((column, place) => [column, values[place]]));
}

function unpackedRow(values) {
  const row = named(board.columns, values);
  for (const key of ["method", "chosen", "regularizer", "kind", "source"]) {
    row[key] = row[key] === null ? null : board.strings[row[key]];
  }
  row.setting = board.settings[row.setting];
  row.seeds = row.records.map((seed) => unpackedSeed(seed, row.name));
  row.finished = row.seeds.filter((seed) => seed.status === "ok");
  row.title = row.regularizer === "none" ? row.method : `${row.method} with ${row.regularizer}`;
  for (const axis of ["backbone", "task", "regime", "zero", "ranks", "precision"]) row[axis] = row.setting[axis];
  return row;
}

function unpackedSeed(values, prefix) {
  const seed = named(board.seed_columns, values);
  seed.name = prefix + seed.name;
  seed.status = board.strings[seed.status];
  return seed;
}

/** Where a record lies, seen from the page. */
function address(name) {
  return `records/${encodeURIComponent(name)}.json`;
}

/** A link to a record. */
function recordLink(name, text, attributes = {}) {
  return element("a", { href: address(name), ...attributes }, text);
}

/** `items` by what `key` gives, in the order of their first. */
function grouped(items, key) {
  const groups = new Map();
  for (const item of items) {
    const name = key(item);
    if (!groups.has(name)) groups.set(name, []);
    groups.get(name).push(item);
  }
  return groups;
}
