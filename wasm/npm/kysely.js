// Kysely: a dialect that runs its queries on a database of this package.
import { SqliteAdapter, SqliteIntrospector, SqliteQueryCompiler } from 'kysely';
import { checkDatabase } from './database.js';
import { objectMaker } from './results.js';

/** `new Kysely({ dialect: new PiecewiseDialect({ database }) })`; the database is closed by who opened it. */
export class PiecewiseDialect {
  #database;
  constructor({ database } = {}) {
    checkDatabase(database, 'new PiecewiseDialect({ database })');
    this.#database = database;
  }
  createDriver() { return new Driver(this.#database); }
  createQueryCompiler() { return new SqliteQueryCompiler(); }
  createAdapter() { return new SqliteAdapter(); }
  createIntrospector(db) { return new Introspector(db); }
}

/** Without the tables that are the package's own. */
class Introspector extends SqliteIntrospector {
  async getTables(options) { return (await super.getTables(options)).filter(({ name }) => !name.startsWith('piecewise_')); }
}

class Driver {
  #database;
  constructor(database) { this.#database = database; }
  async init() {}
  async acquireConnection() { return new Connection(this.#database); }
  async beginTransaction(connection) { await connection.begin(); }
  async commitTransaction(connection) { await connection.commit(); }
  async rollbackTransaction(connection) { await connection.rollback(); }
  async savepoint(connection, name) { await connection.exec(`SAVEPOINT ${quoted(name)}`); }
  async rollbackToSavepoint(connection, name) { await connection.exec(`ROLLBACK TO ${quoted(name)}`); }
  async releaseSavepoint(connection, name) { await connection.exec(`RELEASE ${quoted(name)}`); }
  async releaseConnection() {}
  async destroy() {}
}

const quoted = name => `"${name.replaceAll('"', '""')}"`;
const UNDONE = Symbol('rolled back');

class Connection {
  #database; #transaction = null;
  constructor(database) { this.#database = database; }

  /** Enters a transaction, whose function waits until it is told how it ends. */
  begin() {
    return new Promise((resolve, reject) => {
      const over = this.#database.transaction(tx => new Promise((commit, undo) => {
        this.#transaction = { tx, commit, undo, over: null };
        resolve();
      }));
      over.catch(reject);
      this.#over = over;
    });
  }
  #over;
  async commit() {
    const { commit } = this.#transaction;
    this.#transaction = null;
    commit();
    await this.#over;
  }
  async rollback() {
    const { undo } = this.#transaction;
    this.#transaction = null;
    undo(UNDONE);
    await this.#over.catch(error => { if (error !== UNDONE) throw error; });
  }
  exec(sql) { return this.#transaction.tx.exec(sql); }

  async executeQuery({ sql, parameters, query }) {
    const { columns, rows, changes, lastInsertRowid } = await (this.#transaction?.tx ?? this.#database).query(sql, parameters, { rows: 'array' });
    const result = { rows: rows.map(objectMaker(columns)) };
    if (query.kind === 'SelectQueryNode') return result;
    result.numAffectedRows = BigInt(changes);
    if (lastInsertRowid !== null) result.insertId = BigInt(lastInsertRowid);
    return result;
  }
  /** All rows at once: the database gives no part of a result. */
  async *streamQuery(query) { yield await this.executeQuery(query); }
}
