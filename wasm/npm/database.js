// Database: what `open` gives: SQL, live queries, sync. Each call goes by name to a host, which runs in a worker or in this thread.
import { fault, plain } from './fault.js';
import { LiveResult, objects } from './results.js';

const TRANSACTION_IDLE_MS = 5000;
const EVERY_MAX_MS = 3_600_000;
/** A timer that is set to more ends at once. */
const TIMER_MAX_MS = 2 ** 31 - 1;
const EVENTS = ['status', 'change', 'refused', 'renumbered', 'log', 'owner', 'error'];

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

const isFlag = value => typeof value === 'boolean';
const isBytes = value => value instanceof Uint8Array;
const isFunction = value => typeof value === 'function';
const isAddress = value => typeof value === 'string' || typeof value?.href === 'string';
const isMs = max => value => typeof value === 'number' && value >= 0 && value <= max;
/** The options of `open`: whether a value is one, what it has to be, and a hint. */
const OPTIONS = {
  memory: [isFlag, 'true or false'],
  file: [isBytes, 'a Uint8Array', 'the bytes of a SQLite file'],
  device: [value => typeof value === 'string', 'a text', "such as 'phone': the server's list of devices shows it"],
  persist: [isFlag, 'true or false'],
  transactionIdleMs: [isMs(TIMER_MAX_MS), 'a number of milliseconds', 'such as 5000'],
  every: [isMs(EVERY_MAX_MS), 'a number of milliseconds, at most an hour', 'such as 5000: writes gather for five seconds'],
  seed: [isBytes, 'a Uint8Array', '32 random bytes'],
  worker: [value => isAddress(value) || isFunction(value), 'an address, or a function that starts a worker', "such as '/worker.js'"],
  wasmUrl: [isAddress, 'an address', "such as '/piecewise.wasm'"],
  WebSocket: [isFunction, 'a class', 'such as WebSocket of the package ws'],
};

const wrong = (message, hint) => new PiecewiseError(fault('VALUE', message, hint));
/** An argument that has to be a text. */
const text = (value, what, hint) => { if (typeof value !== 'string' || !value) throw wrong(`${what} is missing`, hint); return value; };
const statement = sql => text(sql, 'the SQL statement', "give it as a text, as in query('SELECT * FROM todos')");
const heard = (hear, what) => { if (typeof hear !== 'function') throw wrong(`${what} is missing`, 'give a function that is called back'); return hear; };
/** Parameters of a statement. A value that was forgotten, such as a misspelt field, would be stored as NULL. */
const values = params => {
  const missing = Array.isArray(params)
    ? params.findIndex(value => value === undefined) + 1
    : Object.keys(params ?? {}).find(name => params[name] === undefined);
  if (missing) throw wrong(`the parameter ${missing} is undefined`, 'give a value; NULL is null');
  return params;
};
/** Options, each of which is known. */
const known = (options, names, call) => {
  if (options === null || typeof options !== 'object') throw wrong(`the options of ${call} are an object`);
  for (const name of Object.keys(options)) if (!names.includes(name)) throw wrong(`${call} has no option ${name}`, `it has: ${names.join(', ')}`);
  return options;
};
const row = (table, key) => { text(table, 'the name of a table'); if (key === undefined || key === null) throw wrong('the key of a row is missing'); };
const shape = (options, call) => {
  const { rows = 'object' } = known(options, ['rows'], call);
  if (rows !== 'object' && rows !== 'array') throw wrong(`rows is ${String(rows)}`, "say 'object' or 'array'");
  return rows;
};
const done = ({ changes, lastInsertRowid }) => ({ changes, lastInsertRowid });
const shaped = (result, rows) => (rows === 'array' ? { columns: result.columns, rows: result.rows, ...done(result) } : objects(result));

/** Checks what every `open` is given. */
export function checkOpen(name, options) {
  if (typeof name !== 'string' || !/^[A-Za-z0-9_-]{1,64}$/.test(name)) throw new PiecewiseError(fault('VALUE', 'a database is named with letters, digits, - and _'));
  known(options, Object.keys(OPTIONS), 'open');
  for (const [option, value] of Object.entries(options)) {
    const [fits, kind, hint] = OPTIONS[option];
    if (value !== undefined && !fits(value)) throw wrong(`the option ${option} is ${kind}`, hint);
  }
}

/** Checks what a driver is given: an open database, not the promise of one. */
export function checkDatabase(database, call) {
  if (typeof database?.transaction !== 'function') throw wrong(`${call} needs an open database`, "give it what open(…) resolves to: const database = await open('notes', …)");
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

/** The statements that a database and a transaction have. */
class Statements {
  /** How a call is made, and how the rows of a query come as an object or a list each. */
  #call;
  constructor(call) { this.#call = call; }

  /** Runs one statement; its rows, as objects or, with `{ rows: 'array' }`, as lists beside the names of their columns. */
  async query(sql, params = [], options = {}) {
    const rows = shape(options, 'query');
    return shaped(await this.#call('run', statement(sql), values(params)), rows);
  }
  /** Runs one statement; how many rows it changed, and the rowid of the last that it inserted. */
  async run(sql, params = []) { return done(await this.#call('run', statement(sql), values(params))); }
  /** Runs statements whose rows nobody wants; the same of all together. */
  async exec(sql) { return done(await this.#call('exec', statement(sql))); }
}

/** A statement that stays prepared where the database is. */
class Prepared {
  #database;
  constructor(database, sql, { columns, parameters, readonly }) { this.#database = database; Object.assign(this, { sql, columns, parameters, readonly }); }
  query(params, options) { return this.#database.query(this.sql, params, options); }
  run(params) { return this.#database.run(this.sql, params); }
  subscribe(params, hear, fail, options) { return this.#database.subscribe(this.sql, params, hear, fail, options); }
}

export class Database {
  #line; #heard; #options; #statements; #closed = false; #queries = new Map(); #made = 0;

  constructor(line, heard, options) {
    this.#line = line;
    this.#heard = heard;
    this.#options = options;
    this.#statements = new Statements((method, ...args) => this.#call(method, ...args));
    heard.addEventListener('live', ({ detail }) => this.#queries.get(detail.id)?.take(detail.patch));
    heard.addEventListener('reopened', () => this.#queries.forEach(query => query.begin()));
  }

  async #call(method, ...args) {
    if (this.#closed) throw new PiecewiseError(fault('CLOSED', 'the database is closed'));
    try { return await this.#line.call(method, args); } catch (error) { throw ours(error); }
  }

  query(sql, params, options) { return this.#statements.query(sql, params, options); }
  run(sql, params) { return this.#statements.run(sql, params); }
  exec(sql) { return this.#statements.exec(sql); }
  /** Prepares a statement, which says what is wrong with it, what its columns and parameters are. */
  async prepare(sql) { return new Prepared(this, sql, await this.#call('prepare', statement(sql))); }
  /** Runs statements in one transaction, or a function that gets `{ query, run, exec }` for one: all or none. */
  async transaction(work) {
    if (typeof work === 'function') return this.#during(work);
    if (!Array.isArray(work)) throw wrong('transaction needs statements, or a function');
    const list = work.map(s => (typeof s === 'string' ? [s, []] : [statement(s?.[0]), values(s[1] ?? [])]));
    return (await this.#call('batch', list)).map(objects);
  }
  async #during(work) {
    const token = await this.#call('begin', this.#options.transactionIdleMs ?? TRANSACTION_IDLE_MS);
    let result;
    try { result = await work(new Statements((method, ...args) => this.#call('within', token, method, args))); } catch (error) {
      await this.#call('end', token, false).catch(() => {});
      throw error;
    }
    await this.#call('end', token, true);
    return result;
  }

  async track(table, options = {}) {
    const allowed = ['text', 'counter', 'keepNumbers', 'references', 'autoincrement'];
    const { text: texts = [], counter = [], keepNumbers, references = {}, autoincrement = false } = known(options, allowed, 'track');
    const named = Object.entries(references).map(([column, parent]) => `${column}=${parent}`);
    for (const reference of named) {
      if (!/=.+\../.test(reference)) throw wrong(`a reference names a column of another table, as in { about_id: 'customers.id' }, not ${reference}`);
    }
    return this.#call('track', text(table, 'the name of a table'), texts, counter, keepNumbers, named, autoincrement);
  }
  async untrack(table, options = {}) {
    const { leaveHeld = false } = known(options, ['leaveHeld'], 'untrack');
    return this.#call('untrack', text(table, 'the name of a table'), leaveHeld);
  }
  async join(invite, options = {}) {
    const { database } = known(options, ['database'], 'join');
    text(invite, 'the invite', 'give the line that `piecewise-server invite` printed');
    return this.#call('join', invite, database);
  }
  connect() { return this.#call('connect', true); }
  disconnect() { return this.#call('connect', false); }
  level() { return this.#call('level'); }
  async status() {
    const [status, persisted] = await Promise.all([this.#call('status'), globalThis.navigator?.storage?.persisted?.()]);
    return { ...status, persisted: persisted ?? false };
  }
  conflicts() { return this.#call('conflicts'); }
  async choose(table, key, number, options = {}) {
    const { column, asNewRow = false, withReferences = false } = known(options, ['column', 'asNewRow', 'withReferences'], 'choose');
    row(table, key);
    if (!Number.isInteger(number) || number < 0) throw wrong('the number of a choice is missing', 'see conflicts(): 0 keeps what shows, 1 and on take another');
    return this.#call('choose', table, key, number, column, asNewRow, withReferences);
  }
  held() { return this.#call('held'); }
  async chooseHeld(table, key) {
    row(table, key);
    return this.#call('chooseHeld', table, key);
  }
  async editHeld(table, key, columns) {
    row(table, key);
    for (const [column, value] of Object.entries(columns ?? {})) if (value === undefined) throw wrong(`the value of ${column} is undefined`, 'give a value; NULL is null');
    const edits = Object.entries(columns ?? {}).map(([column, value]) => [column, value === null ? 'NULL' : String(value)]);
    if (edits.length === 0) throw wrong('the values of a held row are missing', "give columns and values, such as { title: 'another' }");
    return this.#call('editHeld', table, key, edits);
  }
  async discardHeld(table, key) {
    row(table, key);
    return this.#call('discardHeld', table, key);
  }
  check() { return this.#call('check'); }
  refused() { return this.#call('refused'); }
  retryRefused() { return this.#call('retryRefused'); }
  revertRefused() { return this.#call('revertRefused'); }
  async history(table, key, options = {}) {
    const { log = false } = known(options, ['log'], 'history');
    row(table, key);
    return this.#call('history', table, key, log);
  }
  export() { return this.#call('export'); }
  /** Puts a SQLite file in the place of all there is. */
  async import(file) {
    if (!(file instanceof Uint8Array)) throw wrong('the file is missing', 'give the bytes of a SQLite file as a Uint8Array');
    return this.#call('import', file);
  }

  /** Calls back with the rows now and whenever they have changed; returns a function that ends it. */
  subscribe(sql, params, hear, fail = error => console.error(error), options = {}) {
    const rows = shape(options, 'subscribe');
    statement(sql);
    heard(hear, 'the function that gets the rows');
    const id = ++this.#made;
    const result = new LiveResult(rows === 'array');
    const failed = error => { if (this.#queries.has(id)) fail(ours(error)); };
    const take = patch => {
      if (patch.error) return failed(patch.error);
      if (!result.take(patch)) return;
      try { hear(rows === 'array' ? { columns: result.columns, rows: result.rows } : result.rows); } catch (error) { failed(error); }
    };
    const begin = () => this.#watch(id, sql, params ?? []).catch(error => { if (!this.#closed) failed(error); });
    this.#queries.set(id, { take, begin });
    begin();
    return () => { if (this.#queries.delete(id) && !this.#closed) this.#call('unwatch', id).catch(() => {}); };
  }

  async #watch(id, sql, params) { return this.#call('watch', id, sql, values(params)); }

  /** Calls back on each `status`, `change`, `refused`, `renumbered`, `log`, `owner` or `error`; returns a function that ends it. */
  on(type, hear) {
    if (!EVENTS.includes(type)) throw wrong(`there is no event ${String(type)}`, `there are: ${EVENTS.join(', ')}`);
    heard(hear, 'the function that hears of it');
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
