// Memory: a database in this very thread, gone when it is closed. For Node and for pages that keep nothing.
import init, { Engine, readInvite } from './engine/piecewise_wasm.js';
import { load, random } from './fault.js';
import { Host } from './host.js';

let ready;

/** `source(wasmUrl)` gives what the engine is loaded from; a browser needs none, for the file is beside its script. */
export async function openHere({ seed, device, WebSocket, wasmUrl, every }, tell, source = async url => url) {
  ready ??= source(wasmUrl).then(found => load(init, found));
  try { await ready; } catch (error) { ready = undefined; throw error; }
  const engine = new Engine(undefined, seed ?? random(), random());
  const died = error => tell({ type: 'error', error: { code: 'INTERNAL', message: error.message } });
  const host = new Host(engine, { device }, { save: async () => {}, tell, died, WebSocket, every });
  const whole = { join: args => [...args, readInvite], watch: ([id, ...args]) => ['', id, ...args, patch => tell({ type: 'live', id, patch })], unwatch: args => ['', ...args] };
  return { call: (method, args) => host.call(method, whole[method]?.(args) ?? args), end() {} };
}
