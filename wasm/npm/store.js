// Store: live queries, status and conflicts as values that anyone can subscribe to: what the hooks for React, Vue, Svelte and
// Solid are made of. A value is shared by all who ask for the same, and kept up to date only while somebody listens.
import { PiecewiseError } from './database.js';
import { fault } from './fault.js';
import { keyOf } from './results.js';

/** A value that nobody listens to is kept this long: a component that is drawn anew finds it. */
const KEPT_MS = 1000;

/** A value: `subscribe(listener)` returns a function that ends it, `getSnapshot()` the value, the same until it changes. */
class Value {
  #value; #first; #listeners = new Set(); #begin; #end = null; #dropped; #timer = null;

  /** `begin(set)` starts to keep it up to date and returns a function that ends that; `dropped()` hears that nobody wants it. */
  constructor(first, begin, dropped = () => {}) {
    this.#value = this.#first = first;
    this.#begin = begin;
    this.#dropped = dropped;
    this.#rest();
  }

  subscribe = listener => {
    const one = () => listener();
    clearTimeout(this.#timer);
    this.#timer = null;
    this.#listeners.add(one);
    this.#end ??= this.#begin(value => {
      if (value === this.#value) return;
      this.#value = value;
      for (const listener of [...this.#listeners]) listener();
    });
    return () => { if (this.#listeners.delete(one) && !this.#listeners.size) this.#rest(); };
  };
  getSnapshot = () => this.#value;
  /** What a server renders, and a browser at first. */
  getServerSnapshot = () => this.#first;

  #rest() {
    this.#timer = setTimeout(() => {
      this.#end?.();
      this.#end = null;
      this.#dropped();
    }, KEPT_MS);
    this.#timer.unref?.();
  }
}

const NO_ROWS = Object.freeze([]);
const LOADING = Object.freeze({ rows: NO_ROWS, columns: NO_ROWS, isLoading: true, error: undefined });
const asError = error => (error instanceof PiecewiseError ? error : new PiecewiseError(fault('INTERNAL', error?.message ?? String(error))));

/** Values of a database, of the promise of one, or, on a server, of none. */
export function createStore(database) {
  const opened = Promise.resolve(database ?? new Promise(() => {}));
  opened.catch(() => {});
  const values = new Map();
  const shared = (key, first, begin) => {
    let value = values.get(key);
    if (!value) {
      value = new Value(first, begin, () => { if (values.get(key) === value) values.delete(key); });
      values.set(key, value);
    }
    return value;
  };
  /** Begins once the database is open. */
  const later = (work, failed) => {
    let end = null, over = false;
    opened.then(db => { if (!over) end = work(db); }).catch(error => { if (!over) failed(asError(error)); });
    return () => { over = true; end?.(); };
  };
  /** Asks again after each event, one question at a time; told is what is another than before. */
  const asked = (key, first, ask) => shared(key, first, set => later(db => {
    let busy = false, again = false, over = false, last;
    const look = async () => {
      if (busy) { again = true; return; }
      busy = true;
      do {
        again = false;
        try {
          const found = await ask(db);
          const text = keyOf(key, found);
          if (!over && text !== last) { last = text; set(found); }
        } catch (error) { if (!over && error.code !== 'CLOSED') console.error(error); }
      } while (again && !over);
      busy = false;
    };
    const ends = ['status', 'change'].map(event => db.on(event, look));
    look();
    return () => { over = true; ends.forEach(end => end()); };
  }, error => console.error(error)));

  return {
    /** The database once it is open; null before. */
    database: new Value(typeof database?.subscribe === 'function' ? database : null, set => later(db => { set(db); }, error => console.error(error))),
    /** `{ rows, columns, isLoading, error }` of a query. */
    query(sql, params = [], { rows: kind = 'object' } = {}) {
      return shared(keyOf(`${kind} ${sql}`, params), LOADING, set => {
        let last = LOADING;
        const tell = next => { last = Object.freeze({ ...last, isLoading: false, error: undefined, ...next }); set(last); };
        const failed = error => tell({ error });
        return later(db => db.subscribe(sql, params, found => tell(kind === 'array' ? { rows: found.rows, columns: found.columns } : { rows: found }), failed, { rows: kind }), failed);
      });
    },
    /** What `status()` gives; undefined until it is known. */
    status: asked('status', undefined, db => db.status()),
    /** What `conflicts()` gives; empty until it is known. */
    conflicts: asked('conflicts', NO_ROWS, db => db.conflicts()),
  };
}
