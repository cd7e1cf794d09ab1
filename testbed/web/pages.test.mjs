// The pages in a real browser, by the numbers of the server that they read, and by axe. testbed/web/run runs it.
import assert from 'node:assert/strict';
import { existsSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';

const root = process.env.TAPLINE_ROOT;
const shots = process.env.TAPLINE_SHOTS;
const { serve } = await import(join(root, 'testbed/web/server.mjs'));
const units = await import(join(root, 'web/units.js'));
const { lighter } = await import(join(root, 'web/verdict.js'));

const chromium = ['/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome', '/usr/bin/chromium-headless-shell'].find(existsSync);
const driver = await import('playwright-core').catch(() => null);
const Axe = (await import('@axe-core/playwright').catch(() => null))?.default;
const lacks = !driver ? 'no playwright-core' : !chromium ? 'no Chromium' : false;

let browser;
before(async () => {
  // root has no sandbox of its own
  if (!lacks) browser = await driver.chromium.launch({ executablePath: chromium, args: process.getuid() === 0 ? ['--no-sandbox'] : [] });
});
after(() => browser?.close());

/** Opens a page on a server in a state; what it asks elsewhere, and every complaint, is a fault. */
async function open(state, { hash = '', width = 1440, scheme = 'light', interval = 100, role = 'admin' } = {}) {
  const server = await serve(0, state, { interval });
  server.broker.role = role;
  const context = await browser.newContext({ viewport: { width, height: width < 500 ? 844 : 1000 }, colorScheme: scheme, timezoneId: 'UTC' });
  const page = await context.newPage();
  const faults = [];
  let isQuiet = false;
  page.on('pageerror', error => faults.push(String(error.stack)));
  // a connection that ends is told by the browser, too
  page.on('console', message => { if (['error', 'warning'].includes(message.type()) && !isQuiet) faults.push(message.text()); });
  page.on('request', request => { if (!request.url().startsWith(server.url)) faults.push(`asks for ${request.url()}`); });
  await page.goto(`${server.url}/#/${hash}`);
  const close = async () => {
    await context.close();
    server.close();
    assert.deepEqual(faults, []);
  };
  return { page, server, close, quiet: () => { isQuiet = true; }, post: path => page.request.post(server.url + path, { data: {} }) };
}

test('numbers are short and true', () => {
  for (const [value, text] of [[0, '0'], [0.004, '<0.01'], [7, '7'], [53400, '53.4\u202fk'], [999.6, '1.00\u202fk'], [1274000, '1.27\u202fM'], [null, '–']]) assert.equal(units.short(value), text);
  assert.equal(units.exact(1034040782085), '1,034,040,782,085');
  assert.deepEqual([0, 0.0004, 0.18, 0.9996, 1].map(units.percent), ['0\u202f%', '<0.1\u202f%', '18\u202f%', '99\u202f%', '100\u202f%']);
  assert.deepEqual([41, 133, 900, 3700, 533520].map(units.duration), ['41 s', '2 min 13 s', '15 min', '1 h 1 min', '6 d 4 h']);
  assert.deepEqual([800, 88000, 18.2e6].map(units.time), ['800\u202fns', '88.0\u202fµs', '18.2\u202fms']);
});

test('weights that are proposed take from a member what it does not take', () => {
  assert.deepEqual(lighter({ a: 2048, b: 1024, c: 1024 }, 'b', 0.6), { a: 18, b: 5, c: 9 });
  assert.equal(lighter({ a: 4096 }, 'a', 0.5), null);
  assert.equal(lighter({ a: 1, b: 1 }, 'd', 0.5), null);
});

test('the account on the page is the one of the API at the same moment', { skip: lacks }, async () => {
  const { page, server, close } = await open('well', { interval: 1e6 });
  await page.waitForSelector('.account');
  const stats = await (await page.request.get(`${server.url}/api/v1/stats`)).json();
  const shown = await page.$$eval('.account .term', terms => terms.map(term => [term.querySelector('dt').textContent, Number(term.querySelector('dd').textContent.replaceAll(',', ''))]));
  const of = word => shown.find(([name]) => name.startsWith(word))?.[1];
  for (const word of ['received', 'delivered', 'duplicate', 'excluded', 'unmatched', 'failed']) assert.equal(of(word), stats.packets[word], word);
  assert.equal(of('requested'), stats.copies.requested);
  assert.equal(of('sent'), stats.copies.sent);
  await close();
});

test('rates on the page are those of two snapshots', { skip: lacks }, async () => {
  const { page, server, close } = await open('well', { interval: 1e6 });
  await page.waitForSelector('.account');
  const before = server.stats();
  server.broker.step += 3;
  const after = server.stats();
  // another stream brings the next snapshot
  await page.evaluate(() => document.querySelector('tl-app').live.open());
  const rate = units.short((after.tools.web.requested - before.tools.web.requested) / (after.uptime_s - before.uptime_s));
  await page.waitForFunction(rate => [...document.querySelectorAll('table[aria-label=Tools] tbody tr')].some(row => row.textContent.startsWith('web') && row.children[1].textContent === rate), rate);
  await close();
});

test('what is lost is said first: what, where, why and what to do', { skip: lacks }, async () => {
  const { page, close } = await open('incident');
  await page.waitForSelector('.causes article:nth-child(2)');
  assert.match(await page.textContent('h1'), /^Losing copies at ids-b and packets at span1$/);
  const causes = await page.textContent('.causes');
  for (const text of ['copies/s', 'ids-b', 'Congested: the tool is too slow.', 'group modify ids weights', 'span1', 'Missed by the NIC']) assert.ok(causes.includes(text), `${text}: ${causes}`);
  assert.match(await page.title(), /^Losing copies/);
  const box = await page.locator('.causes').boundingBox();
  assert.ok(box.y + box.height < 400, 'all of it is seen without scrolling');
  assert.equal(await page.textContent('table[aria-label=Tools] tbody tr:first-child th a'), 'ids-b', 'what loses stands first');
  assert.ok(await page.$('.picture .hurt .blunt'), 'the picture has it');
  await close();
});

test('each state is told apart', { skip: lacks }, async () => {
  for (const [state, head, mood] of [['well', /^All well$/, 'good'], ['empty', /^No packet yet$/, 'warn'], ['unbalanced', /^The account does not balance$/, 'bad'], ['down', /^Tool soc is down: link_down$/, 'warn']]) {
    const { page, close } = await open(state);
    await page.waitForFunction(text => document.querySelector('h1')?.textContent.match(text), head.source);
    assert.ok(await page.$(`.verdict.${mood}`), state);
    await close();
  }
});

test('a broker that ends, and the next one, are told; the numbers stay and are never shown as 0', { skip: lacks }, async () => {
  const { page, close, post, quiet, server } = await open('well');
  await page.waitForSelector('.verdict.good');
  quiet();
  await post('/fixture/end');
  await page.waitForSelector('.notice');
  assert.match(await page.textContent('.notice'), /The broker has ended\. The numbers below are of/);
  assert.ok(await page.$('.stale table[aria-label=Tools]'));
  assert.notEqual((await page.textContent('table[aria-label=Tools] tbody tr td')).trim(), '0');
  await post('/fixture/begin');
  await page.waitForSelector('.notice', { state: 'detached' });
  await page.waitForFunction(received => Number(document.querySelector('.account dd').textContent.replaceAll(',', '')) <= received, server.stats().packets.received * 2);
  await close();
});

test('a broker that says nothing counts as lost', { skip: lacks }, async () => {
  const { page, close, post } = await open('well');
  await page.waitForSelector('.verdict.good');
  await post('/fixture/silence');
  await page.waitForSelector('.notice', { timeout: 10000 });
  assert.match(await page.textContent('.notice'), /No connection to the broker\. no numbers come/);
  await close();
});

test('10,000 rules: the busiest are shown, and the search is the server\'s', { skip: lacks }, async () => {
  const { page, close } = await open('rules', { hash: 'rules' });
  await page.waitForFunction(() => document.querySelectorAll('table[aria-label=Rules] tbody tr').length === 50);
  assert.match(await page.textContent('section h2'), /50 busiest of 10,000/);
  await page.fill('input[type=search]', '9999');
  await page.waitForFunction(() => document.querySelectorAll('table[aria-label=Rules] tbody tr').length === 1);
  assert.equal(await page.inputValue('input[type=search]'), '9999', 'what is typed stays');
  await close();
});

test('a change that waits is confirmed by an operator, and only copied by a viewer', { skip: lacks }, async () => {
  const { page, server, close, post, quiet } = await open('well', { hash: 'reload' });
  await post('/fixture/confirm');
  await page.click('.confirm button.main');
  await page.waitForSelector('.confirm', { state: 'detached' });
  assert.deepEqual(server.broker.asked, [{ path: '/api/v1/confirm', body: { id: 14 } }]);
  // the browser tells of an answer that refuses
  quiet();
  await page.fill('form input[type=text]', '/etc/x.pipe');
  await page.click('form button[type=submit]');
  await page.waitForSelector('.answer.bad');
  assert.match(await page.textContent('.answer'), /x\.pipe:3:27: error/);
  await close();
  const viewer = await open('well', { hash: 'reload', role: 'viewer' });
  await viewer.post('/fixture/confirm');
  await viewer.page.waitForSelector('.confirm .command');
  assert.equal(await viewer.page.$('.confirm .main'), null);
  assert.equal(await viewer.page.$('form'), null);
  await viewer.close();
});

test('the keyboard reaches all, and focus stays while numbers change', { skip: lacks }, async () => {
  const { page, close } = await open('incident');
  await page.waitForSelector('.causes');
  await page.keyboard.press('Tab');
  assert.equal(await page.evaluate(() => document.activeElement.className), 'skip');
  await page.focus('table[aria-label=Tools] tbody tr th a');
  const focused = await page.evaluate(() => document.activeElement.textContent);
  await page.waitForTimeout(600);
  assert.equal(await page.evaluate(() => document.activeElement.textContent), focused);
  await page.keyboard.press('Enter');
  await page.waitForSelector('.crumb');
  assert.match(await page.textContent('h1'), /^ids-b loses/);
  await page.click('.units button:nth-child(2)');
  await page.click('nav[aria-label=Pages] a:nth-child(3)');
  await page.waitForFunction(() => document.querySelector('table[aria-label=Tools] thead').textContent.includes('sent bits/s'));
  await close();
});

test('a day of numbers takes no more memory than an hour', { skip: lacks }, async () => {
  const { page, close } = await open('well', { interval: 1e6 });
  await page.waitForSelector('.account');
  const session = await page.context().newCDPSession(page);
  const heap = async () => {
    await session.send('HeapProfiler.collectGarbage');
    return (await session.send('Runtime.getHeapUsage')).usedSize;
  };
  const live = seconds => page.evaluate(seconds => {
    const { live } = document.querySelector('tl-app');
    for (let second = 0; second < seconds; second++) {
      const next = structuredClone(live.stats);
      next.time++;
      next.uptime_s++;
      next.packets.received += 1000;
      live.take(next);
      live.note({ seq: second, time: next.time, level: 'info', text: `event ${second}` });
    }
  }, seconds);
  await live(3600);
  const hour = await heap();
  for (let part = 0; part < 23; part++) await live(3600);
  const day = await heap();
  assert.ok(day < hour * 1.1 + 1e6, `${hour} bytes after an hour, ${day} after a day`);
  await close();
});

const PAGES = [['well', ''], ['incident', ''], ['incident', 'tools/ids-b'], ['incident', 'ports/span1'], ['well', 'groups/ids'], ['well', 'rules'], ['well', 'rules/40'], ['well', 'reload'], ['well', 'events'], ['many', ''], ['empty', ''], ['unbalanced', ''], ['down', '']];
for (const [state, hash] of PAGES) {
  test(`${state} /${hash}: axe finds nothing, and nothing is wider than the screen`, { skip: lacks || (!Axe && 'no @axe-core/playwright') }, async () => {
    const { page, close } = await open(state, { hash });
    await page.waitForSelector('h1');
    await page.waitForFunction(() => !document.querySelector('.skeleton, .picture.loading'));
    for (const [width, scheme] of [[1440, 'light'], [1440, 'dark'], [390, 'light'], [390, 'dark']]) {
      await page.setViewportSize({ width, height: width < 500 ? 844 : 1000 });
      await page.emulateMedia({ colorScheme: scheme });
      await page.waitForTimeout(300);
      if (shots) {
        mkdirSync(shots, { recursive: true });
        await page.screenshot({ path: join(shots, `${state}-${hash.replaceAll('/', '-') || 'overview'}-${width}-${scheme}.png`), fullPage: true });
      }
      const { violations } = await new Axe({ page }).analyze();
      assert.deepEqual(violations.map(({ id, nodes }) => `${width} ${scheme} ${id}: ${nodes.map(node => node.html).slice(0, 3).join(' ')}`), []);
      const { wide, screen } = await page.evaluate(() => ({ wide: document.documentElement.scrollWidth, screen: document.documentElement.clientWidth }));
      assert.ok(wide <= screen, `${wide} pixels on ${screen}`);
    }
    await close();
  });
}
