// Browser benchmarks: the package in Chromium with the real server, all in one run. `make bench-browser` puts them into
// BENCHMARKS.md, in place of their section of before, as `tests/src/page.rs` does for the others.
import { brotliCompressSync, constants } from 'node:zlib';
import { existsSync, readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Device, Server, blank, browser, folder, sqlite } from './lib.mjs';

process.env.PROFILE = 'release';
const ROWS = Number(process.env.ROWS ?? 100_000);
const EDITS = 200;
const after = [];
const t = { after: work => after.push(work) };
const dir = folder(t);
const npm = fileURLToPath(new URL('../../wasm/npm/', import.meta.url));

const server = await new Server(t, join(dir, 'server')).start();
const grant = 'bench/*=admin';
const device = new Device(join(dir, 'home'));
const file = join(dir, 'native.db');
sqlite(file, `PRAGMA journal_mode = WAL;
  CREATE TABLE items(id INTEGER PRIMARY KEY, ref TEXT, name TEXT, email TEXT, street TEXT, city TEXT, amount REAL, day TEXT, done INTEGER, note TEXT);
  WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ${ROWS})
  INSERT INTO items SELECT i, hex(randomblob(8)), 'name ' || (i * 7919 % 4096), 'user' || i || '@x.example', (i % 200) || ' street', 'city ' || (i * 31 % 997),
    i / 100.0, '2026-01-02', i & 1, 'some words ' || (i * 17 % 4096) || ' and ' || (i * 13 % 4096) || ' and ' || (i * 11 % 4096) FROM n;`);
device.run('join', server.invite(grant));
device.run('track', file, 'items', '--as', 'bench');
device.run('sync', file, '--quiet');

const context = await browser(t, join(dir, 'profile'));
let page = await blank(context, server);
const median = list => [...list].sort((a, b) => a - b)[Math.floor(list.length / 2)];

const first = await page.evaluate(async ([invite, rows]) => {
  window.db = await piecewise.open('bench');
  const started = performance.now();
  await db.join(invite, { database: 'bench' });
  for (;;) {
    await db.level();
    const status = await db.status();
    if (status.tables[0]?.rows === rows) return performance.now() - started;
    await new Promise(resolve => setTimeout(resolve, 20));
  }
}, [server.invite(grant), ROWS]);

const push = await page.evaluate(async rows => {
  await db.exec('CREATE TABLE made(id INTEGER PRIMARY KEY, ref TEXT, name TEXT, amount REAL, note TEXT)');
  await db.track('made');
  await db.level();
  await db.disconnect();
  const write = performance.now();
  await db.exec(`WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ${rows})
    INSERT INTO made SELECT i, hex(randomblob(8)), 'name ' || (i * 7919 % 4096), i / 100.0, 'some words ' || (i * 17 % 4096) FROM n`);
  const wrote = performance.now() - write;
  const started = performance.now();
  await db.connect();
  await db.level();
  return { wrote, pushed: performance.now() - started };
}, ROWS);

// One row, from the browser's commit to the native file of a `watch`, polled.
const { spawn } = await import('node:child_process');
const root = fileURLToPath(new URL('../../', import.meta.url));
const watch = spawn(join(root, 'target/release/piecewise'), ['watch', file, '--json'], { env: { ...process.env, PIECEWISE_HOME: join(dir, 'home') } });
t.after(() => watch.kill());
await new Promise(resolve => watch.stdout.once('data', resolve));
const heard = [];
let arrived = () => {};
watch.stdout.on('data', () => arrived());
for (let n = 0; n < EDITS; n++) {
  const there = new Promise(resolve => { arrived = resolve; });
  const started = performance.now();
  await page.evaluate(n => db.run('UPDATE items SET name = ? WHERE id = ?', [`live ${n}`, 1 + n * 37]), n);
  await there;
  heard.push(performance.now() - started);
  await new Promise(resolve => setTimeout(resolve, 20));
}
heard.sort((a, b) => a - b);

const memory = await (async () => {
  const session = await context.newCDPSession(page);
  const { usedSize } = await session.send('Runtime.getHeapUsage');
  return usedSize;
})();
await page.close();
const reopened = [];
for (let n = 0; n < 5; n++) {
  page = await blank(context, server);
  reopened.push(await page.evaluate(async () => {
    const started = performance.now();
    window.db = await piecewise.open('bench');
    await db.query('SELECT * FROM items WHERE id = 500');
    return performance.now() - started;
  }));
  await page.close();
}

const files = [...readdirSync(npm), ...readdirSync(join(npm, 'engine')).map(f => `engine/${f}`)].filter(f => /\.(js|wasm)$/.test(f));
const brotli = bytes => brotliCompressSync(bytes, { params: { [constants.BROTLI_PARAM_QUALITY]: 11, [constants.BROTLI_PARAM_LGWIN]: 24 } }).length;
const size = files.map(f => readFileSync(join(npm, f))).reduce((sum, bytes) => sum + brotli(bytes), 0);
const rate = ms => Math.round(ROWS / ms * 1000).toLocaleString('en');
const section = `## In the browser

Chromium, headless, with the release server, \`make bench-browser\`; ${ROWS.toLocaleString('en')} rows in OPFS.

| what | measured | aim |
|---|---|---|
| first sync into an empty database | ${rate(first)} rows/s | 40,000 rows/s |
| ${ROWS.toLocaleString('en')} rows written by one statement, tracked | ${rate(push.wrote)} rows/s | |
| capture and push of them | ${rate(push.pushed)} rows/s | |
| one row, browser to a native \`watch\`: p50 | ${heard[EDITS / 2].toFixed(1)} ms | |
| p99 | ${heard[Math.floor(EDITS * 0.99)].toFixed(1)} ms | |
| opening again, to the first query | ${median(reopened).toFixed(0)} ms | 500 ms |
| the package, brotli | ${(size / 1e6).toFixed(2)} MB | 1.2 MB |
| JavaScript heap of the page (the worker's memory is apart) | ${(memory / 1e6).toFixed(1)} MB | |
`;
console.log(section);
const path = join(root, 'BENCHMARKS.md');
if (existsSync(path) && process.argv[2] === 'write') {
  const parts = readFileSync(path, 'utf8').trimEnd().split('\n\n## ').map((part, n) => (n ? `## ${part}` : part));
  const at = parts.findIndex(part => part.startsWith('## In the browser\n'));
  parts.splice(at < 0 ? parts.length : at, at < 0 ? 0 : 1, section.trimEnd());
  writeFileSync(path, `${parts.join('\n\n')}\n`);
}
for (const work of after.reverse()) await work();
process.exit(0);
