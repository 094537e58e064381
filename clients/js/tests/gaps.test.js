// What came, what came twice and what is missing.

import assert from "node:assert/strict";
import { afterEach, mock, test } from "node:test";
import { following, fake, message, subscribed } from "./fake.js";

afterEach(() => mock.timers.reset());

/** The connection is lost and there again; what the client asks for on it. */
function again(it, answer) {
  it.newest().end(1006);
  const socket = it.pass(60_000).open();
  const [{ id, since, snapshot }] = socket.said;
  if (answer) socket.hear(subscribed(id, ...answer));
  return { since, snapshot };
}

test("payloads arrive as what they are", () => {
  const it = following();
  it.socket.onmessage({ data: '{"channel":"a","position":"e-11","key":"\\"data\\":","data":{"n": 1.10, "data":2}}' });
  it.socket.hear(message("e-12", { text: "hé" }), message("e-13", { base64: "AP8=" }), message("e-14", { key: "BTC" }));
  assert.deepEqual(it.got, [
    { channel: "a", position: "e-11", key: '"data":', snapshot: false, kind: "json", data: { n: 1.1, data: 2 }, text: '{"n": 1.10, "data":2}' },
    { channel: "a", position: "e-12", snapshot: false, kind: "text", data: "hé", text: "hé" },
    { channel: "a", position: "e-13", snapshot: false, kind: "binary", data: new Uint8Array([0, 255]) },
    { channel: "a", position: "e-14", key: "BTC", snapshot: false, kind: "deleted", data: undefined },
  ]);
  assert.equal(it.subscription.position, "e-14");
});

test("every channel is resumed from the last position that it saw", () => {
  const it = following();
  it.client.subscribe("b", { since: "f-3", maxRate: 4 }, () => {});
  assert.deepEqual(it.socket.said.at(-1), { type: "subscribe", channel: "b", since: "f-3", max_rate: 4, id: 2 });
  it.socket.hear(message("e-11"), message("e-12"));
  it.socket.end(1006);
  const { said } = it.pass(60_000).open();
  assert.deepEqual(said.map(({ channel, since, max_rate: rate }) => [channel, since, rate]), [["a", "e-12", undefined], ["b", "f-3", 4]]);
});

test("what is replayed follows, and nothing is delivered twice", () => {
  const it = following();
  it.socket.hear(message("e-11"), message("e-12"), message("e-12"));
  assert.equal(again(it, ["e-12", { recovered: true, replayed: 1 }]).since, "e-12");
  it.newest().hear(message("e-11"), message("e-12"), message("e-13"), message("e-13"), message("e-14"));
  assert.deepEqual(it.offsets(), ["e-11", "e-12", "e-13", "e-14"]);
  assert.deepEqual(it.of("gap"), []);
});

test("what cannot be recovered is a gap, told before the message behind it", () => {
  const it = following();
  again(it, ["e-40", { recovered: false }]);
  assert.deepEqual(it.of("gap"), [{ channel: "a", from: "e-10", to: "e-40", count: 30 }]);
  it.newest().hear(message("e-41"));
  again(it, ["f-7", { recovered: false }]);
  assert.deepEqual(it.of("gap").at(-1), { channel: "a", from: "e-41", to: "f-7" });
  it.newest().hear(message("f-7"), message("f-8"));
  assert.deepEqual(it.offsets(), ["e-41", "f-8"]);
  assert.equal(again(it).since, "f-8");
});

test("a hole that nobody told of is a gap, and so is another numbering", () => {
  const it = following();
  it.socket.hear(message("e-11"), message("e-14"), message("f-3"));
  assert.deepEqual(it.of("gap"), [
    { channel: "a", from: "e-11", to: "e-13", count: 2 }, { channel: "a", from: "e-14", to: "f-2" },
  ]);
  assert.deepEqual(it.offsets(), ["e-11", "e-14", "f-3"]);
});

test("what is left out is told once, and is no gap", () => {
  const it = following();
  it.socket.hear({ type: "conflated", channel: "a", count: 3 }, { type: "expired", channel: "a", count: 1 });
  it.socket.hear(message("e-11"), message("e-14"), message("e-17"));
  it.socket.hear({ type: "skipped", channel: "a", count: 5, position: "e-22" }, message("e-23"));
  assert.deepEqual(it.events.filter(([name]) => name === "gap"), []);
  assert.deepEqual(it.offsets(), ["e-11", "e-14", "e-17", "e-23"]);
  it.socket.hear(message("e-25"));
  assert.deepEqual(it.of("gap"), [{ channel: "a", from: "e-23", to: "e-24", count: 1 }]);
  assert.deepEqual(["conflated", "expired", "skipped"].map((name) => it.of(name).length), [1, 1, 1]);
});

test("own messages leave no gap and do not come back after a reconnect", async () => {
  const it = following();
  const published = it.client.publish("a", { n: 1 });
  const newest = () => { const { idempotency_key: _, ...said } = it.socket.said.at(-1); return said; };
  assert.deepEqual(newest(), { type: "publish", channel: "a", data: { n: 1 }, id: 2 });
  it.socket.hear({ type: "published", id: 2, channel: "a", position: "e-12" });
  assert.equal(await published, "e-12");
  it.socket.hear(message("e-11"), message("e-13"));
  const other = it.client.publishText("a", "x", { key: "k", ttlMs: 5 });
  assert.deepEqual(newest(), { type: "publish", channel: "a", text: "x", key: "k", ttl_ms: 5, id: 3 });
  it.socket.hear({ type: "published", id: 3, channel: "a", position: "e-15" });
  assert.equal(await other, "e-15");
  again(it, ["e-13", { recovered: true, replayed: 2 }]);
  it.newest().hear(message("e-14"), message("e-15"), message("e-16"));
  assert.deepEqual(it.offsets(), ["e-11", "e-13", "e-14", "e-16"]);
  assert.deepEqual(it.of("gap"), []);
});

test("a snapshot comes first, and is asked for again if it was cut", () => {
  const it = fake();
  const got = [];
  it.client.subscribe("a", { snapshot: true }, ({ position, snapshot }) => got.push([position, snapshot]));
  it.pass(0).open().hear(subscribed(1, "e-20", { snapshot: 3 }), message("e-4"), message("e-9"));
  assert.deepEqual(again(it, ["e-22", { snapshot: 3 }]), { since: undefined, snapshot: true });
  it.newest().hear(message("e-4"), message("e-9"), message("e-22"), message("e-23"));
  assert.deepEqual(got, [["e-4", true], ["e-9", true], ["e-22", true], ["e-23", false]]);
  assert.equal(again(it, ["e-23", { recovered: true, replayed: 0 }]).since, "e-23");
  // Only what is not known yet comes of the snapshot behind a gap.
  again(it, ["e-90", { recovered: false, snapshot: 2 }]);
  it.newest().hear(message("e-9"), message("e-80"), message("e-91"));
  assert.deepEqual(got.slice(4), [["e-80", true], ["e-91", false]]);
  assert.deepEqual(it.of("gap"), [{ channel: "a", from: "e-23", to: "e-90", count: 67 }]);
});

test("of a snapshot, what is superseded while it comes may be missing", () => {
  const it = fake();
  const got = [];
  it.client.subscribe("a", { snapshot: true }, ({ position }) => got.push(position));
  it.pass(0).open().hear(subscribed(1, "e-20", { snapshot: 3 }), message("e-4"), message("e-21"), message("e-22"));
  assert.deepEqual(got, ["e-4", "e-21", "e-22"]);
  assert.deepEqual(it.of("gap"), []);
});

test("nothing of a channel comes before its subscription or after its end", () => {
  const it = following();
  it.subscription.unsubscribe();
  it.client.subscribe("a", {}, (message) => it.got.push(message));
  assert.deepEqual(it.socket.said.slice(-2).map(({ type, id }) => [type, id]), [["unsubscribe", 2], ["subscribe", 3]]);
  it.socket.hear(message("e-11"), { type: "unsubscribed", id: 2, channel: "a" }, message("e-12"), subscribed(3, "e-12"), message("e-13"));
  assert.deepEqual(it.offsets(), ["e-13"]);
});

test("a listener that throws stops nothing, and its fault is reported", () => {
  const reports = [];
  mock.method(globalThis, "queueMicrotask", (report) => reports.push(report));
  const it = fake();
  it.client.subscribe("a", {}, () => { throw new Error("of the page"); });
  it.pass(0).open().hear(subscribed(1, "e-1"), message("e-2"), message("e-3"));
  mock.restoreAll();
  assert.equal(reports.length, 2);
  for (const report of reports) assert.throws(report, /of the page/);
  assert.equal(again(it).since, "e-3");
});
