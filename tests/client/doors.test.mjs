import assert from "node:assert/strict";
import { test } from "node:test";

import { browser, gap, message, recorder, settle, subscribed } from "./harness.mjs";

const since = (url) => new URL(url).searchParams.get("since");

/** A line over one door with channels a and b, opened. */
async function line(doors, options, cursors = {}) {
  const world = browser();
  const connection = world.connect(doors, options);
  const [a, b] = ["a", "b"].map((channel) => recorder(cursors[channel]));
  connection.subscribe("a", a.handlers);
  connection.subscribe("b", b.handlers);
  await settle();
  return { ...world, connection, a: a.log, b: b.log };
}

test("websocket: opened once for all subscriptions, with their cursors in the URL", async () => {
  const { sockets } = await line({ websocket: "/ws?x=1" }, {}, { a: "e:3" });
  assert.equal(sockets.length, 1);
  assert.match(sockets[0].url, /^ws:\/\/samovar\.test\/ws\?x=1&/);
  assert.equal(since(sockets[0].url), "a=e:3");
});

test("websocket: after a cut it waits, then resumes from each channel's own cursor", async () => {
  const { sockets, time, a, b } = await line({ websocket: "/ws" });
  sockets[0].open();
  sockets[0].receive(subscribed("a", "e:0"));
  sockets[0].receive(subscribed("b", "f:9"));
  sockets[0].receive(message("a", "e:1", "one"));
  sockets[0].end();
  assert.equal(a.status.state, "waiting");
  assert.equal(a.status.retryAt, time.now + 375);
  await time.pass(0.4);
  assert.equal(since(sockets[1].url), "a=e:1,b=f:9");
  sockets[1].open();
  sockets[1].receive(subscribed("a", "e:1", true));
  sockets[1].receive(subscribed("b", "f:9", true));
  sockets[1].receive(message("a", "e:2", "two"));
  assert.deepEqual(a.data, ["one", "two"]);
  assert.deepEqual(a.states, ["connecting", "live", "waiting", "connecting", "resumed"]);
  assert.equal(b.status.state, "resumed");
});

test("websocket: a frame of an older socket is not heard any more", async () => {
  const { sockets, time, a, connection } = await line({ websocket: "/ws" });
  sockets[0].receive(subscribed("a", "e:0"));
  connection.reconnect();
  await time.pass(0.1);
  sockets[0].receive(message("a", "e:1", "late"));
  sockets[0].end();
  assert.deepEqual(a.data, []);
  assert.equal(connection.state, "connecting");
});

test("websocket: refused for good, it does not come back", async () => {
  const { sockets, time, a } = await line({ websocket: "/ws" });
  sockets[0].open();
  sockets[0].end(4403, "may not subscribe to a");
  await time.pass(600);
  assert.equal(sockets.length, 1);
  assert.deepEqual([a.status.state, a.status.reason], ["closed", "may not subscribe to a"]);
});

test("websocket: presence is told, other frames go to the route's own handler", async () => {
  const frames = [];
  const { sockets, a } = await line({ websocket: "/ws" }, { onframe: (frame) => frames.push(frame) });
  sockets[0].receive({ channel: "a", presence: { event: "list", members: [{ id: "1", user: "u", info: "U" }] } });
  sockets[0].receive({ pong: 1 });
  assert.deepEqual(a.people.at(-1), [{ id: "1", user: "u", info: "U" }]);
  assert.deepEqual(frames, [{ pong: 1 }]);
});

test("websocket: a frame that is no JSON is reported and hurts nothing", async () => {
  const { sockets, a, errors } = await line({ websocket: "/ws" });
  sockets[0].receive("{oops");
  sockets[0].receive(subscribed("a", "e:0"));
  sockets[0].receive(message("a", "e:1", 1));
  assert.equal(errors.length, 1);
  assert.deepEqual(a.data, [1]);
});

test("websocket: what the page sends leaves only when it is open", async () => {
  const { sockets, connection } = await line({ websocket: "/ws" });
  assert.equal(connection.send({ hello: 1 }), false);
  sockets[0].open();
  assert.equal(connection.send({ hello: 1 }), true);
  assert.equal(connection.send("text"), true);
  assert.deepEqual(sockets[0].sent, ['{"hello":1}', "text"]);
});

test("websocket: a ping without an answer ends a half-open line", async () => {
  const { sockets, time, connection } = await line({ websocket: "/ws" }, { ping: 25 });
  sockets[0].open();
  sockets[0].receive(subscribed("a", "e:0"));
  await time.pass(25);
  assert.deepEqual(sockets[0].sent, ['{"ping":1}']);
  sockets[0].receive({ pong: 1 });
  await time.pass(24);
  assert.equal(connection.state, "live");
  await time.pass(12);
  assert.equal(sockets.length, 2, "the second ping was not answered in 10 s");
});

test("silence beyond the limit counts as a dead line", async () => {
  const { sockets, time, a } = await line({ websocket: "/ws" }, { silence: 10 });
  sockets[0].receive(subscribed("a", "e:0"));
  await time.pass(9);
  sockets[0].receive(message("a", "e:1", 1));
  await time.pass(9);
  assert.equal(sockets.length, 1);
  await time.pass(1.1);
  assert.equal(a.status.state, "waiting");
  assert.equal(a.status.reason, "nothing heard for 10 s");
});

test("sse: one EventSource brings several channels, with first words and gaps as events", async () => {
  const { sources, a, b } = await line({ sse: "/events" }, {}, { a: "e:3" });
  assert.equal(sources.length, 1);
  sources[0].open();
  sources[0].receive(subscribed("a", "e:3", false), "subscribed");
  sources[0].receive(subscribed("b", "f:0"), "subscribed");
  sources[0].receive(gap("a", "e:5", "expired", "e:3", "e:5"), "gap");
  sources[0].receive(message("a", "e:6", "six"));
  sources[0].receive(message("b", "f:1", "one"));
  assert.deepEqual([a.data, b.data], [["six"], ["one"]]);
  assert.deepEqual([a.status.state, b.status.state], ["gap", "live"]);
});

test("sse: the browser's own return is a resume in the same EventSource", async () => {
  const { sources, a } = await line({ sse: "/events" });
  sources[0].receive(subscribed("a", "e:0"), "subscribed");
  sources[0].receive(message("a", "e:1", 1));
  sources[0].cut();
  assert.equal(a.status.state, "connecting");
  sources[0].receive(subscribed("a", "e:1", true), "subscribed");
  sources[0].receive(message("a", "e:1", 1));
  sources[0].receive(message("a", "e:2", 2));
  assert.deepEqual(a.data, [1, 2]);
  assert.deepEqual(a.states, ["connecting", "live", "connecting", "resumed"]);
  assert.equal(sources.length, 1);
});

test("sse: given up by the browser, it is opened anew with the last cursor", async () => {
  const { sources, time } = await line({ sse: "/events" }, {}, { a: "e:3", b: "f:1" });
  sources[0].receive(subscribed("a", "e:3", true), "subscribed");
  sources[0].receive(message("a", "e:4", 4));
  sources[0].cut({ forGood: true });
  await time.pass(0.5);
  assert.equal(since(sources[1].url), "a=e:4,b=f:1");
});

test("sse: a browser that never comes back is helped along", async () => {
  const { sources, time } = await line({ sse: "/events" });
  sources[0].receive(subscribed("a", "e:0"), "subscribed");
  sources[0].cut();
  await time.pass(11);
  assert.equal(sources.length, 2);
  assert.equal(sources[0].readyState, 2);
});

test("poll: each request starts from the cursor the last answer left", async () => {
  const { requests, a, b } = await line({ poll: "/poll" });
  assert.equal(requests[0].url, "http://samovar.test/poll");
  requests[0].answer(200, { messages: [], cursor: "a=e:0,b=f:5" });
  await settle();
  assert.deepEqual([a.first, b.first], [[subscribed("a", "e:0")], [subscribed("b", "f:5")]]);
});

test("poll: messages, then the next request with their cursors", async () => {
  const { requests, time, a, b } = await line({ poll: "/poll" }, {}, { a: "e:0", b: "f:5" });
  requests[0].answer(200, {
    messages: [message("a", "e:1", 1), message("b", "f:6", 6), message("a", "e:2", 2)], cursor: "a=e:2,b=f:6", recovered: true, gaps: [],
  });
  await time.pass(0);
  assert.deepEqual([a.data, b.data], [[1, 2], [6]]);
  assert.equal(since(requests[1].url), "a=e:2,b=f:6");
  requests[1].answer(204, undefined, { "Samovar-Cursor": "a=e:2,b=f:7" });
  await time.pass(0);
  assert.equal(since(requests[2].url), "a=e:2,b=f:7");
  requests[2].answer(304, undefined, {});
  await time.pass(0);
  assert.equal(since(requests[3].url), "a=e:2,b=f:7");
});

test("poll: sent away while it waits, it closes for good with the server's word", async () => {
  const { requests, time, a } = await line({ poll: "/poll" }, {}, { a: "e:0", b: "f:5" });
  const json = { "Content-Type": "application/json" };
  requests[0].answer(401, { code: 4401, reason: "signed out", retry: false }, json);
  await time.pass(600);
  assert.equal(requests.length, 1);
  assert.deepEqual([a.status.state, a.status.reason], ["closed", "signed out"]);
});

test("poll: an error that is no word of the server's is told by its status", async () => {
  const json = { "Content-Type": "application/json" };
  for (const [body, headers] of [[{ reason: 5 }, json], [{ oops: 1 }, json], [undefined, json], [undefined, {}]]) {
    const { requests, a } = await line({ poll: "/poll" }, {}, { a: "e:0", b: "f:5" });
    requests[0].answer(403, body, headers);
    await settle();
    assert.deepEqual([a.status.state, a.status.reason], ["closed", "the server answered 403"]);
  }
});

test("poll: gaps come before the messages behind them", async () => {
  const { requests, a } = await line({ poll: "/poll" }, {}, { a: "e:0", b: "f:0" });
  requests[0].answer(200, {
    messages: [message("a", "e:9", 9)], cursor: "a=e:9,b=f:0", recovered: false,
    gaps: [{ channel: "a", reason: "expired", after: "e:0", until: "e:8" }],
  });
  await settle();
  assert.deepEqual([a.gaps.length, a.data, a.status.state, a.first[0].recovered], [1, [9], "gap", false]);
  assert.equal(a.status.missed, 8);
});

test("poll: `more` is fetched at once, the rest at the set pace", async () => {
  const { requests, time } = await line({ poll: "/poll" }, { pace: 0.5 }, { a: "e:0" });
  requests[0].answer(200, { messages: [message("a", "e:1", 1)], cursor: "a=e:1,b=f:0", more: true });
  await settle();
  assert.equal(requests.length, 2);
  requests[1].answer(200, { messages: [message("a", "e:2", 2)], cursor: "a=e:2,b=f:0" });
  await settle();
  assert.equal(requests.length, 2);
  await time.pass(0.5);
  assert.equal(requests.length, 3);
});

test("poll: the first request of a line asks for an answer at once, where the route knows how", async () => {
  const { requests, time } = await line({ poll: "/poll" }, { firstPoll: "wait=0" }, { a: "e:0", b: "f:0" });
  assert.match(requests[0].url, /&wait=0$/);
  requests[0].answer(204, undefined, {});
  await time.pass(0);
  assert.doesNotMatch(requests[1].url, /wait/);
  const unplaced = await line({ poll: "/poll" }, { firstPoll: "wait=0" }, { a: "e:0" });
  assert.doesNotMatch(unplaced.requests[0].url, /wait/, "b would be read from its oldest message");
});

test("poll: told to come later, it does, and not before", async () => {
  const { requests, time, a } = await line({ poll: "/poll" });
  requests[0].answer(503, { error: "busy" }, { "Retry-After": "7" });
  await settle();
  assert.equal(a.status.reason, "the server answered 503");
  await time.pass(6.9);
  assert.equal(requests.length, 1);
  await time.pass(1);
  assert.equal(requests.length, 2);
});

test("poll: refused, it does not ask again", async () => {
  const { requests, time, a } = await line({ poll: "/poll" });
  requests[0].answer(403, { error: "no" });
  await time.pass(600);
  assert.deepEqual([requests.length, a.status.state], [1, "closed"]);
});

test("poll: cut, it resumes from its cursor and says so", async () => {
  const { requests, time, a } = await line({ poll: "/poll" }, {}, { a: "e:0", b: "f:0" });
  requests[0].answer(200, { messages: [message("a", "e:1", 1)], cursor: "a=e:1,b=f:0" });
  await time.pass(0);
  requests[1].fail(new Error("network"));
  await time.pass(0.5);
  assert.equal(since(requests[2].url), "a=e:1,b=f:0");
  requests[2].answer(200, { messages: [message("a", "e:2", 2)], cursor: "a=e:2,b=f:0" });
  await settle();
  assert.deepEqual([a.data, a.status.state], [[1, 2], "resumed"]);
});

test("poll: an answer that never comes is given up", async () => {
  const { requests, time, a } = await line({ poll: "/poll" }, { pollLimit: 40 });
  await time.pass(39);
  assert.equal(requests.length, 1);
  await time.pass(2);
  assert.equal(requests[0].signal.aborted, true);
  assert.equal(requests.length, 2);
  assert.equal(a.data.length, 0);
});

test("poll: closing aborts the request in flight", async () => {
  const { requests, connection, time } = await line({ poll: "/poll" });
  connection.close();
  await time.pass(60);
  assert.equal(requests[0].signal.aborted, true);
  assert.equal(requests.length, 1);
});
