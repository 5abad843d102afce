// Results: rows as programs get them, and the result of a live query, made from what changed.

/** Names for an object's fields: of columns with one name the second is `name:1`, the next `name:2`, as in SQLite's subqueries. */
export function fieldNames(columns) {
  const taken = new Set(columns), seen = new Set();
  return columns.map(column => {
    let name = column;
    for (let n = 1; seen.has(name) || (name !== column && taken.has(name)); n++) name = `${column}:${n}`;
    seen.add(name);
    return name;
  });
}

/** A function that makes an object of a row's cells. */
export function objectMaker(columns) {
  const names = fieldNames(columns);
  // As a field of its own it can only be defined.
  if (names.includes('__proto__')) return row => Object.fromEntries(names.map((name, n) => [name, row[n]]));
  return row => {
    const object = {};
    for (let n = 0; n < names.length; n++) object[names[n]] = row[n];
    return object;
  };
}

export const objects = ({ columns, rows }) => rows.map(objectMaker(columns));

const sameCell = (a, b) => Object.is(a, b) || (a instanceof Uint8Array && b instanceof Uint8Array && a.length === b.length && a.every((byte, n) => byte === b[n]));
const sameRow = (a, b) => Object.keys(a).every(name => sameCell(a[name], b[name]));
const sameList = (a, b) => a.length === b.length && a.every((one, n) => one === b[n]);

/** The rows of a live query. Those that did not change stay the same objects. */
export class LiveResult {
  columns = null; rows = [];
  #asArrays; #make; #parts = [];

  constructor(asArrays) { this.#asArrays = asArrays; }

  /** Takes in what the host told; whether the result is another now. */
  take({ columns, runs, rows }) {
    const isNew = this.columns === null || !sameList(this.columns, columns);
    if (isNew) {
      this.columns = columns;
      this.#make = this.#asArrays ? row => row : objectMaker(columns);
      if (!runs) this.rows = [];
    }
    for (const row of rows) this.#parts.push(this.#make(row));
    if (!runs) return false;
    const fresh = this.#parts, old = this.rows;
    this.#parts = [];
    let length = 0;
    for (let n = 0; n < runs.length; n += 3) length += runs[n + 1] + runs[n + 2];
    const next = new Array(length);
    let to = 0, used = 0, same = !isNew && length === old.length;
    for (let n = 0; n < runs.length; n += 3) {
      for (let from = runs[n], end = from + runs[n + 1]; from < end; from++) { same &&= to === from; next[to++] = old[from]; }
      for (let left = runs[n + 2]; left > 0; left--) {
        const row = fresh[used++], before = old[to];
        // After another tab has taken over all rows come again.
        const isIt = !isNew && before !== undefined && sameRow(row, before);
        same &&= isIt;
        next[to++] = isIt ? before : row;
      }
    }
    if (same) return false;
    this.rows = next;
    return true;
  }
}

/** A text that is the same for a statement with equal parameters. */
export const keyOf = (sql, params) => JSON.stringify([sql, params], (_, value) => (typeof value === 'bigint' ? { bigint: String(value) }
  : value instanceof Uint8Array ? { blob: [...value] }
    : value === undefined ? { undefined: true }
      : typeof value === 'number' && !Number.isFinite(value) ? { number: String(value) } : value));
