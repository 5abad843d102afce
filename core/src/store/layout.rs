//! Our own tables in the user's file, all named `piecewise_…`, and the few settings of the replica.
//!
//! Everything a replica knows lives beside its data, so that a copy or a backup of the file is whole.

use super::StoreError;
use rusqlite::{Connection, OptionalExtension, types::FromSql};

/// The layout this version reads and writes.
pub(crate) const FORMAT: i64 = 8;

const TABLES: &str = "
CREATE TABLE piecewise_meta(name TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE piecewise_containers(
  no INTEGER PRIMARY KEY, id BLOB NOT NULL UNIQUE, name TEXT NOT NULL UNIQUE, table_name TEXT NOT NULL UNIQUE,
  integer_keys INTEGER NOT NULL, read_only INTEGER NOT NULL, scan INTEGER NOT NULL, scan_after BLOB,
  prefer_local INTEGER NOT NULL, columns TEXT NOT NULL, parents TEXT NOT NULL, app_triggers INTEGER NOT NULL, fingerprint INTEGER,
  seq INTEGER NOT NULL, hash BLOB NOT NULL, digest BLOB NOT NULL);
CREATE TABLE piecewise_roots(container INTEGER PRIMARY KEY, root BLOB NOT NULL);
CREATE TABLE piecewise_peers(
  no INTEGER PRIMARY KEY, key BLOB NOT NULL, replica BLOB NOT NULL, UNIQUE (key, replica));
CREATE TABLE piecewise_cursors(
  container INTEGER NOT NULL, peer INTEGER NOT NULL, seq INTEGER NOT NULL, hash BLOB NOT NULL,
  PRIMARY KEY (container, peer, seq)) WITHOUT ROWID;
CREATE TABLE piecewise_acknowledged(container INTEGER PRIMARY KEY, seq INTEGER NOT NULL);
CREATE TABLE piecewise_segments(
  no INTEGER PRIMARY KEY, container INTEGER NOT NULL, seq INTEGER NOT NULL, id BLOB NOT NULL, hash BLOB NOT NULL,
  peer INTEGER NOT NULL, peer_seq INTEGER NOT NULL, actor BLOB NOT NULL, outline BLOB, bytes BLOB NOT NULL);
CREATE UNIQUE INDEX piecewise_segments_feed ON piecewise_segments(container, seq);
CREATE UNIQUE INDEX piecewise_segments_id ON piecewise_segments(container, id);
CREATE TABLE piecewise_changes(
  container INTEGER NOT NULL, key BLOB NOT NULL, at INTEGER NOT NULL,
  PRIMARY KEY (container, key, at)) WITHOUT ROWID;
CREATE TABLE piecewise_hashes(segment INTEGER PRIMARY KEY, hashes BLOB NOT NULL);
CREATE TABLE piecewise_conflicts(
  container INTEGER NOT NULL, key BLOB NOT NULL, PRIMARY KEY (container, key)) WITHOUT ROWID;
CREATE TABLE piecewise_held(
  container INTEGER NOT NULL, key BLOB NOT NULL, kind INTEGER NOT NULL, cause TEXT NOT NULL,
  PRIMARY KEY (container, key)) WITHOUT ROWID;
CREATE TABLE piecewise_claims(
  container INTEGER NOT NULL, claim BLOB NOT NULL, key BLOB NOT NULL,
  PRIMARY KEY (container, claim, key)) WITHOUT ROWID;
CREATE INDEX piecewise_claims_key ON piecewise_claims(container, key);
CREATE TABLE piecewise_outbox(no INTEGER PRIMARY KEY, entry BLOB NOT NULL);
CREATE TABLE piecewise_unsettled(
  container INTEGER NOT NULL, key BLOB NOT NULL, PRIMARY KEY (container, key)) WITHOUT ROWID;
CREATE TABLE piecewise_refused(
  container INTEGER NOT NULL, key BLOB NOT NULL, reason INTEGER NOT NULL, time INTEGER NOT NULL,
  shown BLOB, kept BLOB,
  PRIMARY KEY (container, key)) WITHOUT ROWID;
";

/// What format 3 did not have: how far each table has been checked against its documents, and what was found.
pub(crate) const CHECKS: &str = "
CREATE TABLE IF NOT EXISTS piecewise_checks(
  container INTEGER PRIMARY KEY, stage INTEGER NOT NULL, place BLOB, rows INTEGER NOT NULL, found INTEGER NOT NULL,
  unhealed INTEGER NOT NULL, checked INTEGER, checked_rows INTEGER NOT NULL, checked_found INTEGER NOT NULL,
  checked_unhealed INTEGER NOT NULL, found_ever INTEGER NOT NULL, found_last INTEGER);
";

/// What format 4 did not have: foreign keys that the application does not keep, by their columns; rows that stay in their
/// table although a parent is missing, with the claims of those parents; when own segments were accepted;
/// the ranks of the claims of rows that are held for UNIQUE values.
const SINCE_5: &str = "
CREATE TABLE IF NOT EXISTS piecewise_unkept(
  container INTEGER NOT NULL, columns TEXT NOT NULL, PRIMARY KEY (container, columns)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS piecewise_exempt(
  container INTEGER NOT NULL, claim BLOB NOT NULL, key BLOB NOT NULL,
  PRIMARY KEY (container, claim, key)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS piecewise_accepted(
  container INTEGER NOT NULL, segment INTEGER NOT NULL, time INTEGER NOT NULL, server BLOB NOT NULL, signature BLOB NOT NULL,
  PRIMARY KEY (container, segment)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS piecewise_held_kind ON piecewise_held(container, kind, key);
";

/// What format 5 did not have: the states of rows with several changes, which are made when they are needed; segments
/// by their actors.
const BASELINES: &str = "
CREATE TABLE IF NOT EXISTS piecewise_baselines(
  container INTEGER NOT NULL, key BLOB NOT NULL, baseline BLOB NOT NULL, PRIMARY KEY (container, key)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS piecewise_segments_actor ON piecewise_segments(container, actor);
";

/// What format 5 did not have, see `numbers`: how the rows of tables are numbered; rows written here whose number another
/// row has; own segments that came back from the server; where rows went that moved; the list of those moves that
/// applications read; blocks of numbers that a device holds; rows inserted since one came, and most between two; up to where a
/// server gave any.
const SINCE_6: &str = "
CREATE TABLE IF NOT EXISTS piecewise_numbering(
  container INTEGER NOT NULL, entry TEXT NOT NULL, PRIMARY KEY (container, entry)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS piecewise_taken(
  container INTEGER NOT NULL, key BLOB NOT NULL, PRIMARY KEY (container, key)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS piecewise_returned(
  container INTEGER NOT NULL, segment INTEGER NOT NULL, PRIMARY KEY (container, segment)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS piecewise_moves(
  container INTEGER NOT NULL, actor BLOB NOT NULL, key BLOB NOT NULL, new BLOB NOT NULL,
  PRIMARY KEY (container, actor, key)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS piecewise_renumbered(
  table_name TEXT NOT NULL, old INTEGER NOT NULL, new INTEGER NOT NULL, time INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS piecewise_leases(
  container INTEGER NOT NULL, first INTEGER NOT NULL, last INTEGER NOT NULL, signature BLOB NOT NULL,
  PRIMARY KEY (container, first)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS piecewise_inserted(
  container INTEGER PRIMARY KEY, since INTEGER NOT NULL, most INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS piecewise_given(container INTEGER PRIMARY KEY, last INTEGER NOT NULL);
";

/// What format 7 did not have: who wrote what is here, and by which name the server knows them.
const SINCE_8: &str = "
CREATE TABLE IF NOT EXISTS piecewise_authors(key BLOB PRIMARY KEY, name TEXT) WITHOUT ROWID;
";

/// Adds what earlier formats did not have, if it is missing.
pub(super) fn complete(conn: &Connection) -> Result<(), StoreError> {
    conn.execute_batch(SINCE_5)?;
    conn.execute_batch(BASELINES)?;
    conn.execute_batch(SINCE_6)?;
    conn.execute_batch(SINCE_8)?;
    let has = "SELECT 1 FROM pragma_table_info('piecewise_claims') WHERE name = 'rank'";
    if !conn.prepare(has)?.exists([])? {
        conn.execute_batch("ALTER TABLE piecewise_claims ADD COLUMN rank BLOB")?;
    }
    Ok(())
}

/// What format 1 had otherwise: the log that triggers write, and where the first change of each row is.
pub(crate) const LOG_AND_ROWS: &str = "
CREATE TABLE piecewise_log(
  seq INTEGER PRIMARY KEY, container INTEGER,
  time INTEGER DEFAULT (CAST((julianday('now') - 2440587.5) * 86400000.0 AS INTEGER)), k0, k1);
CREATE TABLE piecewise_runs(
  container INTEGER NOT NULL, key INTEGER NOT NULL, at INTEGER NOT NULL, count INTEGER NOT NULL,
  PRIMARY KEY (container, key)) WITHOUT ROWID;
CREATE TABLE piecewise_rows(
  container INTEGER NOT NULL, key BLOB NOT NULL, at INTEGER NOT NULL, PRIMARY KEY (container, key)) WITHOUT ROWID;
";

const DROP: &str = "
DROP TABLE piecewise_meta; DROP TABLE piecewise_containers; DROP TABLE piecewise_roots; DROP TABLE piecewise_peers;
DROP TABLE piecewise_cursors; DROP TABLE piecewise_acknowledged; DROP TABLE piecewise_segments; DROP TABLE piecewise_changes;
DROP TABLE piecewise_held; DROP TABLE piecewise_claims; DROP TABLE piecewise_refused;
DROP TABLE piecewise_unsettled; DROP TABLE piecewise_outbox; DROP TABLE piecewise_hashes; DROP TABLE piecewise_baselines;
DROP TABLE IF EXISTS piecewise_pieces; DROP TABLE piecewise_unkept; DROP TABLE piecewise_exempt; DROP TABLE piecewise_accepted;
DROP TABLE piecewise_numbering; DROP TABLE piecewise_taken; DROP TABLE piecewise_returned; DROP TABLE piecewise_moves;
DROP TABLE piecewise_renumbered; DROP TABLE piecewise_leases; DROP TABLE piecewise_inserted; DROP TABLE piecewise_given;
DROP TABLE piecewise_authors; DROP TABLE piecewise_checks; DROP TABLE piecewise_conflicts; DROP TABLE piecewise_runs; DROP TABLE piecewise_rows; DROP TABLE piecewise_log;
";

/// Whether the file has our tables; an error if a later version wrote them.
pub(crate) fn exists(conn: &Connection) -> Result<bool, StoreError> {
    if !super::schema::table_exists(conn, "piecewise_meta")? {
        return Ok(false);
    }
    match meta::<i64>(conn, "format")? {
        Some(FORMAT) => Ok(true),
        found => Err(StoreError::UnknownFormat { found: found.unwrap_or(0) }),
    }
}

/// Creates our tables; call it in a transaction.
pub(crate) fn create(conn: &Connection) -> Result<(), StoreError> {
    conn.execute_batch(TABLES)?;
    conn.execute_batch(LOG_AND_ROWS)?;
    conn.execute_batch(CHECKS)?;
    complete(conn)?;
    set_meta(conn, "format", FORMAT)
}

/// Removes our tables, so that the file's schema is what it was before; call it in a transaction.
pub(crate) fn drop(conn: &Connection) -> Result<(), StoreError> {
    Ok(conn.execute_batch(DROP)?)
}

/// A setting of the replica.
pub(crate) fn meta<T: FromSql>(conn: &Connection, name: &str) -> Result<Option<T>, StoreError> {
    let mut stmt = conn.prepare_cached("SELECT value FROM piecewise_meta WHERE name = ?")?;
    Ok(stmt.query_row([name], |row| row.get(0)).optional()?)
}

/// Writes a setting of the replica.
pub(crate) fn set_meta(conn: &Connection, name: &str, value: impl rusqlite::ToSql) -> Result<(), StoreError> {
    conn.prepare_cached("REPLACE INTO piecewise_meta VALUES (?, ?)")?.execute((name, value))?;
    Ok(())
}

/// Takes a setting away.
pub(crate) fn forget_meta(conn: &Connection, name: &str) -> Result<(), StoreError> {
    conn.prepare_cached("DELETE FROM piecewise_meta WHERE name = ?")?.execute([name])?;
    Ok(())
}
