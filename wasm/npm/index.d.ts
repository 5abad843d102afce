/// <reference lib="esnext.disposable" />

/** A value in SQL: an INTEGER is a number, from 2^53 on a bigint. As parameters true and false are 1 and 0, and a whole number is an INTEGER. */
export type SqlValue = null | number | bigint | string | boolean | Uint8Array;
export type Row = Record<string, SqlValue>;
/**
 * Parameters by position, or by name with or without the prefix that they have in the statement (`:id`, `@id`, `$id`). One that is
 * undefined is an error, VALUE: NULL is null.
 */
export type Parameters = readonly SqlValue[] | { readonly [name: string]: SqlValue };
/** How rows come: an object each, where of columns with one name the second is `name:1`, or a list each. */
export interface RowsOption<Rows extends 'object' | 'array' = 'object' | 'array'> { rows?: Rows }
/** Rows as lists: no column is lost, whatever their names. */
export interface ArrayRows { columns: string[]; rows: SqlValue[][] }
/** What a statement, or several, did. */
export interface Done {
  /** Rows changed, not counting what triggers changed. */
  changes: number;
  /** The rowid of the row inserted last; null: none was, or its table has no rowid. */
  lastInsertRowid: number | bigint | null;
}

/**
 * Stable from version to version; messages are for people and may change.
 *
 * | code | what happened |
 * |---|---|
 * | ADDRESS | the invite's address is none of a WebSocket |
 * | ASSET | a file of this package, its worker or its WASM, could not be loaded |
 * | BAD_INVITE | no invite, a used or an expired one |
 * | BOUND | the database is another of the server's already |
 * | BUSY | the file, or the server, is busy: later it may work |
 * | CLOSED | the database was closed |
 * | CONNECTION, SYNC | the server's words could not be understood; it is called again |
 * | CONSTRAINT | a UNIQUE, NOT NULL, CHECK or foreign key constraint |
 * | DAMAGED | a file that is no sound SQLite database |
 * | HANDSHAKE | the server could not prove who it is |
 * | HELD | a row is held: it cannot be shown in its table, or put back into it |
 * | INTERNAL | a defect of this package; the database opens anew by itself, and nothing committed is lost |
 * | NOT_BOUND | join a server first |
 * | NOT_FOUND | there is no such table, row, column or choice |
 * | NOT_GRANTED | the server knows this device no more, or grants it nothing here |
 * | OFFLINE | not connected |
 * | OTHER_SERVER | the database belongs to another server |
 * | OWNER_GONE | the tab that held the database was closed before it answered; only for calls that cannot be repeated |
 * | QUOTA | the browser gives no more room |
 * | REPLICA | the table cannot take part in sync, or not so |
 * | SQL | a mistake in SQL |
 * | STOPPED | a table stopped by itself; the message says why, and what to do |
 * | STORAGE | no lasting storage, as in some private windows, on pages without TLS and in Node |
 * | TRACKED | the table is tracked already |
 * | TRANSACTION | the transaction was undone |
 * | UNREACHABLE | the server cannot be reached |
 * | VALUE | an argument that cannot be |
 * | VERSION | a server or a file of another version |
 * | WEBSOCKET | this JavaScript has no WebSocket, and none was given |
 * | WRONG_SERVER | somebody else answers at the server's address |
 */
export type ErrorCode =
  | 'ADDRESS' | 'ASSET' | 'BAD_INVITE' | 'BOUND' | 'BUSY' | 'CLOSED' | 'CONNECTION' | 'CONSTRAINT' | 'DAMAGED' | 'HANDSHAKE' | 'HELD' | 'INTERNAL' | 'NOT_BOUND'
  | 'NOT_FOUND' | 'NOT_GRANTED' | 'OFFLINE' | 'OTHER_SERVER' | 'OWNER_GONE' | 'QUOTA' | 'REPLICA' | 'SQL' | 'STOPPED' | 'STORAGE' | 'SYNC' | 'TRACKED'
  | 'TRANSACTION' | 'UNREACHABLE' | 'VALUE' | 'VERSION' | 'WEBSOCKET' | 'WRONG_SERVER';

export class PiecewiseError extends Error {
  readonly code: ErrorCode;
  /** What to do. */
  readonly hint?: string;
}

/** A URL. */
export interface Address { readonly href: string }
/** A Worker. */
export interface WorkerLike { postMessage(message: unknown): void; terminate(): void }
export type WebSocketClass = new (address: string) => { binaryType: string; readonly readyState: number; close(): void };

export interface OpenOptions {
  /** Keep nothing: for Node, tests and private windows. Demanded where nothing could last. */
  memory?: boolean;
  /** The package's worker, for bundlers that do not find it by themselves and for CDNs: its address, or what starts it. */
  worker?: string | Address | (() => WorkerLike);
  /** The package's WASM file, for the same. */
  wasmUrl?: string | Address;
  /** A WebSocket class, with `memory` only: Node has one of its own from version 22 on, before the package `ws` has one. */
  WebSocket?: WebSocketClass;
  /** Begin with this SQLite file, in place of all there is: `open`, then `import`. */
  file?: Uint8Array;
  /** This device's secret, 32 bytes; only with `memory`. */
  seed?: Uint8Array;
  /** What the server's list of devices shows for this one. */
  device?: string;
  /** Whether to ask the browser to keep the data when its disk is full. Default: true. */
  persist?: boolean;
  /** How long a transaction may stand idle before it is undone. Default: 5000. */
  transactionIdleMs?: number;
  /**
   * How long writes gather while the server is there, in milliseconds: the edits of a row in between are one change, in its history and on the line. Default: 0; at most an hour.
   * While it is not there they gather for up to a minute, whatever this says.
   */
  every?: number;
}

/** Why a table cannot take part now, and since when: milliseconds since 1970. */
export interface Stopped {
  cause: 'missing' | 'unfit' | 'key' | 'not_writable' | 'not_captured' | 'not_applied' | 'description' | 'not_made' | 'not_synced' | 'at_server' | 'not_granted' | 'over_quota' | 'other_capitals';
  words: string;
  since: number;
}

export interface TableStatus {
  table: string;
  /** Its name on every replica: database/table. */
  container: string;
  rows: number;
  segments: number;
  /** Segments that the server has not got yet, and the rows they change. */
  segmentsWaiting: number;
  changesWaiting: number;
  held: number;
  refused: number;
  /** The fingerprint of all it holds: equal on replicas that are level. */
  root: string;
  readOnly: boolean;
  /** Whether the server's rows have been taken in. */
  met: boolean;
  /** Why it cannot take part now; null: it can. It goes on by itself once the cause is gone. */
  stopped: null | Stopped;
}

export interface ErrorReport { code: ErrorCode; message: string; hint?: string }

export interface Status {
  /** The database's name on the server; null: it has joined none. */
  database: string | null;
  server: string | null;
  /** This device's public key. */
  key: string;
  /** Whether it shall be connected. */
  online: boolean;
  /** Whether it is. */
  open: boolean;
  /** Whether both sides hold the same. */
  level: boolean;
  /** Why it is not connected. */
  problem: ErrorReport | null;
  /** Segments still to go and to come. */
  toSend?: number;
  toCome?: number;
  /** Tables that the server grants no part in. */
  notGranted?: string[];
  tables: TableStatus[];
  /** Rows written and not captured yet. */
  writesWaiting: number;
  /** When both sides were last known to hold the same, to the second: milliseconds since 1970. */
  lastLevel: number | null;
  conflicts: number;
  held: number;
  refused: number;
  /** Whether the browser has promised to keep the data. */
  persisted: boolean;
  /** What the server's log has proved. `alarm`: it was rewritten. */
  log: { name: string | null; entries: number; checkpoint: string | null; alarm: null | { time: number; reason: string; ours: string | null; theirs: string | null } };
}

/** How tables stood to their rows' history when they were checked. */
export interface CheckReport {
  /** Rows that were not what their history says, and those of them that could not be healed. */
  found: number;
  unhealed: number;
  /** `leftOut`: why the table could not be checked. */
  tables: { table: string; rows: number; found: number; unhealed: number; leftOut: string | null }[];
  /** The first rows found. */
  findings: {
    table: string;
    key: string;
    fault: 'differs' | 'missing' | 'unknown' | 'held_without_cause' | 'refused_changed' | 'baseline';
    healing: 'captured' | 'put_right' | 'held' | 'refused' | 'failed';
    /** Both in words. */
    text: string;
  }[];
}

/** In what people read of conflicts and held rows, a BLOB is { blob: hex }. */
export type Shown = null | number | string | { blob: string };
export interface Written { value: Shown; author: string; authorName: string | null; time: number }
export type Conflict =
  | { kind: 'cell'; table: string; key: string; column: string; shown: Written; others: Written[] }
  | { kind: 'row'; table: string; key: string; shown: Record<string, Shown>; others: { row: Record<string, Shown>; author: string; authorName: string | null; time: number }[] };
export interface Held { table: string; key: string; cause: string; row: Record<string, Shown> }
export interface Refused { table: string; key: string; reason: string; time: number }
export interface HistoryEntry {
  time: number;
  author: string;
  /** The name under which the server knows the author, once it has told it. */
  authorName: string | null;
  kind: 'insert' | 'edit' | 'delete';
  /** What it did to each column, in words. */
  columns: Record<string, string>;
  segment: string;
  /** 'counts', 'waits' for a change that has not come, or 'void'. */
  state: 'counts' | 'waits' | 'void';
  /** With `log`: the proven entry of the server's log and who brought the change; null: not in it yet. */
  log?: { entry: number; from: string } | null;
}

export interface Events {
  /** The connection, or what waits, has changed: ask `status()`. */
  status: { type: 'status' };
  /** Rows of these tables were changed, here, by another tab or by the server. null: any of them. `schema`: tables were made or altered. */
  change: { type: 'change'; tables: string[] | null; schema: boolean };
  /** The server did not take rows: see `refused()`. */
  refused: { type: 'refused'; rows: number };
  /** A row written here got another number, since a row of another device has it; declared references to it followed. */
  renumbered: { type: 'renumbered'; table: string; old: number; new: number };
  /** The server's log is not what it was. */
  log: { type: 'log'; verdict: 'new origin' | 'silent' | 'alarm' };
  /** This tab, or another, has become the owner of the database. */
  owner: { type: 'owner' };
  error: { type: 'error'; error: ErrorReport };
}

/** What a function of `transaction` uses; every other call waits until it is over. */
export interface Transaction {
  query<R = Row>(sql: string, params?: Parameters, options?: RowsOption<'object'>): Promise<R[]>;
  query(sql: string, params: Parameters | undefined, options: { rows: 'array' }): Promise<ArrayRows & Done>;
  run(sql: string, params?: Parameters): Promise<Done>;
  exec(sql: string): Promise<Done>;
}

/** A statement that stays prepared where the database is. */
export interface Prepared<R = Row> {
  readonly sql: string;
  readonly columns: readonly string[];
  /** Their names, with the prefix; null: it has none. */
  readonly parameters: readonly (string | null)[];
  /** Whether it writes nothing. */
  readonly readonly: boolean;
  query(params?: Parameters, options?: RowsOption<'object'>): Promise<R[]>;
  query(params: Parameters | undefined, options: { rows: 'array' }): Promise<ArrayRows & Done>;
  run(params?: Parameters): Promise<Done>;
  subscribe(params: Parameters | undefined, hear: (rows: R[]) => void, fail?: (error: PiecewiseError) => void, options?: RowsOption<'object'>): () => void;
  subscribe(params: Parameters | undefined, hear: (result: ArrayRows) => void, fail: ((error: PiecewiseError) => void) | undefined, options: { rows: 'array' }): () => void;
}

/** Opens a database of this origin by name. Several tabs share it. */
export function open(name?: string, options?: OpenOptions): Promise<Database>;

export class Database {
  private constructor();
  query<R = Row>(sql: string, params?: Parameters, options?: RowsOption<'object'>): Promise<R[]>;
  query(sql: string, params: Parameters | undefined, options: { rows: 'array' }): Promise<ArrayRows & Done>;
  run(sql: string, params?: Parameters): Promise<Done>;
  /** Runs statements one after another; their rows are left out. */
  exec(sql: string): Promise<Done>;
  /** Prepares a statement: says what is wrong with it, and what its columns and parameters are. */
  prepare<R = Row>(sql: string): Promise<Prepared<R>>;
  /** All statements or none; the rows of each. */
  transaction(statements: readonly (string | readonly [sql: string, params?: Parameters])[]): Promise<Row[][]>;
  /** All that the function does or, if it throws, none; what it returns. */
  transaction<T>(work: (tx: Transaction) => Promise<T> | T): Promise<T>;
  /**
   * Calls back with the rows now, and again only when a commit has changed them; returns a function that ends it. Rows that did
   * not change stay the same objects.
   */
  subscribe<R = Row>(sql: string, params: Parameters | undefined, hear: (rows: R[]) => void, fail?: (error: PiecewiseError) => void, options?: RowsOption<'object'>): () => void;
  subscribe(sql: string, params: Parameters | undefined, hear: (result: ArrayRows) => void, fail: ((error: PiecewiseError) => void) | undefined, options: { rows: 'array' }): () => void;
  on<T extends keyof Events>(type: T, hear: (event: Events[T]) => void): () => void;

  /** Lets a table take part in sync; warnings. Join first. How its rows are numbered can be said again later. */
  track(table: string, options?: {
    text?: readonly string[];
    counter?: readonly string[];
    /** Rows keep numbers that rows of other devices have: both are kept, in conflict. */
    keepNumbers?: boolean;
    /** Columns that name rows of another table and that the schema does not declare, such as `{ about_id: 'customers.id' }`. */
    references?: Readonly<Record<string, string>>;
    /** Writes AUTOINCREMENT into the table's schema, so that this device gets blocks of numbers. */
    autoincrement?: boolean;
  }): Promise<string[]>;
  /**
   * Ends that; its rows stay, and held ones are put back where the table takes them. Where it does not, it rejects with HELD and
   * does nothing; with `leaveHeld` it resolves to those rows, which are then in no table.
   */
  untrack(table: string, options?: { leaveHeld?: boolean }): Promise<Held[]>;
  /** Joins a server with an invite, which works once. */
  join(invite: string, options: { database: string }): Promise<void>;
  connect(): Promise<void>;
  /** Stays offline until `connect`. */
  disconnect(): Promise<void>;
  /** Resolves once both sides hold the same. */
  level(): Promise<void>;

  status(): Promise<Status>;
  conflicts(): Promise<Conflict[]>;
  /**
   * Ends a conflict: 0 is what shows, 1 and on are the others. `asNewRow` keeps what shows and makes another row of the other,
   * under the key given or, where keys are integers, the next free one; it gives that key.
   */
  choose(table: string, key: string | number, number: number, options?: { column?: string; asNewRow?: boolean | string | number; withReferences?: boolean }): Promise<string | undefined>;
  held(): Promise<Held[]>;
  /** Has a held row show, and holds those whose values it has; the keys of these. */
  chooseHeld(table: string, key: string | number): Promise<string[]>;
  /** Gives columns of a held row other values; whether its table shows it then. */
  editHeld(table: string, key: string | number, values: Record<string, string | number | bigint | null>): Promise<boolean>;
  /** Deletes a held row, everywhere. */
  discardHeld(table: string, key: string | number): Promise<void>;
  /** Compares every row with what its history says, and heals what differs: see `CheckReport`. */
  check(): Promise<CheckReport>;
  refused(): Promise<Refused[]>;
  /** Writes refused rows again; how many. */
  retryRefused(): Promise<number>;
  /** Gives refused rows up; how many. */
  revertRefused(): Promise<number>;
  /** All that was ever done to a row. */
  history(table: string, key: string | number, options?: { log?: boolean }): Promise<HistoryEntry[]>;
  /** The whole database as a SQLite file. */
  export(): Promise<Uint8Array>;
  /** Puts a SQLite file in the place of all there is; after an error nothing has changed. */
  import(file: Uint8Array): Promise<void>;
  close(): Promise<void>;
  [Symbol.asyncDispose](): Promise<void>;
}
