// What the browser tests share: a real server, real browsers, waiting for what shall become true.
import { spawn, execFileSync } from 'node:child_process';
import { createReadStream, mkdtempSync, rmSync, statSync, symlinkSync } from 'node:fs';
import { createServer } from 'node:http';
import { connect, createServer as createTcpServer } from 'node:net';
import { tmpdir } from 'node:os';
import { extname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { chromium } from 'playwright-core';

const root = fileURLToPath(new URL('../../', import.meta.url));
const binary = name => join(root, 'target', process.env.PROFILE ?? 'debug', name);
const PATIENCE_MS = 30_000;

const endings = new WeakMap();
/** Does something when a test ends: what was begun last first. */
export function atEnd(t, work) {
  if (!endings.has(t)) {
    endings.set(t, []);
    t.after(async () => { for (const work of endings.get(t).reverse()) await work(); });
  }
  endings.get(t).push(work);
}

/** A folder that is gone when the test ends. */
export function folder(t) {
  const path = mkdtempSync(join(tmpdir(), 'piecewise-'));
  atEnd(t, () => rmSync(path, { recursive: true, force: true, maxRetries: 5 }));
  return path;
}

/** A server; `stop` and `start` it, `invite` devices. */
export class Server {
  constructor(t, data) {
    this.data = data;
    atEnd(t, () => this.stop());
  }

  async start() {
    const listen = this.address ? this.address.slice('ws://'.length) : '127.0.0.1:0';
    this.child = spawn(binary('piecewise-server'), ['serve', '--data', this.data, '--listen', listen, '--log-format', 'json']);
    this.address = await new Promise((resolve, reject) => {
      let log = '';
      this.child.stderr.on('data', text => {
        log += text;
        const address = /"public":"(ws:[^"]+)"/.exec(log)?.[1];
        if (address) resolve(address);
      });
      this.child.on('exit', () => reject(new Error(`the server ended: ${log}`)));
    });
    this.url = this.address.replace('ws:', 'http:');
    return this;
  }

  async stop(signal = 'SIGTERM') {
    const child = this.child;
    if (!child || child.exitCode !== null || child.signalCode) return;
    const gone = new Promise(resolve => child.on('exit', resolve));
    child.kill(signal);
    await gone;
  }

  /** Runs `piecewise-server` with its data folder. */
  run(command, ...args) { return execFileSync(binary('piecewise-server'), [command, '--data', this.data, ...args], { encoding: 'utf8' }).trim(); }

  invite(grant) {
    return this.run('invite', '--grant', grant);
  }
}

/** A line to the server that is cut after so many bytes, again and again; how often it was, and its address. */
export async function cutLine(t, server, bytes) {
  const line = { cuts: 0 };
  const [host, port] = server.address.slice('ws://'.length).split(':');
  const proxy = createTcpServer(near => {
    const far = connect(Number(port), host);
    let left = bytes;
    const end = () => { near.destroy(); far.destroy(); };
    for (const [from, to] of [[near, far], [far, near]]) {
      from.on('data', chunk => {
        to.write(chunk.subarray(0, left));
        left -= chunk.length;
        if (left <= 0) { line.cuts++; end(); }
      });
      from.on('close', end).on('error', end);
    }
  });
  await new Promise(resolve => proxy.listen(0, '127.0.0.1', resolve));
  atEnd(t, () => proxy.close());
  line.address = `ws://127.0.0.1:${proxy.address().port}`;
  return line;
}

/** A native device with a home of its own. */
export class Device {
  constructor(home) { this.home = home; }
  run(...args) { return execFileSync(binary('piecewise'), args, { encoding: 'utf8', env: { ...process.env, PIECEWISE_HOME: this.home } }); }
}

export const sqlite = (file, sql, ...options) => execFileSync('sqlite3', [...options, file, sql], { encoding: 'utf8' }).trim();

const KINDS = { '.html': 'text/html', '.js': 'text/javascript', '.mjs': 'text/javascript', '.css': 'text/css', '.wasm': 'application/wasm', '.svg': 'image/svg+xml' };

/** Serves a folder's files, to pages of any origin; its address. */
export async function files(t, root) {
  const server = createServer((request, response) => {
    const path = join(root, decodeURIComponent(new URL(request.url, 'http://here').pathname).replace(/\/$/, '/index.html'));
    if (!statSync(path, { throwIfNoEntry: false })?.isFile()) return response.writeHead(404).end();
    response.writeHead(200, { 'content-type': KINDS[extname(path)] ?? 'application/octet-stream', 'access-control-allow-origin': '*' });
    createReadStream(path).pipe(response);
  });
  await new Promise(resolve => server.listen(0, '127.0.0.1', resolve));
  atEnd(t, () => { server.closeAllConnections(); server.close(); });
  return `http://127.0.0.1:${server.address().port}`;
}

/** Serves the package for pages that need no server: where `blank` finds it. */
export async function packageAlone(t) {
  const dir = folder(t);
  symlinkSync(join(root, 'wasm/npm'), join(dir, 'piecewise'));
  symlinkSync(join(root, 'web-demo/icon.svg'), join(dir, 'icon.svg'));
  return { url: await files(t, dir) };
}

const ARGS = ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync'];

/** A browser with a profile of its own, which keeps its data when it is opened again. */
export async function browser(t, profile, options = {}) {
  const executablePath = process.env.CHROMIUM ?? '/usr/bin/chromium';
  const { args = [], ...rest } = options;
  const context = await chromium.launchPersistentContext(profile, { executablePath, headless: true, args: [...ARGS, ...args], ...rest });
  context.setDefaultTimeout(PATIENCE_MS);
  atEnd(t, () => context.close().catch(() => {}));
  return context;
}

/** A page of the server that has the package loaded as `window.open_`, and nothing else. */
export async function blank(context, server, url = server.url) {
  const page = await context.newPage();
  page.on('pageerror', error => console.error('page:', error.message));
  await page.goto(`${url}/icon.svg`);
  await load(page);
  return page;
}

/** Loads the package as `window.piecewise`, with `code(work)`: the code of the error that work ends with. */
export const load = page => page.evaluate(async () => {
  window.piecewise = await import('/piecewise/index.js');
  window.code = work => work().then(() => 'none', error => `${error.name} ${error.code}`);
});

/** The code of the error that a page's work ends with; `db` and `piecewise` are there. */
export const codeIn = (page, work, ...given) => page.evaluate(([work, given]) => code(() => eval(work)(...given)), [String(work), given]);

/** A table for tests, and all its rows. */
export const TODOS = "CREATE TABLE IF NOT EXISTS todos(id TEXT PRIMARY KEY, title TEXT, note TEXT NOT NULL DEFAULT '', votes INTEGER NOT NULL DEFAULT 0)";
export const ALL = 'SELECT id, title, note, votes FROM todos ORDER BY id';

/** In a page: opens the database, joins if there is an invite, and keeps it as `window.db`. */
export const openIn = (page, name, invite) => page.evaluate(async ([name, invite, schema]) => {
  window.db = await piecewise.open(name);
  if (invite) {
    await db.join(invite, { database: 'app' });
    await db.exec(schema);
    await db.track('todos', { text: ['note'], counter: ['votes'] });
  }
  return db.status();
}, [name, invite, TODOS]);
export const run = (page, sql, params = []) => page.evaluate(([sql, params]) => db.run(sql, params), [sql, params]);
export const rows = page => page.evaluate(sql => db.query(sql), ALL);

/** Waits until an answer is as wanted. */
export async function until(ask, wanted, what) {
  const end = Date.now() + PATIENCE_MS;
  for (;;) {
    const answer = await ask();
    if (wanted(answer)) return answer;
    if (Date.now() > end) throw new Error(`${what ?? 'it'} did not become true; last: ${JSON.stringify(answer)}`);
    await new Promise(resolve => setTimeout(resolve, 20));
  }
}
