// Chromium on the demo page: node chromium.mjs SCENE BROWSER SHOTS_FOLDER http://CLIENTS http://ADMIN GATEWAY_PID
// Two windows are two contexts: they share nothing but the gateway. Screenshots show what a person would see.

import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { chromium } from 'playwright-core';

const [scene, executablePath, shots, clients, admin, gatewayId] = process.argv.slice(2);
const patience = 20_000;
const complaints = [];

/** A window on the demo page, once it says that it is connected; `settings` are those of its context. */
async function open(browser, query = '', viewport = { width: 900, height: 640 }, settings = {}) {
  const context = await browser.newContext({ viewport, ...settings });
  const page = await context.newPage();
  page.setDefaultTimeout(patience);
  page.on('pageerror', (error) => complaints.push(`error on the page: ${error}`));
  page.on('console', (line) => {
    if (['error', 'warning'].includes(line.type())) complaints.push(`${line.type()} on the console: ${line.text()}`);
  });
  page.on('request', (request) => {
    if (new URL(request.url()).origin !== clients) complaints.push(`a request elsewhere: ${request.url()}`);
  });
  await page.goto(`${clients}/${query}`);
  if (settings.javaScriptEnabled !== false) await stateIs(page, 'open');
  return page;
}

const stateIs = (page, state) => page.waitForFunction(
  (wanted) => document.querySelector('#state')?.textContent.trim().toLowerCase().startsWith(wanted), state);

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
  await rm(profile, { recursive: true, force: true });
}
