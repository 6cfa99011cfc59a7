/** Which points go into which chart, and which numbers stand beside it. */

import { Chart } from "./charts.js";
import { byteRate, bytes, perSecond, three } from "./format.js";

const WINDOW = 60_000;
const MACHINE = 250;
const TRAFFIC = 1000;

const $ = (selector) => document.querySelector(selector);

function plot(name, options) {
  return new Chart($(`[data-plot="${name}"]`), { window: WINDOW, ...options });
}

function write(key, value, unit) {
  $(`[data-n="${key}"]`).textContent = value;
  if (unit !== undefined) {
    $(`[data-unit="${key}"]`).textContent = unit;
  }
}

const percent = (value) => `${Math.round(value)} %`;
const label = ([value, unit]) => `${Number(value)} ${unit}`;
const rateLabel = (value) => label(byteRate(value));
const sizeLabel = (value) => label(bytes(value, { least: 3 }));

/** The charts fed by `machine`. */
export class MachinePanels {
  constructor() {
    const rates = { lines: 2, every: MACHINE, floor: 10_000, label: rateLabel };
    this.cpu = plot("cpu", { lines: 1, every: MACHINE, top: 100, label: percent });
    this.memory = plot("memory", { lines: 1, every: MACHINE, floor: 1e9, label: sizeLabel });
    this.network = plot("network", rates);
    this.disk = plot("disk", rates);
    this.charts = [this.cpu, this.memory, this.network, this.disk];
    /** @type {any[]} the last second, over which the numbers are averaged */
    this.recent = [];
    this.shown = 0;
  }

  add(point, late = false) {
    const { t, cpu, memory, network, disk } = point;
    this.cpu.add(t, [cpu], late);
    this.memory.options.top = memory[1];
    this.memory.top = memory[1];
    this.memory.add(t, [memory[0]], late);
    this.network.add(t, network, late);
    this.disk.add(t, disk ?? [0, 0], late);
    this.recent = [...this.recent, point].slice(-4);
    if (t - this.shown >= 500) {
      this.shown = t;
      this.figures(point);
    }
  }

  missing() {
    this.charts.forEach((chart) => chart.missing());
  }

  /** Twice a second is as often as a number can be read. */
  figures({ memory, cores, disk }) {
    const mean = (read) => this.recent.reduce((sum, point) => sum + read(point), 0) / this.recent.length;
    write("cpu", three(mean(({ cpu }) => cpu)));
    write("memory", ...bytes(memory[0], { least: 3 }));
    write("memory-total", ...bytes(memory[1], { least: 3 }));
    write("net-in", ...byteRate(mean(({ network }) => network[0])));
    write("net-out", ...byteRate(mean(({ network }) => network[1])));
    if (disk) {
      write("disk-read", ...byteRate(mean((point) => point.disk?.[0] ?? 0)));
      write("disk-write", ...byteRate(mean((point) => point.disk?.[1] ?? 0)));
    }
    this.bars(cores);
  }

  bars(cores) {
    const box = $("[data-cores]");
    while (box.children.length < cores.length) {
      box.append(document.createElement("i"));
    }
    cores.forEach((use, at) => box.children[at].style.setProperty("--use", `${use}%`));
  }
}

/** The chart fed by `traffic`. */
export class TrafficPanel {
  constructor() {
    this.chart = plot("traffic", { lines: 2, every: TRAFFIC, floor: 10, label: (value) => `${perSecond(value).replace(".0", "")}/s` });
    this.charts = [this.chart];
  }

  add({ t, messages, requests, clients }, late = false) {
    this.chart.add(t, [messages, requests], late);
    write("messages", perSecond(messages));
    write("requests", perSecond(requests));
    for (const door of ["websocket", "sse", "poll"]) {
      write(door, String(clients[door]));
    }
  }

  missing() {
    this.chart.missing();
  }
}
