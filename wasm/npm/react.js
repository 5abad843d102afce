// React: a provider and hooks over the store. On a server, and until the database is open, they give what is known: nothing.
import { createContext, createElement, useContext, useMemo, useSyncExternalStore } from 'react';
import { PiecewiseError } from './database.js';
import { fault } from './fault.js';
import { createStore } from './store.js';

const Context = createContext(null);

/** Gives the components below a database, or the promise of one; on a server null. */
export function PiecewiseProvider({ database, children }) {
  const store = useMemo(() => createStore(database), [database]);
  return createElement(Context.Provider, { value: store }, children);
}

/** The store, for whoever wants more than the hooks give. */
export function useStore() {
  const store = useContext(Context);
  if (!store) throw new PiecewiseError(fault('VALUE', 'there is no PiecewiseProvider above this component', 'wrap it in <PiecewiseProvider database={…}>'));
  return store;
}

const useValue = value => useSyncExternalStore(value.subscribe, value.getSnapshot, value.getServerSnapshot);

/** `{ rows, columns, isLoading, error }` of a query; it is drawn again when the rows change. */
export const useQuery = (sql, params, options) => useValue(useStore().query(sql, params, options));
/** What `status()` gives; undefined until it is known. */
export const useStatus = () => useValue(useStore().status);
/** What `conflicts()` gives. */
export const useConflicts = () => useValue(useStore().conflicts);
/** The database; null until it is open. */
export const useDatabase = () => useValue(useStore().database);
