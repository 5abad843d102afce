// Vue: the store's values as refs that end with the component or scope they are made in.
import { inject, onScopeDispose, provide, shallowReadonly, shallowRef, toValue, watch } from 'vue';
import { PiecewiseError } from './database.js';
import { fault } from './fault.js';
import { createStore } from './store.js';

const KEY = Symbol('piecewise');

/** Gives the components below a database, or the promise of one; `app.use(piecewise(database))` gives it to all. */
export function providePiecewise(database) {
  const store = createStore(database);
  provide(KEY, store);
  return store;
}
export const piecewise = database => ({ install(app) { app.provide(KEY, createStore(database)); } });

/** The store, for whoever wants more. */
export function useStore() {
  const store = inject(KEY, null);
  if (!store) throw new PiecewiseError(fault('VALUE', 'no database was provided to this component', 'call providePiecewise(database) above it, or app.use(piecewise(database))'));
  return store;
}

/** A ref of a store's value, or of the one that a function gives, which may change. */
export function useValue(value) {
  const ref = shallowRef();
  let end = () => {};
  watch(() => toValue(value), now => {
    end();
    ref.value = now.getSnapshot();
    end = now.subscribe(() => { ref.value = now.getSnapshot(); });
  }, { immediate: true });
  onScopeDispose(() => end());
  return shallowReadonly(ref);
}

/** A ref of `{ rows, columns, isLoading, error }`; SQL and parameters may be refs. */
export function useQuery(sql, params, options) {
  const store = useStore();
  return useValue(() => store.query(toValue(sql), toValue(params), options));
}
export const useStatus = () => useValue(useStore().status);
export const useConflicts = () => useValue(useStore().conflicts);
export const useDatabase = () => useValue(useStore().database);
