// The npm package in a browser: `open` a database of this origin. It lives in a worker that all tabs share, or in this thread.
import { PiecewiseError, checkOpen, openOn } from './database.js';
import { fault } from './fault.js';

export { Database, PiecewiseError } from './database.js';

/** A worker that traps again within this time is given up. */
const TRAPS_APART_MS = 5000;
/** Calls that are asked again of a new worker: the one that trapped was answered, these read or had not begun. */
const REPEATABLE = new Set(['run', 'exec', 'batch', 'status', 'conflicts', 'held', 'check', 'refused', 'history', 'export', 'level', 'connect', 'prepare', 'watch', 'unwatch']);
const GIVE_WORKER = 'put worker.js and the WASM file where the page can load them, and open with { worker, wasmUrl }';
const NO_WORKER = { code: 'ASSET', message: "the package's worker could not be loaded", hint: `the dev server of Vite 7: set optimizeDeps: { exclude: ['piecewise'] }; a bundler other than Vite, webpack and Next, or a CDN: ${GIVE_WORKER}` };

/** Opens a database of this origin by name; `{ memory: true }` keeps nothing. */
export async function open(name = 'main', options = {}) {
  checkOpen(name, options);
  if (options.memory) return openOn(async emit => (await import('./memory.js')).openHere(options, emit), options);
  if (typeof Worker === 'undefined') throw new PiecewiseError(fault('STORAGE', 'nothing that is written here would last: there are no workers', 'open with { memory: true } to go on without lasting storage'));
  if (options.WebSocket) throw new PiecewiseError(fault('VALUE', 'the option WebSocket is for databases in memory', 'a worker uses the browser\'s own'));
  const db = await openOn(emit => inWorker(name, options, emit), options);
  // Without it the browser may clear the data when the disk is full.
  if (options.persist !== false) globalThis.navigator?.storage?.persist?.().catch(() => {});
  return db;
}

/** Starts a worker: the one given, or the package's own. */
function startWorker(given) {
  if (typeof given === 'function') {
    const worker = given();
    if (typeof worker?.postMessage !== 'function') throw fault('VALUE', 'the function of the option worker returned no worker', "such as () => new Worker('/worker.js', { type: 'module' })");
    return worker;
  }
  if (given) return fromUrl(new URL(given, location.href));
  const here = import.meta.url;
  // esbuild's default format is a classic script, which does not know where it was loaded from.
  if (!here) throw fault('ASSET', "the package's worker cannot be found: a bundler made a classic script of the package", `${GIVE_WORKER}, as the package's README shows for esbuild`);
  // A worker's script must be of the page's origin; what it imports need not.
  if (/^https?:/.test(here) && new URL(here).origin !== location.origin) return fromUrl(new URL('worker.js', here));
  // Bundlers look for this very expression.
  return new Worker(new URL('./worker.js', import.meta.url), { type: 'module' });
}

function fromUrl(url) {
  if (url.origin === location.origin || url.protocol === 'blob:') return new Worker(url, { type: 'module' });
  const script = URL.createObjectURL(new Blob([`import ${JSON.stringify(url.href)};`], { type: 'text/javascript' }));
  return new Worker(script, { type: 'module' });
}

/** Calls to a worker of this page; if its engine traps, a new worker takes its place. */
async function inWorker(name, { device, every, file, worker: given, wasmUrl }, hear) {
  let worker, waiting = new Map(), next = 0, trapped = 0, over = null;
  const post = (id, { method, args }) => worker.postMessage({ id, method, args });
  const call = (method, args) => new Promise((resolve, reject) => {
    if (over) return reject(over);
    const id = next++;
    waiting.set(id, { method, args, resolve, reject });
    try { post(id, { method, args }); } catch (error) { waiting.delete(id); reject(fault('VALUE', error.message)); }
  });
  const failAll = error => { waiting.forEach(({ reject }) => reject(error)); waiting.clear(); };
  const start = replace => {
    worker = startWorker(given);
    worker.onmessage = ({ data }) => {
      if (data.event) return hear(data.event);
      if (data.live !== undefined) return hear({ type: 'live', id: data.live, patch: data.patch });
      if (data.died) return startAgain(data.died);
      const one = waiting.get(data.id);
      waiting.delete(data.id);
      data.error ? one?.reject(data.error) : one?.resolve(data.value);
    };
    worker.onerror = event => failAll(event.message ? { code: 'INTERNAL', message: event.message } : NO_WORKER);
    return call('open', [name, { device, every, replace, wasmUrl: wasmUrl && new URL(wasmUrl, location.href).href }]);
  };
  const startAgain = async error => {
    worker.terminate();
    const asked = waiting;
    waiting = new Map();
    const again = Date.now() - trapped > TRAPS_APART_MS;
    trapped = Date.now();
    hear({ type: 'error', error });
    const stop = error => { over = error; asked.forEach(one => one.reject(error)); failAll(error); };
    if (!again) return stop(error);
    for (const [id, one] of asked) if (!REPEATABLE.has(one.method)) { asked.delete(id); one.reject(error); }
    try { await start(); } catch (error) { return stop(error); }
    for (const [id, one] of asked) { waiting.set(id, one); post(id, one); }
    hear({ type: 'reopened' });
    hear({ type: 'change', tables: null, schema: true });
    hear({ type: 'status' });
  };
  try { await start(file); } catch (error) { worker?.terminate(); throw error; }
  return { call, end: () => worker.terminate() };
}
