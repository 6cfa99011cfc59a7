import assert from "node:assert/strict";
import { test } from "node:test";

import { byteRate, bytes, counted, perSecond, three } from "../../examples/dashboard/static/format.js";
import { between, niceTop, ticks } from "../../examples/dashboard/static/scale.js";
import { Line } from "../../examples/dashboard/static/status.js";

test("three figures never take more than four characters", () => {
  const values = [0, 0.004, 1.234, 9.994, 9.996, 12.34, 99.94, 99.96, 123.4, 999.4];
  assert.deepEqual(values.map(three), ["0.00", "0.00", "1.23", "9.99", "10.0", "12.3", "99.9", "100", "123", "999"]);
});

test("bytes come in the unit that suits them", () => {
  assert.deepEqual(bytes(0), ["0", "B"]);
  assert.deepEqual(bytes(999), ["999", "B"]);
  assert.deepEqual(bytes(999_600), ["1.00", "MB"]);
  assert.deepEqual(bytes(123, { least: 3 }), ["0.00", "GB"]);
  assert.deepEqual(byteRate(12), ["0.01", "kB/s"]);
  assert.deepEqual(byteRate(5e18), ["5000", "PB/s"]);
});

test("rates and counts", () => {
  assert.deepEqual([0, 5.25, 99.94, 99.96, 1234].map(perSecond), ["0.0", "5.3", "99.9", "100", "1234"]);
  assert.deepEqual([0, 1, 2].map((n) => counted(n, "point")), ["0 points", "1 point", "2 points"]);
});

test("the top of a scale is round and never below the values", () => {
  const tops = [1, 1.01, 2, 2.2, 3, 7, 10, 11, 480, 999_999, 1_000_000].map(niceTop);
  assert.deepEqual(tops, [1, 2, 2, 2.5, 5, 10, 10, 20, 500, 1_000_000, 1_000_000]);
});

test("the line's end lies between two points", () => {
  const [a, b] = [{ t: 0, values: [0, 10] }, { t: 100, values: [50, 20] }];
  assert.equal(between(a, b, 50, 0), 25);
  assert.equal(between(a, b, 50, 1), 15);
  assert.equal(between(a, b, 500, 0), 50);
  assert.equal(between(a, a, 0, 1), 10);
});

test("ticks are round moments inside the span", () => {
  assert.deepEqual(ticks(1001, 46_000, 15_000), [15_000, 30_000, 45_000]);
});

function line(noun) {
  const parts = { "[data-door]": {}, "[data-says]": {}, "[data-countdown]": {} };
  const element = { dataset: { noun }, querySelector: (selector) => parts[selector] };
  const made = new Line(element, { every: () => {}, now: () => 1000 });
  const show = (channel, status) =>
    made.show(channel, { state: "live", door: "sse", retryAt: null, reason: "", caughtUp: 0, missed: 0, ...status });
  return { show, says: () => parts["[data-says]"].textContent, element, countdown: () => parts["[data-countdown]"].textContent };
}

test("a line adds up its channels and says what is worst", () => {
  const { show, says, element } = line("point");
  show("machine", { state: "resumed", caughtUp: 12 });
  show("traffic", { state: "resumed", caughtUp: 3 });
  assert.equal(says(), "resumed, 15 points caught up, nothing missed");
  show("machine", { state: "gap", missed: 30, reason: "expired" });
  assert.equal(says(), "gap: 30 points missing (expired)");
  show("traffic", { state: "gap", missed: null, reason: "reset" });
  assert.equal(says(), "gap: an unknown number of points missing (expired, reset)");
  assert.equal(element.dataset.state, "gap");
  show("traffic", { state: "closed", reason: "denied" });
  assert.equal(says(), "closed: denied");
});

test("while it waits a line counts down", () => {
  const { show, says, countdown } = line("post");
  show("feed", { state: "connecting" });
  assert.equal(says(), "connecting");
  show("feed", { state: "waiting", reason: "the websocket closed (1006)", retryAt: 3400 });
  assert.deepEqual([says(), countdown()], ["cut off: the websocket closed (1006)", ", next try in 3 s"]);
  show("feed", { state: "connecting", reason: "the websocket closed (1006)" });
  assert.deepEqual([says(), countdown()], ["cut off, coming back", ""]);
  show("feed", { state: "live" });
  assert.equal(says(), "live");
});
