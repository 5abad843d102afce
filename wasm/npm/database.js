// Database: what `open` gives: SQL, live queries, sync. Each call goes by name to a host, which runs in a worker or in this thread.
import { fault, plain } from './fault.js';

const TRANSACTION_IDLE_MS = 5000;

/** Errors have a `code`, a message and often a `hint`. */
export class PiecewiseError extends Error {
  constructor({ code, message, hint }) {
    super(message);
    this.name = 'PiecewiseError';
    this.code = code;
    if (hint) this.hint = hint;
  }
}
export const ours = error => (error instanceof PiecewiseError ? error : new PiecewiseError(plain(error)));

const objects = ({ columns, rows }) => rows.map(row => Object.fromEntries(columns.map((column, n) => [column, row[n]])));
const same = (a, b) => a === b || (a instanceof Uint8Array && b instanceof Uint8Array && a.length === b.length && a.every((byte, n) => byte === b[n]));
/** Whether two results of one query have the same columns and cells. */
const equal = (a, b) => a !== undefined && a.columns.length === b.columns.length && a.columns.every((column, n) => column === b.columns[n])
  && a.rows.length === b.rows.length && a.rows.every((row, n) => row.every((cell, m) => same(cell, b.rows[n][m])));

/** Checks what every `open` is given. */
export function checkOpen(name, options) {
  if (typeof name !== 'string' || !/^[A-Za-z0-9_-]{1,64}$/.test(name)) throw new PiecewiseError(fault('VALUE', 'a database is named with letters, digits, - and _'));
  if (options.WebSocket !== undefined && typeof options.WebSocket !== 'function') throw new PiecewiseError(fault('VALUE', 'the option WebSocket is a class', 'such as WebSocket of the package ws'));
}

/** A database on a connection to its host, with its first file. */
export async function openOn(connect, options) {
  const events = new EventTarget();
  const emit = event => events.dispatchEvent(Object.assign(new Event(event.type), { detail: event }));
  try {
    const db = new Database(await connect(emit), events, options);
    if (options.file) try { await db.import(options.file); } catch (error) { await db.close(); throw error; }
    return db;
  } catch (error) { throw ours(error); }
}

export class Database {
  #line; #heard; #options; #closed = false; #queries = new Set();

  constructor(line, heard, options) {
    this.#line = line;
    this.#heard = heard;
    this.#options = options;
    heard.addEventListener('change', () => this.#queries.forEach(query => query()));
  }

  async #call(method, ...args) {
    if (this.#closed) throw new PiecewiseError(fault('CLOSED', 'the database is closed'));
    try { return await this.#line.call(method, args); } catch (error) { throw ours(error); }
  }

  /** Runs one statement; rows as objects. */
  async query(sql, params = []) { return objects(await this.#call('run', sql, params)); }
  /** Runs one statement; how many rows it changed. */
  async run(sql, params = []) { return (await this.#call('run', sql, params)).changes; }
  /** Runs statements that give no rows. */
  async exec(sql) { await this.#call('exec', sql); }
  /** Runs statements in one transaction, or a function that gets `{ query, run, exec }` for one: all or none. */
  async transaction(work) {
    if (typeof work === 'function') return this.#during(work);
    const list = work.map(s => (typeof s === 'string' ? [s, []] : [s[0], s[1] ?? []]));
    return (await this.#call('batch', list)).map(objects);
  }
  async #during(work) {
    const token = await this.#call('begin', this.#options.transactionIdleMs ?? TRANSACTION_IDLE_MS);
    const within = (method, ...args) => this.#call('within', token, method, args);
    const inside = {
      query: async (sql, params = []) => objects(await within('run', sql, params)),
      run: async (sql, params = []) => (await within('run', sql, params)).changes,
      exec: async sql => { await within('exec', sql); },
    };
    let result;
    try { result = await work(inside); } catch (error) {
      await this.#call('end', token, false).catch(() => {});
      throw error;
    }
    await this.#call('end', token, true);
    return result;
  }

  track(table, { text = [], counter = [] } = {}) { return this.#call('track', table, text, counter); }
  untrack(table, { leaveHeld = false } = {}) { return this.#call('untrack', table, leaveHeld); }
  join(invite, { database } = {}) { return this.#call('join', invite, database); }
  connect() { return this.#call('connect', true); }
  disconnect() { return this.#call('connect', false); }
  level() { return this.#call('level'); }
  async status() {
    const [status, persisted] = await Promise.all([this.#call('status'), globalThis.navigator?.storage?.persisted?.()]);
    return { ...status, persisted: persisted ?? false };
  }
  conflicts() { return this.#call('conflicts'); }
  choose(table, key, number, { column, asNewRow = false } = {}) { return this.#call('choose', table, key, number, column, asNewRow); }
  held() { return this.#call('held'); }
  check() { return this.#call('check'); }
  refused() { return this.#call('refused'); }
  retryRefused() { return this.#call('retryRefused'); }
  revertRefused() { return this.#call('revertRefused'); }
  history(table, key, { log = false } = {}) { return this.#call('history', table, key, log); }
  export() { return this.#call('export'); }
  /** Puts a SQLite file in the place of all there is. */
  import(file) { return this.#call('import', file); }

  /** Calls back with the rows now and whenever they have changed; returns a function that ends it. */
  subscribe(sql, params, hear, fail = error => console.error(error)) {
    let last, running = false, again = false, ended = false;
    const look = async () => {
      if (running) { again = true; return; }
      running = true;
      do {
        again = false;
        try {
          const result = await this.#call('run', sql, params);
          if (!ended && !equal(last, result)) { last = result; hear(objects(result)); }
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
    try { await this.#line.call('close', []); } finally { this.#closed = true; this.#queries.clear(); this.#line.end(); }
  }

  async [Symbol.asyncDispose ?? Symbol.for('Symbol.asyncDispose')]() { await this.close(); }
}
