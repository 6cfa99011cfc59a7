/**
 * The long-poll door: one request after the other, each from the cursor the last one left.
 *
 * The server keeps nothing between two requests. It answers when there is something (200), or after its time limit with
 * nothing (204, and 304 where the browser sent an ETag), and says by `more` that the next answer waits already.
 */

import { kindOf } from "./frames.js";
import { parseCursor } from "./cursor.js";

/** Answers after which asking again is of no use: the request itself is refused. */
export const FINAL = new Set([400, 401, 403, 404, 405, 410, 414]);

/**
 * Read Retry-After.
 * @param {string | null} text seconds, or a date (RFC 9110 section 10.2.3)
 * @param {number} now milliseconds
 * @returns {number | undefined} seconds
 */
export function retryAfter(text, now) {
  if (text === null || text.trim() === "") {
    return undefined;
  }
  const seconds = /^\d+$/.test(text.trim()) ? Number(text) : (Date.parse(text) - now) / 1000;
  return Number.isNaN(seconds) ? undefined : Math.max(0, seconds);
}

/**
 * Begin to poll.
 * @param {(first: boolean) => string} address the URL with the cursor as it stands, asked for each request
 * @param {import("./env.js").Callbacks} callbacks
 * @param {import("./env.js").Env} env
 * @returns {import("./env.js").Transport}
 */
export function openPoll(address, callbacks, env) {
  const poll = new Poll(address, callbacks, env);
  poll.run();
  return { send: () => false, close: () => poll.stop() };
}

/** A gap of an answer, which is flat, in the form of the other doors. */
function gapFrame({ channel, reason, after, until, count }) {
  return { channel, gap: { reason, after, until, count }, cursor: until ?? "" };
}

/** Why an answer brings nothing: in the server's own words where it sends the client away, else its status. */
async function lastWord(response) {
  const status = `the server answered ${response.status}`;
  if (!response.headers.get("Content-Type")?.startsWith("application/json")) {
    return status;
  }
  try {
    const { reason } = await response.json();
    return typeof reason === "string" && reason ? reason : status;
  } catch {
    return status;
  }
}

class Poll {
  constructor(address, callbacks, env) {
    this.address = address;
    this.callbacks = callbacks;
    this.env = env;
    this.over = false;
    this.first = true;
    /** @type {AbortController | null} */
    this.abort = null;
    this.wake = () => {};
  }

  stop() {
    this.over = true;
    this.abort?.abort();
    this.wake();
  }

  finish(why) {
    if (!this.over) {
      this.over = true;
      this.callbacks.close(why);
    }
  }

  async run() {
    try {
      while (!this.over) {
        const more = await this.turn();
        if (!more && !this.over) {
          await this.pause();
        }
      }
    } catch (error) {
      this.finish({ reason: `the request failed: ${error.message}` });
    }
  }

  /** Wait between two requests, so that a busy channel is read in bundles. */
  pause() {
    return new Promise((resolve) => {
      this.wake = resolve;
      this.env.setTimeout(resolve, this.env.pace * 1000);
    });
  }

  /** One request and its answer; true when the next answer waits already. */
  async turn() {
    this.abort = new AbortController();
    const limit = this.env.setTimeout(() => this.late(), this.env.pollLimit * 1000);
    try {
      const url = new URL(this.address(this.first), this.env.base);
      const response = await this.env.fetch(url.href, {
        signal: this.abort.signal, cache: "no-store", headers: { Accept: "application/json" },
      });
      if (!this.over) {
        this.callbacks.open();
      }
      return await this.answer(response);
    } finally {
      this.env.clearTimeout(limit);
    }
  }

  late() {
    this.finish({ reason: `no answer in ${this.env.pollLimit} s` });
    this.abort?.abort();
  }

  /** @param {Response} response */
  async answer(response) {
    if (response.status === 204 || response.status === 304) {
      this.take({ messages: [], gaps: [], cursor: response.headers.get("Samovar-Cursor") ?? "" });
      return false;
    }
    if (response.status === 200) {
      const body = await response.json();
      this.take(body);
      return body.more === true;
    }
    this.finish({
      reason: await lastWord(response),
      final: FINAL.has(response.status),
      retryAfter: retryAfter(response.headers.get("Retry-After"), this.env.clock.now()),
    });
    return false;
  }

  /** Hand on what one answer says, in the form and order of the other doors: first words, gaps, messages, position. */
  take({ messages = [], gaps = [], cursor = "" }) {
    if (this.over) {
      return;
    }
    const channels = this.env.channels();
    const positions = parseCursor(cursor, channels.length === 1 ? channels[0] : undefined);
    if (this.first) {
      this.first = false;
      this.begin(channels, positions, gaps);
    }
    for (const frame of [...gaps.map(gapFrame), ...messages]) {
      this.callbacks.message(kindOf(frame), frame);
    }
    for (const [channel, position] of positions) {
      this.callbacks.message("position", { channel, cursor: position });
    }
  }

  /** The first words, which other doors get from the server. */
  begin(channels, positions, gaps) {
    for (const channel of channels) {
      const asked = this.env.cursorOf(channel);
      const recovered = asked === undefined ? null : !gaps.some((gap) => gap.channel === channel);
      const first = { channel, subscribed: true, recovered, cursor: asked ?? positions.get(channel) ?? "" };
      this.callbacks.message("subscribed", first);
    }
  }
}
