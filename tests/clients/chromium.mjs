// Chromium on the demo page: node chromium.mjs SCENE BROWSER SHOTS_FOLDER http://CLIENTS http://ADMIN GATEWAY_PID BINARY
// Two windows are two contexts: they share nothing but the gateway. Screenshots show what a person would see.

import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { chromium } from 'playwright-core';
import * as kit from './feed/kit.mjs';

const [scene, executablePath, shots, clients, admin, gatewayId, binary] = process.argv.slice(2);
const patience = 20_000;
const complaints = [];

/** A window on the demo page, once it says that it is connected; `settings` are those of its context. */
async function open(browser, query = '', viewport = { width: 900, height: 640 }, settings = {}, origin = clients) {
  const context = await browser.newContext({ viewport, ...settings });
  const page = await context.newPage();
  page.setDefaultTimeout(patience);
  page.on('pageerror', (error) => complaints.push(`error on the page: ${error}`));
  page.on('console', (line) => {
    if (['error', 'warning'].includes(line.type())) complaints.push(`${line.type()} on the console: ${line.text()}`);
  });
  page.on('request', (request) => {
    if (new URL(request.url()).origin !== origin) complaints.push(`a request elsewhere: ${request.url()}`);
  });
  await page.goto(`${origin}/${query}`);
  if (settings.javaScriptEnabled !== false) await stateIs(page, 'open');
  return page;
}

const stateIs = (page, state) => page.waitForFunction(
  (wanted) => document.querySelector('#state')?.textContent.trim().toLowerCase().startsWith(wanted), state);

const own = { gateway: null, relay: null };

/** A gateway of this scene, behind a relay that the page is opened at. */
async function behindRelay() {
  own.gateway = await kit.startGateway(binary, ['--relay', '>', '--history-messages', '100', '--retain', 'latest-per-key']);
  own.relay = await kit.startRelay(own.gateway.port);
  return own.relay;
}

const texts = (page) => page.locator('#messages li').allTextContents();

/** Waits until a message in the list shows `text`, and gives its place. */
async function shows(page, text) {
  const message = page.locator('#messages li').filter({ hasText: text }).first();
  await message.waitFor({ state: 'visible' });
  return message;
}

const publish = async (channel, text) => {
  const { stdout } = await promisify(execFile)('curl',
    ['-sS', '--noproxy', '*', '--max-time', '15', '-d', text, `${admin}/publish/${channel}`]);
  assert.equal(JSON.parse(stdout).channel, channel, stdout);
};

const shot = (page, name) => page.screenshot({ path: join(shots, `${name}.png`) });

const scenes = {
  async chat(browser) {
    const [left, right] = [await open(browser), await open(browser)];
    await left.fill('#text', 'hello from the left');
    await left.click('#send');
    await shows(right, 'hello from the left');
    await right.fill('#text', 'and from the right');
    await right.press('#text', 'Enter');
    await shows(left, 'and from the right');
    assert.equal(await left.inputValue('#text'), '', 'a sent text leaves the field');
    await publish('lobby', 'hello from curl');
    for (const page of [left, right]) await shows(page, 'hello from curl');
    await shot(left, 'chat-left');
    await shot(right, 'chat-right');

    const markup = '<img src=x onerror="document.title=1"><b>bold</b>';
    await publish('lobby', markup);
    await shows(left, markup);
    assert.equal(await left.locator('#messages img, #messages b').count(), 0, 'messages are text, never markup');

    await left.fill('#text', '   ');
    await left.press('#text', 'Enter');
    await left.fill('#text', 'said after spaces');
    await left.press('#text', 'Enter');
    await shows(right, 'said after spaces');
    const texts = await right.locator('#messages li').allTextContents();
    assert.ok(texts.every((text) => text.trim() !== ''), `spaces alone are no message: ${texts}`);

    const other = await open(browser, '?channel=elsewhere', { width: 390, height: 780 });
    assert.match(await other.locator('#channel').evaluate((e) => e.value ?? e.textContent), /elsewhere/);
    await publish('elsewhere', 'only here');
    await shows(other, 'only here');
    await shot(other, 'narrow');
    await publish('lobby', 'marker');
    await shows(left, 'marker');
    assert.equal(await left.locator('#messages li').filter({ hasText: 'only here' }).count(), 0);
  },

  // What a page has to cope with, on the screens that it is looked at on.
  async looks(browser) {
    const hebrew = 'שלום לכולם, המחיר עלה ל־1.25';
    const long = 'a message that is long enough to fill the line to its end and to go on behind it, twice over. '.repeat(2);
    const name = 'a-channel-with-a-long-name.'.repeat(7).slice(0, 179) + 'z';
    for (const colorScheme of ['light', 'dark']) {
      for (const viewport of [{ width: 1280, height: 800 }, { width: 390, height: 844 }]) {
        const page = await open(browser, `?channel=${name}`, viewport, { colorScheme });
        assert.ok(await page.locator('#empty').isVisible(), 'an empty feed says that it is');
        for (const text of ['short', hebrew, long, `${hebrew} `.repeat(8)]) await publish(name, text);
        for (const text of ['short', hebrew, long.trim()]) await shows(page, text);
        await page.waitForFunction(() => document.querySelectorAll('#messages li').length === 4);
        const directions = await page.locator('#messages li')
          .evaluateAll((items) => items.map((item) => getComputedStyle(item).direction));
        assert.deepEqual(directions, ['ltr', 'rtl', 'ltr', 'rtl']);
        const [lines, title] = await page.locator('#channel').evaluate((heading) =>
          [heading.clientHeight / parseFloat(getComputedStyle(heading).lineHeight), heading.title]);
        assert.ok(lines < 2.2, `a long name takes ${lines} lines`);
        assert.equal(title, name);
        await shot(page, `looks-${colorScheme}-${viewport.width}`);
      }
    }
  },

  // Without JavaScript the page says nothing that only a script could make true. (What stands in `noscript` is not
  // rendered when scripts are switched off from outside.)
  async unscripted(browser) {
    const page = await open(browser, '', undefined, { javaScriptEnabled: false });
    await page.getByText('lobby', { exact: true }).waitFor({ state: 'visible' });
    for (const words of ['connecting', 'Nothing yet']) {
      assert.equal(await page.getByText(words).isVisible(), false, `${words} is shown`);
    }
    await shot(page, 'unscripted');
  },

  async feed(browser) {
    const page = await open(browser);
    const number = 40;
    for (let index = 0; index < number; index++) await publish('lobby', `tick ${index}.`);
    await shows(page, `tick ${number - 1}.`);
    const ticks = (await page.locator('#messages li').allInnerTexts())
      .map((text) => /tick (\d+)\./.exec(text)).filter(Boolean).map((match) => Number(match[1]));
    const ordered = [...ticks].sort((a, b) => a - b);
    assert.ok([ordered.join(), ordered.reverse().join()].includes(ticks.join()), `out of order: ${ticks}`);
    await shot(page, 'feed');
  },

  async drain(browser) {
    const page = await open(browser);
    const closed = stateIs(page, 'closed');
    process.kill(Number(gatewayId), 'SIGTERM');
    await closed;
    await shot(page, 'closed');
    // The page may try to connect again: the browser then complains that nobody is there, and rightly so.
    complaints.length = 0;
  },

  // The page through cuts and a restart: what was missed comes, or is said to be missing.
  async comeback(browser) {
    const relay = await behindRelay();
    const page = await open(browser, '', undefined, undefined, relay.url);
    const say = (text) => kit.publish(own.gateway.admin, 'lobby', text);
    await say('before the cut');
    await shows(page, 'before the cut');
    relay.cut();
    await say('during the cut');
    await shows(page, 'during the cut');
    assert.deepEqual(await texts(page), ['before the cut', 'Reconnected: 1 message came meanwhile', 'during the cut']);
    const position = await page.locator('#position').textContent();
    assert.match(position, /^at [0-9a-f]{16}-2$/);
    relay.target = 0;
    await own.gateway.stop();
    await stateIs(page, 'closed');
    await shot(page, 'comeback-closed');
    own.gateway = await kit.startGateway(binary, ['--relay', '>']);
    relay.target = own.gateway.port;
    await shows(page, 'a new numbering');
    await say('after the restart');
    await shows(page, 'after the restart');
    assert.equal(await page.locator('#messages li').count(), 5);
    await page.fill('#text', 'said from here');
    await page.press('#text', 'Enter');
    await shows(page, 'said from here');
    await page.waitForFunction((before) => document.querySelector('#position').textContent !== before, position);
    await shot(page, 'comeback');
    await page.emulateMedia({ colorScheme: 'dark' });
    await page.setViewportSize({ width: 390, height: 700 });
    await shot(page, 'comeback-dark-narrow');
    // The browser complains of every connection that is lost, and rightly so.
    complaints.length = 0;
  },

  // The page where no WebSocket gets through.
  async blocked(browser) {
    const relay = await behindRelay();
    relay.refusesUpgrades = true;
    const page = await open(browser, '', undefined, undefined, relay.url);
    await kit.publish(own.gateway.admin, 'lobby', 'over an event stream');
    await shows(page, 'over an event stream');
    assert.match(await page.locator('#detail').textContent(), /event stream/);
    assert.ok(await page.locator('#send').isDisabled());
    await shot(page, 'blocked');
    complaints.length = 0;
  },

  // The client in a browser, without the page.
  async client(browser) {
    const relay = await behindRelay();
    const page = await open(browser, '?channel=apart', undefined, undefined, relay.url);
    for (const [key, data] of [['a', 1], ['b', 2], ['a', 3]]) await kit.publish(own.gateway.admin, 'state', `${data}`, { query: `?key=${key}` });
    for (const transport of ['websocket', 'sse']) {
      const made = () => page.evaluate(async ([transport]) => {
        const { connect } = await import('/tidegate.js');
        const it = { got: [], gaps: [], subscribed: [] };
        globalThis.it = it;
        it.client = connect('/', { transports: [transport], backoffMs: 20 });
        it.client.on('gap', (gap) => it.gaps.push(gap));
        it.client.on('subscribed', (subscribed) => it.subscribed.push(subscribed));
        it.client.subscribe('state', { snapshot: true }, ({ key, data, snapshot }) => it.got.push([key, data, snapshot]));
        it.client.subscribe('bytes', {}, ({ kind, data }) => it.got.push([kind, ...data]));
      }, [transport]);
      const have = (number) => page.waitForFunction((number) => globalThis.it.got.length >= number, number);
      await made();
      await page.waitForFunction(() => globalThis.it.subscribed.length === 2);
      await have(2);
      await kit.publish(own.gateway.admin, 'bytes', new Uint8Array([0, 255]), { type: 'application/octet-stream' });
      await have(3);
      relay.cut();
      await kit.publish(own.gateway.admin, 'state', '3', { query: '?key=a' });
      await have(4);
      const { got, gaps } = await page.evaluate(() => ({ got: globalThis.it.got, gaps: globalThis.it.gaps }));
      assert.deepEqual(got.slice(0, 2).sort(), [['a', 3, true], ['b', 2, true]]);
      assert.deepEqual([got.slice(2), gaps], [[['binary', 0, 255], ['a', 3, false]], []]);
      if (transport === 'websocket') {
        const position = await page.evaluate(() => globalThis.it.client.publish('state', 3, { key: 'a' }));
        assert.match(position, /^[0-9a-f]{16}-\d+$/);
      }
      await page.evaluate(() => globalThis.it.client.close());
    }
    complaints.length = 0;
  },

  // What browsers have of themselves: it comes back with the id of the last event.
  async eventsource(browser) {
    const relay = await behindRelay();
    const page = await open(browser, '?channel=apart', undefined, undefined, relay.url);
    for (const target of ['/sse/feed', '/sse?channels=feed,other']) {
      await page.evaluate((target) => {
        const it = { got: [], opened: 0 };
        globalThis.it = it;
        it.source = new EventSource(target);
        it.source.onopen = () => { it.opened += 1; };
        it.source.onmessage = ({ data }) => it.got.push(data.startsWith('{') ? JSON.parse(data).data : Number(data));
      }, target);
      await page.waitForFunction(() => globalThis.it.opened === 1);
      let number = 0;
      for (let cut = 1; cut <= 2; cut++) {
        for (let index = 0; index < 3; index++) await kit.publish(own.gateway.admin, 'feed', String(++number));
        await page.waitForFunction((number) => globalThis.it.got.length === number, number);
        relay.cut();
        for (let index = 0; index < 3; index++) await kit.publish(own.gateway.admin, 'feed', String(++number));
        await page.waitForFunction((cut) => globalThis.it.opened === cut + 1, cut);
      }
      await page.waitForFunction((number) => globalThis.it.got.length >= number, number);
      const got = await page.evaluate(() => { globalThis.it.source.close(); return globalThis.it.got; });
      assert.deepEqual(got, Array.from({ length: number }, (_, index) => index + 1), target);
    }
    complaints.length = 0;
  },

  // A plain WebSocket of a page, where both sides compress: the page's own client speaks tidegate.v1, which is not compressed.
  async compressed(browser) {
    const page = await open(browser, '?channel=apart');
    const text = 'again and again '.repeat(200);
    await page.evaluate(() => {
      const it = { got: [], sockets: [1, 2].map(() => new WebSocket(`ws://${location.host}/ws/lobby`)) };
      globalThis.it = it;
      for (const socket of it.sockets) socket.onmessage = ({ data }) => it.got.push(data);
    });
    await page.waitForFunction(() => globalThis.it.sockets.every(({ readyState }) => readyState === WebSocket.OPEN));
    assert.match(await page.evaluate(() => globalThis.it.sockets[0].extensions), /permessage-deflate/);
    await page.evaluate((text) => globalThis.it.sockets[0].send(text), text);
    await page.waitForFunction(() => globalThis.it.got.length === 1);
    for (let number = 0; number < 3; number++) await publish('lobby', text);
    await page.waitForFunction(() => globalThis.it.got.length === 7);
    assert.ok((await page.evaluate(() => globalThis.it.got)).every((got) => got === text));
  },
};

const profile = await mkdtemp(join(tmpdir(), 'tidegate-chromium-'));
const browser = await chromium.launch({
  executablePath,
  args: ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
    '--disable-component-update', '--disable-sync', `--crash-dumps-dir=${profile}`],
});
try {
  await scenes[scene](browser);
  assert.deepEqual(complaints, [], 'the page works without a complaint');
  console.log(`ok: ${scene}`);
} catch (error) {
  console.error(`failed: ${scene}\n${error.stack}\n${complaints.join('\n')}`);
  process.exitCode = 1;
} finally {
  await browser.close();
  own.relay?.close();
  await own.gateway?.stop();
  await rm(profile, { recursive: true, force: true });
}
