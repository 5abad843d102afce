// The demo page in a real browser: the story that people are told, and that everybody can use it.
import assert from 'node:assert/strict';
import { mkdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'node:test';
import { fileURLToPath } from 'node:url';
import { Server, browser, folder, sqlite, until } from './lib.mjs';

const SCREENS = fileURLToPath(new URL('../../target/screens/', import.meta.url));
const AXE = readFileSync(fileURLToPath(new URL('../node_modules/axe-core/axe.min.js', import.meta.url)), 'utf8');
mkdirSync(SCREENS, { recursive: true });

/** The page with both replicas joined. */
async function board(t, options) {
  const dir = folder(t);
  const server = await new Server(t, join(dir, 'server')).start();
  const invites = [0, 1].map(() => server.invite('board/*=admin')).join(',');
  const context = await browser(t, join(dir, 'profile'), { viewport: { width: 1180, height: 900 }, bypassCSP: true, ...options });
  const page = await context.newPage();
  const errors = [];
  page.on('pageerror', error => errors.push(error.message));
  await page.goto(`${server.url}/#invites=${invites}`);
  await page.waitForSelector('body[data-ready]');
  const side = name => page.locator(`[data-name=${name}]`);
  return { server, context, page, errors, phone: side('board'), laptop: side('board-laptop') };
}

const add = async (side, title) => {
  await side.getByLabel('New card').fill(title);
  await side.getByRole('button', { name: 'Add' }).click();
};
const titles = side => side.locator('.card .title').evaluateAll(fields => fields.map(field => field.value));
const has = (side, wanted) => until(() => titles(side), found => JSON.stringify(found) === JSON.stringify(wanted), `cards ${wanted}`);
const level = side => until(() => side.locator('.state').textContent(), text => text.startsWith('Level'), 'level');

async function accessible(page) {
  await page.evaluate(AXE);
  const { violations } = await page.evaluate(() => axe.run());
  assert.deepEqual(violations.filter(v => ['serious', 'critical'].includes(v.impact)).map(v => [v.id, v.nodes.map(n => n.html)]), []);
}

test('both sides edit offline; what merges, is in conflict or held shows, and the inbox ends it', async t => {
  const { server, page, errors, phone, laptop } = await board(t);
  await level(phone);
  await add(phone, 'Buy milk');
  await has(laptop, ['Buy milk']);
  await laptop.getByRole('switch').click();
  await until(() => laptop.locator('.state').textContent(), text => text.startsWith('Offline'));
  await phone.locator('.title').fill('Buy oat milk');
  await phone.locator('.title').press('Tab');
  await laptop.locator('.title').fill('Buy whole milk');
  await laptop.locator('.title').press('Tab');
  await phone.getByLabel('Note').fill('two bottles');
  await laptop.getByLabel('Status').selectOption('doing');
  await phone.locator('.votes').click();
  await laptop.locator('.votes').click();
  await add(phone, 'Plan a trip');
  await add(laptop, 'Plan a trip');
  await until(() => laptop.locator('.state').textContent(), text => /changes waiting/.test(text), 'what waits is told');
  await page.screenshot({ path: join(SCREENS, 'offline.png') });
  await laptop.getByRole('switch').click();
  await level(laptop);
  await until(() => titles(phone), found => found.includes('Buy whole milk'), 'the later title');
  for (const side of [phone, laptop]) {
    await until(() => titles(side), found => found.length === 2, 'one of two equal titles is held');
    assert.equal(await side.locator('.card').first().getByLabel('Note').inputValue(), 'two bottles');
    assert.equal(await side.locator('.card').first().getByLabel('Status').inputValue(), 'doing');
    await until(() => side.locator('.votes').first().textContent(), text => text === '▲ 2', 'both votes');
    await side.getByText('was written on both sides').waitFor();
    await side.getByText('is held').waitFor();
  }
  await page.screenshot({ path: join(SCREENS, 'inbox.png'), fullPage: true });
  await accessible(page);
  await phone.getByRole('button', { name: /Take “Buy oat milk”/ }).click();
  await until(() => titles(laptop), found => found.includes('Buy oat milk'), 'the choice at the other side');
  await phone.getByRole('button', { name: 'Rename it' }).click();
  await until(() => titles(laptop), found => found.length === 3, 'the held card returns');
  await until(() => laptop.locator('.inbox').isHidden(), hidden => hidden, 'an empty inbox');
  assert.equal(sqlite(join(server.data, 'board.db'), 'SELECT count(*) FROM cards'), '3');
  const dialog = page.getByRole('dialog', { name: 'History' });
  await until(async () => {
    await page.keyboard.press('Escape');
    await phone.getByRole('button', { name: 'History of Buy oat milk' }).click();
    await dialog.waitFor();
    return dialog.textContent();
  }, text => /insert by Phone.*log entry \d+, proven.*edit by Laptop/s.test(text) && !/not in the log/.test(text), 'proven history');
  await page.screenshot({ path: join(SCREENS, 'history.png') });
  await accessible(page);
  await dialog.getByRole('button', { name: 'Close' }).click();
  assert.deepEqual(errors, []);
});

test('after the first load the page works with the server gone, and catches up when it is back', async t => {
  const { server, page, phone, laptop } = await board(t);
  await level(phone);
  await page.evaluate(() => navigator.serviceWorker.ready);
  await page.reload();
  await page.waitForSelector('body[data-ready]');
  await server.stop();
  await page.reload();
  await page.waitForSelector('body[data-ready]');
  await add(phone, 'Written without a server');
  await until(() => phone.locator('.state').textContent(), text => /not reachable.*changes waiting/.test(text), 'the state');
  await server.start();
  await has(laptop, ['Written without a server']);
});

test('a small dark screen shows all of it, and the keyboard reaches everything', async t => {
  const { page, phone } = await board(t, { viewport: { width: 390, height: 844 }, colorScheme: 'dark' });
  await phone.getByLabel('New card').focus();
  await page.keyboard.type('By keyboard');
  await page.keyboard.press('Enter');
  await has(phone, ['By keyboard']);
  await page.keyboard.press('Tab'); // to the button, then to the card
  await page.keyboard.press('Tab');
  assert.equal(await page.evaluate(() => document.activeElement.className), 'title');
  const overflow = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
  assert.equal(overflow, 0, 'nothing is cut off at the side');
  await accessible(page);
  await page.screenshot({ path: join(SCREENS, 'phone-dark.png') });
});
