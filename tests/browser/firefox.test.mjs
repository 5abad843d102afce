// The same in Firefox: the package with its storage and tabs, and the demo page.
import assert from 'node:assert/strict';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'node:test';
import { fileURLToPath } from 'node:url';
import { WebSocket } from 'ws';
import { firefox } from './firefox.mjs';
import { ALL, Server, TODOS, folder, sqlite, until } from './lib.mjs';

globalThis.WebSocket ??= WebSocket;
const { open } = await import('../../wasm/npm/node.js');
const SCREENS = fileURLToPath(new URL('../../target/screens/', import.meta.url));

const load = page => page.evaluate(async () => { window.piecewise = await import('/piecewise/index.js'); window.db = await piecewise.open('app', { persist: false }); });
const query = (page, sql) => page.evaluate(sql => db.query(sql), sql);
const run = (page, sql) => page.evaluate(sql => db.run(sql), sql);

test('Firefox and Node edit offline and converge; a killed Firefox keeps what was written; another tab takes over', async t => {
  const dir = folder(t);
  const server = await new Server(t, join(dir, 'server')).start();
  const profile = join(dir, 'profile');
  mkdirSync(profile);
  let browser = await firefox(t, profile);
  let page = await browser.open(`${server.url}/icon.svg`);
  await load(page);
  await page.evaluate(async (invite, schema) => {
    await db.join(invite, { database: 'app' });
    await db.exec(schema);
    await db.track('todos', { text: ['note'], counter: ['votes'] });
    await db.run("INSERT INTO todos VALUES ('a', 'Buy milk', 'two bottles', 0)");
    await db.level();
    await db.disconnect();
  }, server.invite('app/*=admin'), TODOS);
  const node = await open('n', { memory: true });
  t.after(() => node.close());
  await node.join(server.invite('app/*=admin'), { database: 'app' });
  await node.level();
  await node.run("UPDATE todos SET note = 'two big bottles', votes = votes + 1");
  await run(page, "UPDATE todos SET note = 'two bottles, please', votes = votes + 2");
  await browser.kill();

  browser = await firefox(t, profile);
  page = await browser.open(`${server.url}/icon.svg`);
  await load(page);
  const second = await browser.open(`${server.url}/icon.svg`);
  await load(second);
  await second.evaluate(async () => { await db.connect(); await db.level(); });
  await node.level();
  const wanted = [{ id: 'a', title: 'Buy milk', note: 'two big bottles, please', votes: 3 }];
  const is = found => JSON.stringify(found) === JSON.stringify(wanted);
  await until(() => query(page, ALL), is, 'the owner');
  await until(() => query(second, ALL), is, 'the other tab');
  await until(() => node.query(ALL), is, 'Node');
  await page.close();
  await run(second, "INSERT INTO todos(id, title) VALUES ('b', 'after the owner went')");
  await second.evaluate(() => db.level());
  assert.equal(sqlite(join(server.data, 'app.db'), 'SELECT count(*) FROM todos'), '2');
});

test('the demo page tells its story in Firefox', async t => {
  const dir = folder(t);
  const server = await new Server(t, join(dir, 'server')).start();
  const profile = join(dir, 'profile');
  mkdirSync(profile);
  writeFileSync(join(profile, 'user.js'), 'user_pref("ui.prefersReducedMotion", 1);');
  const browser = await firefox(t, profile);
  const page = await browser.open(`${server.url}/#invites=${[0, 1].map(() => server.invite('board/*=admin'))}`);
  await until(() => page.evaluate(() => document.getElementById('show').disabled), disabled => disabled === false, 'both joined');
  await page.evaluate(() => document.getElementById('show').click());
  await until(() => page.evaluate(() => document.getElementById('told').textContent), text => text.endsWith('Nothing is lost.'), 'the story');
  const seen = () => page.evaluate(() => [...document.querySelectorAll('.replica')].map(side => [side.querySelector('.note').value, side.querySelector('.votes').textContent, side.querySelector('.inbox h3').textContent]));
  await until(seen, sides => sides.every(side => side.join() === 'Ask Ada! Bread. Cheese.,▲ 2,Inbox: 2 to decide'), 'the same on both');
  mkdirSync(SCREENS, { recursive: true });
  writeFileSync(join(SCREENS, 'firefox.png'), await page.screenshot());
});
