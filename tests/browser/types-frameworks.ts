// Compiled, never run: the store, hooks and drivers, with types that `piecewise types` made.
import { open } from 'piecewise';
import type { ArrayRows, Done, Prepared, SqlValue } from 'piecewise';
import { createStore } from 'piecewise/store';
import { PiecewiseProvider, useConflicts, useDatabase, useQuery, useStatus } from 'piecewise/react';
import { piecewise as svelte } from 'piecewise/svelte';
import { useQuery as useVueQuery } from 'piecewise/vue';
import { piecewise as solid } from 'piecewise/solid';
import { PiecewiseDialect } from 'piecewise/kysely';
import { drizzle } from 'piecewise/drizzle';
import { Kysely } from 'kysely';
import { integer, sqliteTable } from 'drizzle-orm/sqlite-core';
import type { OrderItems, Tables, Todos } from './tables.js';

export async function use(): Promise<void> {
  const db = await open('notes');
  const { changes, lastInsertRowid }: Done = await db.run('INSERT INTO todos(id) VALUES (:id)', { id: 'a', ':title': null });
  const lists: ArrayRows & Partial<Done> = await db.query('SELECT * FROM todos', [], { rows: 'array' });
  const cells: SqlValue[] | undefined = lists.rows[0];
  const statement: Prepared<Todos> = await db.prepare<Todos>('SELECT * FROM todos WHERE id = ?');
  const [todo]: Todos[] = await statement.query(['a']);
  const note: string | undefined = todo?.note;
  const title: string | null | undefined = todo?.title;
  const stop = db.subscribe('SELECT 1', undefined, ({ rows, columns }) => { void rows[0]?.[0]; columns.join(); }, undefined, { rows: 'array' });
  db.on('change', ({ tables, schema }) => { void (tables?.join() ?? schema); });
  const store = createStore(Promise.resolve(db));
  const snapshot = store.query<Todos>('SELECT * FROM todos').getSnapshot();
  const first: Todos | undefined = snapshot.rows[0];
  svelte(db).query<Todos>('SELECT * FROM todos').subscribe(value => { void value.rows[0]?.votes.toFixed(); });
  const kysely = new Kysely<Tables>({ dialect: new PiecewiseDialect({ database: db }) });
  const found: { id: string; title: string | null }[] = await kysely.selectFrom('todos').select(['id', 'title']).where('votes', '>', 1).execute();
  const line: number | undefined = (await kysely.selectFrom('order items').select('line "no"').executeTakeFirst())?.['line "no"'];
  const t = sqliteTable('t', { id: integer().primaryKey() });
  const rows: { id: number }[] = await drizzle(db, { schema: { t } }).select().from(t);
  const item: OrderItems = { 'line "no"': 1, class: 2n, 2: null };
  void [changes, lastInsertRowid, cells, note, title, stop, first, found, line, rows, item];

  // @ts-expect-error rows come as objects or lists
  await db.query('SELECT 1', [], { rows: 'objects' });
  // @ts-expect-error there is no such table
  kysely.selectFrom('nothing');
  // @ts-expect-error votes is never null
  const wrong: Todos = { id: 'a', title: null, note: '', votes: null };
  void wrong;
}

export function Component(): unknown {
  const { rows, isLoading, error } = useQuery<Todos>('SELECT * FROM todos', ['a']);
  const lists: readonly SqlValue[][] = useQuery('SELECT 1', [], { rows: 'array' }).rows;
  const level: boolean | undefined = useStatus()?.level;
  const conflicts: number = useConflicts().length;
  void [lists, level, conflicts, useDatabase()?.level(), error?.code, useVueQuery<Todos>(() => 'SELECT 1').value.rows[0]?.id, solid(null).query<Todos>('SELECT 1')().rows[0]?.id];
  return isLoading ? PiecewiseProvider({ database: null }) : rows[0]?.title;
}
