// `ws` against the gateway: node npm_ws.mjs ws://HOST:PORT http://HOST:PORT
// Each case opens its own sockets. Prints a line a case; the first that fails ends the run with its reason.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import WebSocket from 'ws';

const [clients, admin] = process.argv.slice(2);
const patience = 15_000;

const within = (promise, what) => Promise.race([
  promise,
  new Promise((_, reject) => setTimeout(() => reject(new Error(`no ${what} within ${patience} ms`)), patience).unref()),
]);

/** So many bytes of text, which shrinks as text does: not to a two hundredth, which a compressed message may not. */
const text = (length) => Array.from({ length }, (_, number) => number).join(' ').slice(0, length);

/** An open socket with its messages in a queue. */
async function join(target, options = {}) {
  const socket = new WebSocket(clients + target, options);
  const queue = [];
  const waiting = [];
  socket.on('message', (data, binary) => {
    const message = { data, binary };
    waiting.length ? waiting.shift()(message) : queue.push(message);
  });
  socket.next = () => within(
    queue.length ? Promise.resolve(queue.shift()) : new Promise((resolve) => waiting.push(resolve)), 'message');
  socket.nextText = async () => {
    const { data, binary } = await socket.next();
    assert.equal(binary, false, 'text was due');
    return data.toString();
  };
  socket.closed = once(socket, 'close').then(([code, reason]) => ({ code, reason: reason.toString() }));
  await within(once(socket, 'open'), 'open');
  return socket;
}

async function leave(...sockets) {
  for (const socket of sockets) {
    socket.close(1000);
    assert.equal((await within(socket.closed, 'close')).code, 1000);
  }
}

async function publish(channel, body, type) {
  const headers = type ? { 'content-type': type } : {};
  const reply = await fetch(`${admin}/publish/${channel}`, { method: 'POST', body, headers });
  assert.equal(reply.status, 200, await reply.text());
}

const cases = {
  async 'text and binary publications arrive as what they are'() {
    const socket = await join('/');
    await publish('lobby', 'déjà vu');
    assert.equal(await socket.nextText(), 'déjà vu');
    await publish('lobby', new Uint8Array([0, 255, 128]), 'application/octet-stream');
    const { data, binary } = await socket.next();
    assert.equal(binary, true);
    assert.deepEqual([...data], [0, 255, 128]);
    await leave(socket);
  },

  async 'what one client sends reaches the others and not itself'() {
    const [sender, other, third] = await Promise.all([join('/'), join('/'), join('/ws/lobby')]);
    sender.send('hi');
    sender.send(new Uint8Array([1, 2, 3]));
    for (const socket of [other, third]) {
      assert.equal(await socket.nextText(), 'hi');
      const { data, binary } = await socket.next();
      assert.equal(binary, true);
      assert.deepEqual([...data], [1, 2, 3]);
    }
    await publish('lobby', 'marker');
    assert.equal(await sender.nextText(), 'marker', 'the sender got its own message back');
    await leave(sender, other, third);
  },

  async 'fragments of one message arrive as one message'() {
    const [sender, other] = await Promise.all([join('/'), join('/')]);
    sender.send('one ', { fin: false });
    sender.send('two ', { fin: false });
    sender.send('three', { fin: true });
    assert.equal(await other.nextText(), 'one two three');
    await leave(sender, other);
  },

  async 'a ping is answered with its own payload, also between fragments'() {
    const socket = await join('/');
    const pong = once(socket, 'pong');
    socket.send('half', { fin: false });
    socket.ping('are you there');
    assert.equal((await within(pong, 'pong'))[0].toString(), 'are you there');
    socket.send('whole', { fin: true });
    await leave(socket);
  },

  async 'a close is answered with its code'() {
    for (const code of [1000, 1001, 3000, 4999]) {
      const socket = await join('/');
      socket.close(code, 'bye');
      assert.equal((await within(socket.closed, 'close')).code, code);
    }
    const socket = await join('/');
    socket.close();
    assert.ok([1000, 1005].includes((await within(socket.closed, 'close')).code));
  },

  async 'a client that may not send is told so'() {
    const socket = await join('/ws/news');
    socket.send('may I?');
    const { code, reason } = await within(socket.closed, 'close');
    assert.equal(code, 1008);
    assert.match(reason, /^policy\b/);
  },

  async 'a message above the limit ends with 1009'() {
    const socket = await join('/');
    socket.on('error', () => {});
    socket.send(text(64 * 1024 + 1));
    const { code, reason } = await within(socket.closed, 'close');
    assert.equal(code, 1009);
    assert.match(reason, /^msg_too_big\b/);
  },

  async 'a message at the limit passes'() {
    const [sender, other] = await Promise.all([join('/'), join('/')]);
    const longest = text(64 * 1024);
    sender.send(longest);
    assert.equal(await other.nextText(), longest);
    await leave(sender, other);
  },

  async 'several channels are joined at once, others stay out'() {
    const socket = await join('/ws?channels=a,b');
    await publish('c', 'not for us');
    await publish('a', 'from a');
    assert.equal(await socket.nextText(), 'from a');
    await publish('b', 'from b');
    assert.equal(await socket.nextText(), 'from b');
    await leave(socket);
  },

  async 'an unknown path is refused with 404, a bad name with 4xx'() {
    for (const [target, allowed] of [['/no/such/path', [404]], ['/ws/no%20such', [400, 404]], ['/ws/', [400, 404]]]) {
      const socket = new WebSocket(clients + target);
      socket.on('error', () => {});
      const [, response] = await within(once(socket, 'unexpected-response'), 'refusal');
      assert.ok(allowed.includes(response.statusCode), `${target}: ${response.statusCode}`);
      socket.terminate();
    }
  },

  async 'two hundred messages reach fifty clients in order'() {
    const sockets = await Promise.all(Array.from({ length: 50 }, () => join('/ws/order')));
    const batch = Array.from({ length: 200 }, (_, number) => ({ channel: 'order', data: String(number) }));
    const reply = await fetch(`${admin}/api/batch`, {
      method: 'POST', body: JSON.stringify(batch), headers: { 'content-type': 'application/json' },
    });
    assert.equal(reply.status, 200, await reply.text());
    for (const socket of sockets) {
      for (let number = 0; number < 200; number++) assert.equal(await socket.nextText(), String(number));
    }
    await leave(...sockets);
  },
};

for (const [name, run] of Object.entries(cases)) {
  try {
    await run();
    console.log(`ok: ${name}`);
  } catch (error) {
    console.error(`failed: ${name}\n${error.stack}`);
    process.exit(1);
  }
}
