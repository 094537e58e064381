// The demo page: one WebSocket, its messages as text nodes, and where relay is on a line to send from.
"use strict";

const MESSAGES_MAX = 300;
const CHARACTERS_MAX = 4000;
const PREVIEW_BYTES = 16;
const BACKOFF_FIRST_MS = 500;
const BACKOFF_MAX_MS = 15000;
// A reader this close to the end follows the feed.
const FOLLOW_PIXELS = 80;

// What a close means, by its token or else its code.
const WORDS = {
  normal: "ended normally",
  idle: "ended: nothing was said for a long time",
  draining: "the gateway is restarting",
  policy: "that is not allowed on this channel",
  ctl_flood: "too many control frames",
  stalled_msg: "a message was begun and not finished",
  msg_too_big: "the message was too big",
  slow_consumer: "this page fell too far behind the feed",
  ping_timeout: "the connection fell silent",
  internal: "a fault in the gateway",
  1000: "ended normally",
  1001: "the gateway stopped",
  1002: "protocol error",
  1003: "that kind of message is not taken here",
  1005: "ended without a reason",
  1006: "the connection was lost or refused",
  1007: "the text was not valid UTF-8",
  1008: "that is not allowed here",
  1009: "the message was too big",
  1011: "a fault in the gateway",
  1012: "the gateway is restarting",
  1013: "the gateway is overloaded",
};

// After these, connecting again unchanged ends the same way.
const isTerminal = (code) =>
  [1000, 1002, 1003, 1007, 1008, 1009].includes(code) || (code >= 4000 && code <= 4099);

const byId = (id) => document.getElementById(id);
const [messages, text, send, state, detail] = ["messages", "text", "send", "state", "detail"].map(byId);
const { channel, relay, maxMessage } = document.body.dataset;
const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit" });

let socket = null;
let failures = 0;
let waiting = [];
let flushTimer = 0;
let follows = true;

function socketUrl() {
  const scheme = location.protocol === "https:" ? "wss:" : "ws:";
  const named = new URLSearchParams(location.search).get("channel");
  return `${scheme}//${location.host}/${named === null ? "" : `ws/${encodeURIComponent(named)}`}`;
}

function show(newState, words) {
  state.textContent = newState;
  state.dataset.state = newState;
  detail.textContent = words;
  send.disabled = newState !== "open";
}

function connect() {
  byId("reconnect").hidden = true;
  show("connecting", "");
  socket = new WebSocket(socketUrl());
  socket.binaryType = "arraybuffer";
  socket.onopen = () => {
    failures = 0;
    show("open", "");
  };
  socket.onmessage = (event) => add(event.data, false);
  socket.onclose = (event) => onClose(event.code, event.reason);
}

// A reason is a token, then perhaps `;in=MS`: when to come back.
function onClose(code, reason) {
  const token = reason.split(/[;: ]/, 1)[0];
  const words = `${WORDS[token] ?? WORDS[code] ?? "closed"} (${code}${reason === "" ? "" : ` ${reason}`})`;
  if (isTerminal(code)) {
    show("closed", words);
    byId("reconnect").hidden = false;
    return;
  }
  const delay = delayBefore(code, reason);
  failures += 1;
  show("closed", `${words}; trying again in ${Math.max(1, Math.round(delay / 1000))} s`);
  setTimeout(connect, delay);
}

function delayBefore(code, reason) {
  const stated = /;in=(\d{1,9})/.exec(reason);
  if (stated !== null) {
    return Number(stated[1]) + Math.random() * 250;
  }
  const longest = Math.min(BACKOFF_MAX_MS, BACKOFF_FIRST_MS * 2 ** failures);
  // 4100 to 4199 ask for at least a second.
  const shortest = code >= 4100 && code <= 4199 ? 1000 : BACKOFF_FIRST_MS / 2;
  return Math.max(shortest, longest * (0.5 + Math.random() / 2));
}

// Messages enter the document in batches, so that a fast feed costs one layout a batch.
function add(data, isOwn) {
  waiting.push({ data, isOwn, time: new Date() });
  if (waiting.length > MESSAGES_MAX) {
    waiting.shift();
  }
  if (flushTimer === 0) {
    flushTimer = setTimeout(flush, 16);
  }
}

function flush() {
  flushTimer = 0;
  byId("empty").hidden = true;
  messages.append(...waiting.map(item));
  waiting = [];
  while (messages.childElementCount > MESSAGES_MAX) {
    messages.firstElementChild.remove();
  }
  if (follows) {
    toNewest();
  } else {
    byId("newest").hidden = false;
  }
}

function item({ data, isOwn, time }) {
  const line = document.createElement("li");
  const isText = typeof data === "string";
  line.textContent = isText ? shortened(data) : describe(new Uint8Array(data));
  line.dir = "auto";
  // No space in it at which it could wrap.
  line.dataset.time = clock.format(time).replaceAll(/\s/g, "\u202f");
  line.classList.toggle("own", isOwn);
  line.classList.toggle("binary", !isText);
  return line;
}

function shortened(words) {
  const rest = words.length - CHARACTERS_MAX;
  return rest > 0 ? `${words.slice(0, CHARACTERS_MAX)}… [${rest} characters more]` : words;
}

function describe(bytes) {
  const preview = Array.from(bytes.subarray(0, PREVIEW_BYTES), (byte) => byte.toString(16).padStart(2, "0"));
  return `[${bytes.length} bytes] ${preview.join(" ")}${bytes.length > PREVIEW_BYTES ? " …" : ""}`;
}

function toNewest() {
  messages.scrollTop = messages.scrollHeight;
  byId("newest").hidden = true;
}

function onSubmit(event) {
  event.preventDefault();
  const words = text.value;
  if (words.trim() === "" || socket.readyState !== WebSocket.OPEN) {
    return;
  }
  if (new TextEncoder().encode(words).length > Number(maxMessage)) {
    detail.textContent = `a message may have ${maxMessage} bytes at most`;
    return;
  }
  socket.send(words);
  follows = true;
  add(words, true);
  detail.textContent = "";
  text.value = "";
  text.focus();
}

messages.addEventListener("scroll", () => {
  follows = messages.scrollHeight - messages.scrollTop - messages.clientHeight < FOLLOW_PIXELS;
  if (follows) {
    byId("newest").hidden = true;
  }
});
window.addEventListener("resize", () => follows && toNewest());
byId("newest").addEventListener("click", toNewest);
byId("reconnect").addEventListener("click", connect);
byId("compose").addEventListener("submit", onSubmit);
byId("channel").textContent = channel;
byId("status").hidden = false;
byId("empty").hidden = false;
byId(relay === "on" ? "compose" : "hint").hidden = false;
connect();
