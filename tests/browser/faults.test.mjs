// What goes wrong: each is an error with a code that stays the same, and the data stay as they were.
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'node:test';
import { WebSocket, WebSocketServer } from 'ws';
import { Server, TODOS, blank, browser, codeIn, cutLine, folder, load, openIn, rows, run, sqlite, until } from './lib.mjs';

globalThis.WebSocket ??= WebSocket;
const { open } = await import('../../wasm/npm/node.js');

/** A database in this process, closed when the test ends. */
async function inMemory(t, options) {
  const db = await open('x', { memory: true, ...options });
  t.after(() => db.close());
  return db;
}

/** A server that nobody knows, at an address where somebody says nonsense. */
async function nonsense(t) {
  const server = new WebSocketServer({ host: '127.0.0.1', port: 0 });
  server.on('connection', socket => socket.on('message', () => socket.send(randomBytes(240))));
  await new Promise(resolve => server.on('listening', resolve));
  t.after(() => server.close());
  return `ws://127.0.0.1:${server.address().port}`;
}

test('an invite that does not work leaves no trace: the database can join another server', async t => {
  const dir = folder(t);
  const server = await new Server(t, join(dir, 'server')).start();
  const other = await new Server(t, join(dir, 'other')).start();
  const [one, two] = [await inMemory(t), await inMemory(t)];
  const used = server.invite('app/*=admin');
  await one.join(used, { database: 'app' });
  await assert.rejects(two.join(used, { database: 'app' }), { code: 'BAD_INVITE', hint: /new invite/ });
  await assert.rejects(two.join(`${used.slice(0, -1)}${used.endsWith('a') ? 'b' : 'a'}`, { database: 'app' }), { code: 'BAD_INVITE' });
  await assert.rejects(two.join('piecewise9-abc', { database: 'app' }), { code: 'VERSION' });
  const late = server.invite('app/*=admin');
  await server.stop();
  await assert.rejects(two.join(late, { database: 'app' }), { code: 'UNREACHABLE' });
  assert.equal((await two.status()).database, null);
  await two.join(other.invite('app/*=admin'), { database: 'app' });
  await two.level();
  assert.equal((await two.status()).database, 'app');
  await assert.rejects(two.join(other.invite('app/*=admin'), { database: 'other' }), { code: 'BOUND' });
  await two.level();
});

test('a server of another version is told apart from one that is gone', async t => {
  const dir = folder(t);
  const server = await new Server(t, join(dir, 'server')).start();
  writeFileSync(join(server.data, 'server.address'), await nonsense(t));
  const invite = server.invite('app/*=admin');
  const db = await inMemory(t);
  await assert.rejects(db.join(invite, { database: 'app' }), { code: 'VERSION', hint: /version/ });
  assert.equal((await db.status()).problem.code, 'VERSION');
});

test('a line that is cut every 60 KB brings everything all the same, both ways', async t => {
  const dir = folder(t);
  const server = await new Server(t, join(dir, 'server')).start();
  const node = await inMemory(t);
  await node.join(server.invite('app/*=admin'), { database: 'app' });
  await node.exec(TODOS);
  await node.track('todos');
  const many = n => `WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 300) INSERT INTO todos(id, title) SELECT '${n}' || n, hex(randomblob(700)) FROM n`;
  await node.exec(many('n'));
  await node.level();
  const line = await cutLine(t, server, 60_000);
  writeFileSync(join(server.data, 'server.address'), line.address);
  const page = await blank(await browser(t, join(dir, 'profile')), server);
  await openIn(page, 'app', server.invite('app/*=admin'));
  await until(() => page.evaluate(async () => (await db.query('SELECT count(*) AS n FROM todos'))[0].n), n => n === 300, 'the rows of the server');
  const there = line.cuts;
  await page.evaluate(sql => db.exec(sql), many('p'));
  await until(() => sqlite(join(server.data, 'app.db'), 'SELECT count(*) FROM todos'), n => n === '600', 'the rows of the page');
  assert.ok(there >= 3 && line.cuts >= there + 3, `the line was cut ${there} times, then ${line.cuts - there}`);
});

test('edits of a row are one change while the server is not there, and for as long as is asked while it is', async t => {
  const dir = folder(t);
  const server = await new Server(t, join(dir, 'server')).start();
  const db = await inMemory(t, { every: 3_600_000 });
  await db.exec(TODOS);
  await db.join(server.invite('app/*=admin'), { database: 'app' });
  await db.track('todos');
  await db.run("INSERT INTO todos(id, title) VALUES ('a', 'first')");
  await db.level();
  const typing = async word => { for (let n = 1; n <= word.length; n++) await db.run('UPDATE todos SET title = ?', [word.slice(0, n)]); };
  const changes = async () => (await db.history('todos', 'a')).length;
  assert.equal(await changes(), 1);
  await typing('while it is there');
  await db.level();
  assert.equal(await changes(), 2);
  await db.disconnect();
  await typing('while it is not');
  await db.connect();
  await db.level();
  assert.equal(await changes(), 3);
  assert.equal(sqlite(join(server.data, 'app.db'), 'SELECT title FROM todos'), 'while it is not');
  await assert.rejects(open('x', { memory: true, every: -1 }), { code: 'VALUE' });
  const eager = await inMemory(t);
  await eager.join(server.invite('app/*=admin'), { database: 'app' });
  await eager.level();
  await eager.disconnect();
  for (const title of ['b', 'bc', 'bcd']) await eager.run('UPDATE todos SET title = ?', [title]);
  assert.equal((await eager.status()).writesWaiting, 3, 'writes wait in the log');
  await eager.connect();
  await eager.level();
  assert.equal((await eager.history('todos', 'a')).length, 4);
});

test('a device that is revoked, or granted nothing, is told so and keeps its rows', async t => {
  const dir = folder(t);
  const server = await new Server(t, join(dir, 'server')).start();
  const db = await inMemory(t);
  await assert.rejects(db.level(), { code: 'OFFLINE' });
  await db.join(server.invite('app/*=admin'), { database: 'app' });
  await db.exec(TODOS);
  await db.track('todos');
  await db.run("INSERT INTO todos(id, title) VALUES ('a', 'kept')");
  await db.level();
  server.run('revoke', (await db.status()).key);
  await until(() => db.status(), status => status.problem?.code === 'NOT_GRANTED', 'the refusal');
  await assert.rejects(db.level(), { code: 'NOT_GRANTED' });
  assert.equal((await db.query('SELECT title FROM todos'))[0].title, 'kept');
  const stranger = await inMemory(t);
  await assert.rejects(stranger.join(server.invite('elsewhere/*=admin'), { database: 'app' }), { code: 'NOT_GRANTED' });
  assert.equal((await stranger.status()).database, null, 'what it may not have, it does not belong to');
  const other = await new Server(t, join(dir, 'other')).start();
  await stranger.join(other.invite('app/*=admin'), { database: 'app' });
  await stranger.level();
});

test('what the server refuses stays here, is listed, and can be tried again or given up', async t => {
  const dir = folder(t);
  const server = await new Server(t, join(dir, 'server')).start();
  const db = await inMemory(t);
  await db.join(server.invite('app/*=admin'), { database: 'app' });
  await db.exec(TODOS);
  await db.track('todos');
  await db.run("INSERT INTO todos(id, title) VALUES ('a', 'first')");
  await db.level();
  await db.disconnect();
  await db.run("UPDATE todos SET title = 'too late'");
  const { key } = await db.status();
  server.run('grant', key, 'app/*=read');
  const told = new Promise(resolve => db.on('refused', resolve));
  await db.connect();
  assert.equal((await told).rows, 1);
  const [refused] = await db.refused();
  assert.deepEqual([refused.table, refused.key], ['todos', 'a']);
  assert.equal((await db.query('SELECT title FROM todos'))[0].title, 'too late');
  server.run('grant', key, 'app/*=admin');
  await db.disconnect();
  await db.connect();
  assert.equal(await db.retryRefused(), 1);
  await until(() => sqlite(join(server.data, 'app.db'), 'SELECT title FROM todos'), title => title === 'too late', 'the row at the server');
  assert.deepEqual(await db.refused(), []);
});

test('a damaged, foreign or newer file is refused whole, in a browser and in Node', async t => {
  const dir = folder(t);
  const server = await new Server(t, join(dir, 'server')).start();
  const page = await blank(await browser(t, join(dir, 'profile')), server);
  await openIn(page, 'app', server.invite('app/*=admin'));
  await run(page, "INSERT INTO todos(id, title) VALUES ('a', 'kept')");
  await page.evaluate(() => db.level());
  const good = Buffer.from(await page.evaluate(async () => [...await db.export()]));
  const file = join(dir, 'newer.db');
  writeFileSync(file, good);
  sqlite(file, "UPDATE piecewise_meta SET value = 99 WHERE name = 'format'");
  const damaged = Buffer.from(good);
  damaged.fill(0xaa, 4096 + 100);
  const cases = { DAMAGED: [Buffer.from('no database'), Buffer.alloc(4096), damaged], VERSION: [readFileSync(file)] };
  const node = await inMemory(t, { file: good });
  for (const [code, files] of Object.entries(cases)) {
    for (const bytes of files) {
      await assert.rejects(node.import(bytes), { code });
      assert.equal(await codeIn(page, bytes => db.import(new Uint8Array(bytes)), [...bytes]), `PiecewiseError ${code}`);
    }
  }
  assert.equal((await node.query('SELECT title FROM todos'))[0].title, 'kept');
  assert.equal((await rows(page))[0].title, 'kept');
  await page.evaluate(() => db.level());
  await page.reload();
  await load(page);
  await openIn(page, 'app');
  assert.equal((await rows(page))[0].title, 'kept', 'after a reload too');
});

test('a file of a native application, with its WAL mode, takes the place of a database in every tab and stays', async t => {
  const dir = folder(t);
  const server = await new Server(t, join(dir, 'server')).start();
  const context = await browser(t, join(dir, 'profile'));
  const [owner, second] = [await blank(context, server), await blank(context, server)];
  await openIn(owner, 'app', server.invite('app/*=admin'));
  await openIn(second, 'app');
  const native = join(dir, 'native.db');
  sqlite(native, `PRAGMA journal_mode = WAL; PRAGMA page_size = 8192; ${TODOS}; INSERT INTO todos(id, title) VALUES ('n', 'native'); PRAGMA wal_checkpoint(TRUNCATE)`);
  await owner.evaluate(() => { window.seen = []; db.subscribe('SELECT group_concat(id) AS ids FROM todos', [], rows => seen.push(rows[0].ids)); });
  await second.evaluate(bytes => db.import(new Uint8Array(bytes)), [...readFileSync(native)]);
  await until(() => owner.evaluate(() => seen.at(-1)), ids => ids === 'n', 'the new rows in the other tab');
  const status = await owner.evaluate(() => db.status());
  assert.deepEqual([status.server, status.database], [null, null], 'the new file belongs to no server yet');
  await owner.evaluate(invite => db.join(invite, { database: 'app' }), server.invite('app/*=admin'));
  await owner.evaluate(async () => { await db.track('todos'); await db.level(); });
  await owner.close();
  await second.reload();
  await load(second);
  await openIn(second, 'app');
  assert.equal((await rows(second))[0].title, 'native');
  assert.equal(sqlite(join(server.data, 'app.db'), 'SELECT title FROM todos'), 'native');
});

test('a database that the disk damaged says so, and an export brings it back', async t => {
  const dir = folder(t);
  const server = await new Server(t, join(dir, 'server')).start();
  const page = await blank(await browser(t, join(dir, 'profile')), server);
  await openIn(page, 'app', server.invite('app/*=admin'));
  await run(page, "INSERT INTO todos(id, title) VALUES ('a', 'kept')");
  await page.evaluate(async () => {
    await db.level();
    window.copy = await db.export();
    await db.close();
    const folder = async (parent, name) => (await parent).getDirectoryHandle(name);
    const pool = await folder(folder(navigator.storage.getDirectory(), '.piecewise-app'), '.opaque');
    for await (const file of pool.values()) {
      const { size } = await file.getFile();
      if (size <= 4096) continue;
      const writer = await file.createWritable({ keepExistingData: true });
      await writer.write({ type: 'write', position: 4096, data: new Uint8Array(size - 4096).fill(0xaa) });
      await writer.close();
    }
  });
  assert.equal(await codeIn(page, () => piecewise.open('app')), 'PiecewiseError DAMAGED');
  assert.equal(await codeIn(page, () => piecewise.open('app', { file: new Uint8Array(9999) })), 'PiecewiseError DAMAGED', 'not by a bad one');
  await page.evaluate(async () => { window.db = await piecewise.open('app', { file: copy }); await db.level(); });
  assert.equal((await rows(page))[0].title, 'kept');
});

test('without lasting storage opening fails with a code, and a database in memory still works', async t => {
  const dir = folder(t);
  const server = await new Server(t, join(dir, 'server')).start();
  const context = await browser(t, join(dir, 'profile'), { args: ['--host-resolver-rules=MAP board.example 127.0.0.1'] });
  // As in the private windows of some browsers.
  await context.route(`${server.url}/piecewise/worker.js`, async route => {
    const response = await route.fetch();
    const refuse = "navigator.storage.constructor.prototype.getDirectory = () => Promise.reject(new DOMException('not in private windows', 'SecurityError'));";
    await route.fulfill({ response, body: `${refuse}\n${await response.text()}` });
  });
  const secure = await blank(context, server);
  // As on a phone that opens the address of a machine in its network.
  const insecure = await blank(context, server, server.url.replace('127.0.0.1', 'board.example'));
  for (const page of [secure, insecure]) {
    assert.equal(await codeIn(page, () => piecewise.open('app')), 'PiecewiseError STORAGE');
    assert.match(await page.evaluate(() => piecewise.open('app').catch(error => error.hint)), /memory: true/);
    const found = await page.evaluate(async () => {
      window.db = await piecewise.open('app', { memory: true });
      return db.query('SELECT 1 AS one');
    });
    assert.deepEqual(found, [{ one: 1 }]);
  }
});
