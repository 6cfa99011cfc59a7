/** The arithmetic of the charts' axes. Pure. */

/**
 * The smallest of 1, 2, 2.5, 5 × 10ⁿ that is not below `value`: the top of a scale whose half is a round number too.
 * @param {number} value
 * @returns {number}
 */
export function niceTop(value) {
  const power = 10 ** Math.floor(Math.log10(value));
  const step = [1, 2, 2.5, 5, 10].find((factor) => factor * power >= value * 0.999999);
  return (step ?? 10) * power;
}

/**
 * The line's value at a moment between two points.
 * @param {{t: number, values: number[]}} a
 * @param {{t: number, values: number[]}} b
 * @param {number} t
 * @param {number} index which of the values
 * @returns {number}
 */
export function between(a, b, t, index) {
  const share = b.t === a.t ? 1 : (t - a.t) / (b.t - a.t);
  return a.values[index] + (b.values[index] - a.values[index]) * Math.min(1, Math.max(0, share));
}

/**
 * Round moments inside a span, for the marks of a time axis.
 * @param {number} from milliseconds
 * @param {number} to milliseconds
 * @param {number} step milliseconds
 * @returns {number[]}
 */
export function ticks(from, to, step) {
  const marks = [];
  for (let t = Math.ceil(from / step) * step; t <= to; t += step) {
    marks.push(t);
  }
  return marks;
}
