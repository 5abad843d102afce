import type { DatabaseIntrospector, Dialect, DialectAdapter, Driver, Kysely, QueryCompiler } from 'kysely';
import type { Database } from './index.js';

/** `new Kysely<Tables>({ dialect: new PiecewiseDialect({ database }) })`; the database is closed by who opened it. */
export class PiecewiseDialect implements Dialect {
  constructor(config: { database: Database });
  createDriver(): Driver;
  createQueryCompiler(): QueryCompiler;
  createAdapter(): DialectAdapter;
  createIntrospector(db: Kysely<any>): DatabaseIntrospector;
}
