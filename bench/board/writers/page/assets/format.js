// Figures as text. What is not known is a dash, never 0.

const UNKNOWN = "–";
const formats = new Map();

function fixed(value, places) {
  if (value === null || value === undefined) return UNKNOWN;
  if (!formats.has(places)) {
    const digits = { minimumFractionDigits: places, maximumFractionDigits: places };
    formats.set(places, new Intl.NumberFormat("en", digits));
  }
  return formats.get(places).format(value);
}

/** So many decimals that `value` has three digits. */
function places(value) {
  return value ? Math.min(Math.max(2 - Math.floor(Math.log10(Math.abs(value))), 0), 8) : 0;
}

function digits(value) {
  return fixed(value, places(value));
}

/** Mean and sample standard deviation, set so that the signs of a column stand below each other. */
function spread(mean, deviation, decimals = 1) {
  if (mean === null) return UNKNOWN;
  const around = deviation === null ? "" : `± ${fixed(deviation, decimals)}`;
  return [fixed(mean, decimals), element("span", { class: "deviation" }, around)];
}

/** "GiB" for tables with ten or more in them. */
function unitOf(sizes) {
  return Math.max(0, ...sizes.filter((size) => size !== null)) >= 10 * 1024 ? "GiB" : "MiB";
}

/** MiB in `unit`; what is less than it can show is no zero. */
function size(value, unit) {
  const decimals = unit === "GiB" ? 2 : 1;
  const shown = value === null ? null : unit === "GiB" ? value / 1024 : value;
  if (shown !== null && shown > 0 && shown < 0.5 * 10 ** -decimals) return `<${10 ** -decimals}`;
  return shown === 0 ? "0" : fixed(shown, decimals);
}

/** A size with the unit that suits it. */
function sized(value) {
  const unit = value !== null && value >= 1024 ? "GiB" : "MiB";
  return value === null ? UNKNOWN : `${size(value, unit)} ${unit}`;
}

function counted(number, noun) {
  return `${fixed(number, 0)} ${noun}${number === 1 ? "" : "s"}`;
}
