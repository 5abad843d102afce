// Svelte: the store's values by Svelte's own contract for stores, so that `$todos` in a component is up to date.
import { createStore } from './store.js';

/** A store's value as a readable store. */
export const readable = value => ({
  subscribe(run) {
    const end = value.subscribe(() => run(value.getSnapshot()));
    run(value.getSnapshot());
    return end;
  },
});

/** Readable stores of a database, of the promise of one, or on a server of none. */
export function piecewise(database) {
  const store = createStore(database);
  return {
    query: (sql, params, options) => readable(store.query(sql, params, options)),
    status: readable(store.status),
    conflicts: readable(store.conflicts),
    database: readable(store.database),
  };
}
