// Drizzle: its SQLite proxy on a database of this package. Rows cross as lists, so that columns of one name stay apart.
import { SQLiteProxyTransaction, drizzle as proxy } from 'drizzle-orm/sqlite-proxy';
import { checkDatabase } from './database.js';

/** Statements of nested transactions, which run inside of ours. */
const NESTED = /^\s*(savepoint|release|rollback to)\b/i;

const calls = statements => async (sql, params, method) => {
  if (NESTED.test(sql)) { await statements.exec(sql); return { rows: [] }; }
  const { rows, changes, lastInsertRowid } = await statements.query(sql, params, { rows: 'array' });
  return { rows: method === 'get' ? rows[0] : rows, changes, lastInsertRowid };
};

/** `drizzle(database, { schema })`. */
export function drizzle(database, config = {}) {
  checkDatabase(database, 'drizzle(database)');
  // A batch is read as lists of rows, also by `get`.
  const batch = list => database.transaction(async tx => {
    const results = [];
    for (const { sql, params } of list) results.push(await calls(tx)(sql, params, 'all'));
    return results;
  });
  const db = proxy(calls(database), batch, config);
  db.transaction = work => database.transaction(tx => {
    const { dialect, session, _ } = proxy(calls(tx), config);
    const schema = _.schema && { fullSchema: _.fullSchema, schema: _.schema, tableNamesMap: _.tableNamesMap };
    return work(new SQLiteProxyTransaction('async', dialect, session, schema));
  });
  return db;
}
