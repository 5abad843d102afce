// Frameworks: hooks and stores show what is in the database and no more, drivers answer as SQLite does, types fit, examples run.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { cpSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'node:test';
import { fileURLToPath } from 'node:url';
import { Device, Server, atEnd, browser, files, folder, sqlite, until } from './lib.mjs';

const tests = fileURLToPath(new URL('..', import.meta.url));
const npm = fileURLToPath(new URL('../../wasm/npm/', import.meta.url));
const examples = fileURLToPath(new URL('../../examples/', import.meta.url));

/** A folder in which the package is installed as it is published, and frameworks are found. */
function application(t, from) {
  const dir = mkdtempSync(join(tests, 'bundled-'));
  atEnd(t, () => rmSync(dir, { recursive: true, force: true, maxRetries: 5 }));
  if (from) cpSync(from, dir, { recursive: true });
  else writeFileSync(join(dir, 'package.json'), '{ "name": "app", "private": true, "type": "module" }');
  const [packed] = JSON.parse(execFileSync('npm', ['pack', '--json', '--silent', '--pack-destination', dir], { cwd: npm, encoding: 'utf8' }));
  mkdirSync(join(dir, 'node_modules/piecewise'), { recursive: true });
  execFileSync('tar', ['xzf', join(dir, packed.filename), '-C', join(dir, 'node_modules/piecewise'), '--strip-components=1']);
  return dir;
}
const at = (dir, name) => import(join(dir, 'node_modules/piecewise', name));

/** What a statement gives in SQLite itself, the one of Python: rows as lists, integers beyond 2^53 as bigint. */
function reference(file, statements) {
  const script = `import json, sqlite3, sys
def into(v): return bytes.fromhex(v["blob"]) if isinstance(v, dict) and "blob" in v else int(v["int"]) if isinstance(v, dict) else v
def out(v): return {"blob": v.hex()} if isinstance(v, bytes) else {"int": str(v)} if isinstance(v, int) and abs(v) >= 2**53 else v
db = sqlite3.connect(sys.argv[1], isolation_level=None)
print(json.dumps([[[out(v) for v in row] for row in db.execute(sql, [into(v) for v in params])] for sql, params in json.load(sys.stdin)]))`;
  const input = JSON.stringify(statements, (_, v) => (typeof v === 'bigint' ? { int: String(v) } : v?.type === 'Buffer' ? { blob: Buffer.from(v.data).toString('hex') } : v instanceof Uint8Array ? { blob: Buffer.from(v).toString('hex') } : v));
  return JSON.parse(execFileSync('python3', ['-c', script, file], { input, encoding: 'utf8' }), (_, v) => (typeof v?.int === 'string' ? BigInt(v.int) : typeof v?.blob === 'string' ? new Uint8Array(Buffer.from(v.blob, 'hex')) : v));
}

test('a store tells of changes, shares what is equal, and rests when nobody listens', async t => {
  const dir = application(t);
  const [{ open }, { createStore }] = [await at(dir, 'node.js'), await at(dir, 'store.js')];
  let opened;
  const store = createStore(new Promise(resolve => { opened = resolve; }));
  const todos = store.query('SELECT id, a FROM t WHERE id > ? ORDER BY id', [0n]);
  assert.equal(todos, store.query('SELECT id, a FROM t WHERE id > ? ORDER BY id', [0n]), 'the same for equal parameters');
  assert.notEqual(todos, store.query('SELECT id, a FROM t WHERE id > ? ORDER BY id', ['0']));
  const forgotten = store.query('SELECT ?', [undefined]);
  assert.notEqual(forgotten, store.query('SELECT ?', [null]));
  const seen = [], states = [];
  const stops = [todos.subscribe(() => seen.push(todos.getSnapshot())), store.status.subscribe(() => states.push(store.status.getSnapshot()))];
  assert.deepEqual([todos.getSnapshot().isLoading, store.database.getSnapshot(), store.status.getSnapshot(), store.conflicts.getSnapshot()], [true, null, undefined, []]);
  const db = await open('x', { memory: true });
  t.after(() => db.close());
  opened(db);
  await until(() => seen.at(-1), now => now?.error?.code === 'SQL', 'there is no such table yet');
  await db.exec("CREATE TABLE t(id INTEGER PRIMARY KEY, a); INSERT INTO t VALUES (1, 'x'), (2, 'y')");
  await until(() => seen.at(-1), now => now.rows.length === 2 && !now.error && !now.isLoading, 'the rows');
  assert.equal(todos.getSnapshot(), todos.getSnapshot());
  assert.ok(states.length >= 1 && states[0].database === null);
  const [first] = todos.getSnapshot().rows;
  stops.push(forgotten.subscribe(() => {}));
  await until(() => forgotten.getSnapshot().error?.code, code => code === 'VALUE', 'the value that was forgotten');
  await db.run("UPDATE t SET a = 'z' WHERE id = 2");
  await until(() => todos.getSnapshot().rows[1].a, a => a === 'z');
  assert.equal(todos.getSnapshot().rows[0], first, 'a row that did not change is the same');
  stops.forEach(stop => stop());
  const count = seen.length;
  await db.run('DELETE FROM t');
  await new Promise(resolve => setTimeout(resolve, 50));
  assert.equal(seen.length, count);
  const none = createStore(null).query('SELECT 1');
  assert.deepEqual(none.getServerSnapshot().rows, []);
});

const REACT = `import { createElement as h, StrictMode, useState } from 'react';
import { createRoot } from 'react-dom/client';
import { open } from 'piecewise';
import { PiecewiseProvider, useConflicts, useDatabase, useQuery, useStatus } from 'piecewise/react';
window.drawn = {};
const count = name => { drawn[name] = (drawn[name] ?? 0) + 1; };
function List({ done }) {
  count('list');
  const { rows, isLoading, error } = useQuery('SELECT id, title FROM todos WHERE done = ? ORDER BY id', [done]);
  return h('ul', { id: 'list' }, error ? error.code : isLoading ? 'loading' : rows.map(row => h('li', { key: row.id }, row.title)));
}
function Other() { count('other'); const { rows } = useQuery('SELECT count(*) FROM other', [], { rows: 'array' }); return h('p', { id: 'other' }, String(rows[0]?.[0])); }
function Status() { const status = useStatus(); const conflicts = useConflicts(); return h('p', { id: 'status' }, status ? \`\${status.database} \${conflicts.length}\` : 'unknown'); }
function App() {
  const [done, setDone] = useState(0);
  window.setDone = setDone;
  window.db = useDatabase();
  return [h(List, { key: 1, done }), h(Other, { key: 2 }), h(Status, { key: 3 })];
}
const database = open('app').then(async db => { await db.exec('CREATE TABLE IF NOT EXISTS todos(id INTEGER PRIMARY KEY, title TEXT, done INTEGER DEFAULT 0); CREATE TABLE IF NOT EXISTS other(x)'); return db; });
createRoot(document.getElementById('root')).render(h(StrictMode, null, h(PiecewiseProvider, { database }, h(App))));`;

test('React: hooks draw again when their rows change and only then; parameters may change', async t => {
  const dir = application(t);
  writeFileSync(join(dir, 'main.js'), REACT);
  writeFileSync(join(dir, 'index.html'), '<!doctype html><meta charset="utf-8"><div id="root"></div><script type="module" src="/main.js"></script>');
  const { build } = await import('vite');
  await build({ root: dir, logLevel: 'error', configFile: false });
  const page = await (await browser(t, join(folder(t), 'profile'))).newPage();
  const problems = [];
  page.on('pageerror', error => problems.push(error.message));
  page.on('console', message => { if (message.type() === 'error') problems.push(message.text()); });
  await page.goto(await files(t, join(dir, 'dist')));
  const shows = (id, text) => until(() => page.locator(`#${id}`).textContent().catch(() => null), found => found === text, `${id}: ${text}`);
  await shows('list', '');
  await shows('status', 'null 0');
  await page.evaluate(() => db.run("INSERT INTO todos(title) VALUES ('Milk'), ('Bread')"));
  await shows('list', 'MilkBread');
  const before = await page.evaluate(() => ({ ...drawn }));
  await page.evaluate(() => db.run('INSERT INTO other VALUES (1)'));
  await shows('other', '1');
  const after = await page.evaluate(() => ({ ...drawn }));
  assert.equal(after.list, before.list, 'what did not change is not drawn again');
  assert.ok(after.other > before.other);
  await page.evaluate(() => db.run('UPDATE todos SET done = 1 WHERE id = 1'));
  await shows('list', 'Bread');
  await page.evaluate(() => setDone(1));
  await shows('list', 'Milk');
  await page.evaluate(() => db.exec('DROP TABLE other'));
  await page.evaluate(() => db.exec('ALTER TABLE todos RENAME TO gone'));
  await shows('list', 'SQL');
  assert.deepEqual(problems.filter(text => !/favicon|404/.test(text)), []);
});

test('React on a server renders what is known there: that nothing is', async t => {
  const dir = application(t);
  writeFileSync(join(dir, 'server.js'), `import { createElement as h } from 'react';
    import { renderToString } from 'react-dom/server';
    import { PiecewiseProvider, useConflicts, useQuery, useStatus } from 'piecewise/react';
    const Page = () => { const { rows, isLoading } = useQuery('SELECT 1'); return [rows.length, isLoading, useStatus() === undefined, useConflicts().length].join(); };
    console.log(renderToString(h(PiecewiseProvider, { database: null }, h(Page))));
    try { renderToString(h(Page)); } catch (error) { console.log(error.code, error.hint); }`);
  assert.match(execFileSync('node', ['server.js'], { cwd: dir, encoding: 'utf8' }), /^0,true,true,0\nVALUE wrap it in <PiecewiseProvider/);
});

test('Vue, Svelte and Solid show the same', async t => {
  const dir = application(t);
  const { open } = await at(dir, 'node.js');
  const db = await open('x', { memory: true });
  t.after(() => db.close());
  await db.exec("CREATE TABLE t(id INTEGER PRIMARY KEY, a); INSERT INTO t VALUES (1, 'x'), (2, 'y')");
  const sql = 'SELECT a FROM t WHERE id = ?';

  const { createApp, effectScope, nextTick, ref } = await import('vue');
  const vue = await at(dir, 'vue.js');
  const app = createApp({});
  app.use(vue.piecewise(db));
  const scope = effectScope();
  const id = ref(1);
  const rows = app.runWithContext(() => scope.run(() => vue.useQuery(sql, () => [id.value])));
  await until(() => rows.value.rows[0]?.a, a => a === 'x', 'Vue');
  id.value = 2;
  await nextTick();
  await until(() => rows.value.rows[0]?.a, a => a === 'y', 'Vue with another parameter');
  await db.run("UPDATE t SET a = 'z' WHERE id = 2");
  await until(() => rows.value.rows[0]?.a, a => a === 'z', 'Vue after a write');
  scope.stop();
  assert.throws(() => createApp({}).runWithContext(() => vue.useStore()), { code: 'VALUE' });

  const { get } = await import('svelte/store');
  const svelte = (await at(dir, 'svelte.js')).piecewise(db);
  const seen = [];
  const stop = svelte.query(sql, [1]).subscribe(value => seen.push(value));
  assert.equal(seen[0].isLoading, true, 'at once, by the contract');
  await until(() => seen.at(-1).rows[0]?.a, a => a === 'x', 'Svelte');
  stop();
  const status = svelte.status;
  const ends = status.subscribe(() => {});
  await until(() => get(status), found => found?.database === null, 'its status');
  ends();

  // In Node Solid renders for a server, where effects do not run: its signals are tested with its browser build.
  writeFileSync(join(dir, 'solid.mjs'), `import { createRoot, createSignal } from 'solid-js';
    import { open } from 'piecewise'; import { piecewise } from 'piecewise/solid';
    const db = await open('x', { memory: true });
    await db.exec("CREATE TABLE t(id INTEGER PRIMARY KEY, a); INSERT INTO t VALUES (1, 'x'), (2, 'y')");
    const until = async work => { while (!work()) await new Promise(resolve => setTimeout(resolve, 5)); };
    await createRoot(async end => {
      const [id, setId] = createSignal(1);
      const rows = piecewise(db).query('${sql}', () => [id()]);
      await until(() => rows().rows[0]?.a === 'x');
      setId(2);
      await until(() => rows().rows[0]?.a === 'y');
      await db.run("UPDATE t SET a = 'z'");
      await until(() => rows().rows[0]?.a === 'z');
      end();
    });
    console.log('same');
    await db.close();`);
  assert.equal(execFileSync('node', ['--conditions', 'browser', '--conditions', 'node', 'solid.mjs'], { cwd: dir, encoding: 'utf8', timeout: 30_000 }).trim(), 'same');
});

const SCHEMA = `CREATE TABLE person(id INTEGER PRIMARY KEY, name TEXT NOT NULL, born INTEGER, picture BLOB, big INTEGER);
  CREATE TABLE pet(id INTEGER PRIMARY KEY, name TEXT NOT NULL, owner INTEGER REFERENCES person(id), weight REAL);
  INSERT INTO person VALUES (1, 'Ada', 1815, x'00ff', 9007199254740993), (2, 'Bob', NULL, NULL, -5), (3, 'Cleo', 1900, x'', 0);
  INSERT INTO pet VALUES (10, 'Rex', 1, 12.5), (11, 'Tom', 1, NULL), (12, 'Ada', 2, 3)`;

/** A database and a file of SQLite's own that hold the same. */
async function both(t) {
  const dir = application(t);
  const { open } = await at(dir, 'node.js');
  const db = await open('x', { memory: true });
  t.after(() => db.close());
  await db.exec(SCHEMA);
  const file = join(dir, 'reference.db');
  sqlite(file, SCHEMA);
  return { dir, db, file };
}

test('Kysely answers as SQLite does: joins with columns of one name, returning, transactions, every kind of value', async t => {
  const { dir, db, file } = await both(t);
  const { PiecewiseDialect } = await at(dir, 'kysely.js');
  const { Kysely, sql } = await import('kysely');
  for (const config of [undefined, {}, { database: Promise.resolve(db) }]) assert.throws(() => new PiecewiseDialect(config), { name: 'PiecewiseError', code: 'VALUE', message: /open database/ });
  const log = [];
  const k = new Kysely({ dialect: new PiecewiseDialect({ database: db }), log: event => log.push(event) });
  /** The rows of a query's objects are those that SQLite gives for its text. */
  const same = async query => {
    const { sql, parameters } = query.compile();
    const found = await query.execute();
    assert.deepEqual(found.map(row => Object.values(row)), reference(file, [[sql, parameters]])[0], sql);
    return found;
  };
  await same(k.selectFrom('person').selectAll().orderBy('id'));
  await same(k.selectFrom('person').select(['name', k.fn.countAll().as('n')]).where('born', 'is not', null).groupBy('name').having(eb => eb.fn.countAll(), '>', 0).orderBy('name'));
  const joined = await same(k.selectFrom('person').innerJoin('pet', 'pet.owner', 'person.id').selectAll().orderBy('pet.id'));
  assert.deepEqual(Object.keys(joined[0]), ['id', 'name', 'born', 'picture', 'big', 'id:1', 'name:1', 'owner', 'weight'], 'no column is lost');
  await same(k.selectFrom('person').leftJoin('pet', 'pet.owner', 'person.id').select(['person.name as owner', 'pet.name as pet', 'pet.weight']).orderBy('person.id').orderBy('pet.id'));
  await same(k.insertInto('person').values({ name: 'Dora', born: null, picture: new Uint8Array([1, 2, 3]), big: 2n ** 62n }).returningAll());
  await same(k.updateTable('person').set(eb => ({ born: eb('born', '+', 1) })).where('id', 'in', [1, 3]).returning(['id', 'born']));
  await same(k.deleteFrom('pet').where('weight', 'is', null).returning('name'));
  await same(k.with('old', q => q.selectFrom('person').select('id').where('born', '<', 1850)).selectFrom('old').selectAll());
  const inserted = await k.insertInto('pet').values([{ name: 'Kim', owner: 2 }, { name: 'Lou', owner: 2 }]).executeTakeFirst();
  assert.deepEqual([inserted.insertId, inserted.numInsertedOrUpdatedRows], [14n, 2n]);
  assert.deepEqual((await k.updateTable('pet').set({ weight: 1 }).where('owner', '=', 2).executeTakeFirst()).numUpdatedRows, 3n);
  assert.equal((await k.deleteFrom('pet').where('id', '>', 12).executeTakeFirst()).numDeletedRows, 2n);

  await k.transaction().execute(async trx => {
    await trx.insertInto('pet').values({ id: 20, name: 'In', owner: 1 }).execute();
    assert.equal((await trx.selectFrom('pet').select('name').where('id', '=', 20).executeTakeFirst()).name, 'In');
  });
  await assert.rejects(k.transaction().execute(async trx => { await trx.deleteFrom('pet').execute(); throw new Error('changed my mind'); }), { message: 'changed my mind' });
  await assert.rejects(k.transaction().execute(trx => trx.insertInto('pet').values({ id: 20, name: 'twice' }).execute()), { code: 'CONSTRAINT' });
  const controlled = await k.startTransaction().execute();
  await controlled.insertInto('pet').values({ id: 30, name: 'kept' }).execute();
  const save = await controlled.savepoint('here').execute();
  await save.insertInto('pet').values({ id: 31, name: 'dropped' }).execute();
  await save.rollbackToSavepoint('here').execute();
  await controlled.commit().execute();
  assert.deepEqual((await k.selectFrom('pet').select('id').orderBy('id').execute()).map(row => row.id), [10, 12, 20, 30]);
  assert.deepEqual((await sql`SELECT ${1} AS one`.execute(k)).rows, [{ one: 1 }]);
  assert.deepEqual((await k.introspection.getTables()).map(table => table.name).sort(), ['person', 'pet']);
  assert.ok(log.length > 10);
  await k.destroy();
  assert.equal((await db.query('SELECT count(*) AS n FROM pet'))[0].n, 4, 'the database is closed by who opened it');
});

test('Drizzle answers as SQLite does: joins with columns of one name, relations, returning, transactions, batches', async t => {
  const { dir, db, file } = await both(t);
  const { drizzle } = await at(dir, 'drizzle.js');
  for (const database of [undefined, {}, Promise.resolve(db)]) assert.throws(() => drizzle(database), { name: 'PiecewiseError', code: 'VALUE', message: /open database/ });
  const { desc, eq, gt, relations, sql } = await import('drizzle-orm');
  const { blob, integer, real, sqliteTable, text } = await import('drizzle-orm/sqlite-core');
  const person = sqliteTable('person', { id: integer().primaryKey(), name: text().notNull(), born: integer(), picture: blob({ mode: 'buffer' }), big: integer() });
  const pet = sqliteTable('pet', { id: integer().primaryKey(), name: text().notNull(), owner: integer().references(() => person.id), weight: real() });
  const schema = { person, pet, people: relations(person, ({ many }) => ({ pets: many(pet) })), pets: relations(pet, ({ one }) => ({ person: one(person, { fields: [pet.owner], references: [person.id] }) })) };
  const d = drizzle(db, { schema });
  const flat = row => Object.values(row).flatMap(value => (value !== null && typeof value === 'object' && !(value instanceof Uint8Array) ? flat(value) : [value instanceof Uint8Array ? new Uint8Array(value) : value]));
  const same = async query => {
    const { sql, params } = query.toSQL();
    const found = await query;
    assert.deepEqual(found.map(flat), reference(file, [[sql, params]])[0], sql);
    return found;
  };
  await same(d.select().from(person).orderBy(person.id));
  const joined = await same(d.select().from(person).innerJoin(pet, eq(pet.owner, person.id)).orderBy(pet.id));
  assert.deepEqual([joined[0].person.name, joined[0].pet.name, joined[2].person.id, joined[2].pet.id], ['Ada', 'Rex', 2, 12]);
  await same(d.select({ owner: person.name, name: pet.name, weight: pet.weight }).from(pet).innerJoin(person, eq(pet.owner, person.id)).where(gt(pet.id, 10)).orderBy(desc(pet.id)));
  await same(d.insert(person).values({ name: 'Dora', born: null, picture: Buffer.from([1, 2, 3]), big: 7 }).returning());
  await same(d.update(person).set({ born: sql`${person.born} + 1` }).where(eq(person.id, 1)).returning({ id: person.id, born: person.born }));
  await same(d.delete(pet).where(eq(pet.id, 11)).returning());
  assert.equal((await d.select().from(person).where(eq(person.id, 1)).get()).big, 9007199254740993n);
  assert.equal(await d.select().from(person).where(eq(person.id, 99)).get(), undefined);
  assert.deepEqual((await d.query.person.findMany({ columns: { name: true }, with: { pets: { columns: { name: true } } }, orderBy: person.id, limit: 2 })), [{ name: 'Ada', pets: [{ name: 'Rex' }] }, { name: 'Bob', pets: [{ name: 'Ada' }] }]);
  const { changes, lastInsertRowid } = await d.insert(pet).values({ name: 'Kim', owner: 2 }).run();
  assert.deepEqual([changes, lastInsertRowid], [1, 13]);

  const name = await d.transaction(async tx => {
    await tx.insert(pet).values({ id: 20, name: 'In', owner: 1 });
    await tx.transaction(async inner => { await inner.insert(pet).values({ id: 21, name: 'dropped' }); inner.rollback(); }).catch(() => {});
    assert.equal((await tx.query.pet.findMany()).length, 4);
    return (await tx.select().from(pet).where(eq(pet.id, 20)).get()).name;
  });
  assert.equal(name, 'In');
  await assert.rejects(d.transaction(async tx => { await tx.delete(pet); throw new Error('changed my mind'); }), { message: 'changed my mind' });
  await assert.rejects(d.transaction(async tx => { await tx.delete(pet); tx.rollback(); }), /[Rr]ollback/);
  const [first, second] = await d.batch([d.insert(pet).values({ id: 40, name: 'Batch' }).returning(), d.select().from(pet).orderBy(pet.id)]);
  assert.deepEqual([first[0].id, second.map(row => row.id)], [40, [10, 12, 13, 20, 40]]);
});

test('types of every part, and those made of a schema, pass a strict compiler', async t => {
  const dir = application(t);
  const server = await new Server(t, join(dir, 'server')).start();
  const device = new Device(join(dir, 'home'));
  const file = join(dir, 'app.db');
  sqlite(file, `CREATE TABLE todos(id TEXT PRIMARY KEY, title TEXT, note TEXT NOT NULL DEFAULT '', votes INTEGER NOT NULL DEFAULT 0) STRICT; CREATE TABLE "order items"("line ""no""" INTEGER PRIMARY KEY, class, "2" BLOB); CREATE TABLE "Uint8Array"(id INTEGER PRIMARY KEY, b BLOB)`);
  device.run('join', server.invite('app/*=admin'));
  device.run('track', file, 'todos', '--as', 'app', '--text', 'todos.note', '--counter', 'todos.votes');
  writeFileSync(join(dir, 'tables.ts'), device.run('types', file));
  cpSync(join(tests, 'browser/types-frameworks.ts'), join(dir, 'use.ts'));
  execFileSync(join(tests, 'node_modules/.bin/tsc'), ['--noEmit', '--strict', '--exactOptionalPropertyTypes', '--skipLibCheck', 'true', '--target', 'es2022', '--module', 'nodenext', '--lib', 'esnext,dom', '--types', '', 'use.ts', 'tables.ts'], { cwd: dir, encoding: 'utf8', stdio: 'pipe' });
  // Our own declarations are checked with those of React, Vue and Solid; the drivers' libraries have mistakes of their own in theirs.
  writeFileSync(join(dir, 'own.ts'), "import 'piecewise/store'; import 'piecewise/react'; import 'piecewise/svelte'; import 'piecewise/vue'; import 'piecewise/solid'; import './tables.js';");
  execFileSync(join(tests, 'node_modules/.bin/tsc'), ['--noEmit', '--strict', '--exactOptionalPropertyTypes', '--skipLibCheck', 'false', '--target', 'es2022', '--module', 'nodenext', '--lib', 'esnext,dom', '--types', '', 'own.ts'], { cwd: dir, encoding: 'utf8', stdio: 'pipe' });
});

test('example: the React to-do list, built by Vite, works offline and syncs', async t => {
  const dir = application(t, join(examples, 'react-todo'));
  const { build } = await import('vite');
  await build({ root: dir, logLevel: 'error' });
  const server = await new Server(t, join(folder(t), 'server')).start();
  const url = await files(t, join(dir, 'dist'));
  const pages = [];
  for (const n of [0, 1]) {
    const page = await (await browser(t, join(folder(t), `profile${n}`))).newPage();
    page.on('pageerror', error => assert.fail(error.message));
    await page.goto(url);
    pages.push(page);
  }
  const [one, two] = pages;
  const add = async (page, title) => { await page.getByLabel('New').fill(title); await page.getByRole('button', { name: 'Add' }).click(); };
  await add(one, 'Before joining');
  await one.getByText('Before joining').waitFor();
  for (const page of pages) {
    await page.getByLabel('Invite').fill(server.invite('todos/*=write'));
    await page.getByRole('button', { name: 'Sync' }).click();
    await page.getByText('in sync').waitFor();
  }
  await two.getByText('Before joining').waitFor();
  // The box shows what the database says, so it changes a moment after the click.
  await two.getByLabel('online').click();
  await two.getByText('offline').waitFor();
  await two.getByRole('checkbox', { name: 'Before joining' }).click();
  await add(two, 'Written offline');
  await add(one, 'Written online');
  await two.getByText('offline, 2 waiting').waitFor();
  await two.getByLabel('online').click();
  for (const page of pages) {
    await page.getByText('Written offline').waitFor();
    await page.locator('li.done').waitFor();
    await page.getByRole('heading', { name: 'To do: 2' }).waitFor();
    assert.deepEqual(await page.locator('li').allTextContents(), ['Written offline✕', 'Written online✕', 'Before joining✕']);
    assert.equal(await page.locator('li.done').textContent(), 'Before joining✕');
  }
  assert.equal(sqlite(join(server.data, 'todos.db'), 'SELECT count(*), sum(done) FROM todos'), '3|1');
});

// Vite 8 is the example's own. Vite 7 compiles JSX to calls of a global React unless told otherwise.
for (const [vite, options] of [['vite', {}], ['vite7', { esbuild: { jsx: 'automatic' } }]]) {
  test(`example: the React to-do list is drawn under the dev server of ${vite}`, async t => {
    const dir = application(t, join(examples, 'react-todo'));
    const { createServer } = await import(vite);
    const server = await createServer({ root: dir, logLevel: 'error', server: { host: '127.0.0.1', port: 0 }, ...options });
    atEnd(t, () => server.close());
    await server.listen();
    const page = await (await browser(t, join(folder(t), 'profile'))).newPage();
    const problems = [];
    page.on('pageerror', error => problems.push(error.message));
    await page.goto(`http://127.0.0.1:${server.httpServer.address().port}`);
    // Vite loads the page again once it has prepared what the page imports: the database may be opening just then.
    const seen = async () => (problems.length ? 'problems' : page.innerText('#root'));
    await until(() => seen().catch(() => 'loading'), text => /^To do: 0/.test(text) || text === 'problems', 'the list');
    assert.deepEqual(problems, []);
    await page.getByLabel('New').fill('Milk');
    await page.getByRole('button', { name: 'Add' }).click();
    await page.getByRole('heading', { name: 'To do: 1' }).waitFor();
    assert.deepEqual(problems, []);
  });
}

test('example: the plain page runs from a folder', async t => {
  const dir = folder(t);
  cpSync(join(examples, 'plain-page'), dir, { recursive: true });
  symlinkSync(npm, join(dir, 'piecewise'));
  const server = await new Server(t, join(folder(t), 'server')).start();
  const page = await (await browser(t, join(folder(t), 'profile'))).newPage();
  page.on('pageerror', error => assert.fail(error.message));
  await page.goto(await files(t, dir), { waitUntil: 'load' });
  await until(() => page.evaluate(() => document.getElementById('add').onsubmit !== null), Boolean, 'the script');
  await page.getByLabel('Note').fill('A note');
  await page.getByRole('button', { name: 'Add' }).click();
  await page.getByText('A note').waitFor();
  await page.getByLabel('Invite').fill('nonsense');
  await page.getByRole('button', { name: 'Sync' }).click();
  await page.getByText('copy the whole line').waitFor();
  await page.getByLabel('Invite').fill(server.invite('todos/*=write'));
  await page.getByRole('button', { name: 'Sync' }).click();
  await page.getByText('ask for an invite that grants it').waitFor();
  await page.getByLabel('Invite').fill(server.invite('notes/*=write'));
  await page.getByRole('button', { name: 'Sync' }).click();
  await page.getByText('in sync').waitFor();
  const atServer = () => { try { return sqlite(join(server.data, 'notes.db'), 'SELECT text FROM notes'); } catch { return 'no table yet'; } };
  await until(atServer, found => found === 'A note', 'the note at the server');
});

test('example: the Node script joins, writes and prints', async t => {
  const dir = application(t, join(examples, 'node'));
  const server = await new Server(t, join(folder(t), 'server')).start();
  const run = (...args) => execFileSync('node', ['todo.js', ...args], { cwd: dir, encoding: 'utf8', stdio: 'pipe' });
  assert.equal(run(server.invite('todos/*=write'), 'Buy milk'), '· Buy milk\n');
  sqlite(join(server.data, 'todos.db'), 'UPDATE todos SET done = 1');
  assert.equal(run(server.invite('todos/*=write'), 'Buy bread'), '· Buy bread\n✓ Buy milk\n');
  assert.throws(() => run('piecewise1-nonsense'), error => error.status === 1 && /hint: copy the whole line/.test(error.stderr));
});
