/** The websocket door: every frame is a JSON text; the page may send too. */

import { readFrame, kindOf } from "./frames.js";

/** Close codes after which coming back is of no use: done, refused, or not understood (RFC 6455 section 7.4 and ours). */
export const FINAL = new Set([1000, 1003, 1007, 1008, 1009, 4400, 4401, 4403, 4404]);

/**
 * Open a websocket.
 * @param {() => string} address the URL with the cursor, asked when it is needed
 * @param {import("./env.js").Callbacks} callbacks
 * @param {import("./env.js").Env} env
 * @returns {import("./env.js").Transport}
 */
export function openWebsocket(address, callbacks, env) {
  const url = new URL(address(), env.base);
  url.protocol = url.protocol.replace(/^http/, "ws");
  const socket = new env.WebSocket(url.href);
  let over = false;
  let timer;

  function finish(why) {
    if (!over) {
      over = true;
      env.clearTimeout(timer);
      callbacks.close(why);
    }
  }

  function ping() {
    socket.send('{"ping":1}');
    timer = env.setTimeout(() => {
      finish({ reason: `no answer to a ping in ${env.pong} s` });
      socket.close();
    }, env.pong * 1000);
  }

  /** Anything heard shows that the line works: the next ping is due so much later. */
  function heard() {
    env.clearTimeout(timer);
    if (env.ping) {
      timer = env.setTimeout(ping, env.ping * 1000);
    }
  }

  socket.onopen = () => {
    heard();
    callbacks.open();
  };
  socket.onmessage = ({ data }) => {
    heard();
    try {
      const frame = readFrame(data);
      callbacks.message(kindOf(frame), frame);
    } catch (error) {
      env.report(error);
    }
  };
  socket.onclose = ({ code, reason }) =>
    finish({ reason: reason || `the websocket closed (${code})`, final: FINAL.has(code) });

  return {
    send(value) {
      const open = socket.readyState === 1;
      if (open) {
        socket.send(typeof value === "string" ? value : JSON.stringify(value));
      }
      return open;
    },
    close() {
      over = true;
      env.clearTimeout(timer);
      socket.close();
    },
  };
}
