// Worker: one for each tab. Of all tabs of an origin that have a database open, the one with the lock owns it and runs
// its host; each of the others has a channel to the owner, on which nobody else is. When the owner goes, the next in line
// takes over and says so to everyone. A tab holds a lock of its own for as long as it lives, so that the owner learns of its end.
import init, { Engine, Storage, checkFile, readInvite } from './engine/piecewise_wasm.js';
import { fault, load, plain, random, unique } from './fault.js';
import { Host } from './host.js';

const FILE = 'main.db';
const me = unique();
/** Calls that change nothing: asked again of a new owner when the old one went before it answered. */
const READS = new Set(['status', 'conflicts', 'held', 'check', 'refused', 'history', 'export', 'level', 'prepare', 'watch', 'unwatch']);
/** Calls that write, and are done once however often they are asked. */
const WRITES = new Set(['run', 'exec', 'batch']);
/** The files of a tab that was just closed or loaded again are free once the browser has ended its worker: on a busy machine seconds later. */
const OPEN_TRIES = 600;
const OPEN_AGAIN_MS = 50;

let name, device, every, host, release;
/** Who is there is told to everyone; a tab that is not the owner has `link`, the owner one for each other tab. */
let everyone, link, owner = null;
const links = new Map();
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
  ({ device, every } = options);
  name = database;
  await load(init, options.wasmUrl);
  await new Promise(resolve => { navigator.locks.request(lockOf(me), () => { resolve(); return new Promise(() => {}); }); });
  everyone = new BroadcastChannel(`piecewise:${name}`);
  everyone.onmessage = ({ data }) => (data.owner ? !host && greet() : host && meet(data.tab));
  link = channelOf(me);
  link.onmessage = ({ data }) => hear(data);
  await new Promise((resolve, reject) => {
    navigator.locks.request(`piecewise:${name}`, { ifAvailable: true }, async lock => {
      if (!lock) { waitForTurn(); greet(); return resolve(); }
      await own(options.replace);
      resolve();
      return new Promise(done => { release = done; });
    }).catch(reject);
  });
}

const lockOf = tab => `piecewise:${name}:${tab}`;
const channelOf = tab => new BroadcastChannel(`piecewise:${name}:${tab}`);
const greet = () => everyone.postMessage({ tab: me });

/** The owner: takes calls of another tab, until it is gone. */
function meet(tab) {
  if (links.has(tab)) return;
  const link = channelOf(tab);
  links.set(tab, link);
  link.onmessage = ({ data }) => answer(tab, link, data);
  link.postMessage({ owner: me });
  navigator.locks.request(lockOf(tab), () => {
    host?.leave(tab);
    links.delete(tab);
    link.close();
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
    self.postMessage({ event: { type: 'reopened' } });
    tell({ type: 'owner' });
    tell({ type: 'change', tables: null, schema: true });
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
  host = new Host(engine, settings, { save: writeSettings, tell, died, every });
  link.close();
  everyone.postMessage({ owner: me });
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

/** `id`: the number of a call by another tab; `hear`: how that one hears of a live query. */
function perform(method, args, id, tab = me, hear = (live, patch) => self.postMessage({ live, patch })) {
  if (id && WRITES.has(method)) return host.call('once', [id, method, args]);
  if (method === 'watch') return host.call(method, [tab, ...args, patch => hear(args[0], patch)]);
  if (method === 'unwatch') return host.call(method, [tab, ...args]);
  return host.call(method, method === 'join' ? [...args, readInvite] : args);
}

async function call(method, args) {
  if (method === 'close') {
    if (host) { await host.call('close', []); release?.(); }
    everyone?.close();
    link?.close();
    return;
  }
  if (host) return perform(method, args);
  if (broken) throw broken;
  const id = `${me}:${next++}`;
  return new Promise((resolve, reject) => {
    pending.set(id, { method, args, resolve, reject });
    if (owner) link.postMessage({ ask: id, method, args });
  });
}

/** What the owner says to this tab. */
function hear(data) {
  if (host) return;
  if (data.event) self.postMessage({ event: data.event });
  else if (data.live !== undefined) self.postMessage({ live: data.live, patch: data.patch });
  else if (data.owner) heed(data.owner);
  else if (data.taken) { if (pending.has(data.taken)) pending.get(data.taken).taken = true; } else if (pending.has(data.answer)) {
    const { resolve, reject } = pending.get(data.answer);
    pending.delete(data.answer);
    if (data.error) reject(Object.assign(new Error(data.error.message), data.error)); else resolve(data.value);
  }
}

/** A new owner has not heard what was asked of the old one. */
function heed(now) {
  if (owner === now) return;
  const again = owner !== null;
  owner = now;
  broken = null;
  for (const [id, one] of [...pending]) {
    if (mayAskAgain(one)) link.postMessage({ ask: id, method: one.method, args: one.args });
    else { pending.delete(id); one.reject(gone()); }
  }
  if (again) self.postMessage({ event: { type: 'reopened' } });
}

/** A call of another tab. */
async function answer(tab, link, { ask, method, args }) {
  if (!ask || dead) return;
  const say = message => { if (links.has(tab)) link.postMessage(message); };
  say({ taken: ask });
  try { say({ answer: ask, value: await perform(method, args, ask, tab, (live, patch) => say({ live, patch })) }); }
  catch (error) { say({ answer: ask, error: plain(error) }); }
}

/** Events go to this tab and to all others. */
function tell(event) {
  self.postMessage({ event });
  links.forEach(link => link.postMessage({ event }));
}
