import type { Conflict, Database, Parameters, Row, RowsOption, SqlValue, Status } from './index.js';
import type { QueryResult, Source, Value } from './store.js';

/** By Svelte's contract for stores: `svelte/store`'s Readable. */
export interface Readable<T> { subscribe(this: void, run: (value: T) => void, invalidate?: () => void): () => void }

/** A store's value as a readable store. */
export function readable<T>(value: Value<T>): Readable<T>;
/** Readable stores of a database, of the promise of one, or on a server of none. */
export function piecewise(database: Source): {
  query<R = Row>(sql: string, params?: Parameters, options?: RowsOption<'object'>): Readable<QueryResult<R>>;
  query(sql: string, params: Parameters | undefined, options: { rows: 'array' }): Readable<QueryResult<SqlValue[]>>;
  status: Readable<Status | undefined>;
  conflicts: Readable<readonly Conflict[]>;
  database: Readable<Database | null>;
};
