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
  const side = name => page.locator(`section[data-name=${name}]`);
  return { server, context, page, errors, phone: side('board'), laptop: side('board-laptop') };
}

const add = async (side, title) => {
  await side.getByLabel('New card').fill(title);
  await side.getByRole('button', { name: 'Add' }).click();
};
const titles = side => side.locator('.card .title').evaluateAll(fields => fields.map(field => field.value));
const state = side => side.locator('.words').textContent();
const has = (side, wanted) => until(() => titles(side), found => JSON.stringify(found) === JSON.stringify(wanted), `cards ${wanted}`);
const level = side => until(() => state(side), text => text.startsWith('Level'), 'level');

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
  await until(() => state(laptop), text => text.startsWith('Offline'));
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
  await until(() => state(laptop), text => text === 'Offline · 4 changes waiting', 'what waits is told');
  await page.screenshot({ path: join(SCREENS, 'offline.png') });
  await laptop.getByRole('switch').click();
  await level(laptop);
  await until(() => titles(phone), found => found.includes('Buy whole milk'), 'the later title');
  for (const side of [phone, laptop]) {
    await until(() => titles(side), found => found.length === 2, 'one of two equal titles is held');
    const card = side.locator('.card').filter({ has: side.page().getByRole('button', { name: 'History of Buy whole milk' }) });
    await until(() => card.getByLabel('Note').inputValue(), text => text === 'two bottles', 'the note');
    assert.equal(await card.getByLabel('Status').inputValue(), 'doing');
    await until(() => card.locator('.votes').textContent(), text => text === '▲ 2', 'both votes');
    await side.getByText('was written on both sides').waitFor();
    await side.getByText('is held back').waitFor();
  }
  await page.screenshot({ path: join(SCREENS, 'inbox.png'), fullPage: true });
  await accessible(page);
  await phone.getByRole('button', { name: /Take “Buy oat milk”/ }).click();
  await until(() => titles(laptop), found => found.includes('Buy oat milk'), 'the choice at the other side');
  await phone.getByRole('button', { name: 'Rename it' }).click();
  await until(() => titles(laptop), found => found.length === 3, 'the held card returns');
  await until(() => laptop.locator('.inbox').isHidden(), hidden => hidden, 'an empty inbox');
  assert.equal(sqlite(join(server.data, 'board.db'), 'SELECT count(*) FROM cards'), '3');
  const dialog = page.getByRole('dialog', { name: /History/ });
  await until(async () => {
    await page.keyboard.press('Escape');
    await phone.getByRole('button', { name: 'History of Buy oat milk' }).click();
    await dialog.waitFor();
    return dialog.textContent();
  }, text => /Phone made the card.*server's log, proven.*Laptop edited/s.test(text) && !/not in the server's log/.test(text), 'proven history');
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
  await until(() => state(phone), text => text === 'Server not reachable, trying again · 1 change waiting', 'the state');
  await server.start();
  await has(laptop, ['Written without a server']);
});

test('a story shows it all by itself', async t => {
  const { page, errors, phone, laptop } = await board(t, { reducedMotion: 'reduce' });
  await page.getByRole('button', { name: 'Show me' }).click();
  await page.getByText('Nothing is lost.').waitFor();
  await has(phone, ['Picnic by the lake', 'Lemonade']);
  for (const side of [phone, laptop]) {
    await until(() => side.locator('.note').first().inputValue(), text => text === 'Ask Ada! Bread. Cheese.', 'the merged note');
    await side.getByRole('heading', { name: 'Inbox: 2 to decide' }).waitFor();
  }
  await page.screenshot({ path: join(SCREENS, 'story.png'), fullPage: true });
  await accessible(page);
  // Once more, beside the cards that are there.
  await page.getByRole('button', { name: 'Show me' }).click();
  await until(() => titles(laptop), found => found.includes('Picnic 2 by the lake'), 'another picnic');
  await page.getByText('Nothing is lost.').waitFor();
  assert.deepEqual(errors, []);
});

test('“Show me” says why it waits: for invites, and for a server that is gone', async t => {
  const { server, page, phone } = await board(t);
  await level(phone);
  const button = page.getByRole('button', { name: 'Show me' }), why = page.locator('#why');
  await until(() => button.isEnabled(), enabled => enabled, 'it can be pressed');
  assert.equal(await why.textContent(), '');
  await server.stop();
  await page.getByText('The server does not answer. It goes on when the server is back.').waitFor();
  assert.equal(await button.isEnabled(), false);
  await page.screenshot({ path: join(SCREENS, 'server-gone.png') });
  await accessible(page);
  await server.start();
  await until(() => button.isEnabled(), enabled => enabled, 'the server is back');
  await button.click();
  await page.getByText('A card is made on the phone').waitFor();
  await server.stop();
  await page.getByText('The story ended early: the server does not answer').waitFor();
});

test('an opened log stays on its device, and the story ends where its outcome is seen', async t => {
  for (const viewport of [{ width: 1180, height: 900 }, { width: 390, height: 844 }]) {
    const { page, phone, laptop } = await board(t, { viewport, reducedMotion: 'reduce' });
    await level(phone);
    const isPhone = viewport.width < 400;
    if (isPhone) {
      const pressed = name => page.getByRole('button', { name, exact: true }).getAttribute('aria-pressed');
      await until(async () => [await pressed('Phone'), await pressed('Laptop')].join(), found => found === 'true,false', 'which device shows is marked');
    }
    await page.getByRole('button', { name: 'Show me' }).click();
    await page.getByText('Nothing is lost.').waitFor();
    await phone.getByRole('heading', { name: 'Inbox: 2 to decide' }).waitFor();
    const inView = locator => until(() => locator.evaluate(element => { const { top, bottom } = element.getBoundingClientRect(); return top >= 0 && bottom <= innerHeight; }), seen => seen, `${locator} is in view`);
    for (const locator of [page.locator('#told'), phone.locator('.inbox > h3')]) await inView(locator);
    await page.screenshot({ path: join(SCREENS, `story-ends-${viewport.width}.png`) });
    await phone.locator('.log summary').click();
    await phone.locator('.log pre').waitFor();
    const [log, card, other] = await Promise.all([phone.locator('.log'), phone.locator('.card').first(), laptop].map(one => one.boundingBox()));
    assert.ok(log.x + log.width <= other.x && card.x + card.width <= other.x, JSON.stringify([log, card, other]));
    assert.equal(await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth), 0);
    await page.screenshot({ path: join(SCREENS, `log-${viewport.width}.png`), fullPage: true });
    await page.context().close();
  }
});

test('two people type into one note at the same time and every character arrives, in both', async t => {
  const { server, context, phone } = await board(t);
  await level(phone);
  await add(phone, 'Shared');
  // The other has a page of its own: a page has one keyboard.
  const other = await context.newPage();
  await other.goto(server.url);
  const laptop = other.locator('section[data-name=board-laptop]');
  await has(laptop, ['Shared']);
  const [here, there] = [phone, laptop].map(side => side.getByLabel('Note'));
  await here.fill('middle');
  await until(() => there.inputValue(), text => text === 'middle', 'the first text');
  await there.press('Home');
  await Promise.all([here.press('End').then(() => here.pressSequentially(' and the end')), there.pressSequentially('the start, ')]);
  for (const note of [here, there]) await until(() => note.inputValue(), text => text === 'the start, middle and the end', 'both texts');
});

test('a deleted card that was edited elsewhere stays; mistakes are told and change nothing', async t => {
  const { phone, laptop } = await board(t);
  await level(phone);
  await add(phone, 'Kept');
  await add(phone, 'Gone');
  await has(laptop, ['Kept', 'Gone']);
  await laptop.getByRole('switch').click();
  await until(() => state(laptop), text => text.startsWith('Offline'), 'offline');
  await laptop.getByRole('button', { name: 'Delete Kept' }).click();
  await laptop.getByRole('button', { name: 'Delete Gone' }).click();
  await has(laptop, []);
  await phone.getByLabel('Status').first().selectOption('done');
  await laptop.getByRole('switch').click();
  for (const side of [phone, laptop]) await has(side, ['Kept']);
  await add(phone, 'Kept');
  await phone.getByText('There is a card with this title already.').waitFor();
  assert.equal(await phone.getByLabel('New card').inputValue(), 'Kept', 'what was typed comes back');
  await phone.getByLabel('Title').fill('');
  await phone.getByLabel('Title').press('Enter');
  await has(phone, ['Kept']);
});

test('a second tab shows the same board and goes on when the first is closed', async t => {
  const { server, context, page, phone } = await board(t);
  await level(phone);
  await add(phone, 'From the first tab');
  const second = await context.newPage();
  await second.goto(server.url);
  await second.waitForSelector('body[data-ready]');
  const side = second.locator('section[data-name=board]');
  await has(side, ['From the first tab']);
  await add(side, 'From the second tab');
  await has(phone, ['From the first tab', 'From the second tab']);
  await page.close();
  await add(side, 'After the first was closed');
  await level(side);
  await until(() => sqlite(join(server.data, 'board.db'), 'SELECT count(*) FROM cards'), count => count === '3', 'the card at the server');
});

test('without an invite the page explains how to join; a wrong one is told', async t => {
  const dir = folder(t);
  const server = await new Server(t, join(dir, 'server')).start();
  const context = await browser(t, join(dir, 'profile'), { viewport: { width: 1180, height: 900 }, bypassCSP: true });
  const page = await context.newPage();
  await page.goto(server.url);
  await page.waitForSelector('body[data-ready]');
  const phone = page.locator('section[data-name=board]');
  await accessible(page);
  await add(phone, 'Before joining');
  await has(phone, ['Before joining']);
  await phone.getByLabel('Invite').fill('piecewise1-nonsense');
  await phone.getByRole('button', { name: 'Join', exact: true }).click();
  await phone.getByText('This invite is damaged').waitFor();
  await phone.getByLabel('Invite').fill(server.invite('board/*=admin'));
  await phone.getByRole('button', { name: 'Join', exact: true }).click();
  await phone.getByText('Server\'s log verified').waitFor();
  const sent = async () => { const [table] = (await boards.board.status()).tables; return table?.segments > 1 && table.segmentsWaiting === 0; };
  await until(() => page.evaluate(sent), done => done, 'the card sent');
  assert.equal(sqlite(join(server.data, 'board.db'), 'SELECT title FROM cards'), 'Before joining');
});

test('a small dark screen shows all of it, and the keyboard reaches everything', async t => {
  const { page, phone } = await board(t, { viewport: { width: 390, height: 844 }, colorScheme: 'dark' });
  await phone.getByLabel('New card').focus();
  await page.keyboard.type('By keyboard');
  await page.keyboard.press('Enter');
  await has(phone, ['By keyboard']);
  // From the field over its button to the card, and through it: everything in its order, and it can be used.
  const reached = [];
  for (let n = 0; n < 7; n++) {
    await page.keyboard.press('Tab');
    reached.push(await page.evaluate(() => document.activeElement.className || document.activeElement.textContent));
  }
  assert.deepEqual(reached, ['Add', 'title', 'note', 'status', 'votes', 'history quiet', 'delete quiet']);
  await phone.locator('.votes').focus();
  await page.keyboard.press('Space');
  await until(() => phone.locator('.votes').textContent(), text => text === '▲ 1', 'a vote');
  await phone.getByLabel('Status').focus();
  await page.keyboard.press('d');
  await phone.getByRole('heading', { name: 'Doing' }).waitFor();
  assert.equal(await page.evaluate(() => document.activeElement.className), 'status', 'the keyboard stays with the card that moved');
  await page.getByRole('button', { name: 'Laptop' }).click();
  await until(() => page.getByRole('button', { name: 'Laptop' }).getAttribute('aria-pressed'), pressed => pressed === 'true', 'the other device');
  await page.getByRole('button', { name: 'Phone' }).click();
  await until(() => page.getByRole('button', { name: 'Phone' }).getAttribute('aria-pressed'), pressed => pressed === 'true', 'the first device again');
  const overflow = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
  assert.equal(overflow, 0, 'nothing is cut off at the side');
  await accessible(page);
  await page.screenshot({ path: join(SCREENS, 'phone-dark.png') });
});
