import assert from "node:assert/strict";
import { test } from "node:test";

import { browser, message, recorder, settle, subscribed } from "./harness.mjs";

async function open(doors, options) {
  const world = browser();
  const connection = world.connect(doors, options);
  const { log, handlers } = recorder("e:0");
  connection.subscribe("a", handlers);
  await settle();
  return { ...world, connection, log };
}

const THREE = { websocket: "/ws", sse: "/events", poll: "/poll" };

test("a door that fails twice is left for the next, in the order given", async () => {
  const { sockets, sources, requests, time, connection } = await open(THREE);
  sockets[0].end();
  await time.pass(1);
  sockets[1].end();
  await time.pass(2);
  assert.deepEqual([sockets.length, sources.length, connection.door], [2, 1, "sse"]);
  sources[0].cut({ forGood: true });
  await time.pass(3);
  sources[1].cut({ forGood: true });
  await time.pass(8);
  assert.deepEqual([sources.length, requests.length, connection.door], [2, 1, "poll"]);
});

test("a door through which no first word comes is left too", async () => {
  const { sockets, sources, time } = await open(THREE);
  sockets[0].open();
  await time.pass(11);
  sockets[1].open();
  await time.pass(12);
  assert.equal(sources.length, 1);
});

test("a change of door in mid-stream loses and doubles nothing", async () => {
  const { sockets, sources, time, log } = await open(THREE);
  sockets[0].receive(subscribed("a", "e:0", true));
  sockets[0].receive(message("a", "e:1", 1));
  for (let n = 0; n < 3; n += 1) {
    sockets.at(-1).end();
    await time.pass(4);
  }
  assert.match(sources[0].url, /since=a%3De%3A1$/);
  sources[0].receive(subscribed("a", "e:1", true), "subscribed");
  sources[0].receive(message("a", "e:1", 1));
  sources[0].receive(message("a", "e:2", 2));
  assert.deepEqual([log.data, log.status.state, log.status.door], [[1, 2], "resumed", "sse"]);
});

test("a door that worked is tried again after a cut", async () => {
  const { sockets, sources, time } = await open(THREE);
  sockets[0].receive(subscribed("a", "e:0", true));
  sockets[0].end();
  await time.pass(1);
  sockets[1].receive(subscribed("a", "e:0", true));
  sockets[1].end();
  await time.pass(1);
  assert.deepEqual([sockets.length, sources.length], [3, 0]);
});

test("a door that worked before gets another chance when the server is back", async () => {
  const { sockets, sources, time, log, connection } = await open(THREE);
  sockets[0].receive(subscribed("a", "e:0", true));
  sockets[0].end();
  await time.pass(1);
  sockets[1].end();
  await time.pass(2);
  sockets[2].end();
  await time.pass(4);
  sources[0].receive(subscribed("a", "e:0", true), "subscribed");
  sources[0].receive(message("a", "e:1", 1));
  await time.pass(5.1);
  assert.match(sockets[3].url, /since=a%3De%3A1$/);
  sockets[3].receive(subscribed("a", "e:1", true));
  sockets[3].receive(message("a", "e:2", 2));
  assert.deepEqual([log.data, connection.door, sources[0].readyState], [[1, 2], "websocket", 2]);
});

test("that chance is not given for ever", async () => {
  const { sockets, sources, time, connection } = await open(THREE);
  sockets[0].receive(subscribed("a", "e:0", true));
  for (let n = 0; n < 3; n += 1) {
    sockets.at(-1).end();
    await time.pass(4);
  }
  sources[0].receive(subscribed("a", "e:0", true), "subscribed");
  await time.pass(5.1);
  for (let n = 0; n < 2; n += 1) {
    sockets.at(-1).end();
    await time.pass(10);
  }
  sources[1].receive(subscribed("a", "e:0", true), "subscribed");
  const tried = sockets.length;
  await time.pass(600);
  assert.deepEqual([sockets.length, connection.door, connection.state], [tried, "sse", "live"]);
});

test("waits grow while tries fail, also when each brings a first word and dies", async () => {
  const { sockets, time, log } = await open({ websocket: "/ws" });
  const waits = [];
  for (let n = 0; n < 4; n += 1) {
    sockets.at(-1).receive(subscribed("a", "e:0", true));
    sockets.at(-1).end();
    waits.push(log.status.retryAt - time.now);
    await time.pass(waits.at(-1) / 1000);
  }
  assert.deepEqual(waits, [375, 750, 1500, 3000]);
});

test("a line that lived starts its waits anew", async () => {
  const { sockets, time, log } = await open({ websocket: "/ws" });
  sockets[0].end();
  await time.pass(1);
  sockets[1].receive(subscribed("a", "e:0", true));
  await time.pass(6);
  sockets[1].end();
  assert.equal(log.status.retryAt - time.now, 375);
});

test("the network coming back ends the wait", async () => {
  const { sockets, connection, time } = await open({ websocket: "/ws" });
  sockets[0].end();
  connection.hurry();
  assert.equal(sockets.length, 2);
  await time.pass(1);
  assert.equal(sockets.length, 2, "the wait that was cut short does not fire");
});

test("cut on purpose, it stays cut for that long and then resumes", async () => {
  const { sockets, connection, time, log } = await open({ websocket: "/ws" });
  sockets[0].receive(subscribed("a", "e:0", true));
  connection.interrupt(5);
  assert.equal(log.status.state, "waiting");
  assert.equal(sockets[0].readyState, 3);
  await time.pass(4.9);
  assert.equal(sockets.length, 1);
  await time.pass(0.2);
  sockets[1].receive(subscribed("a", "e:0", true));
  assert.equal(log.status.state, "resumed");
});

test("a channel subscribed later joins by opening the line anew", async () => {
  const { sockets, connection, time } = await open({ websocket: "/ws" });
  sockets[0].receive(subscribed("a", "e:0", true));
  connection.subscribe("b", { since: "f:1" });
  await time.pass(0.1);
  assert.match(decodeURIComponent(sockets[1].url), /since=a=e:0,b=f:1$/);
  assert.throws(() => connection.subscribe("b"), /subscribed already/);
});

test("closed, nothing is left running", async () => {
  const { sockets, connection, time, log } = await open({ websocket: "/ws" }, { silence: 5, ping: 5 });
  sockets[0].open();
  sockets[0].receive(subscribed("a", "e:0", true));
  connection.close();
  connection.close();
  assert.deepEqual(time.timers, []);
  assert.equal(log.status.state, "closed");
  assert.equal(connection.send("x"), false);
});

test("a door the browser lacks is passed over", async () => {
  const { sources, time } = await open(THREE, {
    WebSocket: function () {
      throw new Error("not here");
    },
  });
  await time.pass(3);
  assert.equal(sources.length, 1);
});

test("doors must be known", () => {
  assert.throws(() => browser().connect({ pigeon: "/p" }), /doors are websocket, sse, poll/);
  assert.throws(() => browser().connect({}), /doors are/);
});
