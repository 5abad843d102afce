import { cpSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'node:test';
import { fileURLToPath } from 'node:url';
import { browser, files, folder } from './lib.mjs';
const npm = fileURLToPath(new URL('../../wasm/npm/', import.meta.url));
test('reload', async t => {
  const dir = folder(t);
  symlinkSync(npm, join(dir, 'piecewise'));
  writeFileSync(join(dir, 'index.html'), `<script type="importmap">{ "imports": { "piecewise": "./piecewise/index.js" } }</script><script type="module">
import { open } from 'piecewise';
window.state='opening';
window.opening = open('notes').then(async db => { window.state='opened'; await db.exec('CREATE TABLE IF NOT EXISTS notes(id)'); window.state='made'; db.on('error', e => window.err = JSON.stringify(e)); window.rows = await db.query('SELECT count(*) FROM notes'); window.state='done'; }).catch(e => { window.state = 'failed '+e.code+' '+e.message; });
</script>`);
  const url = await files(t, dir);
  const page = await (await browser(t, join(folder(t), 'profile'))).newPage();
  await page.goto(url);
  let worst = 0, failed = 0;
  const rounds = +(process.env.ROUNDS ?? 60);
  for (let n = 0; n < rounds; n++) {
    for (let k = 0; k < 1 + n % 3; k++) {
      await new Promise(r => setTimeout(r, Math.random() * 500));
      await page.reload({ waitUntil: 'commit' });
    }
    const began = Date.now();
    let state;
    while (Date.now() - began < 25000) { state = await page.evaluate(() => window.state).catch(() => 'x'); if (state === 'done' || /^failed/.test(state)) break; await new Promise(r => setTimeout(r, 10)); }
    worst = Math.max(worst, Date.now() - began);
    if (state !== 'done') { failed++; console.log(n, state, await page.evaluate(() => window.err)); }
  }
  console.log({ rounds, worst, failed });
});
