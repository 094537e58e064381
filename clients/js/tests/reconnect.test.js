// When a client comes back, and what it asks for on the way.

import assert from "node:assert/strict";
import { afterEach, mock, test } from "node:test";
import { TidegateError, isTerminal, reconnectDelay } from "../tidegate.js";
import { fake, following, message, subscribed } from "./fake.js";

afterEach(() => mock.timers.reset());

const delay = (what) => reconnectDelay({ code: 1006, failures: 0, backoffMs: 500, backoffMaxMs: 30_000, random: () => 1, ...what });

test("waits are full jitter below a doubling bound", () => {
  assert.deepEqual([0, 1, 2, 5, 6, 7, 5000].map((failures) => delay({ failures })), [500, 1000, 2000, 16_000, 30_000, 30_000, 30_000]);
  assert.equal(delay({ failures: 4, random: () => 0 }), 0);
  assert.equal(delay({ failures: 4, random: () => 0.25 }), 2000);
});

test("the gateway's hint is the least of a wait", () => {
  assert.equal(delay({ hintMs: 1834, random: () => 0 }), 1834);
  assert.equal(delay({ hintMs: 1834 }), 2334);
  assert.equal(delay({ hintMs: 1e9, random: () => 0 }), 3_600_000);
});

test("the bands of close codes say whether and when", () => {
  for (const code of [4000, 4007, 4099, 1002, 1007, 1008, 1009]) assert.equal(isTerminal(code), true, `${code}`);
  for (const code of [1000, 1001, 1003, 1005, 1006, 1011, 1012, 1013, 4100, 4199, 4200, 4999]) assert.equal(isTerminal(code), false, `${code}`);
  for (const code of [4100, 4101, 4199]) assert.equal(delay({ code, random: () => 0 }), 1000);
  for (const code of [4200, 4299]) assert.equal(delay({ code }), 0);
  // But not in a tight loop.
  assert.equal(delay({ code: 4200, failures: 2 }), 2000);
});

test("attempts follow each other as the schedule says, and a stable connection begins it anew", () => {
  const it = fake();
  it.pass(0);
  for (const wait of [250, 500, 1000, 2000]) {
    it.newest().end(1006);
    assert.equal(it.of("close").at(-1).retryInMs, wait);
    const { number } = it.newest();
    assert.equal(it.pass(wait - 1).number, number);
    assert.equal(it.pass(1).number, number + 1);
  }
  it.newest().open().end(1006);
  assert.equal(it.of("close").at(-1).retryInMs, 4000, "it did not last");
  it.pass(4000).open();
  it.pass(5000).end(1006);
  assert.equal(it.of("close").at(-1).retryInMs, 250);
});

test("a hint stands in the reason, or in the notice before it", () => {
  const it = fake();
  it.pass(0).open().end(1012, "draining;in=1834");
  assert.equal(it.of("close")[0].retryInMs, 1834 + 250);
  it.pass(2084).open().hear({ type: "draining", in_ms: 700 }).end(1006);
  assert.deepEqual(it.of("draining"), [{ inMs: 700 }]);
  assert.equal(it.of("close")[1].retryInMs, 700 + 500);
  it.pass(1200).end(1006);
  assert.equal(it.of("close")[2].retryInMs, 1000, "a hint is for one wait");
});

test("after a terminal close it stays away until it is told to come back", () => {
  const it = following();
  it.socket.end(4007, "bad_message; id: twice");
  assert.deepEqual(it.of("close"), [{ code: 4007, reason: "bad_message; id: twice", transport: "websocket", terminal: true, retryInMs: Infinity }]);
  assert.equal(it.client.state, "closed");
  assert.equal(it.pass(1e6).number, 1);
  it.client.reconnect();
  assert.equal(it.newest().number, 2);
  assert.equal(it.newest().open().said[0].since, "e-10");
});

test("a connection that falls silent is pinged, then given up", () => {
  const it = following();
  it.pass(20_000).hear({ type: "pong" });
  it.pass(24_999);
  assert.equal(it.socket.said.length, 1);
  it.pass(1);
  assert.deepEqual(it.socket.said[1], { type: "ping" });
  it.pass(5000).hear({ type: "pong" });
  it.pass(30_000);
  assert.deepEqual(it.socket.said.length, 3);
  assert.equal(it.client.state, "open");
  it.pass(10_000);
  assert.equal(it.of("close")[0].reason, "silent");
  assert.equal(it.sockets[0].isClosed, true);
});

test("an attempt without an answer is given up", () => {
  const it = fake();
  it.pass(0);
  it.pass(10_000);
  assert.deepEqual(it.of("close").map(({ code, reason }) => [code, reason]), [[1006, "no answer"]]);
  it.sockets[0].onopen();
  assert.equal(it.client.state, "waiting", "what comes late is not listened to");
});

test("a server that does not speak the protocol is no gateway", () => {
  const it = fake();
  it.pass(0).protocol = "";
  it.newest().open();
  assert.equal(it.of("close")[0].reason, "not a tidegate");
  assert.deepEqual(it.of("open"), []);
});

test("publishes wait for a connection, and are answered or refused", async () => {
  const it = fake();
  const early = it.client.publish("a", 1);
  it.pass(0).open();
  const [{ idempotency_key: name, ...said }] = it.newest().said;
  assert.deepEqual(said, { type: "publish", channel: "a", data: 1, id: 1 });
  assert.match(name, /^[!-~]{20,128}$/);
  it.newest().hear({ type: "error", id: 1, error: "not_allowed", message: "relay is off" });
  await assert.rejects(early, (error) => error instanceof TidegateError && error.token === "not_allowed");
  await assert.rejects(it.client.publish("a", undefined), TypeError);
  it.newest().end(1006);
  const never = it.client.publish("a", 2);
  it.client.close();
  await assert.rejects(never, { token: "closed" });
  await assert.rejects(it.client.publish("a", 3), { token: "closed" });
});

test("what has no answer when the connection is lost is sent again as it was, in its order and under its key", async () => {
  const it = following();
  const data = { n: 1 };
  const lost = [it.client.publish("a", data), it.client.publishText("a", "x", { idempotencyKey: "of my own" })];
  data.n = 2;
  const before = it.newest().said.slice(1);
  it.newest().end(1006);
  lost.push(it.client.publish("a", undefined, { key: "k" }));
  it.pass(250).end(1006);
  const { said } = it.pass(500).open();
  const commands = said.slice(1).map(({ id, ...command }) => command);
  assert.deepEqual(commands.slice(0, 2), before.map(({ id, ...command }) => command));
  assert.deepEqual([commands[0].data, commands[1].idempotency_key], [{ n: 1 }, "of my own"]);
  assert.equal(new Set(commands.map(({ idempotency_key: name }) => name)).size, 3);
  it.newest().hear(subscribed(said[0].id, "e-10", { recovered: true, replayed: 2 }));
  // Of the connection that is no more, it comes like any other.
  it.newest().hear(message("e-11"));
  said.slice(1).forEach(({ id }, index) => {
    it.newest().hear({ type: "published", id, channel: "a", position: `e-${11 + index}`, ...(index < 2 ? { duplicate: true } : {}) });
  });
  it.newest().hear(message("e-12"), message("e-14"));
  assert.deepEqual(await Promise.all(lost), ["e-11", "e-12", "e-13"]);
  assert.deepEqual([it.offsets(), it.of("gap")], [["e-11", "e-14"], []]);
  it.newest().end(1006);
  assert.equal(it.pass(1000).open().said.length, 1, "what has its answer is not sent again");
});

test("what nobody knows of is unconfirmed: after four minutes, at once if it is not to be sent again, and at the end", async () => {
  const it = fake();
  const first = it.pass(0).open();
  const [once, lasting] = [it.client.publish("a", 1, { retryMs: 0 }), it.client.publish("a", 2)];
  first.end(1006);
  await assert.rejects(once, { token: "unconfirmed" });
  assert.deepEqual(it.pass(250).open().said.map(({ data }) => data), [2]);
  const stay = (ms) => { for (let left = ms; left > 0; left -= 10_000) it.pass(Math.min(left, 10_000)).hear({ type: "pong" }); };
  stay(230_000);
  const late = it.client.publish("a", 3);
  stay(9000);
  it.newest().end(1006);
  assert.deepEqual(it.pass(250).open().said.map(({ data }) => data), [2, 3]);
  stay(1000);
  it.newest().end(1006);
  await assert.rejects(lasting, { token: "unconfirmed" });
  assert.deepEqual(it.pass(1000).open().said.map(({ data }) => data), [3]);
  it.newest().end(1009);
  await assert.rejects(late, { token: "unconfirmed" });
});

test("a refused subscription is given up; one that could not be taken is asked for again", () => {
  const it = following();
  it.client.subscribe("b", {}, () => {});
  it.socket.hear({ type: "error", id: 2, error: "channel_limit", message: "too many" });
  assert.deepEqual(it.of("error"), [{ channel: "b", error: "channel_limit", message: "too many" }]);
  it.client.subscribe("c", {}, () => {});
  it.socket.hear({ type: "error", id: 3, error: "overloaded", message: "later" });
  assert.deepEqual(it.of("close").map(({ code, retryInMs }) => [code, retryInMs]), [[1013, 1250]]);
  assert.deepEqual(it.pass(1250).open().said.map(({ channel }) => channel), ["a", "c"]);
});

test("a channel is subscribed to once", () => {
  const it = following();
  assert.throws(() => it.client.subscribe("a", {}, () => {}), { token: "already_subscribed" });
  it.subscription.unsubscribe();
  it.subscription.unsubscribe();
  assert.equal(it.socket.said.filter(({ type }) => type === "unsubscribe").length, 1);
});

test("the address may be of any scheme and have a path", () => {
  const it = fake();
  assert.equal(it.pass(0).url, "wss://live.example/base/ws");
  assert.deepEqual(it.newest().protocols, ["tidegate.v1"]);
});

/** A `fetch` whose streams the test writes. */
function streams() {
  const made = [];
  const fetch = async (url, { signal }) => {
    const stream = { url: new URL(url), signal };
    made.push(stream);
    const body = new ReadableStream({
      start(controller) {
        stream.write = (text) => controller.enqueue(new TextEncoder().encode(text));
        stream.end = () => controller.close();
        signal.addEventListener("abort", () => controller.error(signal.reason));
      },
    });
    return new Response(body, { status: 200, headers: { "content-type": "text/event-stream; charset=utf-8" } });
  };
  return { made, fetch };
}

const settle = async () => { for (let turn = 0; turn < 20; turn++) await Promise.resolve(); await new Promise(setImmediate); };
const event = (name, data) => `event: gw.${name}\ndata: ${JSON.stringify(data)}\n\n`;

test("where WebSockets never open, an event stream is followed with the same callbacks", async () => {
  const { made, fetch } = streams();
  const it = fake({ transports: ["websocket", "sse"], fetch });
  const got = [];
  it.client.subscribe("a", { snapshot: true }, ({ position, data }) => got.push([position, data]));
  it.client.subscribe("b", { since: "f-3" }, ({ position, data }) => got.push([position, data]));
  it.pass(0).end(1006);
  it.pass(250).end(1006);
  it.pass(500);
  assert.equal(it.sockets.length, 2);
  await settle();
  assert.equal(made[0].url.href, "https://live.example/base/sse?channels=a%2Cb&since=%2Cf-3&snapshot=1");
  made[0].write(`retry: 1500\n\n:\n\n${event("subscribed", subscribed(undefined, "e-10", { snapshot: 0 }))}`);
  made[0].write(event("subscribed", { ...subscribed(undefined, "f-3", { recovered: true, replayed: 1 }), channel: "b" }));
  const text = 'data: {"channel":"b","position":"f-4","text":"zwölf\u2028"}\n\nid: e-10,f-4\n\ndata: {"channel":"a","position":"e-11",\ndata: "data":[1]}\n\n';
  for (const character of text) made[0].write(character);
  made[0].write(event("conflated", { type: "conflated", channel: "a", count: 2 }));
  await settle();
  assert.deepEqual(got, [["f-4", "zwölf\u2028"], ["e-11", [1]]]);
  assert.deepEqual(["open", "conflated"].map((name) => it.of(name)), [[{ transport: "sse" }], [{ type: "conflated", channel: "a", count: 2 }]]);
  await assert.rejects(it.client.publish("a", 1), { token: "sse_only" });
  made[0].end();
  await settle();
  assert.deepEqual(it.of("close").at(-1).retryInMs, 1500 + 1000);
  it.pass(2500);
  await settle();
  assert.equal(made[1].url.searchParams.get("since"), "e-11,f-4");
  made[1].write("event: gw.close\nretry: 700\ndata: draining;in=700\n\n");
  await settle();
  assert.deepEqual(it.of("draining"), [{ inMs: 700 }]);
  assert.deepEqual([it.of("close").at(-1).code, it.of("close").at(-1).retryInMs], [1012, 700 + 2000]);
  assert.equal(it.sockets.length, 2, "no WebSocket was tried again");
  it.client.close();
});

test("an event stream begins anew with the channels of the moment", async () => {
  const { made, fetch } = streams();
  const it = fake({ transports: ["sse"], fetch });
  it.pass(0);
  assert.equal(made.length, 0, "there is no stream of no channel");
  const first = it.client.subscribe("a", { maxRate: 4 }, () => {});
  it.pass(0);
  assert.deepEqual([...made[0].url.searchParams], [["channels", "a"], ["since", ""], ["max_rate", "4/s"]]);
  await settle();
  it.client.subscribe("b", { maxRate: 9 }, () => {});
  it.client.subscribe("c", {}, () => {});
  it.pass(0);
  assert.deepEqual([...made[1].url.searchParams], [["channels", "a,b,c"], ["since", ",,"]]);
  assert.equal(made[0].signal.aborted, true);
  await settle();
  first.unsubscribe();
  it.pass(0);
  assert.equal(made[2].url.searchParams.get("channels"), "b,c");
  assert.deepEqual(it.of("close"), []);
  it.client.close();
});

test("a stream that is refused is tried again, as late as it asks for", async () => {
  const answers = [new Response("draining: come back", { status: 503, headers: { "retry-after": "7" } }), new Response("hi", { status: 200 })];
  const it = fake({ transports: ["sse"], fetch: async () => answers.shift() });
  it.client.subscribe("a", {}, () => {});
  it.pass(0);
  await settle();
  assert.deepEqual(it.of("close").map(({ reason, retryInMs }) => [reason, retryInMs]), [["HTTP 503", 7250]]);
  it.pass(7250);
  await settle();
  assert.deepEqual(it.of("close").at(-1).reason, "HTTP 200");
  it.client.close();
});

test("once a WebSocket was open, streams are the exception", async () => {
  const { made, fetch } = streams();
  const it = following({ transports: ["websocket", "sse"], fetch });
  it.socket.end(1006);
  for (let attempt = 0; attempt < 6; attempt++) it.pass(60_000).end(1006);
  it.pass(60_000);
  await settle();
  assert.deepEqual([it.sockets.length, made.length], [7, 1]);
  made[0].end();
  await settle();
  it.pass(60_000);
  assert.deepEqual([it.sockets.length, made.length], [8, 1]);
});
