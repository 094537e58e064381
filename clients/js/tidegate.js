/**
 * Live feeds from a tidegate gateway: many channels on one WebSocket (`tidegate.v1`), or on an event stream where WebSockets
 * do not get through. Comes back by itself, resumes each channel where it was, and says what it could not get.
 *
 * Promises: no message of a channel is delivered twice, they come in their order, and every hole is told before the message
 * behind it. What is said on the wire stands in docs/PROTOCOL.md of the gateway.
 */

/** @import { Events, Message, Options, PublishOptions, SubscribeOptions, Transport } from "./tidegate.d.ts" */
/** @typedef {{send?: (text: string) => void, drop: () => void}} Link a connection, open or not */
/**
 * @typedef {object} LinkEvents
 * @property {() => void} open
 * @property {(said: any, text: string) => void} said an object of the gateway, and as it was written
 * @property {() => void} alive
 * @property {(code: number, reason: string, hintMs?: number) => void} end once; nothing comes behind it
 */
/**
 * @typedef {object} Publish a message that has no answer yet
 * @property {string} json the command, as it was when it was made
 * @property {number} retryMs
 * @property {number} [sentAt] none before it was sent for the first time
 * @property {(position: string) => void} resolve
 * @property {(error: Error) => void} reject
 */
/** @typedef {{subscription?: Subscription, publish?: Publish}} Asker who waits for an answer, if anybody */

const PROTOCOL = "tidegate.v1";
/** Publishes that wait for a connection, and positions of own messages that are remembered: at most. */
const WAITING_MAX = 1000;
/** A publish is sent again up to so long after the first time; the gateway knows it for 5 minutes. */
const RETRY_MS = 240_000;
/** Attempts that may fail before the other transport is tried: if no WebSocket was ever open, and if one was. */
const MISSES_MAX = { never: 2, once: 6 };
/** After an event stream that lasted so long a WebSocket is tried again. */
const STREAM_MS = 60_000;
/** No hint of the gateway is followed for longer. */
const HINT_MAX_MS = 3_600_000;
/** What an event stream ends with, as the code that a WebSocket would have. */
const CODES = /** @type {Record<string, number>} */ ({
  idle: 1000, internal: 1011, draining: 1012, slow_consumer: 4101, rate_limited: 4102, ping_timeout: 4105,
});

/** Why something that was asked for was not done: `token` is the word of the gateway, or `closed`, `unconfirmed`, `sse_only`. */
export class TidegateError extends Error {
  /** @param {string} token @param {string} message */
  constructor(token, message) {
    super(`${token}: ${message}`);
    this.name = "TidegateError";
    this.token = token;
  }
}

/** Whether the same would happen again after this close code. @param {number} code */
export const isTerminal = (code) => [1002, 1007, 1008, 1009].includes(code) || (code >= 4000 && code <= 4099);

/**
 * How long to wait before coming back: full jitter below a doubling bound, on top of what the gateway asks for.
 *
 * @param {{code: number, failures: number, hintMs?: number, backoffMs: number, backoffMaxMs: number, random: () => number}} what
 *   `failures`: connections in a row that failed or did not last
 */
export function reconnectDelay({ code, failures, hintMs = 0, backoffMs, backoffMaxMs, random }) {
  if (code >= 4200 && code <= 4299 && failures === 0) return 0;
  const least = Math.max(Math.min(hintMs, HINT_MAX_MS), code >= 4100 && code <= 4199 ? 1000 : 0);
  return Math.round(least + random() * Math.min(backoffMaxMs, backoffMs * 2 ** Math.min(failures, 30)));
}

/** @param {string} position */
function parsed(position) {
  const at = position.lastIndexOf("-");
  return { epoch: position.slice(0, at), offset: Number(position.slice(at + 1)) };
}

/** @param {any} envelope @param {string} text @param {boolean} snapshot @returns {Message} */
function messageOf({ channel, position, key, data, text: plain, base64 }, text, snapshot) {
  /** @type {Message} */
  const message = { channel, position, kind: "deleted", data, snapshot };
  if (key !== undefined) message.key = key;
  if (data !== undefined) {
    message.kind = "json";
    // The value stands last and as it was published; nothing before it can contain these characters.
    message.text = text.slice(text.indexOf('"data":') + 7, -1);
  } else if (plain !== undefined) {
    message.kind = "text";
    message.data = message.text = plain;
  } else if (base64 !== undefined) {
    message.kind = "binary";
    message.data = Uint8Array.from(atob(base64), (byte) => byte.charCodeAt(0));
  }
  return message;
}

/** Calls a listener. A fault of its own is reported as nobody's, and stops nothing here. @template T @param {(value: T) => void} listener @param {T} value */
function call(listener, value) {
  try {
    listener(value);
  } catch (error) {
    queueMicrotask(() => { throw error; });
  }
}

/** @param {string} channel */
const isPattern = (channel) => /[*>]/.test(channel);

/** Whether `channel` matches: `*` is one segment, a last `>` one or more. @param {string} pattern @param {string} channel */
export function matches(pattern, channel) {
  if (channel.startsWith("$")) return false;
  const [wanted, given] = [pattern.split("."), channel.split(".")];
  if (wanted.at(-1) === ">" ? given.length < wanted.length : given.length !== wanted.length) return false;
  return wanted.every((segment, at) => segment === "*" || segment === ">" || segment === given[at]);
}

/** One channel: what came of it, and what is missing. Or a pattern, which knows nothing of that. */
export class Subscription {
  /** The position to go on behind; none before the first answer, and while a snapshot is incomplete. @type {string | undefined} */
  #resume;
  #epoch = "";
  /** Newest offset that came or was told of. Nothing between `#floor` and it is missing. */
  #last = 0;
  #floor = 0;
  /** Offsets left out that were told of and not passed yet. */
  #credit = 0;
  /** Offsets of this client's own messages, which do not come back to it. @type {Set<number>} */
  #own = new Set();
  /** While a snapshot comes: the offset it goes up to, and how many of it are left. */
  #snapshotEnd = -1;
  #snapshotLeft = 0;
  /** The state up to here came with a snapshot that was not completed. */
  #known = 0;
  #client;

  /** @param {Client} client @param {string} channel @param {SubscribeOptions} options @param {(message: Message) => void} onMessage */
  constructor(client, channel, options, onMessage) {
    this.#client = client;
    this.channel = channel;
    this.options = options;
    this.onMessage = onMessage;
    this.isPattern = isPattern(channel);
    /** It was in force once. */
    this.wasLive = false;
    this.isLive = false;
    this.setPosition(options.since);
  }

  /** Where it is: hand it to `since` to go on behind it some other time. */
  get position() { return this.#resume; }

  /** @internal */
  get epoch() { return this.#epoch; }

  unsubscribe() { this.#client.unsubscribe(this); }

  /** @internal @param {string | undefined} position */
  setPosition(position) {
    this.#resume = position;
    if (position === undefined) return;
    const { epoch, offset } = parsed(position);
    this.#own.clear();
    [this.#epoch, this.#last, this.#floor, this.#credit, this.#known] = [epoch, offset, offset, 0, 0];
  }

  /** @param {string} to @param {number} count */
  #gap(to, count) {
    const from = /** @type {string} */ (this.#resume);
    this.#client.emit("gap", { channel: this.channel, from, to, ...(count > 0 ? { count } : {}) });
  }

  /** The pattern is in force, on a new connection too: what came in between is missing, of whichever channel. @internal */
  follow() {
    this.isLive = true;
    if (this.wasLive) this.#client.emit("gap", { channel: this.channel });
    this.wasLive = true;
  }

  /** It begins, on a new connection too. @internal @param {any} reply */
  begin({ position, recovered, snapshot }) {
    this.isLive = true;
    this.#credit = 0;
    this.#snapshotEnd = -1;
    if (recovered) return;
    const { epoch, offset } = parsed(position);
    if (this.#resume !== undefined) this.#gap(position, epoch === this.#epoch ? offset - this.#last : 0);
    // An event stream has snapshots of all its channels or of none.
    if (snapshot === undefined || !this.options.snapshot) return this.setPosition(position);
    if (epoch !== this.#epoch) this.setPosition(`${epoch}-0`);
    [this.#snapshotEnd, this.#snapshotLeft, this.#resume] = [offset, snapshot, undefined];
    if (snapshot === 0) this.#endSnapshot();
  }

  #endSnapshot() {
    this.setPosition(`${this.#epoch}-${this.#snapshotEnd}`);
    [this.#floor, this.#snapshotEnd] = [0, -1];
  }

  /** @internal @param {any} envelope @param {string} text */
  receive(envelope, text) {
    const { epoch, offset } = parsed(envelope.position);
    if (this.#snapshotEnd >= 0 && epoch === this.#epoch && offset <= this.#snapshotEnd) {
      const isNews = offset > this.#known && (offset > this.#last || offset <= this.#floor);
      this.#known = Math.max(this.#known, offset);
      this.#snapshotLeft -= 1;
      if (this.#snapshotLeft === 0) this.#endSnapshot();
      if (isNews) this.#client.deliver(this, messageOf(envelope, text, true));
      return;
    }
    // Of a snapshot, what is superseded while it comes is left out.
    if (this.#snapshotEnd >= 0) this.#endSnapshot();
    if (epoch !== this.#epoch) {
      this.#gap(`${epoch}-${offset - 1}`, 0);
      this.setPosition(`${epoch}-${offset - 1}`);
    }
    if (offset <= this.#last) return;
    let missing = offset - this.#last - 1;
    if (missing > 0) for (const own of this.#own) missing -= Number(own < offset);
    if (missing > this.#credit) {
      this.#gap(`${epoch}-${offset - 1}`, missing - this.#credit);
      this.#floor = offset - 1;
    }
    this.#credit = Math.max(0, this.#credit - missing);
    const isOwn = this.#own.has(offset);
    this.#advance(offset);
    if (!isOwn) this.#client.deliver(this, messageOf(envelope, text, false));
  }

  /** Messages are left out. @internal @param {any} notice */
  leaveOut({ type, count, position }) {
    if (type !== "skipped") {
      this.#credit += count;
      return;
    }
    const { epoch, offset } = parsed(position);
    if (this.#snapshotEnd >= 0) this.#endSnapshot();
    if (epoch === this.#epoch && offset > this.#last) {
      this.#advance(offset);
      this.#floor = offset;
    }
  }

  /** This client published at `position`. @internal @param {string} position */
  publishedAt(position) {
    const { epoch, offset } = parsed(position);
    if (!this.isLive || epoch !== this.#epoch || offset <= Math.max(this.#last, this.#snapshotEnd)) return;
    this.#own.add(offset);
    if (this.#own.size > WAITING_MAX) this.#own.delete(/** @type {number} */ (this.#own.values().next().value));
    if (this.#snapshotEnd < 0) this.#advance(this.#last);
  }

  /** @param {number} offset */
  #advance(offset) {
    this.#last = offset;
    if (this.#own.size > 0) {
      while (this.#own.has(this.#last + 1)) this.#last += 1;
      for (const own of this.#own) if (own <= this.#last) this.#own.delete(own);
    }
    this.#resume = `${this.#epoch}-${this.#last}`;
  }
}

/** A connection that is always there, or on its way back. */
export class Client {
  /** @type {"connecting" | "open" | "waiting" | "closed"} */
  state = "connecting";
  /** @type {Transport} */
  transport;
  #base;
  #options;
  /** @type {Map<string, Subscription>} */
  #subscriptions = new Map();
  /** Channels that come because a pattern matches, the one that was heard of last behind. @type {Map<string, Subscription>} */
  #matched = new Map();
  /** @type {Map<string, Set<(event: any) => void>>} */
  #listeners = new Map();
  /** Commands that were sent on this connection and not answered. @type {Map<number, Asker>} */
  #asked = new Map();
  /** In the order in which they were made. @type {Set<Publish>} */
  #publishes = new Set();
  /** What begins the idempotency keys of this client, and of nobody else. */
  #name = globalThis.crypto?.randomUUID?.() ?? `${Math.random()}-${Math.random()}`;
  #publishCount = 0;
  #nextId = 1;
  /** @type {Link | undefined} */
  #link;
  #failures = 0;
  /** Attempts in a row that did not open, on this transport. */
  #misses = 0;
  #webSocketWorked = false;
  #openedAt = 0;
  #heardAt = 0;
  /** @type {number | undefined} */
  #hintMs;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #timer;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #refresh;

  /** @param {string | URL} url @param {Options} options */
  constructor(url, options) {
    this.#base = new URL(url, globalThis.location?.href);
    this.#options = {
      transports: /** @type {Transport[]} */ (["websocket", "sse"]), backoffMs: 500, backoffMaxMs: 30_000, stableMs: 5000,
      connectTimeoutMs: 10_000, pingIntervalMs: 25_000, pingTimeoutMs: 10_000, WebSocket: globalThis.WebSocket,
      fetch: globalThis.fetch, random: Math.random, ...options,
    };
    if (this.#options.WebSocket === undefined) this.#options.transports = ["sse"];
    this.transport = this.#options.transports[0];
    // Later, so that whoever made it can listen and subscribe first.
    this.#timer = setTimeout(() => this.#connect(), 0);
  }

  /**
   * Calls `listener` on each event of the name; what it gives back takes that back.
   * @template {keyof Events} Name @param {Name} name @param {(event: Events[Name]) => void} listener
   */
  on(name, listener) {
    const listeners = this.#listeners.get(name) ?? new Set();
    this.#listeners.set(name, listeners.add(listener));
    return () => { listeners.delete(listener); };
  }

  /** @internal @template {keyof Events} Name @param {Name} name @param {Events[Name]} event */
  emit(name, event) {
    for (const listener of this.#listeners.get(name) ?? []) call(listener, event);
  }

  /**
   * Has `onMessage` called with the messages of `channel`, from now on or from where `options` say; or with those of every
   * channel that matches, if it is a pattern.
   * @param {string} channel @param {SubscribeOptions} options @param {(message: Message) => void} onMessage
   */
  subscribe(channel, options, onMessage) {
    if (this.#subscriptions.has(channel)) throw new TidegateError("already_subscribed", channel);
    const subscription = new Subscription(this, channel, options, onMessage);
    if (subscription.isPattern && !this.#options.transports.includes("websocket")) {
      throw new TidegateError("websocket_only", "event streams have no patterns");
    }
    this.#subscriptions.set(channel, subscription);
    if (subscription.isPattern && this.transport === "sse") {
      this.transport = "websocket";
      if (this.state !== "waiting" && this.state !== "closed") this.#refresh ??= setTimeout(() => this.#connect(), 0);
    } else this.#ask(subscription);
    return subscription;
  }

  /** @internal @param {Subscription} subscription */
  unsubscribe(subscription) {
    if (this.#subscriptions.get(subscription.channel) !== subscription) return;
    this.#subscriptions.delete(subscription.channel);
    this.#tell({ type: "unsubscribe", channel: subscription.channel }, {});
  }

  /** @internal @param {Subscription} subscription @param {Message} message */
  deliver({ onMessage }, message) {
    call(onMessage, message);
    for (const { channel, isLive, isPattern: follows, onMessage: onMatch } of [...this.#subscriptions.values()]) {
      if (follows && isLive && matches(channel, message.channel)) call(onMatch, message);
    }
  }

  /** What keeps count of a channel that nobody named; a numbering that begins anew is no gap. @param {any} said */
  #counted({ channel, position }) {
    let counted = this.#matched.get(channel);
    this.#matched.delete(channel);
    const { epoch, offset } = parsed(position);
    if (counted?.epoch !== epoch) {
      counted = new Subscription(this, channel, { since: `${epoch}-${offset - 1}` }, () => {});
      counted.isLive = true;
    }
    this.#matched.set(channel, counted);
    if (this.#matched.size > WAITING_MAX) this.#matched.delete(/** @type {string} */ (this.#matched.keys().next().value));
    return counted;
  }

  /**
   * Sends `data` as JSON, where the operator allows it; `undefined` deletes the key. Gives the message's position. If the
   * connection is lost before the answer, it is sent again on the next: the gateway publishes it once.
   * @param {string} channel @param {any} data @param {PublishOptions} [options] @returns {Promise<string>}
   */
  publish(channel, data, options) { return this.#publish({ channel, data }, options); }

  /** The same with a text as it is. @param {string} channel @param {string} text @param {PublishOptions} [options] @returns {Promise<string>} */
  publishText(channel, text, options) { return this.#publish({ channel, text }, options); }

  /** @param {object} message @param {PublishOptions} [options] @returns {Promise<string>} */
  async #publish(message, { key, ttlMs, idempotencyKey, retryMs = RETRY_MS } = {}) {
    if (!key && Object.values(message).includes(undefined)) throw new TypeError("nothing to publish");
    if (this.state !== "open" && this.#publishes.size >= WAITING_MAX) {
      throw new TidegateError("overloaded", `${WAITING_MAX} messages wait for a connection`);
    }
    this.#publishCount += 1;
    const name = idempotencyKey ?? `${this.#name}-${this.#publishCount}`;
    const json = JSON.stringify({ type: "publish", ...message, key, ttl_ms: ttlMs, idempotency_key: name });
    return new Promise((resolve, reject) => {
      const publish = { json, retryMs: Math.min(retryMs, RETRY_MS), resolve, reject };
      this.#publishes.add(publish);
      this.#proceed(publish);
    });
  }

  /** Sends it, gives it up, or leaves it waiting. @param {Publish} publish */
  #proceed(publish) {
    if (this.state === "closed") this.#giveUp(publish, "closed", "the client is closed");
    else if (this.state !== "open") return;
    else if (this.#link?.send === undefined) this.#giveUp(publish, "sse_only", "event streams cannot publish");
    else {
      publish.sentAt ??= Date.now();
      this.#command(publish.json, { publish });
    }
  }

  /** @param {Publish} publish @param {string} token @param {string} message */
  #giveUp(publish, token, message) {
    this.#publishes.delete(publish);
    const wasSent = publish.sentAt !== undefined;
    publish.reject(wasSent ? new TidegateError("unconfirmed", "the connection was lost before the answer") : new TidegateError(token, message));
  }

  /** Ends it for good. */
  close() {
    if (this.state === "closed") return;
    this.#stop({ code: 1000, reason: "closed", transport: this.transport, terminal: true, retryInMs: Infinity });
  }

  /** Connects again now: after a terminal close, or instead of waiting. */
  reconnect() {
    if (this.state !== "waiting" && this.state !== "closed") return;
    clearTimeout(this.#timer);
    this.#connect();
  }

  /** @param {string} json @param {Asker} asker */
  #command(json, asker) {
    const id = this.#nextId++;
    this.#asked.set(id, asker);
    this.#link?.send?.(`{"id":${id},${json.slice(1)}`);
  }

  /** @param {Subscription} subscription */
  #ask(subscription) {
    const { channel, position, options: { snapshot, maxRate } } = subscription;
    this.#tell({ type: "subscribe", channel, since: position, snapshot, max_rate: maxRate }, { subscription });
  }

  /** Other channels are wanted. An event stream has those that it began with: the next one has others. @param {object} command @param {Asker} asker */
  #tell(command, asker) {
    if (this.state === "open" && this.#link?.send) this.#command(JSON.stringify(command), asker);
    else if (this.transport === "sse" && this.state !== "waiting" && this.state !== "closed") {
      this.#refresh ??= setTimeout(() => this.#connect(), 0);
    }
  }

  #connect() {
    this.#drop();
    [this.state, this.#hintMs] = ["connecting", undefined];
    const { transports } = this.#options;
    const hasChannels = this.#subscriptions.size > 0;
    const hasPatterns = [...this.#subscriptions.values()].some((subscription) => subscription.isPattern);
    if (transports.length > 1 && !hasPatterns && this.#misses >= this.#missesMax && (hasChannels || this.transport === "sse")) {
      this.transport = this.transport === "sse" ? "websocket" : "sse";
      this.#misses = 0;
    }
    // There is no event stream of no channel: the first subscription begins it.
    if (this.transport === "sse" && !hasChannels) return;
    let isCurrent = true;
    /** @param {(...given: any[]) => void} then */
    const current = (then) => (/** @type {any[]} */ ...given) => { if (isCurrent) then(...given); };
    /** @type {LinkEvents} */
    const events = {
      open: current(() => this.#onOpen()),
      alive: current(() => { this.#heardAt = Date.now(); }),
      said: current((said, text) => this.#onSaid(said, text)),
      end: current((code, reason, hintMs) => this.#onEnd(code, reason, hintMs)),
    };
    const link = this.transport === "sse"
      ? eventStream(this.#streamUrl(), this.#options.fetch, events)
      : webSocket(this.#url("ws", "/ws"), this.#options.WebSocket, events);
    this.#link = { send: link.send, drop: () => { isCurrent = false; link.drop(); } };
    this.#timer = setTimeout(() => this.#onEnd(1006, "no answer"), this.#options.connectTimeoutMs);
  }

  get #missesMax() { return this.#webSocketWorked ? MISSES_MAX.once : MISSES_MAX.never; }

  /** @param {string} scheme @param {string} path */
  #url(scheme, path) {
    const url = new URL(this.#base);
    const secure = ["https:", "wss:"].includes(url.protocol) ? "s" : "";
    return new URL(`${scheme}${secure}://${url.host}${url.pathname.replace(/\/$/, "")}${path}`);
  }

  #streamUrl() {
    const subscriptions = [...this.#subscriptions.values()];
    const url = this.#url("http", "/sse");
    url.searchParams.set("channels", subscriptions.map(({ channel }) => channel).join());
    url.searchParams.set("since", subscriptions.map(({ position = "" }) => position).join());
    if (subscriptions.some(({ options }) => options.snapshot)) url.searchParams.set("snapshot", "1");
    // One rate for the stream: the highest, and none if a channel wants everything.
    const rate = Math.max(...subscriptions.map(({ options }) => options.maxRate ?? Infinity));
    if (rate < Infinity) url.searchParams.set("max_rate", `${rate}/s`);
    return url;
  }

  #onOpen() {
    clearTimeout(this.#timer);
    [this.state, this.#misses, this.#openedAt, this.#heardAt] = ["open", 0, Date.now(), Date.now()];
    this.#webSocketWorked ||= this.transport === "websocket";
    this.#watch(this.#options.pingIntervalMs);
    if (this.#link?.send) this.#subscriptions.forEach((subscription) => this.#ask(subscription));
    this.#publishes.forEach((publish) => this.#proceed(publish));
    this.emit("open", { transport: this.transport });
  }

  /** Sees to it that a connection which went away without a word is noticed. @param {number} afterMs */
  #watch(afterMs) {
    const { pingIntervalMs, pingTimeoutMs } = this.#options;
    this.#timer = setTimeout(() => {
      const silent = Date.now() - this.#heardAt;
      const isStream = this.#link?.send === undefined;
      if (silent >= (isStream ? 3 * pingIntervalMs : pingIntervalMs + pingTimeoutMs)) return this.#onEnd(1006, "silent");
      if (silent < pingIntervalMs) return this.#watch(pingIntervalMs - silent);
      this.#link?.send?.('{"type":"ping"}');
      this.#watch(isStream ? pingIntervalMs : pingTimeoutMs);
    }, afterMs);
  }

  /** @param {any} said @param {string} text */
  #onSaid(said, text) {
    this.#heardAt = Date.now();
    const subscription = this.#subscriptions.get(said.channel);
    const isNamed = subscription?.isLive;
    if (said.type === undefined) {
      if (isNamed) subscription.receive(said, text);
      else if ([...this.#subscriptions.values()].some((it) => it.isLive && it.isPattern && matches(it.channel, said.channel))) {
        this.#counted(said).receive(said, text);
      }
      return;
    }
    const counted = isNamed ? subscription : this.#matched.get(said.channel);
    const { subscription: asking, publish } = this.#asked.get(said.id) ?? {};
    this.#asked.delete(said.id);
    if (publish) this.#publishes.delete(publish);
    switch (said.type) {
      case "subscribed":
        // Without an id it is a channel of the event stream; one that was given up meanwhile is nobody's.
        if (subscription === undefined || (said.id !== undefined && asking !== subscription)) return;
        this.#matched.delete(said.channel);
        if (subscription.isPattern) subscription.follow();
        else subscription.begin(said);
        this.emit("subscribed", said);
        break;
      case "skipped": case "conflated": case "expired":
        counted?.leaveOut(said);
        if (counted || said.type === "skipped") this.emit(said.type, said);
        break;
      case "overmatched":
        this.emit("overmatched", said);
        break;
      case "published":
        counted?.publishedAt(said.position);
        publish?.resolve(said.position);
        break;
      case "draining":
        this.#hintMs = said.in_ms;
        this.emit("draining", { inMs: said.in_ms });
        break;
      case "error":
        publish?.reject(new TidegateError(said.error, said.message));
        if (asking) this.#onRefused(asking, said);
    }
  }

  /** @param {Subscription} subscription @param {{error: string, message: string}} refusal */
  #onRefused(subscription, { error, message }) {
    const { channel, position } = subscription;
    if (this.#subscriptions.get(channel) !== subscription) return;
    if (["overloaded", "memory", "draining"].includes(error)) {
      // Not now: it is asked for again with everything else, on a new connection.
      this.#onEnd(1013, error, 1000);
      return;
    }
    this.#subscriptions.delete(channel);
    this.emit("error", { channel, error, message: error === "bad_position" ? `${message} (${position})` : message });
  }

  /** @param {number} code @param {string} reason @param {number} [hintMs] */
  #onEnd(code, reason, hintMs) {
    const { transport } = this;
    const wasOpen = this.state === "open";
    const lastedMs = wasOpen ? Date.now() - this.#openedAt : 0;
    if (lastedMs >= this.#options.stableMs) this.#failures = 0;
    if (!wasOpen) this.#misses += 1;
    else if (this.transport === "sse" && this.#options.transports[0] === "websocket"
      && (this.#webSocketWorked || lastedMs >= STREAM_MS)) {
      // One attempt if there never was one.
      this.transport = "websocket";
      this.#misses = this.#missesMax - 1;
    }
    const stated = /;in=(\d{1,9})/.exec(reason);
    const hint = stated === null ? hintMs ?? this.#hintMs : Number(stated[1]);
    const delay = reconnectDelay({ code, failures: this.#failures, hintMs: hint, ...this.#options });
    this.#failures += 1;
    this.#stop({ code, reason, transport, terminal: isTerminal(code), retryInMs: isTerminal(code) ? Infinity : delay });
  }

  /** @param {Events["close"]} close */
  #stop(close) {
    this.#drop();
    this.state = close.terminal ? "closed" : "waiting";
    if (close.terminal) this.#publishes.forEach((publish) => this.#proceed(publish));
    else this.#timer = setTimeout(() => this.#connect(), close.retryInMs);
    this.emit("close", close);
  }

  /** Ends the connection, if there is one. What it was asked stays unanswered: publishes are sent again on the next. */
  #drop() {
    clearTimeout(this.#timer);
    clearTimeout(this.#refresh);
    this.#refresh = undefined;
    this.#link?.drop();
    this.#link = undefined;
    this.#matched.clear();
    this.#subscriptions.forEach((subscription) => { subscription.isLive = false; });
    this.#asked.clear();
    for (const publish of this.#publishes) {
      if (publish.sentAt !== undefined && Date.now() - publish.sentAt >= publish.retryMs) this.#giveUp(publish, "", "");
    }
  }
}

/** @param {URL} url @param {any} WebSocket @param {LinkEvents} on @returns {Link} */
function webSocket(url, WebSocket, on) {
  const socket = new WebSocket(url.href, [PROTOCOL]);
  socket.onopen = () => (socket.protocol === PROTOCOL ? on.open() : on.end(1006, "not a tidegate"));
  socket.onmessage = (/** @type {{data: string}} */ { data }) => on.said(JSON.parse(data), data);
  socket.onclose = (/** @type {{code: number, reason: string}} */ { code, reason }) => on.end(code, reason);
  // What went wrong is not told; the close follows.
  socket.onerror = () => {};
  return { send: (text) => socket.send(text), drop: () => socket.close() };
}

/** @param {URL} url @param {typeof fetch} fetch @param {LinkEvents} on @returns {Link} */
function eventStream(url, fetch, on) {
  const abort = new AbortController();
  /** @type {number | undefined} */
  let retryMs;
  const follow = async () => {
    const response = await fetch(url, { signal: abort.signal, cache: "no-store", headers: { accept: "text/event-stream" } });
    const type = response.headers.get("content-type") ?? "";
    if (response.status !== 200 || !response.body || !type.startsWith("text/event-stream")) {
      const seconds = Number(response.headers.get("retry-after"));
      abort.abort();
      return on.end(1006, `HTTP ${response.status}`, seconds * 1000 || undefined);
    }
    on.open();
    const reader = response.body.getReader();
    const decoder = new TextDecoder();
    for (let rest = ""; ;) {
      const { value, done } = await reader.read();
      if (done) return on.end(1006, "the stream ended", retryMs);
      on.alive();
      const blocks = (rest + decoder.decode(value, { stream: true })).split("\n\n");
      rest = blocks.pop() ?? "";
      for (const block of blocks) {
        /** @type {Record<string, string[]>} */
        const fields = { event: [], data: [], retry: [] };
        // Not by `^`, `$` and `.`: to them the separators U+2028 and U+2029, which JSON may contain, end a line.
        for (const [, name, text] of block.matchAll(/(?:^|\n)(event|data|retry): ?([^\n]*)/g)) fields[name].push(text);
        const [[event], data] = [fields.event, fields.data.join("\n")];
        if (fields.retry.length > 0) retryMs = Number(fields.retry[0]);
        if (event === "gw.close") {
          if (data.startsWith("draining")) on.said({ type: "draining", in_ms: retryMs }, data);
          return on.end(CODES[data.split(";")[0]] ?? 1006, data, retryMs);
        }
        if (data !== "") on.said(JSON.parse(data), data);
      }
    }
  };
  follow().catch((error) => on.end(1006, String(error?.message ?? error), retryMs)).finally(() => abort.abort());
  return { drop: () => abort.abort() };
}

/**
 * A client of the gateway at `url`, on a page of the gateway `/`. It connects by itself.
 * @param {string | URL} url @param {Options} [options] @returns {import("./tidegate.d.ts").Client}
 */
export const connect = (url, options = {}) => new Client(url, options);
