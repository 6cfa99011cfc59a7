/**
 * One channel as the page sees it: every message once and in order, every hole told, and in words how it stands.
 *
 * What it holds on to is one cursor: the position of the last message, gap or first word it took in. Whatever door a
 * message comes through, one at or before the cursor was delivered already and is dropped.
 */

import { compare, distance, parsePosition } from "./cursor.js";
import { payload } from "./frames.js";
import { Presence } from "./presence.js";

/** Milliseconds after a first word in which clocks never compared are taken to agree. */
const DOUBT = 5000;

/**
 * How a subscription stands.
 * @typedef {object} Status
 * @property {"connecting" | "live" | "resumed" | "gap" | "waiting" | "closed"} state `resumed`: live again after a cut,
 *   with nothing missed; `gap`: live, and something was missed since the connection began
 * @property {string} door the door in use: websocket, sse or poll
 * @property {number | null} retryAt when the next try is due, in milliseconds of this machine's clock, while waiting
 * @property {string} reason why it waits or closed, in words
 * @property {boolean | null} recovered what the first word said
 * @property {number} caughtUp messages that were published while the line was cut and have been delivered since
 * @property {number | null} missed messages known to be missing; null when it is not known how many
 */

/**
 * @typedef {object} Handlers
 * @property {string} [since] the cursor to start after; without it, from now
 * @property {(data: any, envelope: import("./frames.js").Envelope, caughtUp: boolean) => void} [onmessage] `caughtUp`: it
 *   was published while the line was cut
 * @property {(gap: import("./frames.js").Hole, cursor: string) => void} [ongap]
 * @property {(first: import("./frames.js").FirstWord) => void} [onsubscribed]
 * @property {(people: import("./frames.js").Member[], event: import("./frames.js").PresenceEvent) => void} [onpresence]
 * @property {(status: Status) => void} [onstatus]
 */

export class Subscription {
  /**
   * @param {string} channel
   * @param {Handlers} handlers
   * @param {{clock: import("./clock.js").Clock, report: (error: Error) => void}} env
   */
  constructor(channel, handlers, env) {
    this.channel = channel;
    this.handlers = handlers;
    this.env = env;
    /** @type {string | undefined} what to resume from; undefined: from now */
    this.cursor = handlers.since;
    this.presence = new Presence();
    this.counts = { delivered: 0, duplicates: 0, gaps: 0, resumes: 0, malformed: 0 };
    this.begun = false;
    this.subscribedAt = 0;
    /** @type {Status} */
    this.status = {
      state: "connecting", door: "", retryAt: null, reason: "", recovered: null, caughtUp: 0, missed: 0,
    };
  }

  /**
   * Take in one frame of this channel.
   * @param {import("./frames.js").Kind} kind
   * @param {any} frame
   */
  receive(kind, frame) {
    if (kind === "message") {
      this.deliver(frame);
    } else if (kind === "gap") {
      this.hole(frame.gap, frame.cursor ?? frame.gap.until ?? "");
    } else if (kind === "subscribed") {
      this.begin(frame);
    } else if (kind === "position") {
      this.advance(frame.cursor);
    } else if (kind === "presence") {
      this.presence.apply(frame.presence);
      this.call("onpresence", this.presence.people(), frame.presence);
    }
  }

  /** @param {import("./frames.js").FirstWord} first */
  begin(first) {
    this.subscribedAt = this.env.clock.now();
    const again = this.begun;
    this.begun = true;
    this.counts.resumes += again ? 1 : 0;
    this.set({
      state: again ? "resumed" : "live", retryAt: null, reason: "", recovered: first.recovered, caughtUp: 0, missed: 0,
    });
    this.call("onsubscribed", first);
    if (!this.cursor) {
      this.cursor = first.cursor;
    } else if (first.recovered === null) {
      this.compareUnasked(first.cursor);
    }
  }

  /** The server begins from now although it was asked to resume (a proxy may have cut the query off): tell the hole. */
  compareUnasked(cursor) {
    const [mine, theirs] = [parsePosition(this.cursor), parsePosition(cursor)];
    const order = mine && theirs ? compare(mine, theirs) : null;
    if (order === null || order < 0) {
      this.hole({ reason: "unknown", after: this.cursor ?? null, until: cursor || null }, cursor);
    }
  }

  /** @param {import("./frames.js").Envelope} envelope */
  deliver(envelope) {
    const position = parsePosition(envelope.cursor);
    if (!position) {
      this.counts.malformed += 1;
      this.env.report(new Error(`a message of ${this.channel} has no position: ${envelope.cursor}`));
      return;
    }
    const last = parsePosition(this.cursor);
    const order = last ? compare(last, position) : -1;
    if (order !== null && order >= 0) {
      this.counts.duplicates += 1;
      return;
    }
    if (order === null) {
      this.hole({ reason: "reset", after: this.cursor ?? null, until: null }, envelope.cursor);
    }
    this.cursor = envelope.cursor;
    this.counts.delivered += 1;
    this.call("onmessage", payload(envelope), envelope, this.countCaughtUp(envelope.ts));
  }

  /**
   * @param {number} ts
   * @returns {boolean} the message was published while the line was cut
   */
  countCaughtUp(ts) {
    const { clock } = this.env;
    const judged = clock.known || clock.now() - this.subscribedAt < DOUBT;
    const late = this.counts.resumes > 0 && judged && clock.local(ts) < this.subscribedAt;
    if (late) {
      this.set({ caughtUp: this.status.caughtUp + 1 });
    } else {
      clock.seen(ts);
    }
    return late;
  }

  /**
   * @param {import("./frames.js").Hole} gap
   * @param {string} cursor where the stream goes on
   */
  hole(gap, cursor) {
    const [last, position] = [parsePosition(this.cursor), parsePosition(cursor)];
    if (last && position && (compare(last, position) ?? -1) > 0) {
      this.counts.duplicates += 1;
      return;
    }
    this.cursor = cursor;
    this.counts.gaps += 1;
    const count = gap.count ?? distance(gap.after, gap.until);
    const missed = count === null || this.status.missed === null ? null : this.status.missed + count;
    this.set({ state: "gap", missed, reason: gap.reason });
    this.call("ongap", gap, cursor);
  }

  /** Nothing came, but the server says how far that nothing reaches. */
  advance(cursor) {
    const [last, position] = [parsePosition(this.cursor), parsePosition(cursor)];
    if (position && (!last || (compare(last, position) ?? 1) < 0)) {
      this.cursor = cursor;
    }
  }

  /** @param {Partial<Status>} change */
  set(change) {
    this.status = { ...this.status, ...change };
    this.call("onstatus", this.status);
  }

  /** Call a handler; its error is reported and stops nothing. */
  call(name, ...values) {
    try {
      this.handlers[name]?.(...values);
    } catch (error) {
      this.env.report(error);
    }
  }
}
