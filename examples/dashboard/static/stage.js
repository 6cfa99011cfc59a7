/** The beat to which all charts are drawn, and the time that they show. */

import { still } from "./charts.js";

/** Milliseconds between two drawings: smooth enough, and this page should not heat the machine it measures. */
const FRAME = 30;

/** Of so many points the quickest tells the difference of the clocks; older ones are forgotten, as clocks are set. */
const REMEMBERED = 40;

/** Draws all charts; a hidden page draws nothing, because browsers then stop the beat. */
export class Stage {
  /** @param {import("./charts.js").Chart[]} charts */
  constructor(charts) {
    this.charts = charts;
    /** @type {number[]} how far this machine's clock was ahead of each of the last points */
    this.ahead = [];
    /** Milliseconds by which points may come in bundles, which the right edge has to stay behind. */
    this.bundle = 0;
    this.last = 0;
    requestAnimationFrame((at) => this.beat(at));
  }

  /** @param {number} t the server's time stamp of a point that has just come live */
  seen(t) {
    this.ahead = [...this.ahead, Date.now() - t].slice(-REMEMBERED);
  }

  beat(at) {
    requestAnimationFrame((next) => this.beat(next));
    if (at - this.last < (still.matches ? 1000 : FRAME) || this.ahead.length === 0) {
      return;
    }
    this.last = at;
    const now = Date.now() - Math.min(...this.ahead) - this.bundle;
    for (const chart of this.charts) {
      chart.draw(now - chart.options.every * 1.7);
    }
  }
}
