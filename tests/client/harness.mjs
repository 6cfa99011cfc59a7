/** A browser in miniature, whose time, sockets and answers the test holds in its hand. */

import { connect } from "../../src/core/realtime/client/index.js";

export class Time {
  constructor() {
    this.now = 1_000_000;
    this.timers = [];
  }

  setTimeout = (due, ms) => {
    const timer = { at: this.now + ms, due };
    this.timers.push(timer);
    return timer;
  };

  clearTimeout = (timer) => {
    this.timers = this.timers.filter((other) => other !== timer);
  };

  /** Let so many seconds pass, with whatever falls due in them. */
  async pass(seconds) {
    await settle();
    const end = this.now + seconds * 1000;
    for (;;) {
      const next = this.timers.filter(({ at }) => at <= end).sort((a, b) => a.at - b.at)[0];
      if (!next) {
        break;
      }
      this.clearTimeout(next);
      this.now = Math.max(this.now, next.at);
      next.due();
      await settle();
    }
    this.now = end;
    await settle();
  }
}

/** Let everything that is ready run: an answer's body takes a few turns of the loop to be read. */
export async function settle() {
  for (let turn = 0; turn < 5; turn += 1) {
    await new Promise((resolve) => setImmediate(resolve));
  }
}

class Socket {
  constructor(made, url) {
    this.url = url;
    this.readyState = 0;
    this.sent = [];
    made.push(this);
  }

  open() {
    this.readyState = 1;
    this.onopen?.();
  }

  receive(frame) {
    this.onmessage?.({ data: typeof frame === "string" ? frame : JSON.stringify(frame) });
  }

  send(text) {
    this.sent.push(text);
  }

  close() {
    this.readyState = 3;
  }

  /** The other side, or the network, ends it. */
  end(code = 1006, reason = "") {
    this.readyState = 3;
    this.onclose?.({ code, reason });
  }
}

class Source {
  constructor(made, url) {
    this.url = url;
    this.readyState = 0;
    this.listeners = {};
    made.push(this);
  }

  addEventListener(name, listener) {
    this.listeners[name] = listener;
  }

  open() {
    this.readyState = 1;
    this.onopen?.();
  }

  receive(frame, event = "message") {
    this.listeners[event]({ data: typeof frame === "string" ? frame : JSON.stringify(frame) });
  }

  close() {
    this.readyState = 2;
  }

  /** The line is cut; the browser comes back by itself, or gives up. */
  cut({ forGood = false } = {}) {
    this.readyState = forGood ? 2 : 0;
    this.onerror?.({});
  }
}

/** Everything a connection needs, recorded. */
export function browser() {
  const time = new Time();
  const made = { sockets: [], sources: [], requests: [] };
  const errors = [];
  const options = {
    base: "http://samovar.test/page",
    setTimeout: time.setTimeout,
    clearTimeout: time.clearTimeout,
    now: () => time.now,
    random: () => 0.5,
    report: (error) => errors.push(error),
    WebSocket: function (url) {
      return new Socket(made.sockets, url);
    },
    EventSource: function (url) {
      return new Source(made.sources, url);
    },
    fetch: (url, { signal }) =>
      new Promise((answer, fail) => {
        made.requests.push({ url, signal, fail, answer: (status, body, headers) => answer(reply(status, body, headers)) });
        signal.addEventListener("abort", () => fail(new Error("aborted")));
      }),
  };
  return { time, errors, ...made, connect: (doors, more) => connect(doors, { ...options, ...more }) };
}

function reply(status, body, headers = {}) {
  return new Response(body === undefined ? null : JSON.stringify(body), { status, headers });
}

/** A subscription's handlers that write everything down. */
export function recorder(since) {
  const log = { data: [], gaps: [], states: [], first: [], people: [] };
  const handlers = {
    since,
    onmessage: (data) => log.data.push(data),
    ongap: (gap) => log.gaps.push(gap),
    onsubscribed: (first) => log.first.push(first),
    onpresence: (people) => log.people.push(people),
    onstatus: (status) => {
      log.status = status;
      if (log.states.at(-1) !== status.state) {
        log.states.push(status.state);
      }
    },
  };
  return { ...log, handlers, log };
}

export const message = (channel, cursor, data, ts = 1_000_000) => ({ channel, cursor, id: `${channel}-${cursor}`, ts, data });
export const subscribed = (channel, cursor, recovered = null) => ({ channel, subscribed: true, recovered, cursor });
export const gap = (channel, cursor, reason, after, until) => ({ channel, gap: { reason, after, until }, cursor });
