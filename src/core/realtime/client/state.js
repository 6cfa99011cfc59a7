/**
 * The states of a connection, and the only moves between them.
 *
 *     idle ──► connecting ──► live
 *                 ▲  │  ▲       │
 *                 │  │  └───────┤   the door is coming back by itself (EventSource)
 *                 │  ▼          │
 *                waiting ◄──────┘   a try failed or the line was cut: the next try is due in so many seconds
 *
 * `closed` is reached from everywhere and left to nowhere.
 */

/** @typedef {"idle" | "connecting" | "live" | "waiting" | "closed"} State */

/** @type {Record<State, State[]>} */
const MOVES = {
  idle: ["connecting", "closed"],
  connecting: ["live", "waiting", "closed"],
  live: ["connecting", "waiting", "closed"],
  waiting: ["connecting", "closed"],
  closed: [],
};

export class Machine {
  /** @param {(state: State, from: State) => void} changed called after each move */
  constructor(changed) {
    /** @type {State} */
    this.state = "idle";
    this.changed = changed;
  }

  /**
   * Move on.
   * @param {State} state
   * @throws {Error} there is no such move: a mistake in the program, not in what came over the line
   */
  to(state) {
    const from = this.state;
    if (!MOVES[from].includes(state)) {
      throw new Error(`a connection cannot go from ${from} to ${state}`);
    }
    this.state = state;
    this.changed(state, from);
  }
}
