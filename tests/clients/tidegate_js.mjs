// The client of clients/js in Node: node tidegate_js.mjs http://CLIENTS http://ADMIN [GATEWAY_BINARY]
// With a binary, also what becomes of clients whose connections are cut and whose gateway is restarted: gateways of its own.

import assert from 'node:assert/strict';
import WebSocket from 'ws';
import { connect } from '../../clients/js/tidegate.js';
import { listen, publish, runCases, startGateway, startRelay, until } from './feed/kit.mjs';

const [clients, admin, binary] = process.argv.slice(2);
const quick = { WebSocket, backoffMs: 20, backoffMaxMs: 200 };

/** A client that follows `channel`, once it does. */
async function follow(url, channel, options = {}, subscribe = {}) {
  const client = connect(url, { ...quick, ...options });
  const { events, of } = listen(client);
  const got = [];
  const subscription = client.subscribe(channel, subscribe, (message) => got.push(message));
  await until('a subscription', () => of('subscribed').length > 0);
  return { client, events, of, got, subscription, texts: () => got.map(({ text }) => text) };
}

const count = (from, to) => Array.from({ length: to - from + 1 }, (_, index) => String(from + index));

const here = {
  async 'every payload arrives as what it is, over both transports'() {
    for (const transport of ['websocket', 'sse']) {
      const it = await follow(clients, 'payloads', { transports: [transport] });
      assert.equal(it.client.transport, transport);
      await publish(admin, 'payloads', '{"n": 1.10,\n"s":"é"}', { query: '?key=k' });
      await publish(admin, 'payloads', 'two\nlines');
      await publish(admin, 'payloads', new Uint8Array([0, 255]), { type: 'application/octet-stream' });
      await publish(admin, 'payloads', '', { query: '?key=k' });
      await until('four messages', () => it.got.length === 4);
      assert.deepEqual(it.got.map(({ kind, data, key }) => [kind, data, key]), [
        ['json', { n: 1.1, s: 'é' }, 'k'], ['text', 'two\nlines', undefined], ['binary', new Uint8Array([0, 255]), undefined],
        ['deleted', undefined, 'k'],
      ]);
      assert.equal(it.got[0].text, '{"n": 1.10,\n"s":"é"}');
      it.client.close();
    }
  },

  async 'many channels on one socket, each with its own position'() {
    const client = connect(clients, quick);
    const { of } = listen(client);
    const got = {};
    const channels = Array.from({ length: 128 }, (_, index) => `many.${index}`);
    for (const channel of channels) client.subscribe(channel, {}, ({ text }) => { got[channel] = text; });
    await until('128 subscriptions', () => of('subscribed').length === 128);
    await Promise.all(channels.map((channel) => publish(admin, channel, channel)));
    await until('a message each', () => Object.keys(got).length === 128);
    for (const channel of channels) assert.equal(got[channel], channel);
    client.subscribe('many.too', {}, () => {});
    await until('a refusal', () => of('error').length === 1);
    assert.equal(of('error')[0].error, 'channel_limit');
    assert.deepEqual(of('gap'), []);
    client.close();
  },

  async 'a publish is acknowledged with its position, and comes to the others alone'() {
    const [sender, other] = [await follow(clients, 'talk.a'), await follow(clients, 'talk.a')];
    const positions = [];
    for (let number = 1; number <= 20; number++) positions.push(await sender.client.publish('talk.a', { number }));
    await publish(admin, 'talk.a', 'end');
    await until('the end', () => sender.texts().includes('end') && other.texts().includes('end'));
    assert.deepEqual(sender.texts(), ['end']);
    assert.deepEqual(other.got.slice(0, -1).map(({ position, data }) => [position, data.number]), positions.map((position, index) => [position, index + 1]));
    assert.deepEqual([sender.of('gap'), other.of('gap')], [[], []]);
    await assert.rejects(sender.client.publish('elsewhere', 1), { token: 'not_allowed' });
    assert.equal(sender.client.state, 'open');
    sender.client.close();
    other.client.close();
  },

  async 'a snapshot comes first, then what changes, over both transports'() {
    for (const [key, data] of [['BTC', 1], ['ETH', 2], ['BTC', 3], ['XRP', 4]]) await publish(admin, 'state.x', `${data}`, { query: `?key=${key}` });
    await publish(admin, 'state.x', '', { query: '?key=XRP' });
    for (const transport of ['websocket', 'sse']) {
      const it = await follow(clients, 'state.x', { transports: [transport] }, { snapshot: true });
      await until('the snapshot', () => it.got.length === 2);
      await publish(admin, 'state.x', '2', { query: '?key=ETH' });
      await until('the change', () => it.got.some(({ snapshot }) => !snapshot));
      assert.deepEqual(it.got.filter(({ snapshot }) => snapshot).map(({ key, data }) => [key, data]).sort(), [['BTC', 3], ['ETH', 2]]);
      assert.deepEqual(it.got.filter(({ snapshot }) => !snapshot).map(({ key, data }) => [key, data]), [['ETH', 2]]);
      assert.deepEqual(it.of('gap'), []);
      it.client.close();
    }
  },

  async 'it goes on behind a position that another client left, over both transports'() {
    const first = await follow(clients, 'handed.on');
    for (const text of count(1, 3)) await publish(admin, 'handed.on', text);
    await until('three', () => first.got.length === 3);
    first.client.close();
    for (const transport of ['websocket', 'sse']) {
      const other = await follow(clients, 'handed.on', { transports: [transport] }, { since: first.got[0].position });
      await until('two', () => other.got.length === 2);
      assert.deepEqual(other.texts(), ['2', '3']);
      assert.deepEqual(other.of('subscribed').map(({ recovered, replayed }) => [recovered, replayed]), [[true, 2]]);
      const lost = await follow(clients, 'handed.on', { transports: [transport] }, { since: '0123456789abcdef-7' });
      assert.equal(lost.of('gap').length, 1);
      assert.deepEqual([lost.of('gap')[0].from, lost.of('gap')[0].count], ['0123456789abcdef-7', undefined]);
      other.client.close();
      lost.client.close();
    }
  },

  async 'it leaves a channel, and comes back to it'() {
    const it = await follow(clients, 'handed.left');
    await publish(admin, 'handed.left', 'heard');
    await until('it', () => it.got.length === 1);
    it.subscription.unsubscribe();
    await publish(admin, 'handed.left', 'unheard');
    it.client.subscribe('handed.left', { since: it.subscription.position }, ({ text }) => it.got.push({ text: `again ${text}` }));
    await until('the other', () => it.got.length === 2);
    assert.deepEqual(it.texts(), ['heard', 'again unheard']);
    it.client.close();
  },

  async 'what it may not say ends it for good'() {
    const it = await follow(clients, 'talk.b');
    await assert.rejects(it.client.publishText('talk.b', 'x'.repeat(70_000)), { token: 'unconfirmed' });
    await until('the close', () => it.client.state === 'closed');
    assert.deepEqual(it.of('close').map(({ code, terminal }) => [code, terminal]), [[1009, true]]);
  },
};

const apart = {
  async 'connections that are cut again and again miss nothing and get nothing twice, over both transports'() {
    const gateway = await startGateway(binary, ['--history-messages', '1000']);
    const relay = await startRelay(gateway.port);
    for (const transport of ['websocket', 'sse']) {
      const channel = `cut.${transport}`;
      const it = await follow(relay.url, channel, { transports: [transport], WebSocket });
      let number = 0;
      // A stream comes back when the gateway asks it to, seconds later.
      for (let cut = 1; cut <= (transport === 'sse' ? 3 : 10); cut++) {
        for (let index = 0; index < 5; index++) await publish(gateway.admin, channel, String(++number));
        relay.cut();
        await publish(gateway.admin, channel, String(++number));
        await until(`back after cut ${cut}`, () => it.of('subscribed').length > cut);
      }
      await until('the last', () => it.got.length >= number);
      assert.deepEqual(it.texts(), count(1, number));
      assert.deepEqual(it.of('gap'), []);
      assert.ok(it.of('subscribed').slice(1).every(({ recovered }) => recovered));
      it.client.close();
    }
    relay.close();
    await gateway.stop();
  },

  async 'publishes whose connections are cut, before they are taken or before the answer, are there once and in order'() {
    const gateway = await startGateway(binary, ['--relay', 'talk.>', '--client-rate', '0']);
    const relay = await startRelay(gateway.port);
    const reader = await follow(`http://127.0.0.1:${gateway.port}`, 'talk.cut');
    const sender = connect(relay.url, quick);
    const { of } = listen(sender);
    const published = [];
    for (let round = 1; round <= 10; round++) {
      await until('a connection', () => sender.state === 'open');
      relay.losesAnswers = round % 2 === 0;
      for (let index = 0; index < 5; index++) published.push(sender.publish('talk.cut', published.length));
      if (relay.losesAnswers) await until('all of them', () => reader.got.length === published.length);
      relay.cut();
      relay.losesAnswers = false;
      await until('the cut', () => of('close').length >= round);
    }
    const positions = await Promise.all(published);
    await until('the last', () => reader.got.length >= positions.length);
    assert.deepEqual(reader.got.map(({ position, data }) => [position, data]), positions.map((position, index) => [position, index]));
    const metrics = await (await fetch(`${gateway.admin}/metrics`)).text();
    assert.ok(Number(/^tidegate_idempotency_duplicates_total (\d+)/m.exec(metrics)[1]) >= 5, 'some answers were lost');
    sender.close();
    reader.client.close();
    relay.close();
    await gateway.stop();
  },

  async 'what the history does not have any more is a gap of as many messages'() {
    const gateway = await startGateway(binary, ['--history-messages', '5']);
    const relay = await startRelay(gateway.port);
    for (const transport of ['websocket', 'sse']) {
      const channel = `lost.${transport}`;
      const it = await follow(relay.url, channel, { transports: [transport], WebSocket });
      // Somebody stays, so that the numbering does.
      const other = await follow(`http://127.0.0.1:${gateway.port}`, channel);
      await publish(gateway.admin, channel, '1');
      await until('the first', () => it.got.length === 1);
      relay.target = 0;
      relay.cut();
      for (const text of count(2, 20)) await publish(gateway.admin, channel, text);
      relay.target = gateway.port;
      await until('the gap', () => it.of('gap').length === 1);
      await publish(gateway.admin, channel, '21');
      await until('the next, here and there', () => it.got.length === 2 && other.got.length === 21);
      assert.deepEqual(it.texts(), ['1', '21']);
      const [epoch] = it.got[0].position.split('-');
      assert.deepEqual(it.of('gap'), [{ name: 'gap', channel, from: `${epoch}-1`, to: `${epoch}-20`, count: 19 }]);
      assert.deepEqual(other.texts(), count(1, 21));
      other.client.close();
      it.client.close();
    }
    relay.close();
    await gateway.stop();
  },

  async 'a restarted gateway is a gap, and no message comes twice'() {
    for (const transport of ['websocket', 'sse']) {
      let gateway = await startGateway(binary, ['--history-messages', '1000']);
      const relay = await startRelay(gateway.port);
      const it = await follow(relay.url, 'again', { transports: [transport], WebSocket });
      let number = 0;
      for (const signal of ['SIGKILL', 'SIGTERM', 'SIGKILL']) {
        for (let index = 0; index < 5; index++) await publish(gateway.admin, 'again', String(++number));
        await until('five more', () => it.got.length === number);
        const gaps = it.of('gap').length;
        relay.target = 0;
        await gateway.stop(signal);
        gateway = await startGateway(binary, ['--history-messages', '1000']);
        relay.target = gateway.port;
        await until('the gap', () => it.of('gap').length === gaps + 1);
      }
      assert.deepEqual(it.texts(), count(1, 15));
      assert.ok(it.of('gap').every(({ count: many, from, to }) => many === undefined && from.split('-')[0] !== to.split('-')[0]));
      assert.equal(it.of('draining').length, 1);
      const [{ inMs }] = it.of('draining');
      const close = it.of('close').find(({ reason }) => reason.startsWith('draining'));
      assert.ok(close.code === 1012 && close.retryInMs >= inMs, JSON.stringify(close));
      it.client.close();
      relay.close();
      await gateway.stop();
    }
  },

  async 'where upgrades are refused, an event stream is followed instead'() {
    const gateway = await startGateway(binary, ['--history-messages', '100']);
    const relay = await startRelay(gateway.port);
    relay.refusesUpgrades = true;
    const it = await follow(relay.url, 'blocked');
    assert.deepEqual([it.client.transport, relay.upgrades], ['sse', 2]);
    await publish(gateway.admin, 'blocked', '1');
    await until('a message', () => it.got.length === 1);
    relay.cut();
    await publish(gateway.admin, 'blocked', '2');
    await until('another', () => it.got.length === 2);
    assert.deepEqual([it.texts(), it.of('gap'), relay.upgrades], [['1', '2'], [], 2]);
    await assert.rejects(it.client.publish('blocked', 1), { token: 'sse_only' });
    it.client.close();
    relay.close();
    await gateway.stop();
  },

  async 'a gateway that says nothing any more is noticed'() {
    const gateway = await startGateway(binary);
    const relay = await startRelay(gateway.port);
    const it = await follow(relay.url, 'quiet', { pingIntervalMs: 100, pingTimeoutMs: 6000 });
    // The second ping follows when the answer to the first was heard.
    await until('an answered ping', async () => {
      const metrics = await (await fetch(`${gateway.admin}/metrics`)).text();
      return Number(/^tidegate_commands_total(?:\{[^}]*\})? (\d+)/m.exec(metrics)?.[1]) >= 3;
    });
    assert.deepEqual(it.of('close'), []);
    const other = await follow(relay.url, 'quiet', { pingIntervalMs: 100, pingTimeoutMs: 100 });
    const before = other.of('close').length;
    relay.losesAnswers = true;
    await until('the end', () => other.of('close').slice(before).some(({ code, reason }) => code === 1006 && reason === 'silent'));
    other.client.close();
    it.client.close();
    relay.close();
    await gateway.stop();
  },
};

await runCases(binary ? { ...here, ...apart } : here);
