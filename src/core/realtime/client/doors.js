/**
 * Which door to try: the first one that works, and a better one again once it is known that the server can be reached.
 *
 * A door through which no first word comes, twice in a row, is left for the next (a proxy may refuse the upgrade, or
 * hold the events back); after the last comes the first again. While a server is away every door fails, so that a lower
 * one may happen to be in turn when it is back. If an earlier one has worked before, it gets one more chance then.
 */

/** Tries without a first word before the next door is taken. */
const TRIES = 2;

export class Doors {
  /** @param {[string, string][]} doors name and URL of each, in the order in which to try them */
  constructor(doors) {
    this.doors = doors;
    this.at = 0;
    this.barren = 0; // tries in a row at this door that brought no first word
    /** @type {Set<number>} */
    this.proven = new Set();
  }

  /** @returns {[string, string]} name and URL of the door in turn */
  get current() {
    return this.doors[this.at];
  }

  /** The door in turn brought no first word. */
  failed() {
    this.barren += 1;
    if (this.barren >= TRIES) {
      this.barren = 0;
      this.at = (this.at + 1) % this.doors.length;
    }
  }

  /** The door in turn brought a first word. */
  worked() {
    this.barren = 0;
    this.proven.add(this.at);
  }

  /** An earlier door has worked before, and was not given its second chance yet. */
  get better() {
    return Math.min(...this.proven) < this.at;
  }

  /** Take that door; it has to prove itself again. */
  goBack() {
    this.at = Math.min(...this.proven);
    this.proven.delete(this.at);
    this.barren = 0;
  }
}
