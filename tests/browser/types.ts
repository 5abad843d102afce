// Compiled, never run: what a program in TypeScript may and may not write.
import { open, PiecewiseError } from 'piecewise';
import type { Conflict, Done, ErrorCode, Row, SqlValue, Status } from 'piecewise';

interface Todo { id: string; title: string; votes: number }

export async function use(invite: string, file: Uint8Array): Promise<void> {
  await using db = await open('notes', { device: 'phone', file, persist: false, transactionIdleMs: 1000, worker: () => ({ postMessage() {}, terminate() {} }), wasmUrl: '/piecewise.wasm' });
  const frozen = ['a'] as const;
  await db.query('SELECT ?', frozen);
  const rows: Row[] = await db.query('SELECT * FROM todos WHERE id = ?', ['a']);
  const todos = await db.query<Todo>('SELECT id, title, votes FROM todos');
  const votes: number = todos.map(todo => todo.votes).length + rows.length;
  const { changes: changed }: Done = await db.run('UPDATE todos SET votes = ?', [votes, 2n, null, true, new Uint8Array(1)]);
  const [first]: Row[][] = await db.transaction(['SELECT 1', ['SELECT ?', [changed]]]);
  const title: string = await db.transaction(async tx => (await tx.query<Todo>('SELECT * FROM todos'))[0]?.title ?? String(first));
  const stop: () => void = db.subscribe<Todo>('SELECT * FROM todos', [], found => found[0]?.title.trim(), error => error.code satisfies ErrorCode);
  const off: () => void = db.on('refused', event => event.rows.toFixed());
  db.on('error', ({ error }) => error.hint?.trim());
  await db.join(invite, { database: 'home' });
  const warnings: string[] = await db.track('todos', { text: ['note'], counter: ['votes'] });
  const status: Status = await db.status();
  const waiting: number = status.tables.reduce((sum, table) => sum + table.changesWaiting, status.writesWaiting);
  const conflicts: Conflict[] = await db.conflicts();
  for (const conflict of conflicts) {
    if (conflict.kind === 'cell') await db.choose(conflict.table, conflict.key, 1, { column: conflict.column });
    else { const key: string | undefined = await db.choose(conflict.table, conflict.key, 1, { asNewRow: 'another-id' }); void key; }
  }
  const history = await db.history('todos', 'a', { log: true });
  const proven: number | undefined = history[0]?.log?.entry;
  const bytes: Uint8Array = await db.export();
  await db.import(bytes);
  try { await db.level(); } catch (error) { if (error instanceof PiecewiseError && error.code === 'OFFLINE') void error.hint; }
  const value: SqlValue = 1n;
  void [title, stop, off, warnings, waiting, proven, value];

  // @ts-expect-error a parameter is no date
  await db.run('SELECT ?', [new Date()]);
  // @ts-expect-error a parameter is not undefined: NULL is null
  await db.run('SELECT ?', [undefined]);
  // @ts-expect-error neither is one with a name
  await db.query('SELECT :a', { a: undefined });
  // @ts-expect-error an option of another type
  await open('notes', { memory: 'yes' });
  // @ts-expect-error a worker is an address, or what starts it
  await open('notes', { worker: 5 });
  // @ts-expect-error a database is named when joining
  await db.join(invite);
  // @ts-expect-error there is no such event
  db.on('nothing', () => {});
  // @ts-expect-error a code that there is not
  const wrong: ErrorCode = 'NONE';
  void wrong;
}
