//! Documents on disk: for each row, in which segments its changes are.
//!
//! Each container has a table of its own, `piecewise_rows_N`, by key. Most rows have one change: its
//! place and hash stand right there. The others of a row stand in `piecewise_changes`, so that an edit
//! leaves the page of its row as it is. The change's bytes are nowhere but in the segments.

use super::StoreError;
use crate::id::ChangeHash;
use crate::key::RowKey;
use rusqlite::types::{ToSqlOutput, ValueRef as SqlRef};
use rusqlite::{CachedStatement, Connection, OptionalExtension, Row, ToSql, params};

/// Where a change is: the number of its segment here, and its place in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct At(i64);

impl At {
    pub(crate) fn new(segment: i64, index: usize) -> Self {
        Self(segment << 16 | index as i64)
    }

    pub(crate) fn segment(self) -> i64 {
        self.0 >> 16
    }

    pub(crate) fn index(self) -> usize {
        (self.0 & 0xffff) as usize
    }
}

/// The first change of a row to come here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RowRecord {
    pub(crate) at: At,
    pub(crate) hash: ChangeHash,
    /// Whether its changes were in conflict when the row was looked at last.
    pub(crate) in_conflict: bool,
}

/// Creates the table of a container's documents.
pub(crate) fn create(conn: &Connection, container: i64, integer_keys: bool) -> Result<(), StoreError> {
    let (key, end) = if integer_keys { ("INTEGER", "") } else { ("BLOB", " WITHOUT ROWID") };
    conn.execute_batch(&format!(
        "CREATE TABLE piecewise_rows_{container}(
           key {key} PRIMARY KEY NOT NULL, at INTEGER NOT NULL, hash BLOB NOT NULL, conflict INTEGER){end};
         CREATE INDEX piecewise_conflicts_{container} ON piecewise_rows_{container}(key) WHERE conflict;
         CREATE TABLE piecewise_description_{container}(
           key INTEGER PRIMARY KEY, at INTEGER NOT NULL, hash BLOB NOT NULL, conflict INTEGER);"
    ))?;
    Ok(())
}

/// Drops it, with all that is known of the container's documents.
pub(crate) fn drop(conn: &Connection, container: i64) -> Result<(), StoreError> {
    conn.execute_batch(&format!(
        "DROP TABLE piecewise_rows_{container}; DROP TABLE piecewise_description_{container};
         DELETE FROM piecewise_changes WHERE container = {container};"
    ))?;
    Ok(())
}

/// The key as it stands in SQL: integers as themselves, the description under 0 of a table of its own.
pub(crate) struct SqlKey<'a>(pub(crate) &'a RowKey);

impl ToSql for SqlKey<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self.0 {
            RowKey::Description => SqlRef::Integer(0),
            RowKey::Integer(i) => SqlRef::Integer(*i),
            RowKey::Tuple(bytes) => SqlRef::Blob(bytes),
        }))
    }
}

/// The key as bytes, for tables shared by all containers.
pub(crate) fn key_bytes(key: &RowKey) -> Vec<u8> {
    match key {
        RowKey::Description => vec![],
        RowKey::Integer(i) => i.to_be_bytes().to_vec(),
        RowKey::Tuple(bytes) => bytes.clone(),
    }
}

/// The key from the bytes that `key_bytes` gave.
pub(crate) fn key_from_bytes(bytes: &[u8], integer_keys: bool) -> Result<RowKey, StoreError> {
    match bytes {
        [] => Ok(RowKey::Description),
        bytes if integer_keys => bytes
            .try_into()
            .map(|b| RowKey::Integer(i64::from_be_bytes(b)))
            .map_err(|_| StoreError::Damaged { what: "a key" }),
        bytes => Ok(RowKey::Tuple(bytes.to_vec())),
    }
}

fn table(container: i64, key: &RowKey) -> String {
    match key {
        RowKey::Description => format!("piecewise_description_{container}"),
        _ => format!("piecewise_rows_{container}"),
    }
}

/// What stands for a row, if anything is known of it.
pub(crate) fn find(conn: &Connection, container: i64, key: &RowKey) -> Result<Option<RowRecord>, StoreError> {
    let sql = format!("SELECT at, hash, conflict FROM {} WHERE key = ?", table(container, key));
    let found = conn.prepare_cached(&sql)?.query_row([SqlKey(key)], record);
    Ok(found.optional()?)
}

fn record(row: &Row<'_>) -> rusqlite::Result<RowRecord> {
    let conflict: Option<bool> = row.get(2)?;
    Ok(RowRecord { at: At(row.get(0)?), hash: ChangeHash(row.get(1)?), in_conflict: conflict == Some(true) })
}

/// The statement that tells whether anything is known of a row, by key.
pub(crate) fn is_known(conn: &Connection, container: i64) -> Result<CachedStatement<'_>, StoreError> {
    Ok(conn.prepare_cached(&format!("SELECT 1 FROM piecewise_rows_{container} WHERE key = ?"))?)
}

/// Notes whether a row's changes are in conflict.
pub(crate) fn note_conflict(
    conn: &Connection,
    container: i64,
    key: &RowKey,
    conflict: bool,
) -> Result<(), StoreError> {
    let sql =
        format!("UPDATE {} SET conflict = ?1 WHERE key = ?2 AND conflict IS NOT ?1", table(container, key));
    conn.prepare_cached(&sql)?.execute(params![conflict.then_some(true), SqlKey(key)])?;
    Ok(())
}

/// The statement that writes the first change of rows: (key, at, hash); it changes 0 rows if one is known.
pub(crate) fn insert_first(conn: &Connection, container: i64) -> Result<CachedStatement<'_>, StoreError> {
    Ok(conn.prepare_cached(&format!(
        "INSERT INTO piecewise_rows_{container}(key, at, hash) VALUES (?, ?, ?) ON CONFLICT DO NOTHING"
    ))?)
}

impl ToSql for At {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(self.0.into())
    }
}

/// Adds a change to a row.
pub(crate) fn add(
    conn: &Connection,
    container: i64,
    key: &RowKey,
    at: At,
    hash: &ChangeHash,
) -> Result<(), StoreError> {
    let sql = format!(
        "INSERT INTO {}(key, at, hash) VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
        table(container, key)
    );
    if conn.prepare_cached(&sql)?.execute(params![SqlKey(key), at, hash.0])? == 0 {
        conn.prepare_cached("INSERT INTO piecewise_changes VALUES (?, ?, ?, ?)")?.execute(params![
            container,
            key_bytes(key),
            at,
            hash.0
        ])?;
    }
    Ok(())
}

/// The places of all changes of a row, with their hashes, in order of arrival here.
pub(crate) fn changes(
    conn: &Connection,
    container: i64,
    key: &RowKey,
) -> Result<Vec<(At, ChangeHash)>, StoreError> {
    let Some(first) = find(conn, container, key)? else { return Ok(vec![]) };
    let mut changes = vec![(first.at, first.hash)];
    let sql = "SELECT at, hash FROM piecewise_changes WHERE container = ? AND key = ? ORDER BY at";
    let mut stmt = conn.prepare_cached(sql)?;
    let mut rows = stmt.query(params![container, key_bytes(key)])?;
    while let Some(row) = rows.next()? {
        changes.push((At(row.get(0)?), ChangeHash(row.get(1)?)));
    }
    Ok(changes)
}

/// Takes a change away from a row, with the row itself if it was the only one.
pub(crate) fn remove(conn: &Connection, container: i64, key: &RowKey, at: At) -> Result<(), StoreError> {
    let take = |at: &At| -> Result<(), StoreError> {
        conn.prepare_cached("DELETE FROM piecewise_changes WHERE container = ? AND key = ? AND at = ?")?
            .execute(params![container, key_bytes(key), at])?;
        Ok(())
    };
    let changes = changes(conn, container, key)?;
    if changes.first().is_none_or(|(first, _)| *first != at) {
        return take(&at);
    }
    let table = table(container, key);
    let Some((second, hash)) = changes.get(1) else {
        conn.prepare_cached(&format!("DELETE FROM {table} WHERE key = ?"))?.execute([SqlKey(key)])?;
        return Ok(());
    };
    // The second takes the place of the first.
    take(second)?;
    conn.prepare_cached(&format!("UPDATE {table} SET at = ?, hash = ? WHERE key = ?"))?.execute(params![
        second,
        hash.0,
        SqlKey(key)
    ])?;
    Ok(())
}

/// How many rows are known, deleted ones too.
pub(crate) fn count(conn: &Connection, container: i64) -> Result<u64, StoreError> {
    let sql = format!("SELECT count(*) FROM piecewise_rows_{container}");
    Ok(conn.query_row(&sql, [], |row| row.get::<_, i64>(0))? as u64)
}

/// Keys of rows whose changes are in conflict, in key order.
pub(crate) fn keys_in_conflict(
    conn: &Connection,
    container: i64,
    integer_keys: bool,
) -> Result<Vec<RowKey>, StoreError> {
    let sql = format!("SELECT key FROM piecewise_rows_{container} WHERE conflict ORDER BY key");
    let mut stmt = conn.prepare_cached(&sql)?;
    let mut rows = stmt.query([])?;
    let mut keys = vec![];
    while let Some(row) = rows.next()? {
        keys.push(match integer_keys {
            true => RowKey::Integer(row.get(0)?),
            false => RowKey::Tuple(row.get(0)?),
        });
    }
    Ok(keys)
}

/// How many rows have changes in conflict.
pub(crate) fn count_in_conflict(conn: &Connection, container: i64) -> Result<u64, StoreError> {
    let sql = format!("SELECT count(*) FROM piecewise_rows_{container} WHERE conflict");
    Ok(conn.prepare_cached(&sql)?.query_row([], |row| row.get::<_, i64>(0))? as u64)
}
