/** The beat to which all charts are drawn, and the time that they show. */

import { still } from "./charts.js";

/** Milliseconds between two drawings: smooth enough, and this page should not heat the machine it measures. */
const FRAME = 30;

/** Draws all charts; a hidden page draws nothing, because browsers then stop the beat. */
export class Stage {
  /** @param {import("./charts.js").Chart[]} charts */
  constructor(charts) {
    this.charts = charts;
    this.offset = Infinity;
    this.last = 0;
    requestAnimationFrame((at) => this.beat(at));
  }

  /** @param {number} t the server's time stamp of a point that has just come live */
  seen(t) {
    this.offset = Math.min(this.offset, Date.now() - t);
  }

  beat(at) {
    requestAnimationFrame((next) => this.beat(next));
    if (at - this.last < (still.matches ? 1000 : FRAME) || this.offset === Infinity) {
      return;
    }
    this.last = at;
    const now = Date.now() - this.offset;
    for (const chart of this.charts) {
      chart.draw(now - chart.options.every * 1.7);
    }
  }
}
