// Scales of a plot: from figures to pixels, with ticks at round figures.

/** `log` where figures are of several orders. */
function scaleOf(figures, from, to, { log = false, pad = 0.06 } = {}) {
  const [low, high] = [Math.min(...figures), Math.max(...figures)];
  const way = log ? Math.log10 : (figure) => figure;
  const room = (way(high) - way(low)) * pad || (log ? 0.1 : Math.abs(high) * 0.05 || 1);
  const [start, end] = [way(low) - room, way(high) + room];
  const at = (figure) => from + ((way(figure) - start) / (end - start)) * (to - from);
  return { at, ticks: (number) => (log ? logTicks(start, end, number) : ticks(start, end, number)) };
}

function ticks(start, end, number) {
  const rough = (end - start) / number;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = power * [1, 2, 5, 10].find((one) => one * power >= rough);
  const first = Math.ceil(start / step);
  const count = Math.floor(end / step + 1e-9) - first + 1;
  return Array.from({ length: count }, (_, place) => Number(((first + place) * step).toPrecision(10)));
}

function logTicks(start, end, number) {
  const powers = [];
  for (let power = Math.floor(start); power <= end; power += 1) powers.push(power);
  const several = [[1, 2, 5], [1, 3], [1]].map((parts) =>
    powers.flatMap((power) => parts.map((part) => part * 10 ** power)).filter((tick) => inside(Math.log10(tick), start, end)),
  );
  const few = several.find((found) => found.length <= number) ?? several[2];
  const every = Math.ceil(few.length / number);
  return few.length < 2 ? ticks(10 ** start, 10 ** end, number) : few.filter((_, place) => place % every === 0);
}

function inside(figure, start, end) {
  return figure >= start && figure <= end;
}
