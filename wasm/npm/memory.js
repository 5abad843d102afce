// Memory: a database in this very thread, gone when it is closed. For Node and for pages that keep nothing.
import init, { Engine, readInvite } from './engine/piecewise_wasm.js';
import { random } from './fault.js';
import { Host } from './host.js';

// Node has WebSocket from version 22 on; before, the package ws gives it.
if (typeof WebSocket === 'undefined') {
  globalThis.WebSocket = (await import('ws').catch(() => ({}))).WebSocket;
}

let ready;
const load = () => (ready ??= (async () => {
  const url = new URL('./engine/piecewise_wasm_bg.wasm', import.meta.url);
  if (url.protocol !== 'file:') return init({ module_or_path: url });
  const { readFile } = await import('node:fs/promises');
  return init({ module_or_path: await readFile(url) });
})());

export async function openHere({ seed, device }, tell) {
  await load();
  const engine = new Engine(undefined, seed ?? random(), random());
  const died = error => tell({ type: 'error', error: { code: 'INTERNAL', message: error.message } });
  const host = new Host(engine, { device }, { save: async () => {}, tell, died });
  return { call: (method, args) => host.call(method, method === 'join' ? [...args, readInvite] : args), end() {} };
}
