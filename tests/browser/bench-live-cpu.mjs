// Live queries in Node, in CPU time: what a write costs beside a result of 200,000 rows, also on a machine that is busy with other
// things. `node tests/browser/bench-live-cpu.mjs`.
import { open } from '../../wasm/npm/node.js';

const cpu = () => { const { user, system } = process.cpuUsage(); return (user + system) / 1000; };
const median = list => [...list].sort((a, b) => a - b)[list.length >> 1];
const db = await open('x', { memory: true });
await db.exec(`CREATE TABLE items(id INTEGER PRIMARY KEY, name TEXT, city TEXT, amount REAL, done INTEGER); CREATE TABLE other(x);
  WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 200000) INSERT INTO items SELECT i, 'name ' || (i * 7919 % 4096), 'city ' || (i * 31 % 997), i / 100.0, i & 1 FROM n`);
for (const [sql, write] of [
  ['SELECT * FROM items ORDER BY id', 'UPDATE items SET city = ? WHERE id = ?'],
  ['SELECT name, id FROM items WHERE done < 2 ORDER BY name, id', "UPDATE items SET name = 'name ' || ? WHERE id = ?"],
  ['SELECT DISTINCT id, name, city, amount, done FROM items', "UPDATE items SET city = ? || 'x' WHERE id = ?"],
]) {
  let wake = () => {}, stop;
  const begun = cpu();
  await new Promise(resolve => { stop = db.subscribe(sql, [], () => { resolve(); wake(); }); });
  const first = cpu() - begun, times = [];
  for (let n = 0; n < 25; n++) {
    const there = new Promise(resolve => { wake = resolve; });
    const begun = cpu();
    await db.run(write, [`v${n}`, 1 + n * 3989]);
    await there;
    times.push(cpu() - begun);
  }
  console.log(`${sql}: first ${first.toFixed(0)} ms, one row median ${median(times).toFixed(1)} ms`);
  stop();
}
for (let n = 0; n < 20; n++) await new Promise(resolve => { db.subscribe('SELECT count(*) FROM items WHERE amount > ?', [n], resolve); });
const times = [];
for (let n = 0; n < 50; n++) { const begun = cpu(); await db.run('INSERT INTO other VALUES (?)', [n]); await db.query('SELECT 1'); times.push(cpu() - begun); }
console.log(`a write to another table and the next answer, beside 20 counts: median ${median(times).toFixed(2)} ms`);
await db.close();
