// Worker: one for each tab. Of all tabs of an origin that have a database open, the one with the lock owns it and runs
// its host; the others send their calls to it over a channel. When the owner goes, the next in line takes over.
import init, { Engine, Storage, readInvite } from './engine/piecewise_wasm.js';
import { Host, fault, random } from './host.js';

const me = crypto.randomUUID();
/** Calls that change nothing: asked again of a new owner when the old one went before it answered. */
const READS = new Set(['status', 'conflicts', 'held', 'refused', 'history', 'export', 'level']);
/** Calls that write, and are done once however often they are asked. */
const WRITES = new Set(['run', 'exec', 'batch']);
const plain = error => ({ code: error.code ?? 'INTERNAL', message: error.message ?? String(error), hint: error.hint });

let channel, host, name, pending = new Map(), next = 0, openedAs;

self.onmessage = async ({ data }) => {
  const { id, method, args } = data;
  try {
    const value = method === 'open' ? await open(...args) : await call(method, args);
    self.postMessage({ id, value });
  } catch (error) { self.postMessage({ id, error: plain(error) }); }
  if (method === 'close') self.close();
};

async function open(database, options) {
  name = database;
  await init();
  channel = new BroadcastChannel(`piecewise:${name}`);
  channel.onmessage = ({ data }) => hear(data);
  const owner = await new Promise((resolve, reject) => {
    navigator.locks.request(`piecewise:${name}`, { ifAvailable: true }, async lock => {
      if (!lock) { waitForTurn(options); return resolve(false); }
      try { await own(options); resolve(true); } catch (error) { return reject(error); }
      return new Promise(release => { openedAs = release; });
    }).catch(reject);
  });
  return { owner };
}

/** In line for the lock: whoever gets it owns the database. */
function waitForTurn(options) {
  navigator.locks.request(`piecewise:${name}`, async () => {
    await own(options);
    const waiting = [...pending];
    pending = new Map();
    for (const [id, one] of waiting) {
      if (mayAskAgain(one)) perform(one.method, one.args, id).then(one.resolve, one.reject);
      else one.reject(gone());
    }
    tell({ type: 'owner' });
    tell({ type: 'change' });
    return new Promise(release => { openedAs = release; });
  });
}

async function own({ importFile, device }) {
  const storage = await openStorage();
  if (importFile) storage.importFile('main.db', importFile);
  const settings = await readSettings();
  const engine = new Engine(storage, 'main.db', Uint8Array.from(settings.seed), random());
  host = new Host(engine, settings, writeSettings, tell);
  if (device) settings.device = device;
  channel.postMessage({ owner: me });
}

/** The files of a tab that was just closed may take a moment to be free. */
async function openStorage() {
  for (let left = 40; ; left--) {
    try { return await Storage.open(`.piecewise-${name}`); } catch (error) {
      if (left === 0 || error.code === 'STORAGE' && !/NoModificationAllowed|access handle/i.test(error.message)) throw error;
      await new Promise(resolve => setTimeout(resolve, 50));
    }
  }
}

const folder = async () => (await navigator.storage.getDirectory()).getDirectoryHandle('piecewise-settings', { create: true });

async function readSettings() {
  const file = await (await folder()).getFileHandle(`${name}.json`, { create: true });
  const text = await (await file.getFile()).text();
  if (text) return JSON.parse(text);
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

const mayAskAgain = ({ method }) => READS.has(method) || WRITES.has(method);
const gone = () => fault('OWNER_GONE', 'the tab that held the database was closed before it answered', 'look whether it was done, and ask again');

/** `id`: the number of a call by another tab. */
const perform = (method, args, id) => (id && WRITES.has(method) ? host.call('once', [id, method, args]) : host.call(method, method === 'join' ? [...args, readInvite] : args));

async function call(method, args) {
  if (method === 'close') {
    if (host) { await host.call('close', []); openedAs?.(); }
    channel?.close();
    return;
  }
  if (host) return perform(method, args);
  const id = `${me}:${next++}`;
  return new Promise((resolve, reject) => {
    pending.set(id, { method, args, resolve, reject });
    channel.postMessage({ ask: id, method, args });
  });
}

async function hear(data) {
  if (data.event) return self.postMessage({ event: data.event });
  if (data.answer && pending.has(data.answer)) {
    const { resolve, reject } = pending.get(data.answer);
    pending.delete(data.answer);
    return data.error ? reject(Object.assign(new Error(data.error.message), data.error)) : resolve(data.value);
  }
  // A new owner has not heard what was asked of the old one.
  if (data.owner && data.owner !== me) {
    for (const [id, one] of [...pending]) {
      if (mayAskAgain(one)) channel.postMessage({ ask: id, method: one.method, args: one.args });
      else { pending.delete(id); one.reject(gone()); }
    }
  }
  if (data.ask && host) {
    try { channel.postMessage({ answer: data.ask, value: await perform(data.method, data.args, data.ask) }); }
    catch (error) { channel.postMessage({ answer: data.ask, error: plain(error) }); }
  }
}

/** Events go to this tab and to all others. */
function tell(event) {
  self.postMessage({ event });
  channel.postMessage({ event });
}
