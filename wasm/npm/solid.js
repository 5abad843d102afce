// Solid: the store's values as signals that end with the component or root they are made in.
import { createEffect, createMemo, createSignal, onCleanup } from 'solid-js';
import { createStore } from './store.js';

/** A store's value, or the one that a function gives and that may change, as a signal. */
export function fromValue(value) {
  const current = typeof value === 'function' ? createMemo(value) : () => value;
  const [get, set] = createSignal(current().getSnapshot());
  createEffect(() => {
    const now = current();
    const look = () => set(() => now.getSnapshot());
    onCleanup(now.subscribe(look));
    look();
  });
  return get;
}

const unwrapped = value => (typeof value === 'function' ? value() : value);

/** Signals of a database, of the promise of one, or on a server of none. */
export function piecewise(database) {
  const store = createStore(database);
  return {
    /** SQL and parameters may be signals. */
    query: (sql, params, options) => fromValue(() => store.query(unwrapped(sql), unwrapped(params), options)),
    status: () => fromValue(store.status),
    conflicts: () => fromValue(store.conflicts),
    database: () => fromValue(store.database),
  };
}
