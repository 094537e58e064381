// Patterns: which channels match, what comes of them, and what is told when the connection was lost.

import assert from "node:assert/strict";
import { afterEach, mock, test } from "node:test";
import { connect, matches } from "../tidegate.js";
import { fake, following } from "./fake.js";

afterEach(() => mock.timers.reset());

const of = (channel, position) => ({ channel, position, text: "x" });

/** A client that follows `prices.*`, which is in force. */
function follower() {
  const it = fake();
  const got = [];
  const subscription = it.client.subscribe("prices.*", {}, ({ channel, position }) => got.push(`${channel} ${position}`));
  const socket = it.pass(0).open();
  assert.deepEqual(socket.said, [{ type: "subscribe", channel: "prices.*", id: 1 }]);
  socket.hear({ type: "subscribed", id: 1, channel: "prices.*" });
  return { ...it, got, subscription, socket };
}

test("patterns match as the gateway has it", () => {
  for (const [pattern, channel, expected] of [
    ["news.*", "news.eu", true], ["news.*", "news", false], ["news.*", "news.eu.live", false],
    ["news.>", "news.eu.live", true], ["news.>", "news", false], [">", "a.b", true],
    ["*.eu", "news.eu", true], ["*.eu", "news.us", false], [">", "$occupancy.a", false], ["a.*.c", "a.b.c", true],
  ]) assert.equal(matches(pattern, channel), expected, `${pattern} ${channel}`);
});

test("what matches comes with its channel, and each channel is counted for itself", () => {
  const it = follower();
  it.socket.hear(of("prices.eu", "e-11"), of("prices.us", "f-1"), of("prices.eu", "e-12"), of("prices.eu", "e-12"), of("other", "g-1"));
  assert.deepEqual(it.got, ["prices.eu e-11", "prices.us f-1", "prices.eu e-12"]);
  it.socket.hear({ type: "skipped", channel: "prices.eu", count: 3, position: "e-15" }, of("prices.eu", "e-16"));
  assert.deepEqual(it.of("gap"), []);
  it.socket.hear(of("prices.eu", "e-18"), of("prices.us", "h-1"));
  assert.deepEqual(it.of("gap"), [{ channel: "prices.eu", from: "e-16", to: "e-17", count: 1 }], "a new numbering is none");
  it.socket.hear({ type: "overmatched", channel: "prices.zz", pattern: "prices.*" });
  assert.equal(it.of("overmatched").length, 1);
  it.subscription.unsubscribe();
  assert.deepEqual(it.socket.said.at(-1), { type: "unsubscribe", channel: "prices.*", id: 2 });
  it.socket.hear(of("prices.eu", "e-19"));
  assert.equal(it.got.length, 6);
});

test("a channel that is named as well goes to both, once each", () => {
  const it = follower();
  const named = [];
  it.socket.hear(of("prices.eu", "e-11"));
  it.client.subscribe("prices.eu", {}, ({ position }) => named.push(position));
  it.socket.hear(of("prices.eu", "e-12"));
  it.socket.hear({ type: "subscribed", id: 2, channel: "prices.eu", position: "e-12", window: { messages: 0, age_ms: 9 } });
  it.socket.hear(of("prices.eu", "e-13"), of("prices.eu", "e-13"));
  assert.deepEqual(named, ["e-13"]);
  assert.deepEqual(it.got, ["prices.eu e-11", "prices.eu e-12", "prices.eu e-13"]);
  assert.deepEqual(it.of("gap"), []);
});

test("after the connection was lost the gap is told, of the pattern as a whole", () => {
  const it = follower();
  it.socket.hear(of("prices.eu", "e-11"));
  it.newest().end(1006);
  const socket = it.pass(60_000).open();
  const [{ id, channel, since }] = socket.said;
  assert.deepEqual([channel, since], ["prices.*", undefined]);
  assert.deepEqual(it.of("gap"), []);
  socket.hear({ type: "subscribed", id, channel }, of("prices.eu", "e-20"));
  assert.deepEqual(it.of("gap"), [{ channel: "prices.*" }]);
  assert.deepEqual(it.got, ["prices.eu e-11", "prices.eu e-20"]);
});

test("with a pattern there is no falling back to an event stream", () => {
  const it = fake({ transports: ["websocket", "sse"], fetch: () => assert.fail("no stream") });
  it.client.subscribe(">", {}, () => {});
  it.pass(0);
  for (let miss = 0; miss < 4; miss += 1) {
    it.newest().end(1006);
    it.pass(60_000);
  }
  assert.equal(it.client.transport, "websocket");
  assert.equal(it.sockets.length, 5);
  const streams = connect("https://live.example", { transports: ["sse"], WebSocket: undefined, fetch: () => assert.fail() });
  assert.throws(() => streams.subscribe("a.*", {}, () => {}), { token: "websocket_only" });
  streams.close();
});

test("a pattern that is refused is given up", () => {
  const it = following();
  it.client.subscribe("a*", {}, () => {});
  it.socket.hear({ type: "error", id: 2, error: "bad_pattern", message: "not a pattern" });
  assert.deepEqual(it.of("error"), [{ channel: "a*", error: "bad_pattern", message: "not a pattern" }]);
});
