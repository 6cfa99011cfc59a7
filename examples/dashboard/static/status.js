/** Says in one line how a connection stands, and what became of the last cut. */

import { counted } from "./format.js";

const DOORS = { websocket: "Websocket", sse: "Server-sent events", poll: "Long-poll" };

/** When several channels share a line, the first of these that any of them is in is the line's. */
const WORST_FIRST = ["closed", "waiting", "connecting", "gap", "resumed", "live"];

/** @typedef {import("samovar").Status} Status */

export class Line {
  /**
   * @param {HTMLElement} element
   * @param {{every: (ms: number, call: () => void) => void, now: () => number}} [time]
   */
  constructor(element, time = { every: (ms, call) => setInterval(call, ms), now: Date.now }) {
    this.element = element;
    this.time = time;
    this.noun = element.dataset.noun;
    this.door = element.querySelector("[data-door]");
    this.says = element.querySelector("[data-says]");
    this.countdown = element.querySelector("[data-countdown]");
    /** @type {Map<string, Status>} */
    this.statuses = new Map();
    time.every(250, () => this.count());
  }

  /**
   * @param {string} channel
   * @param {Status} status
   */
  show(channel, status) {
    this.statuses.set(channel, status);
    const state = this.state();
    this.element.dataset.state = state;
    this.door.textContent = DOORS[status.door] ?? this.door.textContent;
    const words = this.words(state);
    if (this.says.textContent !== words) {
      this.says.textContent = words;
    }
    this.count();
  }

  state() {
    const states = new Set([...this.statuses.values()].map(({ state }) => state));
    return WORST_FIRST.find((state) => states.has(state)) ?? "connecting";
  }

  /** @param {string} state */
  words(state) {
    const all = [...this.statuses.values()];
    const these = all.filter((status) => status.state === state);
    const caughtUp = all.reduce((sum, status) => sum + status.caughtUp, 0);
    switch (state) {
      case "live":
        return "live";
      case "resumed":
        return `resumed, ${counted(caughtUp, this.noun)} caught up, nothing missed`;
      case "gap":
        return this.gapWords(these);
      case "waiting":
        return `cut off: ${reason(these)}`;
      case "closed":
        return `closed: ${reason(these)}`;
      default:
        return all.some((status) => status.reason) ? "cut off, coming back" : "connecting";
    }
  }

  gapWords(statuses) {
    const known = statuses.every(({ missed }) => missed !== null);
    const missed = statuses.reduce((sum, status) => sum + (status.missed ?? 0), 0);
    const size = known ? `${counted(missed, this.noun)} missing` : `an unknown number of ${this.noun}s missing`;
    return `gap: ${size} (${[...new Set(statuses.map((status) => status.reason))].join(", ")})`;
  }

  /** The seconds until the next try, outside of what screen readers announce. */
  count() {
    const [waiting] = [...this.statuses.values()].filter(({ state }) => state === "waiting");
    const left = waiting ? Math.max(0, Math.ceil((waiting.retryAt - this.time.now()) / 1000)) : null;
    this.countdown.textContent = left === null ? "" : `, next try in ${left} s`;
  }
}

const reason = (statuses) => statuses.find((status) => status.reason)?.reason ?? "";
