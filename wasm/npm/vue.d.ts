import type { MaybeRefOrGetter, Plugin, ShallowRef } from 'vue';
import type { Conflict, Database, Parameters, Row, RowsOption, SqlValue, Status } from './index.js';
import type { QueryResult, Source, Store, Value } from './store.js';

/** Gives the components below a database, or the promise of one. */
export function providePiecewise(database: Source): Store;
/** The same for a whole application: `app.use(piecewise(database))`. */
export function piecewise(database: Source): Plugin;
export function useStore(): Store;
/** A ref of a store's value. */
export function useValue<T>(value: MaybeRefOrGetter<Value<T>>): Readonly<ShallowRef<T>>;
/** The rows of a query; SQL and parameters may be refs. */
export function useQuery<R = Row>(sql: MaybeRefOrGetter<string>, params?: MaybeRefOrGetter<Parameters | undefined>, options?: RowsOption<'object'>): Readonly<ShallowRef<QueryResult<R>>>;
export function useQuery(sql: MaybeRefOrGetter<string>, params: MaybeRefOrGetter<Parameters | undefined>, options: { rows: 'array' }): Readonly<ShallowRef<QueryResult<SqlValue[]>>>;
export function useStatus(): Readonly<ShallowRef<Status | undefined>>;
export function useConflicts(): Readonly<ShallowRef<readonly Conflict[]>>;
export function useDatabase(): Readonly<ShallowRef<Database | null>>;
