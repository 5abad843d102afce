// The npm package: in Node, and in real browsers with a real server and a native device.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import test from 'node:test';
import { WebSocket } from 'ws';
import { ALL, Device, Server, blank, browser, folder, load, openIn, rows, run, sqlite, until } from './lib.mjs';

globalThis.WebSocket ??= WebSocket;
const { open, PiecewiseError } = await import('../../wasm/npm/node.js');

test('SQL in Node: values, transactions, live queries and typed errors', async t => {
  const db = await open('x', { memory: true });
  t.after(() => db.close());
  await db.exec('CREATE TABLE t(id INTEGER PRIMARY KEY, a, b UNIQUE)');
  const values = [null, 7, 2n ** 62n, 1.5, 'ß', new Uint8Array([0, 255])];
  for (const [n, value] of values.entries()) assert.equal((await db.run('INSERT INTO t(id, a) VALUES (?, ?)', [n, value])).changes, 1);
  assert.deepEqual((await db.query('SELECT a FROM t ORDER BY id')).map(row => row.a), values);
  const heard = [];
  db.subscribe('SELECT count(*) AS n FROM t', [], result => heard.push(result[0].n));
  await until(() => heard.length, n => n === 1);
  await db.run("UPDATE t SET a = 'other' WHERE id = 1");
  await assert.rejects(db.transaction([['INSERT INTO t VALUES (?, ?, ?)', [10, 1, 1]], 'INSERT INTO t VALUES (11, 1, 1)']), { code: 'CONSTRAINT' });
  await db.transaction([['INSERT INTO t VALUES (?, ?, ?)', [10, 1, 1]], 'INSERT INTO t VALUES (11, 1, 2)']);
  await until(() => heard.length, n => n === 2);
  assert.deepEqual(heard, [6, 8], 'only changed results are told');
  await assert.rejects(db.query('SELEC'), error => error instanceof PiecewiseError && error.code === 'SQL');
  await assert.rejects(db.run('INSERT INTO t(a) VALUES (?)', [{}]), { code: 'VALUE' });
  await assert.rejects(db.join('nonsense', { database: 'app' }), { code: 'BAD_INVITE' });
  await assert.rejects(db.track('t'), { code: 'NOT_BOUND' });
  await assert.rejects(open('y', { memory: true, file: new Uint8Array(1000) }), { code: 'DAMAGED' });
  const copy = await open('z', { memory: true, file: await db.export() });
  t.after(() => copy.close());
  assert.equal((await copy.query('SELECT count(*) AS n FROM t'))[0].n, 8);
});

test('two browsers, Node and a native device edit offline and converge', async t => {
  const dir = folder(t);
  const server = await new Server(t, join(dir, 'server')).start();
  const grant = 'app/*=admin';
  const [one, two] = await Promise.all([0, 1].map(async n => blank(await browser(t, join(dir, `profile${n}`)), server)));
  await openIn(one, 'app', server.invite(grant));
  await run(one, "INSERT INTO todos VALUES ('a', 'Buy milk', 'two bottles', 0)");
  await one.evaluate(() => db.level());
  await openIn(two, 'app', server.invite(grant));
  await until(() => rows(two), found => found.length === 1, 'the row at the second browser');

  const device = new Device(join(dir, 'home'));
  const file = join(dir, 'native.db');
  device.run('join', server.invite(grant));
  device.run('clone', 'app', file);
  const node = await open('n', { memory: true });
  t.after(() => node.close());
  await node.join(server.invite(grant), { database: 'app' });
  await node.level();

  await Promise.all([one, two].map(page => page.evaluate(() => db.disconnect())));
  await node.disconnect();
  await run(one, "UPDATE todos SET note = 'two big bottles', votes = votes + 1 WHERE id = 'a'");
  await run(one, "INSERT INTO todos(id, title) VALUES ('b', 'From one')");
  await run(two, "UPDATE todos SET note = 'two bottles, please', votes = votes + 2 WHERE id = 'a'");
  await node.run("UPDATE todos SET title = 'Buy oat milk' WHERE id = 'a'");
  sqlite(file, "UPDATE todos SET votes = votes + 4 WHERE id = 'a'; INSERT INTO todos(id, title) VALUES ('c', 'native')");
  await Promise.all([one, two].map(page => page.evaluate(async () => { await db.connect(); await db.level(); })));
  await node.connect();
  await node.level();
  device.run('sync', file, '--quiet');
  const wanted = [
    { id: 'a', title: 'Buy oat milk', note: 'two big bottles, please', votes: 7 },
    { id: 'b', title: 'From one', note: '', votes: 0 },
    { id: 'c', title: 'native', note: '', votes: 0 },
  ];
  const is = found => JSON.stringify(found) === JSON.stringify(wanted);
  await until(() => rows(one), is, 'the first browser');
  await until(() => rows(two), is, 'the second browser');
  await until(() => node.query(ALL), is, 'Node');
  device.run('sync', file, '--quiet');
  assert.deepEqual(JSON.parse(sqlite(file, ALL, '-json')), wanted);
  // A checkpoint covers what came a moment ago once the next second has passed.
  const history = await until(() => node.history('todos', 'a', { log: true }), entries => entries.every(e => e.log), 'a proof for each change');
  assert.ok(history.length >= 5, 'all edits are in the history');
});

test('a row that gets another number is told of, its references follow, and who wrote what has a name', async t => {
  const dir = folder(t);
  const server = await new Server(t, join(dir, 'server')).start();
  const schema = 'CREATE TABLE customers(id INTEGER PRIMARY KEY, name TEXT); CREATE TABLE orders(id TEXT PRIMARY KEY, customer INTEGER REFERENCES customers(id))';
  const devices = [];
  for (const name of ['one', 'two']) {
    const db = await open(name, { memory: true });
    t.after(() => db.close());
    await db.join(server.invite('app/*=admin'), { database: 'app' });
    if (name === 'one') {
      await db.exec(schema);
      await db.track('customers');
      await db.track('orders');
    }
    await db.level();
    devices.push(db);
  }
  const [one, two] = devices;
  await until(() => two.query("SELECT count(*) AS n FROM sqlite_schema WHERE name = 'orders'"), ([found]) => found.n === 1, 'the tables');
  await Promise.all(devices.map(db => db.disconnect()));
  const events = [];
  two.on('renumbered', event => events.push(event));
  for (const [n, db] of devices.entries()) {
    await db.run('INSERT INTO customers(name) VALUES (?)', [`of ${n}`]);
    await db.run('INSERT INTO orders VALUES (?, 1)', [`order ${n}`]);
  }
  for (const db of devices) {
    await db.connect();
    await db.level();
  }
  const told = await until(() => events, heard => heard.length > 0, 'the event');
  assert.deepEqual(told.map(event => [event.table, event.old, event.new]), [['customers', 1, 2]]);
  const sql = 'SELECT o.id, c.name FROM orders o JOIN customers c ON c.id = o.customer ORDER BY o.id';
  const wanted = [{ id: 'order 0', name: 'of 0' }, { id: 'order 1', name: 'of 1' }];
  for (const db of devices) await until(() => db.query(sql), found => JSON.stringify(found) === JSON.stringify(wanted), 'each order with its customer');
  const history = await until(() => one.history('orders', 'order 1'), ([entry]) => entry.authorName, 'a name');
  assert.equal(typeof history[0].authorName, 'string');
});

test('a reload, a closed browser and a killed one keep what was written, also offline', async t => {
  const dir = folder(t);
  const server = await new Server(t, join(dir, 'server')).start();
  const profile = join(dir, 'profile');
  let context = await browser(t, profile);
  let page = await blank(context, server);
  await openIn(page, 'app', server.invite('app/*=admin'));
  const key = (await page.evaluate(() => db.status())).key;
  await page.evaluate(() => db.disconnect());
  await run(page, "INSERT INTO todos(id, title) VALUES ('a', 'before the reload')");
  await page.reload();
  await load(page);
  assert.equal((await openIn(page, 'app')).key, key, 'the device is the same');
  assert.equal((await rows(page)).length, 1);
  await run(page, "INSERT INTO todos(id, title) VALUES ('b', 'before the kill')");
  const pids = execFileSync('pgrep', ['-f', `user-data-dir=${profile}`], { encoding: 'utf8' }).trim().split('\n');
  process.kill(Number(pids[0]), 'SIGKILL');
  await context.close().catch(() => {});
  context = await browser(t, profile);
  page = await blank(context, server);
  const status = await openIn(page, 'app');
  assert.equal(status.online, false, 'it stays offline as it was told');
  assert.deepEqual((await rows(page)).map(row => row.id), ['a', 'b']);
  await page.evaluate(async () => { await db.connect(); await db.level(); });
  assert.equal(sqlite(join(server.data, 'app.db'), 'SELECT count(*) FROM todos'), '2');
});

test('a server that restarts is found again, and what was written meanwhile goes out by itself', async t => {
  const dir = folder(t);
  const server = await new Server(t, join(dir, 'server')).start();
  const page = await blank(await browser(t, join(dir, 'profile')), server);
  await openIn(page, 'app', server.invite('app/*=admin'));
  await page.evaluate(() => db.level());
  await server.stop('SIGKILL');
  await until(() => page.evaluate(async () => (await db.status()).open), open => !open, 'the loss of the connection');
  await run(page, "INSERT INTO todos(id, title) VALUES ('a', 'while it was gone')");
  await server.start();
  await until(() => sqlite(join(server.data, 'app.db'), 'SELECT count(*) FROM todos'), count => count === '1', 'the row at the server');
});

test('a used invite, another server and a damaged file are errors with a code, and data stay', async t => {
  const dir = folder(t);
  const server = await new Server(t, join(dir, 'server')).start();
  const invite = server.invite('app/*=admin');
  const page = await blank(await browser(t, join(dir, 'profile')), server);
  await openIn(page, 'app', invite);
  await run(page, "INSERT INTO todos(id, title) VALUES ('a', 'kept')");
  await page.evaluate(() => db.level());
  const code = work => page.evaluate(`(async () => { try { await (${work})(); return 'none'; } catch (error) { return error.code; } })()`);
  assert.equal(await code(`async () => { const other = await piecewise.open('other', { memory: true }); await other.join(${JSON.stringify(invite)}, { database: 'app' }); }`), 'BAD_INVITE');
  const second = await new Server(t, join(dir, 'second')).start();
  assert.equal(await code(`() => db.join(${JSON.stringify(second.invite('app/*=admin'))}, { database: 'app' })`), 'OTHER_SERVER');
  // Somebody else answers at the address.
  await server.stop();
  await second.stop();
  second.address = server.address;
  await second.start();
  const heard = await page.evaluate(async () => {
    const error = new Promise(resolve => db.on('error', event => resolve(event.error.code)));
    await db.disconnect();
    db.connect();
    return error;
  });
  assert.equal(heard, 'WRONG_SERVER');
  assert.equal((await rows(page)).length, 1);
  await page.evaluate(() => db.close());
  assert.equal(await code("() => piecewise.open('app', { file: new Uint8Array(4096) })"), 'DAMAGED');
  await openIn(page, 'app');
  assert.equal((await rows(page)).length, 1, 'a damaged file replaces nothing');
});

test('where the browser gives no more room, a write fails with a code and all before it stays', async t => {
  const dir = folder(t);
  const server = await new Server(t, join(dir, 'server')).start();
  const context = await browser(t, join(dir, 'profile'));
  let page = await blank(context, server);
  await openIn(page, 'app', server.invite('app/*=admin'));
  await run(page, "INSERT INTO todos(id, title) VALUES ('a', 'before')");
  await page.evaluate(() => db.level());
  const session = await context.newCDPSession(page);
  await session.send('Storage.overrideQuotaForOrigin', { origin: server.url, quotaSize: 3 << 20 });
  const code = await page.evaluate(async () => {
    try {
      for (let n = 0; n < 64; n++) await db.run('INSERT INTO todos(id, title) VALUES (?, hex(randomblob(1000000)))', [`big ${n}`]);
      return 'none';
    } catch (error) { return error.code; }
  });
  assert.match(code, /^(QUOTA|STORAGE)$/);
  assert.equal((await rows(page))[0].title, 'before');
  await session.send('Storage.overrideQuotaForOrigin', { origin: server.url });
  await page.reload();
  await load(page);
  await openIn(page, 'app');
  assert.equal((await page.evaluate(() => db.query('PRAGMA integrity_check')))[0].integrity_check, 'ok');
  await run(page, "INSERT INTO todos(id, title) VALUES ('b', 'with room again')");
  await page.evaluate(() => db.level());
  assert.match(sqlite(join(server.data, 'app.db'), 'SELECT group_concat(id) FROM todos'), /a.*b/);
});
