// Worker: one for each tab. Of all tabs of an origin that have a database open, the one with the lock owns it and runs
// its host; the others send their calls to it over a channel. When the owner goes, the next in line takes over.
import init, { Engine, Storage, checkFile, readInvite } from './engine/piecewise_wasm.js';
import { fault, load, plain, random, unique } from './fault.js';
import { Host } from './host.js';

const FILE = 'main.db';
const me = unique();
/** Calls that change nothing: asked again of a new owner when the old one went before it answered. */
const READS = new Set(['status', 'conflicts', 'held', 'check', 'refused', 'history', 'export', 'level']);
/** Calls that write, and are done once however often they are asked. */
const WRITES = new Set(['run', 'exec', 'batch']);
/** The files of a tab that was just closed may take a moment to be free. */
const OPEN_TRIES = 40;
const OPEN_AGAIN_MS = 50;

let name, device, channel, host, release;
/** Calls of this tab to the owner; why this tab could not become the owner. */
let pending = new Map(), next = 0, broken = null, dead = false;

self.onmessage = async ({ data: { id, method, args } }) => {
  if (dead) return;
  try {
    const value = method === 'open' ? await open(...args) : await call(method, args);
    self.postMessage({ id, value });
  } catch (error) { self.postMessage({ id, error: plain(error) }); }
  if (method === 'close') self.close();
};

async function open(database, options) {
  if (!self.isSecureContext || !navigator.locks || !navigator.storage?.getDirectory) {
    throw fault('STORAGE', 'this browser gives this page no lasting storage', 'serve the page by https or from localhost, or open with { memory: true }');
  }
  ({ device } = options);
  name = database;
  await load(init, options.wasmUrl);
  channel = new BroadcastChannel(`piecewise:${name}`);
  channel.onmessage = ({ data }) => hear(data);
  await new Promise((resolve, reject) => {
    navigator.locks.request(`piecewise:${name}`, { ifAvailable: true }, async lock => {
      if (!lock) { waitForTurn(); return resolve(); }
      await own(options.replace);
      resolve();
      return new Promise(done => { release = done; });
    }).catch(reject);
  });
}

/** In line for the lock: whoever gets it owns the database. */
function waitForTurn() {
  navigator.locks.request(`piecewise:${name}`, async () => {
    await own();
    const waiting = [...pending];
    pending = new Map();
    for (const [id, one] of waiting) {
      if (mayAskAgain(one)) perform(one.method, one.args, id).then(one.resolve, one.reject);
      else one.reject(gone());
    }
    tell({ type: 'owner' });
    tell({ type: 'change' });
    return new Promise(done => { release = done; });
  }).catch(error => {
    broken = error;
    pending.forEach(one => one.reject(error));
    pending.clear();
    tell({ type: 'error', error: plain(error) });
  });
}

/** Opens the files. `replace`: a file that will take the place of what is there, so that it need not be sound. */
async function own(replace) {
  const storage = await openStorage();
  const settings = await readSettings();
  const seed = Uint8Array.from(settings.seed);
  let engine;
  try { engine = new Engine(FILE, seed, random()); } catch (error) {
    if (!replace || error.code !== 'DAMAGED') throw error;
    checkFile(replace);
    storage.remove(FILE);
    engine = new Engine(FILE, seed, random());
  }
  if (device) settings.device = device;
  host = new Host(engine, settings, { save: writeSettings, tell, died });
  channel.postMessage({ owner: me });
}

async function openStorage() {
  for (let left = OPEN_TRIES; ; left--) {
    try { return await Storage.open(`.piecewise-${name}`); } catch (error) {
      if (left === 0 || !/NoModificationAllowed|access handle/i.test(error.message)) throw error;
      await new Promise(resolve => setTimeout(resolve, OPEN_AGAIN_MS));
    }
  }
}

const folder = async () => (await navigator.storage.getDirectory()).getDirectoryHandle('piecewise-settings', { create: true });

async function readSettings() {
  const file = await (await folder()).getFileHandle(`${name}.json`, { create: true });
  const text = await (await file.getFile()).text();
  if (text) {
    try { return JSON.parse(text); } catch { throw fault('DAMAGED', `the settings of database ${name} cannot be read`, 'clear the data of this site, or open another database'); }
  }
  const settings = { seed: [...random()] };
  await writeSettings(settings);
  return settings;
}

let writing = Promise.resolve();
function writeSettings(settings) {
  const text = JSON.stringify(settings);
  writing = writing.catch(() => {}).then(async () => {
    const file = await (await folder()).getFileHandle(`${name}.json`, { create: true });
    const access = await file.createWritable();
    await access.write(text);
    await access.close();
  });
  return writing;
}

/** The engine trapped: once its caller has been told, the page starts another worker, and the files are free for it or another tab. */
function died(error) {
  dead = true;
  setTimeout(() => { self.postMessage({ died: plain(error) }); self.close(); });
}

const mayAskAgain = ({ method, taken }) => READS.has(method) || WRITES.has(method) || !taken;
const gone = () => fault('OWNER_GONE', 'the tab that held the database was closed before it answered', 'look whether it was done, and ask again');

/** `id`: the number of a call by another tab. */
const perform = (method, args, id) => (id && WRITES.has(method) ? host.call('once', [id, method, args]) : host.call(method, method === 'join' ? [...args, readInvite] : args));

async function call(method, args) {
  if (method === 'close') {
    if (host) { await host.call('close', []); release?.(); }
    channel?.close();
    return;
  }
  if (host) return perform(method, args);
  if (broken) throw broken;
  const id = `${me}:${next++}`;
  return new Promise((resolve, reject) => {
    pending.set(id, { method, args, resolve, reject });
    channel.postMessage({ ask: id, method, args });
  });
}

async function hear(data) {
  if (data.event) return self.postMessage({ event: data.event });
  if (data.taken && pending.has(data.taken)) pending.get(data.taken).taken = true;
  if (data.answer && pending.has(data.answer)) {
    const { resolve, reject } = pending.get(data.answer);
    pending.delete(data.answer);
    return data.error ? reject(Object.assign(new Error(data.error.message), data.error)) : resolve(data.value);
  }
  // A new owner has not heard what was asked of the old one.
  if (data.owner) {
    broken = null;
    for (const [id, one] of [...pending]) {
      if (mayAskAgain(one)) channel.postMessage({ ask: id, method: one.method, args: one.args });
      else { pending.delete(id); one.reject(gone()); }
    }
  }
  if (data.ask && host && !dead) {
    channel.postMessage({ taken: data.ask });
    try { channel.postMessage({ answer: data.ask, value: await perform(data.method, data.args, data.ask) }); }
    catch (error) { channel.postMessage({ answer: data.ask, error: plain(error) }); }
  }
}

/** Events go to this tab and to all others. */
function tell(event) {
  self.postMessage({ event });
  channel.postMessage({ event });
}
