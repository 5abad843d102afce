import type { DrizzleConfig } from 'drizzle-orm';
import type { SqliteRemoteDatabase } from 'drizzle-orm/sqlite-proxy';
import type { Database } from './index.js';

/** Drizzle on a database of this package; it is closed by who opened it. */
export function drizzle<TSchema extends Record<string, unknown> = Record<string, never>>(database: Database, config?: DrizzleConfig<TSchema>): SqliteRemoteDatabase<TSchema>;
