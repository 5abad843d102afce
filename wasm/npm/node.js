// The npm package in Node: databases in memory. There is no lasting storage to share, so `{ memory: true }` is demanded.
import { PiecewiseError, checkOpen, openOn } from './database.js';
import { fault } from './fault.js';
import { openHere } from './memory.js';

export { Database, PiecewiseError } from './database.js';

/** Opens a database in memory. */
export async function open(name = 'main', options = {}) {
  checkOpen(name, options);
  if (!options.memory) throw new PiecewiseError(fault('STORAGE', 'nothing that is written here would last: Node has no storage that the package knows', 'open with { memory: true }; for a file on disk use the command `piecewise`'));
  return openOn(emit => openHere(options, emit, bytesOf), options);
}

async function bytesOf(url) {
  const place = url ? new URL(url) : new URL('./engine/piecewise_wasm_bg.wasm', import.meta.url);
  if (place.protocol !== 'file:') return place;
  const { readFile } = await import('node:fs/promises');
  return readFile(place);
}
