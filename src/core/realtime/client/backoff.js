/**
 * How long to wait before the next try: the one place that says so.
 *
 * The span doubles with every failure up to a cap, and the wait is a random point in its upper half: never at once, and
 * never all clients in the same moment after a server came back.
 */

/** Seconds of the first span. */
export const BASE = 0.5;

/** Seconds the span never exceeds. */
export const CAP = 30;

/**
 * @param {number} attempt how many tries have failed in a row; 1 after the first failure
 * @param {object} [options]
 * @param {number} [options.retryAfter] seconds the server asked for; the wait is this plus up to a tenth, at least a
 *   random part of the first span, so that clients told the same number do not return together
 * @param {number} [options.base] seconds of the first span
 * @param {number} [options.cap] seconds the span never exceeds
 * @param {() => number} [options.random] uniform in [0, 1)
 * @returns {number} seconds
 */
export function backoff(attempt, { retryAfter, base = BASE, cap = CAP, random = Math.random } = {}) {
  if (retryAfter !== undefined) {
    return retryAfter + Math.max(base, retryAfter / 10) * random();
  }
  const span = Math.min(cap, base * 2 ** Math.max(0, attempt - 1));
  return span / 2 + (span / 2) * random();
}
