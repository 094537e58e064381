// Clients of clients/js follow a feed through cut connections and restarts of the gateway:
// node follow.mjs BINARY [--clients N] [--rate PER_SECOND] [--events N] [--restarts N] [--outages N] [--history N] [--processes N]
//   [--share OF_CLIENTS_BACK_BEFORE_THE_NEXT_CUT] [--tick MS_BETWEEN_PUBLISHES]
//
// Half of the clients have a WebSocket, half an event stream. Every event is one of: a cut of all connections or of some of them,
// an outage that outlasts the history, a restart (KILL, or TERM with its drain). The clients judge every message by its number and
// position; what they announce as a gap must be one, and what is missing must have been announced. Prints a summary line; exit
// code 0 if every client got everything else, once.

import assert from 'node:assert/strict';
import { fork } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { publishBatch, startGateway, until } from './kit.mjs';

const settings = { clients: 50, rate: 50, events: 20, restarts: 3, outages: 1, history: 1000, processes: 2, share: 0.5, tick: 20 };
const [binary, ...given] = process.argv.slice(2);
for (let index = 0; index < given.length; index += 2) {
  const name = given[index].replace(/^--/, '');
  if (!(name in settings)) throw new Error(`no such option: ${given[index]}`);
  settings[name] = Number(given[index + 1]);
}
const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
const say = (text) => process.stdout.write(`${text}\n`);
const options = ['--history-messages', `${settings.history}`, '--history-bytes', '64MiB', '--max-lag-bytes', '16MiB', '--max-lag-age', '60s',
  '--max-pending', '4096'];

let gateway = await startGateway(binary, options);
const workers = [];
for (let number = 0; number < settings.processes; number++) {
  const worker = fork(fileURLToPath(new URL('followers.mjs', import.meta.url)));
  const clients = Math.floor((settings.clients * (number + 1)) / settings.processes) - Math.floor((settings.clients * number) / settings.processes);
  workers.push({ worker, clients, state: {} });
  worker.on('message', (state) => { workers[number].state = state; });
  worker.on('exit', (code) => { workers[number].hasEnded = true; if (code !== 0) process.exitCode = 1; });
  worker.send({ target: gateway.port, clients, channel: 'feed', history: settings.history });
}
const total = (name) => workers.reduce((sum, { state }) => sum + (state[name] ?? 0), 0);
const order = (what) => { for (const { worker } of workers) worker.send(what); };
const reachGateway = (port) => order({ target: port });
const cut = (share) => order({ cut: share });
const check = () => {
  assert.ok(workers.every(({ hasEnded }) => !hasEnded), 'a process of clients ended');
  const faults = workers.flatMap(({ state }) => state.faults ?? []);
  assert.deepEqual(faults, [], 'what clients found wrong');
};
const follows = (share, what) => until(what, () => { check(); return total('live') >= share * settings.clients; }, 300_000);

// The feed. What is not acknowledged may have been published or not; its number is not used again.
const feed = { number: 0, taken: 0, isOver: false, begun: Date.now() };
const feeding = async () => {
  while (!feed.isOver) {
    await pause(settings.tick);
    // What is due goes at once. Behind time, as after a restart, it does not catch up but goes on.
    const most = Math.max(1, Math.ceil((settings.rate * settings.tick) / 500));
    const due = Math.floor(((Date.now() - feed.begun) * settings.rate) / 1000) - feed.number;
    if (due > most) feed.begun += ((due - most) * 1000) / settings.rate;
    const texts = Array.from({ length: Math.max(0, Math.min(due, most)) }, () => `${++feed.number}`);
    if (texts.length > 0) await publishBatch(gateway.admin, 'feed', texts).then(() => { feed.taken += texts.length; }, () => {});
  }
};

const begun = Date.now();
await follows(1, 'all clients');
feed.begun = Date.now();
const fed = feeding();
say(`follow: ${settings.clients} clients, ${settings.rate}/s, history ${settings.history}`);
/** Whether this event is one of so many of a kind. */
const isOneOf = (event, count, first) => count > 0 && event % Math.floor(settings.events / count) === first;
const counts = { cuts: 0, partial: 0, outages: 0, kills: 0, drains: 0 };
for (let event = 1; event <= settings.events; event++) {
  await pause(200 + Math.random() * 300);
  const everyoneAgain = () => {
    const before = total('subscribed');
    return () => until('all clients again', () => { check(); return total('subscribed') >= before + settings.clients; }, 300_000);
  };
  if (isOneOf(event, settings.restarts, 0)) {
    const again = everyoneAgain();
    const drains = (counts.kills + counts.drains) % 2 === 1;
    if (drains) await gateway.stop('SIGTERM');
    else {
      reachGateway(0);
      await gateway.stop('SIGKILL');
    }
    drains ? counts.drains += 1 : counts.kills += 1;
    gateway = await startGateway(binary, options);
    reachGateway(gateway.port);
    await again();
  } else if (isOneOf(event, settings.outages, 1)) {
    counts.outages += 1;
    const again = everyoneAgain();
    const before = feed.taken;
    reachGateway(0);
    cut(1);
    await until('more than the history keeps', () => feed.taken > before + settings.history + 10, 300_000);
    reachGateway(gateway.port);
    await again();
  } else if (Math.random() < 0.5) {
    counts.cuts += 1;
    cut(1);
  } else {
    counts.partial += 1;
    cut(0.3);
  }
  await pause(300);
  await follows(settings.share, `clients after event ${event}`);
  if (event % 10 === 0) say(`follow: ${event} of ${settings.events} in ${Math.round((Date.now() - begun) / 1000)} s, ${total('delivered')} delivered, ${total('gaps')} gaps, ${total('subscribed')} subscriptions`);
}
await follows(1, 'all clients in the end');
feed.isOver = true;
await fed;
const [last] = await publishBatch(gateway.admin, 'feed', ['end']);
order({ last });
await until('the last message at every client', () => { check(); return total('ended') === settings.clients; }, 300_000);
const seconds = Math.round((Date.now() - begun) / 1000);
say(`follow: passed: ${settings.clients} clients (${total('webSockets')} WebSockets, ${total('streams')} event streams) through ${counts.cuts} cuts of all, `
  + `${counts.partial} of some, ${counts.outages} outages beyond the history, ${counts.kills} kills, ${counts.drains} drains in ${seconds} s; `
  + `${total('subscribed')} subscriptions; ${feed.taken} messages, ${total('delivered')} delivered, ${total('replayed')} of them replayed; missing 0, twice 0, unannounced 0; `
  + `${total('gaps')} gaps announced (${total('restartGaps')} by restarts, ${total('lost')} messages beyond the history in the others)`);
for (const { worker } of workers) worker.disconnect();
await gateway.stop();
process.exit();
