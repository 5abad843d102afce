// How soon the board is there for somebody who comes with a slow line and a slow machine, and what is loaded for it. `make bench-cold` puts it into BENCHMARKS.md.
import { existsSync, readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { connect, createServer } from 'node:net';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { brotliCompressSync, constants } from 'node:zlib';
import { Server, browser, folder } from './lib.mjs';

process.env.PROFILE ??= 'release';
const BITS = 1_600_000, DELAY_MS = 75, SLOWER = 4, RUNS = Number(process.env.RUNS ?? 3);
const after = [];
const t = { after: work => after.push(work) };
const dir = folder(t);
const server = await new Server(t, join(dir, 'server')).start();
const median = list => [...list].sort((a, b) => a - b)[Math.floor(list.length / 2)];

// The line: what passes it in one direction, whatever the connection, passes one after another; each byte comes later by the delay.
let passed = 0;
function line(from, to, free) {
  from.on('data', bytes => {
    from.pause();
    free.at = Math.max(free.at, performance.now()) + bytes.length * 8000 / BITS;
    passed += bytes.length;
    setTimeout(() => { if (!to.destroyed) to.write(bytes); }, free.at - performance.now() + DELAY_MS);
    setTimeout(() => from.resume(), free.at - performance.now());
  });
  from.on('end', () => setTimeout(() => to.end(), Math.max(0, free.at - performance.now()) + DELAY_MS + 1));
  from.on('error', () => to.destroy());
}
const up = { at: 0 }, down = { at: 0 };
const slow = createServer(near => {
  const far = connect(Number(new URL(server.url).port), '127.0.0.1');
  line(near, far, up);
  line(far, near, down);
});
await new Promise(resolve => slow.listen(0, '127.0.0.1', resolve));
after.push(() => slow.close());
const url = `http://127.0.0.1:${slow.address().port}`;

async function visit(context, invites) {
  const page = await context.newPage();
  const session = await context.newCDPSession(page);
  await session.send('Emulation.setCPUThrottlingRate', { rate: SLOWER });
  const before = passed;
  const started = performance.now();
  await page.goto(invites ? `${url}/#invites=${invites.join(',')}` : url, { waitUntil: 'commit' });
  await page.waitForFunction(() => document.body?.dataset.ready === 'yes', undefined, { timeout: 120_000 });
  const ready = performance.now() - started;
  const painted = await page.evaluate(() => performance.getEntriesByName('first-contentful-paint')[0]?.startTime);
  const bytes = passed - before;
  // Its service worker keeps the files meanwhile.
  await page.evaluate(() => navigator.serviceWorker.ready);
  await page.close();
  return { ready, painted, bytes };
}

const first = [], second = [];
for (let n = 0; n < RUNS; n++) {
  const context = await browser(t, join(dir, `profile${n}`));
  first.push(await visit(context, [server.invite('board/*=admin'), server.invite('board/*=admin')]));
  second.push(await visit(context));
  await context.close();
}
const seconds = ms => `${(ms / 1000).toFixed(1)} s`;
const size = bytes => (bytes < 1e6 ? `${Math.round(bytes / 1000)} kB` : `${(bytes / 1e6).toFixed(2)} MB`);

const npm = fileURLToPath(new URL('../../wasm/npm/', import.meta.url));
const read = names => names.map(name => readFileSync(join(npm, name)));
const brotli = bytes => brotliCompressSync(bytes, { params: { [constants.BROTLI_PARAM_QUALITY]: 11 } }).length;
const raw = parts => parts.reduce((sum, bytes) => sum + bytes.length, 0);
const packed = parts => parts.reduce((sum, bytes) => sum + brotli(bytes), 0);
const engine = read(['engine/piecewise_wasm_bg.wasm']);
const scripts = read([...readdirSync(npm).filter(name => name.endsWith('.js')), 'engine/piecewise_wasm.js']);

const section = `## Cold start of the page

The board in Chromium, headless, over a line of 1.6 Mbit/s and 150 ms there and back, its page's thread ${SLOWER} times slower; medians of ${RUNS}. \`make bench-cold\`. Ready means that both devices of the board have opened
their databases, with the server known.

| what | first visit | second visit |
|---|---|---|
| something is seen | ${seconds(median(first.map(v => v.painted)))} | ${seconds(median(second.map(v => v.painted)))} |
| ready | ${seconds(median(first.map(v => v.ready)))} | ${seconds(median(second.map(v => v.ready)))} |
| bytes both ways until then | ${size(median(first.map(v => v.bytes)))} | ${size(median(second.map(v => v.bytes)))} |

| part of the package | raw | brotli |
|---|---|---|
| engine (WASM) | ${size(raw(engine))} | ${size(packed(engine))} |
| JavaScript | ${size(raw(scripts))} | ${size(packed(scripts))} |
`;
console.log(section);
if (process.argv[2] === 'write') {
  const path = fileURLToPath(new URL('../../BENCHMARKS.md', import.meta.url));
  const text = existsSync(path) ? readFileSync(path, 'utf8') : '';
  const [intro, ...sections] = text.split(/\n(?=## )/);
  const at = sections.findIndex(one => one.startsWith('## Cold start of the page\n'));
  if (at < 0) sections.push(section); else sections[at] = section;
  writeFileSync(path, [intro, ...sections].map(part => `${part.trim()}\n`).join('\n'));
}
for (const work of after.reverse()) await work();
process.exit(0);
