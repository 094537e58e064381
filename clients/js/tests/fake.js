// Sockets of a gateway that is not there: each test says what they hear and checks what they said.

import { mock } from "node:test";
import { connect } from "../tidegate.js";

/** A client over fake sockets, with its events in a list and time in the test's hands. */
export function fake(options = {}) {
  mock.timers.enable({ apis: ["setTimeout", "Date"] });
  const sockets = [];
  class Socket {
    protocol = "tidegate.v1";
    said = [];
    constructor(url, protocols) {
      Object.assign(this, { url, protocols, number: sockets.push(this) });
    }
    send(text) { this.said.push(JSON.parse(text)); }
    close() { this.isClosed = true; }
    open() { this.onopen(); return this; }
    hear(...objects) { for (const it of objects) this.onmessage({ data: JSON.stringify(it) }); return this; }
    end(code, reason = "") { this.onclose({ code, reason }); }
  }
  const client = connect("https://live.example/base/", { WebSocket: Socket, random: () => 0.5, transports: ["websocket"], ...options });
  const events = [];
  for (const name of ["open", "close", "subscribed", "gap", "skipped", "conflated", "expired", "overmatched", "draining", "error"]) {
    client.on(name, (event) => events.push([name, event]));
  }
  const of = (name) => events.filter(([other]) => other === name).map(([, event]) => event);
  const newest = () => sockets.at(-1);
  const pass = (ms) => { mock.timers.tick(ms); return newest(); };
  return { client, sockets, events, of, newest, pass };
}

/** The same with one channel that is subscribed to and stands at offset 10 of epoch `e`. */
export function following(options = {}, subscribe = {}) {
  const it = fake(options);
  const got = [];
  const subscription = it.client.subscribe("a", subscribe, (message) => got.push(message));
  const socket = it.pass(0).open();
  socket.hear({ type: "subscribed", id: 1, channel: "a", position: "e-10", window: { messages: 9, age_ms: 9 } });
  const offsets = () => got.map(({ position }) => position);
  return { ...it, got, offsets, subscription, socket };
}

export const message = (position, more = { text: "x" }) => ({ channel: "a", position, ...more });
export const subscribed = (id, position, more = {}) =>
  ({ type: "subscribed", id, channel: "a", position, ...more, window: { messages: 9, age_ms: 9 } });
