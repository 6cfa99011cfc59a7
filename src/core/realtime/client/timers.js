/** Named timers of which each runs at most once at a time: setting one again moves it. */

export class Timers {
  /** @param {Pick<import("./env.js").Env, "setTimeout" | "clearTimeout">} env */
  constructor(env) {
    this.env = env;
    /** @type {Map<string, any>} */
    this.running = new Map();
  }

  /**
   * @param {string} name
   * @param {number} seconds
   * @param {() => void} due
   */
  set(name, seconds, due) {
    this.clear(name);
    const timer = this.env.setTimeout(() => {
      this.running.delete(name);
      due();
    }, seconds * 1000);
    this.running.set(name, timer);
  }

  /** @param {string} name */
  clear(name) {
    this.env.clearTimeout(this.running.get(name));
    this.running.delete(name);
  }

  clearAll() {
    for (const name of [...this.running.keys()]) {
      this.clear(name);
    }
  }
}
