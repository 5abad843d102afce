// Memory: a database in this very thread, gone when it is closed. For Node and for pages that keep nothing.
import init, { Engine, readInvite } from './engine/piecewise_wasm.js';
import { Host, random } from './host.js';

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

export async function openHere({ seed, file, device }, tell) {
  await load();
  const key = seed ?? random();
  const engine = file ? Engine.fromBytes(file, key, random()) : new Engine(undefined, '', key, random());
  const host = new Host(engine, { device }, async () => {}, tell);
  return { call: (method, args) => host.call(method, method === 'join' ? [...args, readInvite] : args), end() {} };
}
