import type { ReactElement, ReactNode } from 'react';
import type { Conflict, Database, Parameters, Row, RowsOption, SqlValue, Status } from './index.js';
import type { QueryResult, Source, Store } from './store.js';

/** Gives the components below a database, or the promise of one; on a server null. */
export function PiecewiseProvider(props: { database: Source; children?: ReactNode }): ReactElement;
export function useStore(): Store;
/** The rows of a query; the component is drawn again when they change. */
export function useQuery<R = Row>(sql: string, params?: Parameters, options?: RowsOption<'object'>): QueryResult<R>;
export function useQuery(sql: string, params: Parameters | undefined, options: { rows: 'array' }): QueryResult<SqlValue[]>;
/** undefined until it is known. */
export function useStatus(): Status | undefined;
export function useConflicts(): readonly Conflict[];
/** null until it is open. */
export function useDatabase(): Database | null;
