/**
 * Keeps one line to the server, through the first door that works, and brings every subscription back to where it was.
 *
 * How long it waits before a next try says `backoff.js`, at which door it tries `doors.js`, between which states it
 * moves `state.js`.
 */

import { backoff } from "./backoff.js";
import { formatCursor } from "./cursor.js";
import { Doors } from "./doors.js";
import { environment } from "./env.js";
import { openPoll } from "./poll.js";
import { openSse } from "./sse.js";
import { Machine } from "./state.js";
import { Subscription } from "./subscription.js";
import { Timers } from "./timers.js";
import { openWebsocket } from "./websocket.js";

const OPENERS = { websocket: openWebsocket, sse: openSse, poll: openPoll };

/** Milliseconds a line must have lived for its end not to count as one more failure in a row. */
const SETTLED = 5000;

export class Connection {
  /**
   * @param {Partial<Record<import("./env.js").Door, string>>} doors the URL of each door, in the order in which to try them
   * @param {Partial<import("./env.js").Env>} [options] see `env.js`
   */
  constructor(doors, options = {}) {
    const named = Object.entries(doors);
    if (named.length === 0 || named.some(([door]) => !(door in OPENERS))) {
      throw new TypeError(`doors are ${Object.keys(OPENERS).join(", ")}, each with its URL`);
    }
    this.doors = new Doors(named);
    this.env = environment(options, {
      channels: () => [...this.subscriptions.keys()],
      cursorOf: (channel) => this.subscriptions.get(channel)?.cursor,
    });
    /** @type {Map<string, Subscription>} */
    this.subscriptions = new Map();
    this.machine = new Machine(() => {});
    /** @type {import("./env.js").Transport | null} */
    this.transport = null;
    this.failures = 0; // tries in a row that failed, for the wait
    this.liveSince = 0;
    this.timers = new Timers(this.env);
    this.online = () => this.hurry();
    globalThis.addEventListener?.("online", this.online);
  }

  get state() {
    return this.machine.state;
  }

  /** @returns {import("./env.js").Door} the door in use, or next to be tried */
  get door() {
    return this.doors.current[0];
  }

  /**
   * Follow a channel that the doors carry. The line opens when the running script has made all its subscriptions.
   * @param {string} channel
   * @param {import("./subscription.js").Handlers} handlers
   * @returns {Subscription}
   */
  subscribe(channel, handlers = {}) {
    if (this.subscriptions.has(channel)) {
      throw new Error(`${channel} is subscribed already`);
    }
    const subscription = new Subscription(channel, handlers, this.env);
    this.subscriptions.set(channel, subscription);
    if (this.state === "idle") {
      queueMicrotask(() => this.state === "idle" && this.connect());
    } else if (this.state !== "closed") {
      this.reconnect();
    }
    return subscription;
  }

  /**
   * Send a frame of the page's own through the websocket.
   * @param {any} value text as it is, anything else as JSON
   * @returns {boolean} false when no websocket is open: nothing was sent, nothing is kept for later
   */
  send(value) {
    return this.transport?.send(value) ?? false;
  }

  /** Drop the line and open it again at once, from where it was. */
  reconnect() {
    this.interrupt(0, "asked to reconnect");
  }

  /** Cut the line and leave it cut for so many seconds: for trying out what a page does then. */
  interrupt(seconds, reason = `cut on purpose for ${seconds} s`) {
    if (this.state === "connecting" || this.state === "live") {
      this.drop();
      this.wait(seconds, reason);
    }
  }

  /** Try now instead of waiting: the network is back. */
  hurry() {
    if (this.state === "waiting") {
      this.connect();
    }
  }

  close(reason = "closed by the page") {
    if (this.state !== "closed") {
      this.drop();
      globalThis.removeEventListener?.("online", this.online);
      this.machine.to("closed");
      this.tell({ state: "closed", retryAt: null, reason });
    }
  }

  connect() {
    this.drop();
    this.machine.to("connecting");
    this.tell({ state: "connecting", door: this.door, retryAt: null });
    this.limitOpening();
    const [door, url] = this.doors.current;
    let current = true;
    const guard = (callback) => (...values) => current && callback(...values);
    const callbacks = {
      open: guard(() => {}),
      message: guard((kind, frame) => this.receive(kind, frame)),
      interrupted: guard((reason) => this.interrupted(reason)),
      close: guard((why) => this.ended(why)),
    };
    try {
      const transport = OPENERS[door]((first) => this.address(url, first), callbacks, this.env);
      this.transport = { send: transport.send, close: () => ((current = false), transport.close()) };
    } catch (error) {
      current = false;
      this.ended({ reason: `the ${door} door cannot be used: ${error.message}` });
    }
  }

  /**
   * The door's URL with the cursor of every subscription that has one.
   * @param {string} url
   * @param {boolean} [first] it is the first request of a long-poll, which need not wait for news
   */
  address(url, first = false) {
    const cursors = [...this.subscriptions.values()].filter(({ cursor }) => cursor !== undefined);
    const since = formatCursor(cursors.map(({ channel, cursor }) => [channel, cursor]));
    // an answer at once is a read of history, which without a cursor would begin with the oldest message kept
    const atOnce = first && cursors.length === this.subscriptions.size && this.env.firstPoll;
    const query = [since && `since=${encodeURIComponent(since)}`, atOnce].filter(Boolean);
    return query.length === 0 ? url : `${url}${url.includes("?") ? "&" : "?"}${query.join("&")}`;
  }

  receive(kind, frame) {
    this.limitSilence();
    if (kind === "subscribed" && this.state === "connecting") {
      this.timers.clear("open");
      this.liveSince = this.env.now();
      this.machine.to("live");
      this.doors.worked();
      if (this.doors.better) {
        this.timers.set("better", SETTLED / 1000, () => this.goBack());
      }
    }
    if (kind === "other") {
      this.env.onframe?.(frame);
    } else {
      this.subscriptions.get(frame.channel)?.receive(kind, frame);
    }
  }

  goBack() {
    this.doors.goBack();
    this.reconnect();
  }

  interrupted(reason) {
    if (this.state === "live") {
      this.machine.to("connecting");
      this.limitOpening();
    }
    this.timers.clear("silence");
    this.tell({ state: "connecting", reason });
  }

  /** @param {{reason: string, final?: boolean, retryAfter?: number}} why */
  ended({ reason, final = false, retryAfter }) {
    const barren = this.state === "connecting";
    const settled = this.state === "live" && this.env.now() - this.liveSince > SETTLED;
    this.drop();
    if (final) {
      this.close(reason);
      return;
    }
    this.failures = settled ? 1 : this.failures + 1;
    if (barren) {
      this.doors.failed();
    }
    this.wait(backoff(this.failures, { retryAfter, random: this.env.random }), reason);
  }

  wait(seconds, reason) {
    this.machine.to("waiting");
    this.tell({ state: "waiting", reason, retryAt: this.env.now() + seconds * 1000 });
    this.timers.set("wait", seconds, () => this.connect());
  }

  limitOpening() {
    // a long-poll's first word is its first answer, which may be as late as any
    const limit = this.door === "poll" ? this.env.pollLimit : this.env.openLimit;
    this.timers.set("open", limit, () => this.ended({ reason: `no first word in ${limit} s` }));
  }

  limitSilence() {
    const { silence } = this.env;
    if (silence > 0) {
      this.timers.set("silence", silence, () => this.ended({ reason: `nothing heard for ${silence} s` }));
    }
  }

  /** Let go of the transport and of every timer. */
  drop() {
    this.timers.clearAll();
    this.transport?.close();
    this.transport = null;
  }

  /** @param {Partial<import("./subscription.js").Status>} change */
  tell(change) {
    for (const subscription of this.subscriptions.values()) {
      subscription.set(change);
    }
  }
}
