// The npm package: `open` a database, run SQL, track tables, join a server. Calls go to a worker, or stay in this thread.
import { fault } from './host.js';

/** Errors have a `code`, a message and often a `hint`. */
export class PiecewiseError extends Error {
  constructor({ code, message, hint }) {
    super(message);
    this.name = 'PiecewiseError';
    this.code = code;
    if (hint) this.hint = hint;
  }
}

/** Opens a database of this origin by name; `{ memory: true }` keeps nothing. */
export async function open(name = 'main', options = {}) {
  if (!/^[A-Za-z0-9_-]{1,64}$/.test(name)) throw new PiecewiseError(fault('VALUE', 'a database is named with letters, digits, - and _'));
  const heard = new EventTarget();
  const hear = event => heard.dispatchEvent(Object.assign(new Event(event.type), { detail: event }));
  const memory = options.memory ?? typeof Worker === 'undefined';
  try {
    const line = memory ? await (await import('./memory.js')).openHere(options, hear) : await inWorker(name, options, hear);
    return new Database(line, heard);
  } catch (error) { throw error instanceof PiecewiseError ? error : new PiecewiseError(error); }
}

async function inWorker(name, options, hear) {
  const worker = new Worker(new URL('./worker.js', import.meta.url), { type: 'module' });
  const waiting = new Map();
  let next = 0;
  worker.onmessage = ({ data }) => {
    if (data.event) return hear(data.event);
    const { resolve, reject } = waiting.get(data.id);
    waiting.delete(data.id);
    data.error ? reject(data.error) : resolve(data.value);
  };
  worker.onerror = event => {
    const error = { code: 'INTERNAL', message: event.message || 'the worker could not be started' };
    waiting.forEach(({ reject }) => reject(error));
    waiting.clear();
  };
  const call = (method, args) => new Promise((resolve, reject) => {
    waiting.set(next, { resolve, reject });
    worker.postMessage({ id: next++, method, args });
  });
  try { await call('open', [name, { importFile: options.file, device: options.device }]); } catch (error) { worker.terminate(); throw error; }
  return { call, end: () => worker.terminate() };
}

const objects = ({ columns, rows }) => rows.map(row => Object.fromEntries(columns.map((column, n) => [column, row[n]])));

export class Database {
  #line; #heard; #closed = false; #queries = new Set();

  constructor(line, heard) {
    this.#line = line;
    this.#heard = heard;
    heard.addEventListener('change', () => this.#queries.forEach(query => query()));
  }

  async #call(method, ...args) {
    if (this.#closed) throw new PiecewiseError(fault('CLOSED', 'the database is closed'));
    try { return await this.#line.call(method, args); } catch (error) { throw error instanceof PiecewiseError ? error : new PiecewiseError(error); }
  }

  /** Runs one statement; rows as objects. */
  async query(sql, params = []) { return objects(await this.#call('run', sql, params)); }
  /** Runs one statement; how many rows it changed. */
  async run(sql, params = []) { return (await this.#call('run', sql, params)).changes; }
  /** Runs statements that give no rows. */
  async exec(sql) { await this.#call('exec', sql); }
  /** Runs statements in one transaction: all or none. */
  async transaction(statements) {
    const list = statements.map(s => (typeof s === 'string' ? [s, []] : [s[0], s[1] ?? []]));
    return (await this.#call('batch', list)).map(objects);
  }

  track(table, { text = [], counter = [] } = {}) { return this.#call('track', table, text, counter); }
  untrack(table) { return this.#call('untrack', table); }
  join(invite, { database }) { return this.#call('join', invite, database); }
  connect() { return this.#call('connect', true); }
  disconnect() { return this.#call('connect', false); }
  level() { return this.#call('level'); }
  status() { return this.#call('status'); }
  conflicts() { return this.#call('conflicts'); }
  choose(table, key, number, { column, asNewRow = false } = {}) { return this.#call('choose', table, key, number, column, asNewRow); }
  held() { return this.#call('held'); }
  refused() { return this.#call('refused'); }
  retryRefused() { return this.#call('retryRefused'); }
  revertRefused() { return this.#call('revertRefused'); }
  history(table, key, { log = false } = {}) { return this.#call('history', table, key, log); }
  export() { return this.#call('export'); }

  /** Calls back with the rows now and whenever they have changed; returns a function that ends it. */
  subscribe(sql, params, hear, fail = error => console.error(error)) {
    let last, running = false, again = false, ended = false;
    const look = async () => {
      if (running) { again = true; return; }
      running = true;
      do {
        again = false;
        try {
          const rows = await this.query(sql, params);
          const seen = JSON.stringify(rows, (_, v) => (typeof v === 'bigint' ? `${v}n` : v instanceof Uint8Array ? [...v] : v));
          if (!ended && seen !== last) { last = seen; hear(rows); }
        } catch (error) { if (!ended && !this.#closed) fail(error); }
      } while (again && !ended);
      running = false;
    };
    this.#queries.add(look);
    look();
    return () => { ended = true; this.#queries.delete(look); };
  }

  /** Hears of `status`, `change`, `refused`, `log`, `owner` and `error`; returns a function that ends it. */
  on(type, hear) {
    const listener = event => hear(event.detail);
    this.#heard.addEventListener(type, listener);
    return () => this.#heard.removeEventListener(type, listener);
  }

  async close() {
    if (this.#closed) return;
    try { await this.#call('close'); } finally { this.#closed = true; this.#queries.clear(); this.#line.end(); }
  }

  async [Symbol.asyncDispose ?? Symbol.for('Symbol.asyncDispose')]() { await this.close(); }
}
