// Tabs and transactions: one database, many who use it, and an owner that may go at any moment.
import assert from 'node:assert/strict';
import { join } from 'node:path';
import test from 'node:test';
import { WebSocket } from 'ws';
import { Server, blank, browser, codeIn, folder, openIn, rows, run, sqlite, until } from './lib.mjs';

globalThis.WebSocket ??= WebSocket;
const { open } = await import('../../wasm/npm/node.js');

/** A server, and pages that have its database open; the first is the owner. */
async function tabs(t, count) {
  const dir = folder(t);
  const server = await new Server(t, join(dir, 'server')).start();
  const context = await browser(t, join(dir, 'profile'));
  const pages = [];
  for (let n = 0; n < count; n++) {
    pages.push(await blank(context, server));
    await openIn(pages[n], 'app', n === 0 ? server.invite('app/*=admin') : undefined);
  }
  return { server, pages };
}

test('tabs share one database; when the owner closes another takes over and nothing is lost', async t => {
  const { server, pages: [owner, second, third] } = await tabs(t, 3);
  await run(owner, "INSERT INTO todos(id, title) VALUES ('a', 'by the owner')");
  await run(second, "INSERT INTO todos(id, title) VALUES ('b', 'by the second tab')");
  await third.evaluate(() => { window.seen = []; db.subscribe('SELECT group_concat(id, "") AS ids FROM (SELECT id FROM todos ORDER BY id)', [], rows => seen.push(rows[0].ids)); });
  await until(() => third.evaluate(() => seen.at(-1)), ids => ids === 'ab', 'the live query in a third tab');
  await owner.close();
  await run(second, "INSERT INTO todos(id, title) VALUES ('c', 'after the owner went')");
  await until(() => third.evaluate(() => seen.at(-1)), ids => ids === 'abc', 'the live query after the owner went');
  await second.evaluate(() => db.level());
  assert.equal(sqlite(join(server.data, 'app.db'), 'SELECT count(*) FROM todos'), '3');
});

test('writes that were under way when the owner went are done once each', async t => {
  const { server, pages: [owner, second] } = await tabs(t, 2);
  const writes = second.evaluate(() => Promise.all(Array.from({ length: 40 }, (_, n) => db.transaction([
    ['INSERT INTO todos(id, title) VALUES (?, ?)', [`t${n}`, 'one half']],
    ['INSERT INTO todos(id, title) VALUES (?, ?)', [`u${n}`, 'the other half']],
  ]))));
  await until(() => rows(second), found => found.length > 0, 'the first of them');
  await owner.close();
  await writes;
  assert.equal((await rows(second)).length, 80);
  await second.evaluate(() => db.level());
  assert.equal(sqlite(join(server.data, 'app.db'), 'SELECT count(*) FROM todos'), '80');
});

test('a transaction that was open when the owner went is undone whole, and its tab is told', async t => {
  const { pages: [owner, second] } = await tabs(t, 2);
  await second.evaluate(() => {
    window.goOn = null;
    window.ending = db.transaction(async tx => {
      await tx.run("INSERT INTO todos(id) VALUES ('half')");
      await new Promise(resolve => { goOn = resolve; });
      await tx.run("INSERT INTO todos(id) VALUES ('whole')");
    }).then(() => 'done', error => error.code);
  });
  await until(() => second.evaluate(() => goOn !== null), Boolean, 'the middle of the transaction');
  const owned = second.evaluate(() => new Promise(resolve => db.on('owner', resolve)));
  await owner.close();
  await owned;
  await second.evaluate(() => goOn());
  assert.equal(await second.evaluate(() => ending), 'TRANSACTION');
  assert.deepEqual(await rows(second), []);
  assert.equal(await second.evaluate(() => db.transaction(async tx => (await tx.run("INSERT INTO todos(id) VALUES ('again')")).changes)), 1);
});

test('an engine that traps is replaced: what was committed stays, what waits is done, and it syncs again', async t => {
  const { server, pages: [page] } = await tabs(t, 1);
  await run(page, "INSERT INTO todos(id) VALUES ('before')");
  // An exception in the middle of the engine's work, as a panic makes one.
  await page.workers()[0].evaluate(() => {
    const { push } = Array.prototype;
    Array.prototype.push = function trap(...items) {
      if (!Array.isArray(items[0]) || items[0][0] !== 'trap') return push.apply(this, items);
      Array.prototype.push = push;
      throw new WebAssembly.RuntimeError('unreachable');
    };
  });
  const [code, ...after] = await page.evaluate(async () => {
    const heard = new Promise(resolve => db.on('error', event => resolve(event.error.code)));
    const trapped = db.query("SELECT 'trap'").then(() => 'none', error => error.code);
    const behind = db.run("INSERT INTO todos(id) VALUES ('behind')");
    return [await trapped, await heard, (await behind).changes];
  });
  assert.deepEqual([code, ...after], ['INTERNAL', 'INTERNAL', 1]);
  assert.deepEqual((await rows(page)).map(row => row.id), ['before', 'behind']);
  await page.evaluate(() => db.level());
  assert.equal(sqlite(join(server.data, 'app.db'), 'SELECT count(*) FROM todos'), '2');
});

test('a database asks the browser to keep its data, unless it is told not to, and is closed by disposal', async t => {
  const dir = folder(t);
  const server = await new Server(t, join(dir, 'server')).start();
  const page = await blank(await browser(t, join(dir, 'profile')), server);
  const asked = await page.evaluate(async () => {
    let asked = 0;
    navigator.storage.persist = async () => { asked++; return true; };
    const counts = [];
    for (const persist of [false, undefined]) {
      const db = await piecewise.open('app', { persist });
      counts.push(asked);
      await db[Symbol.asyncDispose]();
      counts.push(await code(() => db.query('SELECT 1')));
    }
    return counts;
  });
  assert.deepEqual(asked, [0, 'PiecewiseError CLOSED', 1, 'PiecewiseError CLOSED']);
  assert.equal(await codeIn(page, () => piecewise.open('no/name')), 'PiecewiseError VALUE');
});

test('a transaction that spans calls is alone, whole or undone, and cannot be left open', async t => {
  const db = await open('x', { memory: true, transactionIdleMs: 50 });
  t.after(() => db.close());
  await db.exec('CREATE TABLE t(id INTEGER PRIMARY KEY, n INTEGER)');
  await db.run('INSERT INTO t VALUES (1, 0)');
  const add = tx => tx.query('SELECT n FROM t').then(([{ n }]) => tx.run('UPDATE t SET n = ?', [n + 1]));
  await Promise.all(Array.from({ length: 20 }, () => db.transaction(add)));
  assert.deepEqual(await db.query('SELECT n FROM t'), [{ n: 20 }], 'no addition overwrote another');
  await assert.rejects(db.transaction(async tx => { await add(tx); throw new Error('changed my mind'); }), { message: 'changed my mind' });
  assert.deepEqual(await db.query('SELECT n FROM t'), [{ n: 20 }]);
  // Waiting inside for what waits for the end of the transaction.
  await assert.rejects(db.transaction(async tx => { await add(tx); await db.query('SELECT 1'); await add(tx); }), { code: 'TRANSACTION' });
  assert.deepEqual(await db.query('SELECT n FROM t'), [{ n: 20 }]);
  await assert.rejects(db.transaction(async tx => { await add(tx); await tx.exec('COMMIT'); }), { code: 'TRANSACTION' });
  await assert.rejects(db.run('BEGIN'), { code: 'VALUE' });
  await assert.rejects(db.exec('BEGIN; UPDATE t SET n = 0'), { code: 'VALUE' });
  assert.deepEqual(await db.query('SELECT n FROM t'), [{ n: 21 }], 'what a statement committed stays, what it left open does not');
  await db.exec('BEGIN; UPDATE t SET n = 5; COMMIT');
  assert.equal(await db.transaction(tx => tx.query('SELECT n FROM t').then(([row]) => row.n)), 5);
});

test('conflicts are listed and ended, and a held row says its cause', async t => {
  const dir = folder(t);
  const server = await new Server(t, join(dir, 'server')).start();
  const two = [];
  for (let n = 0; n < 2; n++) {
    const db = await open('x', { memory: true });
    t.after(() => db.close());
    await db.join(server.invite('app/*=admin'), { database: 'app' });
    await db.exec('CREATE TABLE IF NOT EXISTS t(id TEXT PRIMARY KEY, a TEXT, b TEXT UNIQUE)');
    await db.track('t');
    await db.level();
    two.push(db);
  }
  const [one, other] = two;
  await one.run("INSERT INTO t VALUES (1, 'first', NULL)");
  await one.level();
  await until(() => other.query('SELECT * FROM t'), found => found.length === 1, 'the row');
  for (const db of two) await db.disconnect();
  await one.transaction(["UPDATE t SET a = 'by one'", "INSERT INTO t VALUES (2, 'two', NULL)", "INSERT INTO t VALUES (3, 'three', 'same')"]);
  await other.transaction(["UPDATE t SET a = 'by other'", "INSERT INTO t VALUES (2, 'zwei', NULL)", "INSERT INTO t VALUES (4, 'four', 'same')"]);
  for (const db of [one, other, one]) { await db.connect(); await db.level(); }
  const [cell, row] = await until(() => one.conflicts(), found => found.length === 2, 'two conflicts');
  assert.deepEqual([cell.kind, cell.key, cell.column, new Set([cell.shown, ...cell.others].map(w => w.value))], ['cell', '1', 'a', new Set(['by one', 'by other'])]);
  assert.deepEqual([row.kind, row.key, new Set([row.shown, row.others[0].row].map(r => r.a))], ['row', '2', new Set(['two', 'zwei'])]);
  const [held] = await one.held();
  assert.match(held.cause, /b|UNIQUE|unique/);
  const status = await one.status();
  assert.deepEqual([status.conflicts, status.held, status.refused], [2, 1, 0]);
  const checked = await one.check();
  assert.deepEqual([checked.found, checked.unhealed, checked.findings, checked.tables.map(t => t.table)], [0, 0, [], ['t']]);
  await one.choose('t', 1, 1, { column: 'a' });
  const key = await one.choose('t', 2, 1, { asNewRow: '5' });
  assert.equal(key, '5');
  await assert.rejects(one.choose('t', 1, 9, { column: 'a' }), { code: 'NOT_FOUND' });
  await one.level();
  const a = await until(() => other.query('SELECT id, a FROM t WHERE id IN (1, 2, ?) ORDER BY id', [key]), found => found.length === 3, 'the new row');
  assert.equal(a[0].a, cell.others[0].value);
  assert.deepEqual(new Set([a[1].a, a[2].a]), new Set(['two', 'zwei']));
  assert.deepEqual(await one.conflicts(), []);
  const history = await one.history('t', 1, { log: true });
  assert.deepEqual(history.map(e => e.kind)[0], 'insert');
  assert.ok(history.every(entry => entry.author.length > 20 && entry.state === 'counts' && 'log' in entry));
  await assert.rejects(one.history('nowhere', 1), { code: 'NOT_FOUND' });
  await assert.rejects(one.untrack('t'), { code: 'HELD' });
  const left = await one.untrack('t', { leaveHeld: true });
  assert.deepEqual(left.map(row => row.key), [held.key], 'the row that no table shows is given to the caller');
  assert.deepEqual((await one.status()).tables, []);
});
