/** A value in SQL: INTEGER beyond 2^53 is a bigint. */
export type SqlValue = null | number | bigint | string | boolean | Uint8Array;
export type Row = Record<string, SqlValue>;

export type ErrorCode =
  | 'ADDRESS' | 'BAD_INVITE' | 'BUSY' | 'CLOSED' | 'CONNECTION' | 'CONSTRAINT' | 'DAMAGED' | 'HANDSHAKE' | 'INTERNAL' | 'NOT_BOUND' | 'NOT_FOUND'
  | 'NOT_GRANTED' | 'OFFLINE' | 'OTHER_SERVER' | 'OWNER_GONE' | 'QUOTA' | 'REPLICA' | 'SQL' | 'STORAGE' | 'SYNC' | 'UNREACHABLE' | 'TRACKED' | 'VALUE'
  | 'VERSION' | 'WRONG_SERVER';

export class PiecewiseError extends Error {
  readonly code: ErrorCode;
  /** What to do. */
  readonly hint?: string;
}

export interface OpenOptions {
  /** Keep nothing: for Node, tests and private windows. The default where there are no workers. */
  memory?: boolean;
  /** Begin with this SQLite file, in place of what is there. */
  file?: Uint8Array;
  /** This device's secret, 32 bytes; only with `memory`. */
  seed?: Uint8Array;
  /** What the server's list of devices shows for this one. */
  device?: string;
}

export interface TableStatus {
  table: string; container: string; rows: number; segments: number; segmentsWaiting: number;
  held: number; refused: number; root: string; readOnly: boolean; met: boolean;
}

export interface Status {
  /** The database's name on the server. */
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
  /** Segments still to go and to come. */
  toSend?: number;
  toCome?: number;
  notGranted?: string[];
  tables: TableStatus[];
  writesWaiting: number;
  /** Milliseconds since 1970. */
  lastLevel: number | null;
  conflicts: number; held: number; refused: number;
  log: { name: string | null; entries: number; checkpoint: string | null; alarm: null | { time: number; reason: string; ours: string | null; theirs: string | null } };
}

export interface Written { value: SqlValue; author: string; time: number }
export type Conflict =
  | { kind: 'cell'; table: string; key: string; column: string; shown: Written; others: Written[] }
  | { kind: 'row'; table: string; key: string; shown: Row; others: { row: Row; author: string; time: number }[] };
export interface Held { table: string; key: string; cause: string; row: Row }
export interface Refused { table: string; key: string; reason: string; time: number }
export interface HistoryEntry {
  time: number; author: string; kind: 'insert' | 'edit' | 'delete'; columns: Record<string, string>; segment: string; state: string;
  /** With `log`: the proven entry of the server's log and who brought the change; null: not in it yet. */
  log?: { entry: number; from: string } | null;
}

/** Opens a database of this origin by name. Several tabs share it. */
export function open(name?: string, options?: OpenOptions): Promise<Database>;

export class Database implements AsyncDisposable {
  private constructor();
  query(sql: string, params?: SqlValue[]): Promise<Row[]>;
  /** How many rows it changed. */
  run(sql: string, params?: SqlValue[]): Promise<number>;
  exec(sql: string): Promise<void>;
  /** All statements or none; the rows of each. */
  transaction(statements: (string | [sql: string, params?: SqlValue[]])[]): Promise<Row[][]>;
  /** Calls back with the rows now, and again only when they have changed. */
  subscribe(sql: string, params: SqlValue[], hear: (rows: Row[]) => void, fail?: (error: PiecewiseError) => void): () => void;
  on(type: 'status' | 'change' | 'refused' | 'log' | 'owner' | 'error', hear: (event: Record<string, unknown>) => void): () => void;

  /** Lets a table take part in sync; warnings. Join first. */
  track(table: string, options?: { text?: string[]; counter?: string[] }): Promise<string[]>;
  untrack(table: string): Promise<void>;
  /** Joins a server with an invite, which works once. */
  join(invite: string, options: { database: string }): Promise<void>;
  connect(): Promise<void>;
  /** Stays offline until `connect`. */
  disconnect(): Promise<void>;
  /** Resolves once both sides hold the same. */
  level(): Promise<void>;

  status(): Promise<Status>;
  conflicts(): Promise<Conflict[]>;
  /** Ends a conflict: 0 is what shows, 1 and on are the others. The new row's key, with `asNewRow`. */
  choose(table: string, key: string | number, number: number, options?: { column?: string; asNewRow?: boolean }): Promise<string | undefined>;
  held(): Promise<Held[]>;
  refused(): Promise<Refused[]>;
  retryRefused(): Promise<number>;
  revertRefused(): Promise<number>;
  history(table: string, key: string | number, options?: { log?: boolean }): Promise<HistoryEntry[]>;
  /** The whole database as a SQLite file. */
  export(): Promise<Uint8Array>;
  close(): Promise<void>;
  [Symbol.asyncDispose](): Promise<void>;
}
