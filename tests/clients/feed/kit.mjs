// What the scripts that follow feeds need: a gateway that can be stopped and started, a relay that can be cut, waiting.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import http from 'node:http';
import net from 'node:net';
import { createInterface } from 'node:readline';

export const patience = 30_000;

// Gateways end with this process, however it ends.
for (const signal of ['SIGTERM', 'SIGINT', 'SIGHUP']) process.once(signal, () => process.exit(130));

/** Waits until `condition` gives something, and gives that. */
export async function until(what, condition, ms = patience) {
  const end = Date.now() + ms;
  for (;;) {
    const value = await condition();
    if (value) return value;
    if (Date.now() > end) throw new Error(`${what}: not within ${ms} ms`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

/** A gateway of `binary` with `options`, on free ports. */
export async function startGateway(binary, options = []) {
  const child = spawn(binary, ['serve', '--listen', '127.0.0.1:0', '--admin-listen', '127.0.0.1:0', '--shards', '2', '--log-level',
    'warn', '--drain-grace', '0s', '--drain-spread', '0s', ...options], { stdio: ['ignore', 'pipe', 'inherit'] });
  const ended = new Promise((resolve) => child.once('exit', resolve));
  const kill = () => child.kill('SIGKILL');
  process.once('exit', kill);
  ended.then(() => process.off('exit', kill));
  const ports = {};
  for await (const line of createInterface({ input: child.stdout })) {
    const found = /^(clients|publish)\s.*?http:\/\/[^:]+:(\d+)/.exec(line);
    if (found) ports[found[1]] ??= Number(found[2]);
    if (line === 'ready') break;
  }
  assert.ok(ports.clients && ports.publish, 'the gateway did not start');
  const admin = `http://127.0.0.1:${ports.publish}`;
  return {
    port: ports.clients,
    admin,
    /** Ends it: with TERM after a drain. */
    async stop(signal = 'SIGKILL') {
      child.kill(signal);
      await ended;
    },
  };
}

const agent = new http.Agent({ keepAlive: true, maxSockets: 1 });

/** Publishes `body`, and gives the position. */
export const publish = async (admin, channel, body, { query = '', type = 'text/plain' } = {}) =>
  (await post(`${admin}/publish/${channel}${query}`, type, body)).position;

/** Publishes `texts`, one behind the other, and gives the positions. */
export async function publishBatch(admin, channel, texts) {
  const batch = texts.map((data) => ({ channel, data }));
  return (await post(`${admin}/api/batch`, 'application/json', JSON.stringify(batch))).results.map(({ position }) => position);
}

function post(url, type, body) {
  return new Promise((resolve, reject) => {
    const request = http.request(url, { agent, method: 'POST', headers: { 'content-type': type } });
    request.on('error', reject);
    request.on('response', (response) => {
      let text = '';
      response.setEncoding('utf8').on('data', (part) => { text += part; }).on('error', reject).on('end', () => {
        if (response.statusCode === 200) resolve(JSON.parse(text));
        else reject(new Error(`${response.statusCode} ${text}`));
      });
    });
    request.end(body);
  });
}

/** A TCP relay to the gateway at `port`, which may change; that of the relay stays. */
export async function startRelay(port) {
  const sockets = new Set();
  const relay = {
    /** Where it leads; 0: nowhere, connections are reset. */
    target: port,
    /** Whether requests for another protocol are answered with 403, as some proxies do. */
    refusesUpgrades: false,
    /** Whether what the gateway says gets lost here. */
    losesAnswers: false,
    accepted: 0,
    upgrades: 0,
    /** Resets connections: all of them, or each with this chance. */
    cut(share = 1) {
      for (const socket of sockets) if (Math.random() < share) socket.resetAndDestroy();
    },
    close() {
      server.close();
      relay.cut();
    },
  };
  const server = net.createServer((client) => {
    relay.accepted += 1;
    sockets.add(client);
    client.on('error', () => {});
    client.on('close', () => sockets.delete(client));
    if (relay.target === 0) return client.resetAndDestroy();
    client.once('data', (head) => {
      const isUpgrade = /^upgrade:/im.test(head.toString('latin1'));
      relay.upgrades += Number(isUpgrade);
      if (isUpgrade && relay.refusesUpgrades) {
        return client.end('HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n');
      }
      const server = net.connect(relay.target, '127.0.0.1');
      server.on('error', () => client.resetAndDestroy());
      client.on('close', () => server.destroy());
      server.on('close', () => client.destroy());
      server.write(head);
      client.pipe(server);
      server.on('data', (bytes) => { if (!relay.losesAnswers) client.write(bytes); });
    });
  });
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  relay.url = `http://127.0.0.1:${server.address().port}`;
  return relay;
}

/** A client with what it was told in a list, and short waits. */
export function listen(client) {
  const events = [];
  for (const name of ['open', 'close', 'subscribed', 'gap', 'skipped', 'conflated', 'expired', 'draining', 'error']) {
    client.on(name, (event) => events.push({ name, ...event }));
  }
  return { events, of: (name) => events.filter((event) => event.name === name) };
}

/** Runs `cases` by name; the first that fails ends the process with its reason. */
export async function runCases(cases, ...given) {
  for (const [name, run] of Object.entries(cases)) {
    try {
      await run(...given);
      console.log(`ok: ${name}`);
    } catch (error) {
      console.error(`failed: ${name}\n${error.stack}`);
      process.exit(1);
    }
  }
  process.exit(0);
}
