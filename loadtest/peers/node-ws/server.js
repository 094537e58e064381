// A broadcast server over `ws`: what one client sends goes to every other, text as text, binary as binary.
//
// A message becomes a frame once, for all (`Sender.frame`, which the library documents as public), and
// messages that were read in the same turn of the event loop leave in one write per client. `ws.send` of the
// same Buffer would make a header, two buffers and a `writev` for each client and message.
//
// With `deflate` behind the port it compresses every message for each client, as the library does by itself: what a
// client was sent before is its own (context takeover), so no frame can be shared.

import WebSocket, { Sender, WebSocketServer } from 'ws';

const port = Number(process.argv[2]);
if (!Number.isInteger(port)) {
  console.error('give the port to listen on');
  process.exit(64);
}

/// Bytes that a client may be behind before it is cut.
const UNSENT_BYTES_MAX = 64 * 1024 * 1024;
const TEXT = 1;
const BINARY = 2;

const deflates = process.argv[3] === 'deflate';

const clients = new Set();
/// What this turn has brought: who sent it, and its frame.
let turn = [];

function frameOf(data, isBinary) {
  const options = { fin: true, mask: false, opcode: isBinary ? BINARY : TEXT, readOnly: true, rsv1: false };
  return Buffer.concat(Sender.frame(data, options));
}

function relay(sender, data, isBinary) {
  if (deflates) {
    for (const client of clients) {
      if (client === sender || client.readyState !== WebSocket.OPEN) continue;
      client.send(data, { binary: isBinary });
      if (client.bufferedAmount > UNSENT_BYTES_MAX) client.terminate();
    }
    return;
  }
  if (turn.push({ sender, frame: frameOf(data, isBinary) }) === 1) {
    setImmediate(flush);
  }
}

function flush() {
  const messages = turn;
  turn = [];
  const all = messages.length === 1 ? messages[0].frame : Buffer.concat(messages.map((message) => message.frame));
  const senders = new Set(messages.map((message) => message.sender));
  for (const client of clients) {
    if (!senders.has(client)) {
      write(client, all);
    } else if (senders.size > 1) {
      write(client, Buffer.concat(messages.filter((message) => message.sender !== client).map((message) => message.frame)));
    }
  }
}

function write(client, bytes) {
  if (client.readyState !== WebSocket.OPEN) return;
  const socket = client._socket;
  if (!socket.write(bytes) && socket.writableLength > UNSENT_BYTES_MAX) client.terminate();
}

const server = new WebSocketServer({
  host: '127.0.0.1',
  port,
  backlog: 4096,
  clientTracking: false,
  perMessageDeflate: deflates && { threshold: 0 },
});
server.on('connection', (client) => {
  clients.add(client);
  client.on('message', (data, isBinary) => relay(client, data, isBinary));
  client.on('close', () => clients.delete(client));
  // A connection that breaks is closed; the others do not care why.
  client.on('error', () => client.terminate());
});
