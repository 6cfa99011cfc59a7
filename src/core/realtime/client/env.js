/**
 * What a connection uses of the browser, and its settings: one place to see them, and for tests to replace them.
 */

import { Clock } from "./clock.js";

/**
 * What every door calls. `open`: the server answered. `message`: a frame came. `interrupted`: the line was cut and the
 * door is coming back by itself. `close`: it is over, and the connection decides what next.
 * @typedef {object} Callbacks
 * @property {() => void} open
 * @property {(kind: import("./frames.js").Kind, frame: any) => void} message
 * @property {(reason: string) => void} interrupted
 * @property {(why: {reason: string, final?: boolean, retryAfter?: number}) => void} close
 */

/** @typedef {{send: (value: any) => boolean, close: () => void}} Transport */
/** @typedef {"websocket" | "sse" | "poll"} Door */
/** @typedef {Record<string, any>} Env what a door uses of the browser, and its settings */

const defaults = () => ({
  base: globalThis.location?.href ?? "http://localhost/",
  WebSocket: globalThis.WebSocket,
  EventSource: globalThis.EventSource,
  fetch: (...args) => globalThis.fetch(...args),
  setTimeout: (...args) => globalThis.setTimeout(...args),
  clearTimeout: (timer) => globalThis.clearTimeout(timer),
  report: (error) => (globalThis.reportError ?? console.error)(error),
  random: Math.random,
  openLimit: 10, // seconds until the first word, then the try counts as failed
  silence: 0, // seconds without a frame after which the line counts as dead; 0: no limit (quiet channels are fine)
  ping: 0, // seconds between pings on a quiet websocket; 0: none (the route must answer {"ping":1})
  pong: 10, // seconds an answer to a ping may take, then the line counts as dead
  pollLimit: 60, // seconds a long-poll request may take, above the server's own limit
  pace: 0, // seconds between two long-poll requests, so that a busy channel is read in bundles
  firstPoll: "", // query by which the route answers the first request at once; without it, it may wait as any other
  onframe: undefined, // called with every frame that belongs to no channel: the route's own
});

/**
 * The browser's own, replaced by what the page gives, with what the connection adds for its doors.
 * @param {Partial<Env>} options
 * @param {{channels: () => string[], cursorOf: (channel: string) => string | undefined}} lookups
 * @returns {Env}
 */
export function environment({ now = Date.now, ...options }, lookups) {
  return { ...defaults(), now, ...options, ...lookups, clock: new Clock(now) };
}
