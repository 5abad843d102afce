// Live: the live queries of all tabs at one host. Queries of equal text and values share one result, which the engine keeps;
// after a commit that changed a table they read they are brought up to date once, and each listener gets the difference.
import { isTrap, plain } from './fault.js';
import { keyOf } from './results.js';
import { yieldTo } from './turn.js';

/** Rows in one message: what takes longer to read makes a page stutter. */
const PART_ROWS = 2000;
/** Work in one go, before calls get their turn. */
const TURN_MS = 8;
/** A query that takes longer than a turn rests this many times as long before it runs again, but not for longer than this. */
const REST = 3;
const REST_MAX_MS = 1000;

export class Live {
  #engine; #isFree; #trapped;
  /** By key and by the engine's number. */
  #queries = new Map(); #numbers = new Map();
  #scheduled = false; #timer = null;

  /** `isFree()`: whether queries may run now; `trapped(error)` hears that the engine did. */
  constructor(engine, isFree, trapped) { this.#engine = engine; this.#isFree = isFree; this.#trapped = trapped; }

  /** Tells `hear` all rows now, and how they differ after each commit that changed them; returns a function that ends it. */
  watch(sql, params, hear) {
    const key = keyOf(sql, params);
    let query = this.#queries.get(key);
    if (!query) {
      query = { number: this.#engine.watch(sql, params), key, listeners: new Set(), stale: false, rested: 0, error: null };
      this.#queries.set(key, query);
      this.#numbers.set(query.number, query);
    }
    this.#refresh(query, hear);
    query.listeners.add(hear);
    return () => {
      query.listeners.delete(hear);
      if (query.listeners.size || !this.#numbers.delete(query.number)) return;
      this.#queries.delete(key);
      this.#engine.unwatch(query.number);
    };
  }

  /** The engine's numbers of queries whose results may be others now. */
  mark(numbers) {
    for (const number of numbers) { const query = this.#numbers.get(number); if (query) query.stale = true; }
    this.go();
  }

  /** Runs what waits, in its turn. */
  go() {
    if (this.#scheduled || !this.#isFree()) return;
    let next = Infinity;
    for (const query of this.#numbers.values()) if (query.stale) next = Math.min(next, query.rested);
    if (next === Infinity) return;
    clearTimeout(this.#timer);
    const wait = next - performance.now();
    if (wait > 0) { this.#timer = setTimeout(() => this.#work(), wait); return; }
    this.#scheduled = true;
    yieldTo(() => { this.#scheduled = false; this.#work(); });
  }

  #work() {
    const begun = performance.now();
    for (const query of this.#numbers.values()) {
      if (!this.#isFree() || performance.now() - begun > TURN_MS) break;
      if (query.stale && query.rested <= performance.now()) this.#refresh(query);
    }
    this.go();
  }

  /** `newcomer` gets all rows, those who listen already the difference. */
  #refresh(query, newcomer) {
    query.stale = false;
    const begun = performance.now();
    try {
      const result = this.#engine.refresh(query.number, newcomer !== undefined);
      query.error = null;
      if (result?.runs) for (const hear of query.listeners) send(hear, result);
      if (newcomer) send(newcomer, { columns: result.columns, runs: Int32Array.of(0, 0, result.all.length), rows: result.all });
    } catch (error) {
      if (isTrap(error)) { if (newcomer) throw error; return this.#trapped(error); }
      // A query on a table that is not there yet begins when it is; the same error is told once.
      const told = query.error === error.message;
      query.error = error.message;
      if (!told) for (const hear of query.listeners) hear({ error: plain(error) });
      newcomer?.({ error: plain(error) });
    }
    const took = performance.now() - begun;
    // What a newcomer costs says nothing of the next difference.
    query.rested = took > TURN_MS && !newcomer ? performance.now() + Math.min(took * REST, REST_MAX_MS) : 0;
  }
}

/** Sends a result in parts, the last of which says how they go together. */
function send(hear, { columns, runs, rows }) {
  let at = 0;
  for (; rows.length - at > PART_ROWS; at += PART_ROWS) hear({ columns, rows: rows.slice(at, at + PART_ROWS) });
  hear({ columns, runs, rows: at ? rows.slice(at) : rows });
}
