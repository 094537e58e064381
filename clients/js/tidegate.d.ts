/** Types of tidegate.js. What is said on the wire stands in docs/PROTOCOL.md of the gateway. */

export type Transport = "websocket" | "sse";

export interface Message {
  channel: string;
  /** `since` would resume behind it. */
  position: string;
  kind: "json" | "text" | "binary" | "deleted";
  /** The value of JSON, the text, the bytes as a `Uint8Array`; `undefined` if the key was deleted. */
  data: any;
  /** Of JSON and text: what was published, as it was written. */
  text?: string;
  /** What it is the newest state of. */
  key?: string;
  /** It is part of a snapshot, not news. */
  snapshot: boolean;
}

export interface SubscribeOptions {
  /** Begin behind this position. */
  since?: string;
  /** The newest message of every key first, also where a gap could not be filled. */
  snapshot?: boolean;
  /** At most so many messages a second, of each key the newest; 1 to 1000. */
  maxRate?: number;
}

export interface PublishOptions {
  /** What the message is the newest state of. */
  key?: string;
  /** How long it lasts. */
  ttlMs?: number;
  /** What the gateway knows it by if it comes again, 1 to 128 printable ASCII characters. One of its own by default. */
  idempotencyKey?: string;
  /** For how long after it was first sent it may be sent again; 0: at most once. At most and by default 240000 */
  retryMs?: number;
}

/** What listeners are told, by the name of the event. */
export interface Events {
  open: { transport: Transport };
  /** The connection ended, or an attempt failed; it comes back in `retryInMs`, unless it is `terminal`. */
  close: { code: number; reason: string; transport: Transport; terminal: boolean; retryInMs: number };
  /**
   * A channel begins, or goes on after the connection was lost: `replayed` messages come first, or not all are there. Of a
   * pattern there is the `channel` alone: it is in force.
   */
  subscribed: {
    channel: string; position?: string; recovered?: boolean; replayed?: number; snapshot?: number;
    window?: { messages: number; age_ms: number };
  };
  /**
   * What came behind `from`, up to `to`, is missing. Without `count` the numbering is another: nobody can say how much. Of a
   * pattern there is the `channel` alone: the connection was lost, and what came meanwhile is missing, of whichever channel.
   */
  gap: { channel: string; from?: string; to?: string; count?: number };
  /** This client was too far behind. */
  skipped: { channel: string; count: number; position: string };
  /** Newer messages of the same keys come instead. */
  conflated: { channel: string; count: number };
  /** Their time to live was over. */
  expired: { channel: string; count: number };
  /** `channel` matches `pattern` and is not delivered: the connection has as many channels as it may. Others may follow untold. */
  overmatched: { channel: string; pattern: string };
  /** The gateway is being stopped, and asks to come back in so many milliseconds. */
  draining: { inMs: number };
  /** A subscription was refused, and is given up. */
  error: { channel: string; error: string; message: string };
}

export interface Options {
  /** Which may be used, the first one first. Both by default. */
  transports?: Transport[];
  /** The first wait is at most this. 500 */
  backoffMs?: number;
  /** No wait is longer, but for what the gateway asks for. 30000 */
  backoffMaxMs?: number;
  /** After a connection that lasted so long, waits begin with the first again. 5000 */
  stableMs?: number;
  /** An attempt is given up after this. 10000 */
  connectTimeoutMs?: number;
  /** A WebSocket that is silent so long is pinged; an event stream that is silent thrice as long is given up. 25000 */
  pingIntervalMs?: number;
  /** A WebSocket is given up if nothing comes for this after a ping. 10000 */
  pingTimeoutMs?: number;
  /** For a Node without one: that of `ws`. */
  WebSocket?: any;
  fetch?: typeof globalThis.fetch;
  /** Gives 0 to 1. */
  random?: () => number;
}

export interface Subscription {
  readonly channel: string;
  /** Where it is: `since` goes on behind it. None before the first answer, and while a snapshot is incomplete. */
  readonly position: string | undefined;
  unsubscribe(): void;
}

export interface Client {
  readonly state: "connecting" | "open" | "waiting" | "closed";
  readonly transport: Transport;
  /** Calls `listener` on each event of that name; what it gives back takes that back. */
  on<Name extends keyof Events>(name: Name, listener: (event: Events[Name]) => void): () => void;
  /**
   * Calls `onMessage` with what is published to `channel` from now on, or from where `options` say. `channel` may be a pattern,
   * `prices.*` or `prices.>`, without options: then with what is published to every channel that matches, those to come included.
   * There is no event stream of patterns: while it has one, the client stays with WebSockets.
   */
  subscribe(channel: string, options: SubscribeOptions, onMessage: (message: Message) => void): Subscription;
  /**
   * Sends `data` as JSON, where the operator allows it, and gives the position; `undefined` deletes the key. If the connection is
   * lost before the answer, it is sent again on the next one, and published once. Rejects with a `TidegateError`: `unconfirmed`
   * if there was no answer in `retryMs`, and nobody knows whether it was taken.
   */
  publish(channel: string, data: any, options?: PublishOptions): Promise<string>;
  /** The same with a text as it is. */
  publishText(channel: string, text: string, options?: PublishOptions): Promise<string>;
  /** Ends it for good. */
  close(): void;
  /** Connects now: after a terminal close, or instead of waiting. */
  reconnect(): void;
}

/** Why something was not done. */
export class TidegateError extends Error {
  /** The word of the gateway, or `closed`, `unconfirmed`, `overloaded`, `sse_only`, `websocket_only`. */
  token: string;
  constructor(token: string, message: string);
}

/** Whether `channel` matches `pattern`: `*` is one segment, a last `>` one or more. */
export function matches(pattern: string, channel: string): boolean;

/** Whether the same would happen again after this close code. */
export function isTerminal(code: number): boolean;

/** How long to wait after a close. `failures`: connections in a row that failed or did not last. */
export function reconnectDelay(what: {
  code: number; failures: number; hintMs?: number; backoffMs: number; backoffMaxMs: number; random: () => number;
}): number;

/** A client of the gateway at `url`: `https://live.example`, or on a page of the gateway `/`. It connects by itself. */
export function connect(url: string | URL, options?: Options): Client;
