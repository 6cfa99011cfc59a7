import assert from "node:assert/strict";
import { test } from "node:test";

import { backoff } from "../../src/core/realtime/client/backoff.js";
import { Clock } from "../../src/core/realtime/client/clock.js";
import { compare, distance, formatCursor, parseCursor, parsePosition } from "../../src/core/realtime/client/cursor.js";
import { kindOf, payload } from "../../src/core/realtime/client/frames.js";
import { retryAfter } from "../../src/core/realtime/client/poll.js";
import { Presence } from "../../src/core/realtime/client/presence.js";
import { Machine } from "../../src/core/realtime/client/state.js";

test("the wait doubles with each failure, up to the cap", () => {
  const spans = [1, 2, 3, 4, 5, 6, 7, 8, 50].map((attempt) => backoff(attempt, { random: () => 1 }));
  assert.deepEqual(spans, [0.5, 1, 2, 4, 8, 16, 30, 30, 30]);
});

test("the wait is never below half its span", () => {
  assert.equal(backoff(4, { random: () => 0 }), 2);
  assert.equal(backoff(0, { random: () => 0 }), 0.25);
});

test("the wait is at least what the server asked for, and differs between clients", () => {
  assert.equal(backoff(9, { retryAfter: 20, random: () => 0 }), 20);
  assert.equal(backoff(9, { retryAfter: 20, random: () => 0.5 }), 21);
  assert.equal(backoff(1, { retryAfter: 0, random: () => 0.5 }), 0.25);
});

for (const text of ["", "a", "a:", ":1", "a:-1", "a:1.5", "a:1 ", "a b:1", "a=b:1", "a:12345678901234567890", null, 7]) {
  test(`no position: ${JSON.stringify(text)}`, () => assert.equal(parsePosition(text), null));
}

test("positions compare inside one epoch only, beyond what a double holds", () => {
  const at = (text) => parsePosition(text);
  assert.equal(compare(at("e:9"), at("e:10")), -1);
  assert.equal(compare(at("e:10"), at("e:10")), 0);
  assert.equal(compare(at("e:9223372036854775807"), at("e:9223372036854775806")), 1);
  assert.equal(compare(at("e:1"), at("f:2")), null);
});

test("the distance of two positions is the number of messages between them", () => {
  assert.equal(distance("e:3", "e:10"), 7);
  assert.equal(distance("e:3", "f:10"), null);
  assert.equal(distance(null, "e:10"), null);
});

test("a cursor of several channels is read and written", () => {
  const cursors = parseCursor("chat/a=e:1,b=f:2,c=");
  assert.deepEqual([...cursors], [["chat/a", "e:1"], ["b", "f:2"], ["c", ""]]);
  assert.equal(formatCursor(cursors), "chat/a=e:1,b=f:2,c=");
});

test("a cursor that names no channel is the only channel's", () => {
  assert.deepEqual([...parseCursor("e:1", "a")], [["a", "e:1"]]);
  assert.deepEqual([...parseCursor("", "a")], [["a", ""]]);
  assert.deepEqual([...parseCursor("e:1")], []);
});

test("what is no cursor gives no positions at all", () => {
  for (const text of ["=e:1", "a=e:1,b", "a=e:1,b=x", "nonsense"]) {
    assert.equal(parseCursor(text, "a").size, 0, text);
  }
});

test("frames are told apart, and what is none of ours is other", () => {
  assert.equal(kindOf({ channel: "a", cursor: "e:1", id: "x", data: null }), "message");
  assert.equal(kindOf({ channel: "a", subscribed: true, cursor: "" }), "subscribed");
  assert.equal(kindOf({ channel: "a", gap: {}, cursor: "e:1" }), "gap");
  assert.equal(kindOf({ channel: "a", presence: {} }), "presence");
  for (const frame of [null, 1, "x", [], {}, { pong: 1 }, { channel: 3, data: 1 }, { channel: "a", data: 1 }]) {
    assert.equal(kindOf(frame), "other", JSON.stringify(frame));
  }
});

test("bytes come out of their base64", () => {
  assert.deepEqual(payload({ data: "AP8=", enc: "base64" }), Uint8Array.of(0, 255));
  assert.deepEqual(payload({ data: { a: 1 } }), { a: 1 });
});

test("Retry-After is seconds or a date, and nothing else", () => {
  const now = Date.parse("Wed, 21 Oct 2026 07:28:00 GMT");
  assert.equal(retryAfter("120", now), 120);
  assert.equal(retryAfter("Wed, 21 Oct 2026 07:28:30 GMT", now), 30);
  assert.equal(retryAfter("Wed, 21 Oct 2026 07:27:30 GMT", now), 0);
  assert.equal(retryAfter("soon", now), undefined);
  assert.equal(retryAfter(null, now), undefined);
});

test("a state machine refuses a move that does not exist", () => {
  const moves = [];
  const machine = new Machine((state) => moves.push(state));
  machine.to("connecting");
  machine.to("live");
  machine.to("closed");
  assert.throws(() => machine.to("connecting"), /cannot go from closed to connecting/);
  assert.deepEqual(moves, ["connecting", "live", "closed"]);
});

test("the clocks' offset is learned from the quickest message", () => {
  let now = 10_000;
  const clock = new Clock(() => now);
  assert.equal(clock.local(5000), 5000);
  clock.seen(4000);
  now = 20_000;
  clock.seen(1000);
  assert.equal(clock.local(4000), 10_000);
});

test("people are users, each once, and anonymous connections", () => {
  const presence = new Presence();
  const member = (id, user, info) => ({ id, user, info });
  presence.apply({ event: "list", members: [member("1", "ann", "A"), member("2", null, "?")] });
  presence.apply({ event: "join", member: member("3", "ann", "Ann") });
  presence.apply({ event: "join", member: member("4", null, "!") });
  assert.deepEqual(presence.people().map(({ info }) => info), ["Ann", "?", "!"]);
  presence.apply({ event: "leave", member: member("3", "ann", "Ann") });
  presence.apply({ event: "leave", member: member("2", null, "?") });
  assert.deepEqual(presence.people().map(({ info }) => info), ["!"]);
  presence.apply({ event: "list", members: [] });
  assert.deepEqual(presence.people(), []);
});
