import assert from "node:assert/strict";
import { test } from "node:test";

import { Clock } from "../../src/core/realtime/client/clock.js";
import { Subscription } from "../../src/core/realtime/client/subscription.js";
import { gap, message, recorder, subscribed } from "./harness.mjs";

function follow(since) {
  const { log, handlers } = recorder(since);
  const errors = [];
  const time = { now: 1_000_000 };
  const clock = new Clock(() => time.now);
  const subscription = new Subscription("a", handlers, { clock, report: (error) => errors.push(error) });
  const say = (kind, frame) => subscription.receive(kind, frame);
  return { log, errors, time, subscription, say, told: (n, ts) => say("message", message("a", `e:${n}`, n, ts)) };
}

test("messages arrive in order, each once, whatever is repeated", () => {
  const { log, told, say, subscription } = follow();
  say("subscribed", subscribed("a", "e:0"));
  [1, 2, 2, 1, 3, 2, 4].forEach((n) => told(n));
  assert.deepEqual(log.data, [1, 2, 3, 4]);
  assert.equal(subscription.counts.duplicates, 3);
  assert.equal(subscription.cursor, "e:4");
});

test("the first word gives a cursor before any message", () => {
  const { say, subscription } = follow();
  say("subscribed", subscribed("a", "e:7"));
  assert.equal(subscription.cursor, "e:7");
  say("message", message("a", "e:7", "old"));
  assert.equal(subscription.counts.delivered, 0);
});

test("a resume that missed nothing says so, with what it caught up", () => {
  const { log, say, told, time } = follow();
  say("subscribed", subscribed("a", "e:0"));
  time.now += 5;
  told(1, 1_000_000);
  time.now += 10_000;
  say("subscribed", subscribed("a", "e:1", true));
  told(2, 1_004_000);
  told(3, 1_008_000);
  time.now += 50;
  told(4, 1_010_050);
  assert.equal(log.status.state, "resumed");
  assert.equal(log.status.caughtUp, 2);
  assert.equal(log.status.missed, 0);
  assert.deepEqual(log.data, [1, 2, 3, 4]);
});

test("what a quiet channel caught up is counted too, though no message came before the cut", () => {
  const { log, say, told, time } = follow("e:0");
  say("subscribed", subscribed("a", "e:0", true));
  time.now += 10_000;
  say("subscribed", subscribed("a", "e:0", true));
  time.now += 20;
  told(1, 1_002_000);
  told(2, 1_007_000);
  time.now += 5000;
  told(3, time.now - 10);
  assert.deepEqual([log.status.caughtUp, log.data], [2, [1, 2, 3]]);
});

test("a clock that is wrong does not make everything late for ever", () => {
  const { log, say, told, time } = follow("e:0");
  say("subscribed", subscribed("a", "e:0", true));
  say("subscribed", subscribed("a", "e:0", true));
  for (let n = 1; n <= 20; n += 1) {
    time.now += 1000;
    told(n, time.now - 3_600_000);
  }
  assert.equal(log.status.caughtUp, 4);
});

test("the first word of all is live, not resumed, also with a page-load cursor", () => {
  const { log, say, told, subscription } = follow("e:3");
  say("subscribed", subscribed("a", "e:3", true));
  told(4, 1000);
  assert.deepEqual([log.status.state, log.status.caughtUp, subscription.counts.resumes], ["live", 0, 0]);
});

test("a gap is told with its size and the stream goes on behind it", () => {
  const { log, say, told, subscription } = follow("e:3");
  say("subscribed", subscribed("a", "e:3", false));
  say("gap", gap("a", "e:33", "expired", "e:3", "e:33"));
  told(33);
  told(34);
  assert.deepEqual(log.gaps, [{ reason: "expired", after: "e:3", until: "e:33" }]);
  assert.deepEqual([log.status.state, log.status.missed], ["gap", 30]);
  assert.deepEqual(log.data, [34]);
  assert.equal(subscription.counts.gaps, 1);
});

test("a gap of unknown size makes the sum unknown", () => {
  const { log, say } = follow("e:3");
  say("subscribed", subscribed("a", "f:9", false));
  say("gap", gap("a", "f:9", "reset", "e:3", null));
  say("gap", gap("a", "f:12", "overflow", "f:9", "f:12"));
  assert.equal(log.status.missed, null);
});

test("a gap repeated from before the cursor is dropped", () => {
  const { log, say, told } = follow("e:3");
  say("subscribed", subscribed("a", "e:3", false));
  say("gap", gap("a", "e:5", "expired", "e:3", "e:5"));
  told(6);
  say("gap", gap("a", "e:5", "expired", "e:3", "e:5"));
  assert.equal(log.gaps.length, 1);
});

test("a new epoch without a gap is told as one, never passed over", () => {
  const { log, say } = follow("e:3");
  say("message", message("a", "f:1", "new"));
  assert.deepEqual(log.gaps, [{ reason: "reset", after: "e:3", until: null }]);
  assert.deepEqual(log.data, ["new"]);
});

test("a server that does not see the cursor does not make a silent hole", () => {
  const { log, say } = follow("e:3");
  say("subscribed", subscribed("a", "e:8", null));
  assert.deepEqual(log.gaps, [{ reason: "unknown", after: "e:3", until: "e:8" }]);
  const same = follow("e:8");
  same.say("subscribed", subscribed("a", "e:8", null));
  assert.deepEqual(same.log.gaps, []);
});

test("the first word of a resume that recovers does not move the cursor", () => {
  const { say, subscription } = follow("e:3");
  say("subscribed", subscribed("a", "e:3", true));
  assert.equal(subscription.cursor, "e:3");
  say("subscribed", subscribed("a", "f:9", false));
  assert.equal(subscription.cursor, "e:3", "cut before the gap is told: the next resume must tell it again");
});

test("a position moves the cursor forward, never back, never into another epoch", () => {
  const { say, subscription } = follow("e:3");
  for (const [cursor, expected] of [["e:5", "e:5"], ["e:4", "e:5"], ["f:9", "e:5"], ["junk", "e:5"]]) {
    say("position", { channel: "a", cursor });
    assert.equal(subscription.cursor, expected);
  }
});

test("a message without a readable position is reported and not delivered", () => {
  const { log, errors, say, subscription } = follow();
  say("message", message("a", "what", 1));
  assert.deepEqual(log.data, []);
  assert.equal(subscription.counts.malformed, 1);
  assert.match(errors[0].message, /no position: what/);
});

test("a handler that throws is reported and loses nothing that follows", () => {
  const { errors, subscription, told, say, log } = follow();
  const keep = subscription.handlers.onmessage;
  subscription.handlers.onmessage = (data) => {
    if (data === 1) {
      throw new Error("mine");
    }
    keep(data);
  };
  say("subscribed", subscribed("a", "e:0"));
  told(1);
  told(2);
  assert.deepEqual(errors.map(({ message: text }) => text), ["mine"]);
  assert.deepEqual(log.data, [2]);
});
