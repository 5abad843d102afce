//! Authors on disk: who wrote what is here, and by which name the server knows them.

use super::StoreError;
use crate::id::PeerId;
use rusqlite::{Connection, OptionalExtension};
use std::collections::HashMap;

/// Notes the authors of all segments, for a file of a version that did not.
pub(super) fn gather(conn: &Connection) -> Result<(), StoreError> {
    // In a header the author stands behind the version and the container.
    let sql = "INSERT OR IGNORE INTO piecewise_authors SELECT DISTINCT substr(bytes, 34, 32), NULL FROM piecewise_segments";
    conn.execute(sql, [])?;
    Ok(())
}

/// All of them.
pub(crate) fn all(conn: &Connection) -> Result<HashMap<PeerId, Option<String>>, StoreError> {
    let mut stmt = conn.prepare_cached("SELECT key, name FROM piecewise_authors WHERE length(key) = 32")?;
    let rows = stmt.query_map([], |row| Ok((PeerId(row.get(0)?), row.get(1)?)))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Notes an author.
pub(crate) fn add(conn: &Connection, key: &PeerId) -> Result<(), StoreError> {
    conn.prepare_cached("INSERT OR IGNORE INTO piecewise_authors VALUES (?, NULL)")?.execute([key.0])?;
    Ok(())
}

/// Notes an author's name.
pub(crate) fn set_name(conn: &Connection, key: &PeerId, name: &str) -> Result<(), StoreError> {
    conn.prepare_cached("REPLACE INTO piecewise_authors VALUES (?, ?)")?.execute((key.0, name))?;
    Ok(())
}

/// An author's name, if it is known.
pub(crate) fn name(conn: &Connection, key: &PeerId) -> Result<Option<String>, StoreError> {
    let mut stmt = conn.prepare_cached("SELECT name FROM piecewise_authors WHERE key = ?")?;
    Ok(stmt.query_row([key.0], |row| row.get(0)).optional()?.flatten())
}
