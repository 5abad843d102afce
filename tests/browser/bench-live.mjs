// Live queries in Chromium: how long after a write of one row the listener hears of it, with 200,000 rows, with six tabs, and what
// an unrelated write costs. `make bench-live` puts them into BENCHMARKS.md, in place of their section of before.
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { blank, browser, folder, packageAlone, until } from './lib.mjs';

const ROWS = Number(process.env.ROWS ?? 200_000);
const WRITES = 50;
const after = [];
const t = { after: work => after.push(work) };
const dir = folder(t);
const server = await packageAlone(t);
const context = await browser(t, join(dir, 'profile'));
const median = list => [...list].sort((a, b) => a - b)[Math.floor(list.length / 2)];
const ms = number => `${number < 10 ? number.toFixed(1) : number.toFixed(0)} ms`;

const page = await blank(context, server);
await page.evaluate(async rows => {
  window.db = await piecewise.open('bench');
  await db.exec(`CREATE TABLE items(id INTEGER PRIMARY KEY, name TEXT, city TEXT, amount REAL, done INTEGER); CREATE TABLE other(id INTEGER PRIMARY KEY, x);
    WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ${rows}) INSERT INTO items SELECT i, 'name ' || (i * 7919 % 4096), 'city ' || (i * 31 % 997), i / 100.0, i & 1 FROM n`);
  window.long = [];
  new PerformanceObserver(list => long.push(...list.getEntries().map(entry => entry.duration))).observe({ type: 'longtask' });
}, ROWS);

/** Subscribes in a page; the milliseconds until the first rows came. */
const subscribe = (page, sql) => page.evaluate(sql => new Promise(resolve => {
  const started = performance.now();
  window.wake = () => {};
  db.subscribe(sql, [], rows => { resolve(performance.now() - started); window.rows = rows; wake(performance.timeOrigin + performance.now()); });
}), sql);

/** Writes to rows one after another; for each the milliseconds until the listener heard of it. */
const writes = (page, sql) => page.evaluate(async ([sql, count]) => {
  const times = [];
  long.length = 0;
  for (let n = 0; n < count; n++) {
    const there = new Promise(resolve => { wake = resolve; });
    const started = performance.now();
    await db.run(sql, [`${n}`, 1 + n * 3989]);
    await there;
    times.push(performance.now() - started);
    await new Promise(resolve => setTimeout(resolve, 50));
  }
  return { times, long: long.length };
}, [sql, WRITES]);

const first = await subscribe(page, 'SELECT * FROM items ORDER BY id');
const plain = await writes(page, 'UPDATE items SET city = ? WHERE id = ?');
await page.reload();
await page.evaluate(async () => {
  window.piecewise = await import('/piecewise/index.js');
  window.db = await piecewise.open('bench');
  window.long = [];
  new PerformanceObserver(list => long.push(...list.getEntries().map(entry => entry.duration))).observe({ type: 'longtask' });
});
await subscribe(page, 'SELECT name, id FROM items WHERE done < 2 ORDER BY name, id');
const moving = await writes(page, "UPDATE items SET name = 'name ' || ? WHERE id = ?");
await page.reload();
await page.evaluate(async () => { window.piecewise = await import('/piecewise/index.js'); window.db = await piecewise.open('bench'); window.long = []; });
await subscribe(page, 'SELECT DISTINCT id, name, city, amount, done FROM items');
// Other values than above: what does not change is not told.
const whole = await writes(page, "UPDATE items SET city = 'whole ' || ? WHERE id = ?");
await page.close();

const tabs = [];
for (let n = 0; n < 6; n++) {
  const tab = await blank(context, server);
  await tab.evaluate(async () => { window.db = await piecewise.open('bench'); });
  await subscribe(tab, 'SELECT * FROM items ORDER BY id');
  tabs.push(tab);
}
const last = [];
for (let n = 0; n < WRITES; n++) {
  const told = tabs.map(tab => tab.evaluate(() => new Promise(resolve => { wake = resolve; })));
  await Promise.all(tabs.map(tab => tab.evaluate(() => 0)));
  const started = await tabs[3].evaluate(async n => { const at = performance.timeOrigin + performance.now(); await db.run('UPDATE items SET city = ? WHERE id = ?', [`tab ${n}`, 1 + n * 3989]); return at; }, n);
  last.push(Math.max(...await Promise.all(told)) - started);
}
for (const tab of tabs.slice(1)) await tab.close();

const [tab] = tabs;
await tab.evaluate(async () => { await Promise.all(Array.from({ length: 20 }, (_, n) => new Promise(resolve => { db.subscribe('SELECT count(*) FROM items WHERE amount > ?', [n], resolve); }))); });
const unrelated = await tab.evaluate(async count => {
  const times = [];
  for (let n = 0; n < count; n++) {
    const started = performance.now();
    await db.run('INSERT INTO other(x) VALUES (?)', [n]);
    await db.query('SELECT 1');
    times.push(performance.now() - started);
    await new Promise(resolve => setTimeout(resolve, 20));
  }
  return times;
}, WRITES);
const alone = await until(() => tab.evaluate(async () => { const started = performance.now(); await db.query('SELECT 1'); return performance.now() - started; }), () => true);

const section = `## Live queries in the browser

Chromium, headless, \`make bench-live\`; ${ROWS.toLocaleString('en')} rows of five columns in OPFS. From the call that writes one row until the listener has the new rows, ${WRITES} writes each: median, worst.

| what | median | worst | aim |
|---|---|---|---|
| \`SELECT * … ORDER BY id\` | ${ms(median(plain.times))} | ${ms(Math.max(...plain.times))} | 50 ms |
| \`… WHERE … ORDER BY name, id\`, the row moves | ${ms(median(moving.times))} | ${ms(Math.max(...moving.times))} | 50 ms |
| a query that runs as a whole (\`SELECT DISTINCT\` of all columns) | ${ms(median(whole.times))} | ${ms(Math.max(...whole.times))} | |
| the last of six tabs | ${ms(median(last))} | ${ms(Math.max(...last))} | 100 ms |
| a write to another table, and the next answer, beside 20 live counts | ${ms(median(unrelated))} | ${ms(Math.max(...unrelated))} | as without them |
| an answer alone | ${ms(alone)} | | |
| long tasks (50 ms) on the page in the first two rows | ${plain.long + moving.long} | | none |
| the first ${ROWS.toLocaleString('en')} rows | ${ms(first)} | | |
`;
console.log(section);
const path = join(fileURLToPath(new URL('../../', import.meta.url)), 'BENCHMARKS.md');
if (process.argv[2] === 'write') {
  const parts = readFileSync(path, 'utf8').trimEnd().split('\n\n## ').map((part, n) => (n ? `## ${part}` : part));
  const at = parts.findIndex(part => part.startsWith('## Live queries in the browser\n'));
  const behind = parts.findIndex(part => part.startsWith('## In the browser\n')) + 1;
  parts.splice(at < 0 ? behind || parts.length : at, at < 0 ? 0 : 1, section.trimEnd());
  writeFileSync(path, `${parts.join('\n\n')}\n`);
}
for (const work of after.reverse()) await work();
process.exit(0);
