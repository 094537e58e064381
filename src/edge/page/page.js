// The demo page: one channel over the client, its messages as text nodes, and where relay is on a line to send from.

import { connect } from "/tidegate.js";

const MESSAGES_MAX = 300;
const CHARACTERS_MAX = 4000;
const PREVIEW_BYTES = 16;
// What a command has besides a text and a channel, at most.
const COMMAND_BYTES = 144;
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
  silent: "the connection fell silent",
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

const byId = (id) => document.getElementById(id);
const [messages, text, send, state, detail] = ["messages", "text", "send", "state", "detail"].map(byId);
const { channel, relay, maxMessage } = document.body.dataset;
const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit" });

const client = connect("/");
let waiting = [];
let flushTimer = 0;
let follows = true;

function show(newState, words) {
  state.textContent = newState;
  state.dataset.state = newState;
  detail.textContent = words;
  byId("reconnect").hidden = client.state !== "closed";
  send.disabled = newState !== "open" || client.transport === "sse";
}

function showPosition() {
  byId("position").hidden = subscription.position === undefined;
  byId("position").textContent = `at ${subscription.position}`;
}

const messagesOf = (count) => (count === 1 ? "1 message" : `${count} messages`);

// From here on it misses nothing; before, the connection alone is open.
function onSubscribed({ recovered, replayed }) {
  show("open", client.transport === "sse" ? "as an event stream: sending needs a WebSocket" : "");
  showPosition();
  if (recovered) {
    notice(replayed === 0 ? "Reconnected: nothing was missed" : `Reconnected: ${messagesOf(replayed)} came meanwhile`);
  }
}

function onGap({ count }) {
  notice(count === undefined ? "Gap: a new numbering, what was missed is not known" : `Gap: ${messagesOf(count)} missing`);
}

function onClose({ code, reason, terminal, retryInMs }) {
  const token = reason.split(/[;: ]/, 1)[0];
  const words = `${WORDS[token] ?? WORDS[code] ?? "closed"} (${code}${reason === "" ? "" : ` ${reason}`})`;
  show("closed", terminal ? words : `${words}; trying again in ${Math.max(1, Math.round(retryInMs / 1000))} s`);
}

// Messages enter the document in batches, so that a fast feed costs one layout a batch.
function add(words, kind) {
  waiting.push({ words, kind, time: new Date() });
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

const notice = (words) => add(words, "notice");

function onMessage({ kind, data, text, key }) {
  const words = kind === "binary" ? describe(data) : kind === "deleted" ? "deleted" : shortened(text);
  add(key === undefined ? words : `${key}: ${words}`, kind);
  showPosition();
}

function item({ words, kind, time }) {
  const line = document.createElement("li");
  line.textContent = words;
  line.dir = "auto";
  line.className = kind;
  // No space in it at which it could wrap.
  line.dataset.time = clock.format(time).replaceAll(/\s/g, "\u202f");
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

async function onSubmit(event) {
  event.preventDefault();
  const words = text.value;
  if (words.trim() === "" || send.disabled) {
    return;
  }
  const command = JSON.stringify([words, channel]);
  if (new TextEncoder().encode(command).length + COMMAND_BYTES > Number(maxMessage)) {
    detail.textContent = `a message may have ${maxMessage} bytes at most`;
    return;
  }
  text.value = "";
  text.focus();
  detail.textContent = "";
  follows = true;
  try {
    await client.publishText(channel, words);
    add(words, "own");
    showPosition();
  } catch (error) {
    text.value ||= words;
    detail.textContent = `not sent: ${error.message}`;
  }
}

messages.addEventListener("scroll", () => {
  follows = messages.scrollHeight - messages.scrollTop - messages.clientHeight < FOLLOW_PIXELS;
  if (follows) {
    byId("newest").hidden = true;
  }
});
window.addEventListener("resize", () => follows && toNewest());
byId("newest").addEventListener("click", toNewest);
byId("reconnect").addEventListener("click", () => {
  client.reconnect();
  show("connecting", "");
});
byId("compose").addEventListener("submit", onSubmit);
byId("channel").textContent = channel;
byId("status").hidden = false;
byId("empty").hidden = false;
byId(relay === "on" ? "compose" : "hint").hidden = false;

client.on("close", onClose);
client.on("subscribed", onSubscribed);
client.on("gap", onGap);
client.on("skipped", ({ count }) => notice(`${messagesOf(count)} skipped: this page fell behind`));
client.on("conflated", ({ count }) => notice(`${messagesOf(count)} left out for newer ones`));
client.on("expired", ({ count }) => notice(`${messagesOf(count)} had expired`));
client.on("error", ({ message }) => show("closed", message));
const subscription = client.subscribe(channel, {}, onMessage);
