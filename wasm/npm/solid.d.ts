import type { Accessor } from 'solid-js';
import type { Conflict, Database, Parameters, Row, RowsOption, SqlValue, Status } from './index.js';
import type { QueryResult, Source, Value } from './store.js';

/** A store's value as a signal. */
export function fromValue<T>(value: Value<T> | Accessor<Value<T>>): Accessor<T>;
/** Signals of a database, of the promise of one, or on a server of none; each call makes one for the component it is in. */
export function piecewise(database: Source): {
  query<R = Row>(sql: string | Accessor<string>, params?: Parameters | Accessor<Parameters | undefined>, options?: RowsOption<'object'>): Accessor<QueryResult<R>>;
  query(sql: string | Accessor<string>, params: Parameters | Accessor<Parameters | undefined> | undefined, options: { rows: 'array' }): Accessor<QueryResult<SqlValue[]>>;
  status(): Accessor<Status | undefined>;
  conflicts(): Accessor<readonly Conflict[]>;
  database(): Accessor<Database | null>;
};
