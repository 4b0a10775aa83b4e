/** Arithmetic of the charts. No function here knows the page. */

/** The smallest and the largest value; a loop, because 100,000 arguments are too many. */
export function extentOf(values) {
  let low = Infinity,
    high = -Infinity;
  for (const value of values) {
    if (value < low) low = value;
    if (value > high) high = value;
  }
  return [low, high];
}

/** An axis around these values: never empty, with a margin. */
export function axisOf(values, margin = 0.05) {
  const [low, high] = extentOf(values.filter(Number.isFinite));
  if (low > high) return [0, 1];
  if (low === high)
    return [low - Math.max(1, Math.abs(low) * 0.1), high + Math.max(1, Math.abs(high) * 0.1)];
  const pad = (high - low) * margin;
  return [low - pad, high + pad];
}

/** Round numbers between low and high, about so many. */
export function ticksOf(low, high, about = 5) {
  const span = high - low;
  if (!(span > 0) || !Number.isFinite(span)) return [];
  const power = 10 ** Math.floor(Math.log10(span / about));
  const step = [1, 2, 2.5, 5, 10].map((k) => k * power).find((one) => span / one <= about + 1e-9);
  const found = [];
  for (let k = Math.ceil(low / step - 1e-9); k * step <= high + step * 1e-9; k++)
    found.push(+(k * step).toPrecision(12));
  return found;
}

/**
 * At most so many points of a curve. Each part of it keeps its lowest and its highest point, so a
 * spike survives, and the ends stay.
 */
export function thinned(points, most) {
  if (points.length <= most) return points;
  const parts = Math.max(1, Math.floor((most - 2) / 2)),
    inner = points.slice(1, -1),
    kept = [points[0]];
  for (let k = 0; k < parts; k++) {
    const part = inner.slice(
      Math.floor((k * inner.length) / parts),
      Math.floor(((k + 1) * inner.length) / parts),
    );
    if (!part.length) continue;
    const low = part.reduce((a, b) => (b[1] < a[1] ? b : a)),
      high = part.reduce((a, b) => (b[1] > a[1] ? b : a));
    kept.push(...(low === high ? [low] : low[0] < high[0] ? [low, high] : [high, low]));
  }
  return [...kept, points[points.length - 1]];
}

export function medianOf(values) {
  const sorted = [...values].sort((a, b) => a - b),
    half = sorted.length >> 1;
  if (!sorted.length) return null;
  return sorted.length % 2 ? sorted[half] : (sorted[half - 1] + sorted[half]) / 2;
}

export const meanOf = (values) =>
  values.length ? values.reduce((a, b) => a + b, 0) / values.length : null;

/** The value of a curve at a step, between its points; null outside of them. */
export function valueAt(points, step) {
  const k = points.findIndex(([at]) => at >= step);
  if (k < 0) return null;
  const [at, value] = points[k];
  if (at === step) return value;
  if (k === 0) return null;
  const [before, first] = points[k - 1];
  return first + ((value - first) * (step - before)) / (at - before);
}

/** The point of a curve that is nearest to a step. */
export const nearest = (points, step) =>
  points.reduce((a, b) => (Math.abs(b[0] - step) < Math.abs(a[0] - step) ? b : a));

/**
 * Many curves as one band: step, median, lowest, highest. Steps that differ between the curves are
 * put on a common grid of at most `most` steps.
 */
export function bandOf(curves, most = 60) {
  const filled = curves.filter((points) => points.length);
  let steps = [...new Set(filled.flatMap((points) => points.map(([step]) => step)))].sort(
    (a, b) => a - b,
  );
  if (steps.length > most) {
    const [low, high] = [steps[0], steps[steps.length - 1]];
    steps = Array.from({ length: most }, (_, k) => low + ((high - low) * k) / (most - 1));
  }
  return steps.flatMap((step) => {
    const values = filled.map((points) => valueAt(points, step)).filter((value) => value !== null);
    return values.length ? [[step, medianOf(values), ...extentOf(values)]] : [];
  });
}

/** The index of the curve with the highest value; −1 without points. */
export function bestOf(curves) {
  const tops = curves.map((points) => extentOf(points.map(([, value]) => value))[1]);
  const top = extentOf(tops)[1];
  return Number.isFinite(top) ? tops.indexOf(top) : -1;
}

/** Differences of paired returns; `other` is the champion's returns, or one bar for all. */
export const differencesOf = (candidate, other) =>
  candidate.map((value, k) => value - (Array.isArray(other) ? other[k] : other));

/** On how many seeds the candidate was better, equal or worse. */
export function tallyOf(differences) {
  const better = differences.filter((d) => d > 0).length,
    worse = differences.filter((d) => d < 0).length;
  return { better, worse, equal: differences.length - better - worse };
}

/** Counts of values in `n` bins of equal width between low and high; the ends take the rest. */
export function binsOf(values, low, high, n = 24) {
  const bins = Array.from({ length: n }, () => 0);
  for (const value of values)
    bins[Math.min(n - 1, Math.max(0, Math.floor(((value - low) / (high - low)) * n)))]++;
  return bins;
}

/** Values sorted from the worst, against the share of episodes in per cent. */
export function quantilesOf(values, most = 200) {
  const sorted = [...values].sort((a, b) => a - b),
    n = sorted.length;
  return thinned(
    sorted.map((value, k) => [n > 1 ? (100 * k) / (n - 1) : 100, value]),
    most,
  );
}

/** Pair the candidates' returns by their seed. */
export function pairedOf(first, second) {
  if (!first || !second) return { n: 0 };
  const from = Math.max(first.first_seed, second.first_seed);
  const to = Math.min(
    first.first_seed + first.candidate.length,
    second.first_seed + second.candidate.length,
  );
  const found = Array.from(
    { length: Math.max(0, to - from) },
    (_, k) =>
      second.candidate[from + k - second.first_seed] - first.candidate[from + k - first.first_seed],
  );
  return found.length ? { n: found.length, mean: meanOf(found), ...tallyOf(found) } : { n: 0 };
}
