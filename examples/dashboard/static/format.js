/** Numbers and moments as the page writes them: three figures, so that nothing changes its width. */

const STEPS = ["", "k", "M", "G", "T", "P"];

/**
 * Three significant figures, never more than four characters: 1.24, 12.4, 124.
 * @param {number} value
 * @returns {string}
 */
export function three(value) {
  const size = Math.abs(value);
  return value.toFixed(size < 9.995 ? 2 : size < 99.95 ? 1 : 0);
}

/**
 * A number of bytes in the unit that suits it.
 * @param {number} bytes
 * @param {{least?: number, suffix?: string}} [options] `least`: the smallest unit to use, 1 for kB
 * @returns {[string, string]} number and unit
 */
export function bytes(bytes, { least = 0, suffix = "B" } = {}) {
  let step = least;
  let value = bytes / 1000 ** least;
  while (Math.abs(value) >= 999.5 && step < STEPS.length - 1) {
    value /= 1000;
    step += 1;
  }
  return [step === 0 ? value.toFixed(0) : three(value), STEPS[step] + suffix];
}

/** @param {number} rate bytes a second */
export const byteRate = (rate) => bytes(rate, { least: 1, suffix: "B/s" });

/** A rate of events: one decimal below a hundred. */
export const perSecond = (rate) => (rate < 99.95 ? rate.toFixed(1) : rate.toFixed(0));

/**
 * A time of day.
 * @param {number} ts milliseconds since 1970
 * @param {{seconds?: boolean}} [options]
 */
export function clock(ts, { seconds = false } = {}) {
  const date = new Date(ts);
  const parts = [date.getHours(), date.getMinutes(), ...(seconds ? [date.getSeconds()] : [])];
  return parts.map((part) => String(part).padStart(2, "0")).join(":");
}

/**
 * A count with its noun.
 * @param {number} count
 * @param {string} noun in the singular
 */
export const counted = (count, noun) => `${count} ${noun}${count === 1 ? "" : "s"}`;
