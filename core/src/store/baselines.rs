//! Baselines on disk: one for each row with several changes that may have one, as bytes. They are derived from the changes:
//! one that is missing is made when it is needed.

use super::StoreError;
use super::documents::key_bytes;
use crate::key::RowKey;
use rusqlite::{Connection, OptionalExtension, params};

/// Gives the bytes of a row's baseline to `read`, if it has one.
pub(crate) fn read<T>(
    conn: &Connection,
    container: i64,
    key: &RowKey,
    read: impl FnOnce(&[u8]) -> T,
) -> Result<Option<T>, StoreError> {
    let sql = "SELECT baseline FROM piecewise_baselines WHERE container = ? AND key = ?";
    let mut stmt = conn.prepare_cached(sql)?;
    let bytes = |row: &rusqlite::Row<'_>| Ok(row.get_ref(0)?.as_blob().ok().map(read));
    Ok(stmt.query_row(params![container, key_bytes(key)], bytes).optional()?.flatten())
}

/// Writes a row's baseline, in the place of the one that it has if `is_there`.
pub(crate) fn put(
    conn: &Connection,
    container: i64,
    key: &RowKey,
    bytes: &[u8],
    is_there: bool,
) -> Result<(), StoreError> {
    // SQLite overwrites what is as long as before where it stands.
    let sql = "UPDATE piecewise_baselines SET baseline = ? WHERE container = ? AND key = ?";
    if is_there && conn.prepare_cached(sql)?.execute(params![bytes, container, key_bytes(key)])? > 0 {
        return Ok(());
    }
    let sql = "REPLACE INTO piecewise_baselines VALUES (?, ?, ?)";
    conn.prepare_cached(sql)?.execute(params![container, key_bytes(key), bytes])?;
    Ok(())
}

/// Removes a row's baseline.
pub(crate) fn remove(conn: &Connection, container: i64, key: &RowKey) -> Result<(), StoreError> {
    let sql = "DELETE FROM piecewise_baselines WHERE container = ? AND key = ?";
    conn.prepare_cached(sql)?.execute(params![container, key_bytes(key)])?;
    Ok(())
}
