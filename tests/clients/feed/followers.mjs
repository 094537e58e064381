// One process of clients for follow.mjs, behind a relay: each judges what it gets by itself.

import WebSocket from 'ws';
import { connect } from '../../../clients/js/tidegate.js';
import { startRelay } from './kit.mjs';

const state = { live: 0, subscribed: 0, delivered: 0, replayed: 0, gaps: 0, restartGaps: 0, lost: 0, ended: 0, webSockets: 0, streams: 0, faults: [] };
const clients = [];
const relay = await startRelay(0);
let last;

function fault(number, what, more) {
  if (state.faults.length < 5) state.faults.push(`client ${number}: ${what}: ${JSON.stringify(more)}`);
}

const split = (position) => {
  const [epoch, offset] = position.split('-');
  return [epoch, Number(offset)];
};

/** A client, and what it knows: its place, the newest number of the feed, and the gap that it was told of last. */
function follower(number, { url, channel, history }) {
  const transport = number % 2 === 0 ? 'websocket' : 'sse';
  state[transport === 'sse' ? 'streams' : 'webSockets'] += 1;
  const client = connect(url, { WebSocket, transports: [transport], backoffMs: 100, backoffMaxMs: 1000, connectTimeoutMs: 60_000 });
  const it = { isLive: false, epoch: undefined, offset: 0, feed: 0, gap: undefined, epochs: new Set() };
  client.on('subscribed', ({ position, recovered, replayed }) => {
    state.subscribed += 1;
    state.replayed += replayed ?? 0;
    it.isLive = true;
    const [epoch, offset] = split(position);
    if (it.epoch === undefined) [it.epoch, it.offset] = [epoch, offset];
    else if (recovered && (epoch !== it.epoch || offset !== it.offset)) fault(number, 'recovered elsewhere', { position, it });
    else if (!recovered && it.gap?.to !== position) fault(number, 'not told of a gap', { position, it });
  });
  client.on('close', ({ terminal, ...more }) => {
    it.isLive = false;
    if (terminal) fault(number, 'closed for good', more);
  });
  client.on('gap', (gap) => {
    state.gaps += 1;
    const [[fromEpoch, from], [toEpoch, to]] = [split(gap.from), split(gap.to)];
    if (fromEpoch !== it.epoch || from !== it.offset) fault(number, 'a gap from elsewhere', { gap, it });
    if (fromEpoch !== toEpoch) state.restartGaps += 1;
    else {
      state.lost += gap.count;
      if (gap.count !== to - from || gap.count <= history) fault(number, 'a gap inside the history', gap);
    }
    if (fromEpoch !== toEpoch && it.epochs.has(toEpoch)) fault(number, 'an epoch came again', gap);
    it.epochs.add(fromEpoch);
    [it.gap, it.epoch, it.offset] = [gap, toEpoch, to];
  });
  for (const name of ['skipped', 'conflated', 'expired', 'error']) client.on(name, (event) => fault(number, name, event));
  client.subscribe(channel, {}, ({ position, text }) => {
    state.delivered += 1;
    const [epoch, offset] = split(position);
    if (epoch !== it.epoch || offset !== it.offset + 1) fault(number, offset <= it.offset ? 'twice' : 'missing', { position, it });
    it.offset = offset;
    if (text !== 'end') {
      if (!(Number(text) > it.feed)) fault(number, 'the feed goes back', { text, it });
      it.feed = Number(text);
    }
    it.position = position;
  });
  return it;
}

process.on('message', (order) => {
  if (order.target !== undefined) relay.target = order.target;
  if (order.cut !== undefined) relay.cut(order.cut);
  last ??= order.last;
  for (let number = 0; number < (order.clients ?? 0); number++) clients.push(follower(number, { ...order, url: relay.url }));
});
process.on('disconnect', () => process.exit(0));
setInterval(() => {
  state.live = clients.filter(({ isLive }) => isLive).length;
  state.ended = last === undefined ? 0 : clients.filter(({ position }) => position === last).length;
  process.send(state);
}, 100);
