/**
 * Line charts that glide: the last minute of one or two values, drawn on a canvas.
 *
 * Time runs on the server's clock, taken from the points themselves, and a little late, so that the next point is always
 * there before the right edge reaches it and the line slides in instead of jumping. What was caught up after a cut is
 * underlined in brass; what is missing stays a hatched hole.
 */

import { clock } from "./format.js";
import { between, niceTop, ticks } from "./scale.js";

const LEFT = 2;
const BOTTOM = 19;
const TOP = 8;

/** Set where people want no motion: scales then change at once, and time moves by the second. */
export const still = matchMedia("(prefers-reduced-motion: reduce)");
const dark = matchMedia("(prefers-color-scheme: dark)");

/**
 * @typedef {object} ChartOptions
 * @property {number} lines 1 or 2
 * @property {number} every milliseconds between two points
 * @property {number} window milliseconds shown
 * @property {number} [top] a fixed top of the scale; without it the scale follows the values
 * @property {number} [floor] the scale's top is never below this
 * @property {(value: number) => string} label of the scale
 */

export class Chart {
  /**
   * @param {HTMLCanvasElement} canvas
   * @param {ChartOptions} options
   */
  constructor(canvas, options) {
    this.canvas = canvas;
    this.options = options;
    this.pen = canvas.getContext("2d");
    /** @type {{t: number, values: number[]}[]} */
    this.points = [];
    /** @type {{from: number, to: number, kind: "late" | "gap"}[]} */
    this.spans = [];
    this.top = options.top ?? options.floor ?? 1;
    this.width = 0;
    this.height = 0;
    new ResizeObserver(() => this.resize()).observe(canvas);
    dark.addEventListener("change", () => this.restyle());
    this.restyle();
    this.resize();
  }

  /**
   * @param {number} t milliseconds of the server's clock
   * @param {number[]} values
   * @param {boolean} [late] it was published while the line was cut
   */
  add(t, values, late = false) {
    const last = this.points.at(-1);
    this.points.push({ t, values });
    const from = t - this.options.window - 10_000;
    while (this.points[0].t < from) {
      this.points.shift();
    }
    if (late) {
      this.span(last?.t ?? t, t, "late");
    }
  }

  /** What lies between the last point and the next is missing. */
  missing() {
    const last = this.points.at(-1);
    this.spans.push({ from: last?.t ?? 0, to: Infinity, kind: "gap" });
  }

  span(from, to, kind) {
    const last = this.spans.at(-1);
    if (last?.kind === kind && last.to === from) {
      last.to = to;
    } else {
      this.spans.push({ from, to, kind });
    }
    this.spans = this.spans.slice(-12);
  }

  resize() {
    const { width, height } = this.canvas.getBoundingClientRect();
    const ratio = globalThis.devicePixelRatio || 1;
    [this.width, this.height] = [width, height];
    this.canvas.width = Math.round(width * ratio);
    this.canvas.height = Math.round(height * ratio);
    this.pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    this.drawn = undefined;
  }

  restyle() {
    const style = getComputedStyle(this.canvas);
    const colour = (name) => style.getPropertyValue(name).trim();
    this.colours = {
      lines: [colour("--c1"), colour("--c2")],
      grid: colour("--grid"), soft: colour("--soft"), brass: colour("--brass"), card: colour("--card"),
    };
    this.font = `11px ${colour("--sans")}`;
  }

  /** @param {number} now milliseconds of the server's clock at the right edge */
  draw(now) {
    const { pen, width, height } = this;
    if (width === 0) {
      return;
    }
    this.now = now;
    this.follow();
    pen.clearRect(0, 0, width, height);
    pen.font = this.font;
    pen.lineJoin = pen.lineCap = "round";
    this.drawSpans();
    this.drawGrid();
    for (let index = this.options.lines - 1; index >= 0; index -= 1) {
      this.drawLine(index);
    }
    this.drawScale();
  }

  x(t) {
    return this.width - 7 - ((this.now - t) / this.options.window) * (this.width - 7 - LEFT);
  }

  y(value) {
    return this.height - BOTTOM - (value / this.top) * (this.height - BOTTOM - TOP);
  }

  /** Let the scale follow the values, gently. */
  follow() {
    if (this.options.top !== undefined) {
      return;
    }
    const from = this.now - this.options.window;
    const shown = this.points.filter(({ t }) => t >= from).flatMap(({ values }) => values);
    const goal = niceTop(Math.max(this.options.floor ?? 1, ...shown.map((value) => value * 1.08)));
    const near = Math.abs(goal - this.top) < goal * 0.005;
    this.top = still.matches || near ? goal : this.top + (goal - this.top) * 0.12;
    this.goal = goal;
  }

  drawGrid() {
    const { pen, width, height, colours } = this;
    pen.strokeStyle = colours.grid;
    pen.fillStyle = colours.soft;
    pen.lineWidth = 1;
    pen.textAlign = "center";
    pen.beginPath();
    for (const value of [0, 0.5, 1]) {
      const y = Math.round(this.y(value * (this.goal ?? this.top))) + 0.5;
      if (y > 0) {
        pen.moveTo(LEFT, y);
        pen.lineTo(width, y);
      }
    }
    pen.stroke();
    const step = width < 300 ? 30_000 : 15_000;
    for (const t of ticks(this.now - this.options.window, this.now, step)) {
      const x = this.x(t);
      pen.globalAlpha = Math.max(0, Math.min(1, (x - 16) / 24, (width - 20 - x) / 16));
      pen.fillText(clock(t, { seconds: true }), x, height - 4);
    }
    pen.globalAlpha = 1;
  }

  /** The scale's numbers stand over the lines, each on a patch of the card's colour. */
  drawScale() {
    const { pen, colours } = this;
    const top = this.goal ?? this.top;
    pen.textAlign = "left";
    for (const value of [top / 2, top]) {
      const [text, y] = [this.options.label(value), this.y(value)];
      pen.globalAlpha = 0.78;
      pen.fillStyle = colours.card;
      pen.fillRect(LEFT, y + 2, pen.measureText(text).width + 6, 14);
      pen.globalAlpha = 1;
      pen.fillStyle = colours.soft;
      pen.fillText(text, LEFT + 2, y + 13);
    }
  }

  /** Runs of points without a hole, each ending at the right edge if it reaches that far. */
  *runs() {
    const from = this.now - this.options.window;
    let run = [];
    for (const point of this.points) {
      const last = run.at(-1);
      if (last && point.t - last.t > 4 * this.options.every) {
        yield run;
        run = [];
      }
      if (last && last.t < from && point.t < from) {
        run.pop();
      }
      run.push(point);
      if (point.t >= this.now) {
        break;
      }
    }
    if (run.length > 0) {
      yield run;
    }
  }

  drawLine(index) {
    const { pen } = this;
    pen.save();
    pen.beginPath();
    pen.rect(LEFT, 0, this.width - LEFT, this.height - BOTTOM + 2);
    pen.clip();
    let head;
    for (const run of this.runs()) {
      head = this.drawRun(run, index);
    }
    if (head) {
      this.drawHead(head, index);
    }
    pen.restore();
  }

  drawRun(run, index) {
    const { pen, colours } = this;
    const path = run.map((point) => [this.x(point.t), this.y(point.values[index])]);
    const [a, b] = run.slice(-2);
    if (b && b.t > this.now) {
      path[path.length - 1] = [this.x(this.now), this.y(between(a, b, this.now, index))];
    }
    pen.beginPath();
    path.forEach(([x, y], at) => (at === 0 ? pen.moveTo(x, y) : pen.lineTo(x, y)));
    pen.strokeStyle = colours.lines[index];
    pen.lineWidth = index === 0 ? 1.8 : 1.5;
    pen.stroke();
    if (index === 0) {
      this.fillUnder(path);
    }
    return path.at(-1);
  }

  fillUnder(path) {
    const { pen, colours, height } = this;
    const shade = pen.createLinearGradient(0, TOP, 0, height - BOTTOM);
    shade.addColorStop(0, `${colours.lines[0]}33`);
    shade.addColorStop(1, `${colours.lines[0]}05`);
    pen.lineTo(path.at(-1)[0], height - BOTTOM);
    pen.lineTo(path[0][0], height - BOTTOM);
    pen.closePath();
    pen.fillStyle = shade;
    pen.fill();
  }

  drawHead([x, y], index) {
    const { pen, colours } = this;
    pen.fillStyle = colours.lines[index];
    pen.globalAlpha = 0.2;
    pen.beginPath();
    pen.arc(x, y, 6, 0, 7);
    pen.fill();
    pen.globalAlpha = 1;
    pen.beginPath();
    pen.arc(x, y, 2.6, 0, 7);
    pen.fill();
  }

  drawSpans() {
    const after = (from) => this.points.find(({ t }) => t > from)?.t ?? this.now;
    for (const { from, to, kind } of this.spans) {
      const [left, right] = [Math.max(LEFT, this.x(from)), Math.min(this.width - 7, this.x(kind === "gap" ? after(from) : to))];
      if (right > left) {
        this[kind === "gap" ? "drawGap" : "drawLate"](left, right);
      }
    }
  }

  drawLate(left, right) {
    const { pen, colours, height } = this;
    pen.fillStyle = colours.brass;
    pen.globalAlpha = 0.1;
    pen.fillRect(left, TOP, right - left, height - BOTTOM - TOP);
    pen.globalAlpha = 1;
    pen.fillRect(left, height - BOTTOM - 1, right - left, 3);
    if (right - left > 62) {
      pen.fillStyle = colours.soft;
      pen.textAlign = "center";
      pen.fillText("caught up", (left + right) / 2, height - BOTTOM - 7);
    }
  }

  drawGap(left, right) {
    const { pen, colours, height } = this;
    pen.save();
    pen.beginPath();
    pen.rect(left, TOP, right - left, height - BOTTOM - TOP);
    pen.clip();
    pen.strokeStyle = colours.soft;
    pen.globalAlpha = 0.35;
    pen.beginPath();
    for (let x = left - height; x < right; x += 7) {
      pen.moveTo(x, height);
      pen.lineTo(x + height, 0);
    }
    pen.stroke();
    pen.restore();
  }
}
