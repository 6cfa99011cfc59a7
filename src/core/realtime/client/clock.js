/**
 * Compares the server's time stamps with this machine's clock without trusting either to be right.
 *
 * The smallest difference ever seen between arrival and stamp is the clocks' offset plus the shortest way over the
 * line. Until a message came live, the clocks are taken to agree.
 */

export class Clock {
  /** @param {() => number} now this machine's time in milliseconds */
  constructor(now = Date.now) {
    this.now = now;
    /** @type {number | null} */
    this.offset = null;
  }

  /** A message has come live, so the clocks have been compared. */
  get known() {
    return this.offset !== null;
  }

  /** @param {number} ts stamp, in milliseconds, of a message that came live */
  seen(ts) {
    const difference = this.now() - ts;
    if (this.offset === null || difference < this.offset) {
      this.offset = difference;
    }
  }

  /**
   * When a message published at `ts` would have arrived had it come at once, by this machine's clock.
   * @param {number} ts
   * @returns {number}
   */
  local(ts) {
    return ts + (this.offset ?? 0);
  }
}
