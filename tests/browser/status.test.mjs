// The status page in a real browser: a link opens it once, it is live, and everybody can use it.
import test from 'node:test';
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { Device, Server, browser, folder, sqlite, until } from './lib.mjs';

const AXE = readFileSync(new URL('../node_modules/axe-core/axe.min.js', import.meta.url), 'utf8');

async function accessible(page) {
  await page.evaluate(AXE);
  const { violations } = await page.evaluate(() => axe.run());
  assert.deepEqual(violations.map(v => [v.id, v.nodes.map(n => n.html)]), []);
}

/** A server with a database, a device that administers it, and a browser. */
async function setting(t, options) {
  const path = folder(t);
  const server = await new Server(t, join(path, 'server')).start();
  const device = new Device(join(path, 'home'));
  device.run('join', server.invite('shop/*=admin'));
  const file = join(path, 'app.db');
  sqlite(file, 'CREATE TABLE orders(id TEXT PRIMARY KEY, v); INSERT INTO orders VALUES (1, 1)');
  device.run('track', file, 'orders', '--as', 'shop');
  device.run('sync', file);
  const page = await (await browser(t, join(path, 'profile'), options)).newPage();
  const errors = [];
  page.on('pageerror', error => errors.push(error.message));
  t.after(() => assert.deepEqual(errors, []));
  return { server, device, file, page };
}

test('a link opens the page once, which stays open and shows what happens', async t => {
  const { server, device, file, page } = await setting(t, {});
  const link = device.run('admin').trim();
  await page.goto(link);
  await page.getByText('Serving').waitFor();
  assert.equal(new URL(page.url()).hash, '', 'the secret is not in the address any more');
  const summary = page.locator('summary', { hasText: 'shop' });
  await summary.click();
  const row = page.getByRole('row', { name: /^orders/ });
  const before = await row.textContent();
  sqlite(file, 'INSERT INTO orders VALUES (2, 2)');
  device.run('sync', file);
  await until(() => row.textContent(), text => text !== before, 'one more segment');
  assert.ok(await page.locator('details[open]').count(), 'what was opened stays open');
  await page.reload();
  await page.getByText('Serving').waitFor();
  await accessible(page);

  await page.context().clearCookies();
  const other = await page.context().newPage();
  await other.goto(link);
  await other.getByText('has been opened before').waitFor();
  await accessible(other);
  await other.close();
  const fresh = device.run('admin').trim();
  await page.goto(fresh);
  await page.getByText('Serving').waitFor();
  await server.stop();
  await page.getByText('does not answer').waitFor();
  await server.start();
  await page.getByText('Serving').waitFor();
});

test('a small dark screen shows all of it, by keyboard as well', async t => {
  const { device, page } = await setting(t, { viewport: { width: 390, height: 844 }, colorScheme: 'dark' });
  await page.goto(device.run('admin').trim());
  await page.getByText('Serving').waitFor();
  await page.keyboard.press('Tab');
  await page.keyboard.press('Enter');
  await page.getByRole('row', { name: /^orders/ }).waitFor();
  const overflow = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
  assert.equal(overflow, 0, 'nothing is cut off at the side');
  await accessible(page);
});
