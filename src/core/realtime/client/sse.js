/**
 * The door of server-sent events: one EventSource for all channels of the connection.
 *
 * The browser comes back by itself after a cut, with the last id it saw, which the server prefers to the `since` of the
 * stale URL; that is told as `interrupted`. It gives up for good on an answer that is no event stream, some browsers on a
 * refused connection: that is told as `close`, and the connection opens a new one with a cursor of its own.
 */

import { readFrame, kindOf } from "./frames.js";

const CLOSED = 2;
const EVENTS = ["message", "subscribed", "gap", "presence"];

/**
 * Open an event stream.
 * @param {() => string} address the URL with the cursor, asked when it is needed
 * @param {import("./env.js").Callbacks} callbacks
 * @param {import("./env.js").Env} env
 * @returns {import("./env.js").Transport}
 */
export function openSse(address, callbacks, env) {
  const source = new env.EventSource(new URL(address(), env.base).href);

  function read(event) {
    try {
      const frame = readFrame(event.data);
      callbacks.message(kindOf(frame), frame);
    } catch (error) {
      env.report(error);
    }
  }

  /** The server's last word: whether coming back is of any use. The browser would, so it is stopped here. */
  function dismissed(event) {
    source.onerror = null;
    source.close();
    try {
      const { reason, retry } = JSON.parse(event.data);
      callbacks.close({ reason, final: !retry });
    } catch (error) {
      env.report(error);
      callbacks.close({ reason: "the server ended the event stream" });
    }
  }

  source.addEventListener("closed", dismissed);
  for (const name of EVENTS) {
    source.addEventListener(name, read);
  }
  source.onopen = () => callbacks.open();
  source.onerror = () => {
    if (source.readyState === CLOSED) {
      callbacks.close({ reason: "the event stream ended and the browser gave up" });
    } else {
      callbacks.interrupted("the event stream was cut");
    }
  };

  return {
    send: () => false,
    close() {
      source.onerror = null;
      source.close();
    },
  };
}
