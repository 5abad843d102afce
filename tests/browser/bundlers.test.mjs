// The package in applications that are built: by Vite, webpack, esbuild and Next with their default settings, from a CDN, and
// rendered on a server. Each build runs in a browser, keeps its rows, and syncs with a real server.
import assert from 'node:assert/strict';
import { execFileSync, spawn } from 'node:child_process';
import { copyFileSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'node:test';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { Server, atEnd, browser, files, folder, sqlite, until } from './lib.mjs';

const tests = fileURLToPath(new URL('..', import.meta.url));
const npm = fileURLToPath(new URL('../../wasm/npm/', import.meta.url));

const APP = `import { open } from 'piecewise';
export async function app(options) {
  const invite = new URL(location).searchParams.get('invite');
  const db = await open('app', options);
  if (invite) {
    await db.join(invite, { database: 'app' });
    await db.exec('CREATE TABLE IF NOT EXISTS todos(id TEXT PRIMARY KEY, title TEXT)');
    await db.track('todos');
    await db.run('INSERT INTO todos VALUES (?, ?)', [new URL(location).searchParams.get('name'), 'built']);
    await db.level();
  }
  const memory = await open('m', { ...options, worker: undefined, memory: true });
  const [one] = await memory.query('SELECT 1 AS one');
  document.title = JSON.stringify([(await db.query('SELECT title FROM todos'))[0].title, one.one, (await db.status()).persisted !== undefined]);
}`;
const MAIN = options => `import { app } from './app.js';
app(${options ?? ''}).catch(error => { document.title = JSON.stringify([error.code, error.message]); });`;
const PAGE = script => `<!doctype html><meta charset="utf-8"><title></title><script type="module" src="${script}"></script>`;

/** An application's folder in which the package is installed as it is published, and the bundlers are found. */
function application(t, main = MAIN()) {
  const dir = mkdtempSync(join(tests, 'bundled-'));
  atEnd(t, () => rmSync(dir, { recursive: true, force: true, maxRetries: 5 }));
  const [packed] = JSON.parse(execFileSync('npm', ['pack', '--json', '--silent', '--pack-destination', dir], { cwd: npm, encoding: 'utf8' }));
  mkdirSync(join(dir, 'node_modules/piecewise'), { recursive: true });
  execFileSync('tar', ['xzf', join(dir, packed.filename), '-C', join(dir, 'node_modules/piecewise'), '--strip-components=1']);
  writeFileSync(join(dir, 'package.json'), '{ "name": "app", "private": true, "type": "module", "dependencies": { "piecewise": "*" } }');
  writeFileSync(join(dir, 'app.js'), APP);
  writeFileSync(join(dir, 'main.js'), main);
  writeFileSync(join(dir, 'index.html'), PAGE('/main.js'));
  return dir;
}

/** Runs a build in a browser: it joins and writes, and after a reload without an invite what it wrote is there. */
async function runs(t, url, prepare = async () => {}) {
  const dir = folder(t);
  const server = await new Server(t, join(dir, 'server')).start();
  const context = await browser(t, join(dir, 'profile'));
  await prepare(context);
  const page = await context.newPage();
  const problems = [];
  page.on('pageerror', error => problems.push(error.message));
  for (const query of [`?name=${encodeURIComponent(t.name)}&invite=${encodeURIComponent(server.invite('app/*=admin'))}`, '']) {
    await page.goto(`${url}/${query}`);
    const title = await until(() => page.title(), title => title || problems.length, 'the application');
    assert.deepEqual([title, problems], ['["built",1,true]', []]);
  }
  assert.equal(sqlite(join(server.data, 'app.db'), 'SELECT id FROM todos'), t.name);
}

for (const vite of ['vite', 'vite7']) {
  test(`${vite} builds it with default settings`, async t => {
    const dir = application(t);
    const { build } = await import(vite);
    await build({ root: dir, logLevel: 'error', configFile: false });
    await runs(t, await files(t, join(dir, 'dist')));
  });

  test(`${vite} serves it while it is written, and renders it on a server`, async t => {
    const dir = application(t);
    writeFileSync(join(dir, 'server.js'), "import { open } from 'piecewise';\nexport const one = async () => { const db = await open('x', { memory: true }); try { return await db.query('SELECT 1 AS one'); } finally { await db.close(); } };");
    const { createServer } = await import(vite);
    const server = await createServer({ root: dir, logLevel: 'error', configFile: false, optimizeDeps: vite === 'vite7' ? { exclude: ['piecewise'] } : {}, server: { host: '127.0.0.1', port: 0 } });
    atEnd(t, () => server.close());
    await server.listen();
    await runs(t, `http://127.0.0.1:${server.httpServer.address().port}`);
    assert.deepEqual(await (await server.ssrLoadModule('/server.js')).one(), [{ one: 1 }]);
  });
}

test('webpack builds it with default settings', async t => {
  const dir = application(t);
  const { default: webpack } = await import('webpack');
  const compiler = webpack({ mode: 'production', context: dir, entry: './main.js', output: { path: join(dir, 'dist') }, performance: false });
  const stats = await new Promise((resolve, reject) => compiler.run((error, stats) => (error ? reject(error) : resolve(stats))));
  assert.ok(!stats.hasErrors(), stats.toString());
  writeFileSync(join(dir, 'dist/index.html'), PAGE('/main.js'));
  await runs(t, await files(t, join(dir, 'dist')));
});

test('esbuild builds it, told where the worker and the WASM file are', async t => {
  const dir = application(t, MAIN("{ worker: '/worker.js', wasmUrl: '/piecewise.wasm' }"));
  const { build } = await import('esbuild');
  const built = await build({ absWorkingDir: dir, entryPoints: { main: './main.js', worker: 'piecewise/worker.js' }, bundle: true, minify: true, format: 'esm', outdir: 'dist', logLevel: 'silent' });
  assert.deepEqual(built.warnings, []);
  copyFileSync(join(dir, 'node_modules/piecewise/engine/piecewise_wasm_bg.wasm'), join(dir, 'dist/piecewise.wasm'));
  writeFileSync(join(dir, 'dist/index.html'), PAGE('/main.js'));
  await runs(t, await files(t, join(dir, 'dist')));
});

for (const format of ['iife', 'esm']) {
  test(`esbuild without a worker option, format ${format}: opening is an error that says what to do`, async t => {
    const dir = application(t, "import { open } from 'piecewise';\nopen('app').catch(error => { document.title = JSON.stringify([error.code, error.message, error.hint]); });");
    const { build } = await import('esbuild');
    await build({ absWorkingDir: dir, entryPoints: ['./main.js'], bundle: true, format, outdir: 'dist', logLevel: 'silent' });
    writeFileSync(join(dir, 'dist/index.html'), PAGE('/main.js'));
    const page = await (await browser(t, join(folder(t), 'profile'))).newPage();
    await page.goto(await files(t, join(dir, 'dist')));
    const [code, message, hint] = JSON.parse(await until(() => page.title(), Boolean, 'the error'));
    assert.deepEqual([code, /worker/.test(message)], ['ASSET', true]);
    assert.match(hint, /put worker\.js .* open with \{ worker, wasmUrl \}/);
  });
}

test('a plain page loads it from another origin, as from a CDN', async t => {
  const dir = application(t);
  const cdn = await files(t, join(dir, 'node_modules'));
  rmSync(join(dir, 'node_modules.js'), { force: true });
  writeFileSync(join(dir, 'index.html'), `<!doctype html><meta charset="utf-8"><title></title><script type="importmap">{ "imports": { "piecewise": "${cdn}/piecewise/index.js" } }</script><script type="module" src="/main.js"></script>`);
  await runs(t, await files(t, dir));
});

test('what cannot be found is an error that says what to do', async t => {
  const dir = application(t, MAIN("{ worker: '/nowhere.js' }"));
  const url = await files(t, dir);
  writeFileSync(join(dir, 'index.html'), `<!doctype html><title></title><script type="importmap">{ "imports": { "piecewise": "/node_modules/piecewise/index.js" } }</script><script type="module" src="/main.js"></script>`);
  const page = await (await browser(t, join(folder(t), 'profile'))).newPage();
  for (const [options, words, wanted = 'ASSET'] of [["{ worker: '/nowhere.js' }", /worker/], ["{ wasmUrl: '/nowhere.wasm' }", /WASM/], ['{ worker: () => {} }', /no worker/, 'VALUE']]) {
    writeFileSync(join(dir, 'main.js'), MAIN(options));
    await page.goto(url);
    const [code, message] = JSON.parse(await until(() => page.title(), Boolean, 'the error'));
    assert.equal(code, wanted);
    assert.match(message, words);
  }
});

test('Next builds it with default settings, and renders its page on the server', async t => {
  const dir = application(t);
  mkdirSync(join(dir, 'app'));
  writeFileSync(join(dir, 'app/layout.js'), "export default function Layout({ children }) { return <html lang=\"en\"><body>{children}</body></html>; }");
  writeFileSync(join(dir, 'app/page.js'), "'use client';\nimport { useEffect } from 'react';\nimport { app } from '../app.js';\nexport default function Page() { useEffect(() => { app().catch(error => { document.title = JSON.stringify([error.code, error.message]); }); }, []); return <p>rendered</p>; }");
  writeFileSync(join(dir, 'next.config.mjs'), `export default { output: 'export', turbopack: { root: ${JSON.stringify(tests)} } };`);
  const child = spawn('node', [join(tests, 'node_modules/next/dist/bin/next'), 'build'], { cwd: dir, env: { ...process.env, NEXT_TELEMETRY_DISABLED: '1', NODE_ENV: 'production' } });
  let log = '';
  for (const stream of [child.stdout, child.stderr]) stream.on('data', text => { log += text; });
  assert.equal(await new Promise(resolve => child.on('exit', resolve)), 0, log);
  await runs(t, await files(t, join(dir, 'out')));
});

test('Node: it imports without a WebSocket, demands memory, and says what joining needs', async t => {
  const dir = application(t);
  const package_ = join(dir, 'node_modules/piecewise');
  for (const name of readdirSync(package_).filter(name => name.endsWith('.js'))) assert.doesNotMatch(execFileSync('cat', [join(package_, name)], { encoding: 'utf8' }), /import\(?\s*['"]ws['"]|from 'ws'/, name);
  writeFileSync(join(dir, 'use.js'), `import { open } from 'piecewise';
    globalThis.WebSocket = undefined;
    const code = work => work().then(() => 'none', error => error.code + ': ' + error.hint);
    const db = await open('x', { memory: true });
    const invite = process.argv[2];
    const found = [await code(() => open('x')), await code(() => db.join(invite, { database: 'app' })), await code(() => db.join(invite)), await code(() => open('x', { memory: true, WebSocket: 'ws' }))];
    const { WebSocket } = await import(process.argv[3]);
    const joined = await open('y', { memory: true, WebSocket });
    await joined.join(invite, { database: 'app' });
    await joined.exec('CREATE TABLE t(id INTEGER PRIMARY KEY)');
    await joined.track('t');
    await joined.run('INSERT INTO t VALUES (7)');
    await joined.level();
    console.log(JSON.stringify(found));
    await Promise.all([db.close(), joined.close()]);`);
  const server = await new Server(t, join(folder(t), 'server')).start();
  const ws = pathToFileURL(join(tests, 'node_modules/ws/wrapper.mjs')).href;
  const [alone, join_, unnamed, wrong] = JSON.parse(execFileSync('node', ['use.js', server.invite('app/*=admin'), ws], { cwd: dir, encoding: 'utf8' }));
  assert.match(alone, /^STORAGE: .*memory: true/);
  assert.match(join_, /^WEBSOCKET: .*Node 22.*WebSocket/);
  assert.match(unnamed, /^VALUE: .*database/);
  assert.match(wrong, /^VALUE: /);
  assert.equal(sqlite(join(server.data, 'app.db'), 'SELECT id FROM t'), '7');
});
