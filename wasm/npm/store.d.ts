import type { Conflict, Database, Parameters, PiecewiseError, Row, RowsOption, SqlValue, Status } from './index.js';

/** A value that changes: `getSnapshot` gives the same one until listeners are told of another. */
export interface Value<T> {
  subscribe(listener: () => void): () => void;
  getSnapshot(): T;
  /** What a server renders, and a browser at first. */
  getServerSnapshot(): T;
}

/** The result of a live query. `error` is why it cannot be read now; the rows are those of before. */
export interface QueryResult<R> {
  readonly rows: readonly R[];
  /** The columns' names, with `{ rows: 'array' }`. */
  readonly columns: readonly string[];
  /** Whether nothing has come yet. */
  readonly isLoading: boolean;
  readonly error: PiecewiseError | undefined;
}

export interface Store {
  /** The database once it is open; null before. */
  readonly database: Value<Database | null>;
  query<R = Row>(sql: string, params?: Parameters, options?: RowsOption<'object'>): Value<QueryResult<R>>;
  query(sql: string, params: Parameters | undefined, options: { rows: 'array' }): Value<QueryResult<SqlValue[]>>;
  /** undefined until it is known. */
  readonly status: Value<Status | undefined>;
  /** Empty until they are known. */
  readonly conflicts: Value<readonly Conflict[]>;
}

/** What may be shown of: an open database, the promise of one, or on a server none. */
export type Source = Database | Promise<Database> | null | undefined;

/** Live values of a database, shared by all who ask for the same, and kept up to date while somebody listens. */
export function createStore(database: Source): Store;
