//! Leases on disk: the blocks of numbers that a device holds, and up to where a server gave any. See `numbers`.

use super::StoreError;
use rusqlite::{Connection, OptionalExtension, params};
use std::collections::BTreeMap;

/// A block of numbers that a server gave to one device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Lease {
    pub(crate) first: i64,
    pub(crate) last: i64,
    /// The server's word for it.
    pub(crate) signature: [u8; 64],
}

/// What a device knows of the numbers that it gives out in one table.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Leased {
    /// Rows inserted since a block ended last.
    pub(crate) since: u64,
    /// Most rows inserted between the ends of two blocks, of late: halved at each end.
    pub(crate) most: u64,
    /// Blocks with numbers that are still free, the lowest first.
    pub(crate) blocks: Vec<Lease>,
}

/// Reads it for all containers.
pub(crate) fn all(conn: &Connection) -> Result<BTreeMap<i64, Leased>, StoreError> {
    let mut found: BTreeMap<i64, Leased> = BTreeMap::new();
    let mut stmt = conn.prepare_cached("SELECT container, since, most FROM piecewise_inserted")?;
    let mut rows = stmt.query([])?;
    while let Some(row) = rows.next()? {
        let count = |n| Ok::<_, rusqlite::Error>(row.get::<_, i64>(n)? as u64);
        found.insert(row.get(0)?, Leased { since: count(1)?, most: count(2)?, blocks: vec![] });
    }
    let sql = "SELECT container, first, last, signature FROM piecewise_leases ORDER BY container, first";
    let mut stmt = conn.prepare_cached(sql)?;
    let mut rows = stmt.query([])?;
    while let Some(row) = rows.next()? {
        let lease = Lease { first: row.get(1)?, last: row.get(2)?, signature: row.get(3)? };
        found.entry(row.get(0)?).or_default().blocks.push(lease);
    }
    Ok(found)
}

/// Notes how many rows were inserted.
pub(crate) fn set_inserted(conn: &Connection, container: i64, leased: &Leased) -> Result<(), StoreError> {
    let sql = "REPLACE INTO piecewise_inserted VALUES (?, ?, ?)";
    conn.prepare_cached(sql)?.execute(params![container, leased.since as i64, leased.most as i64])?;
    Ok(())
}

/// Keeps a block.
pub(crate) fn put(conn: &Connection, container: i64, lease: &Lease) -> Result<(), StoreError> {
    let sql = "REPLACE INTO piecewise_leases VALUES (?, ?, ?, ?)";
    conn.prepare_cached(sql)?.execute(params![container, lease.first, lease.last, lease.signature])?;
    Ok(())
}

/// Drops the blocks that end at `top` or before.
pub(crate) fn forget_until(conn: &Connection, container: i64, top: i64) -> Result<(), StoreError> {
    let sql = "DELETE FROM piecewise_leases WHERE container = ? AND last <= ?";
    conn.prepare_cached(sql)?.execute([container, top])?;
    Ok(())
}

/// The greatest number that a server gave to any device.
pub(crate) fn given(conn: &Connection, container: i64) -> Result<i64, StoreError> {
    let sql = "SELECT last FROM piecewise_given WHERE container = ?";
    Ok(conn.prepare_cached(sql)?.query_row([container], |row| row.get(0)).optional()?.unwrap_or(0))
}

/// Notes it.
pub(crate) fn set_given(conn: &Connection, container: i64, last: i64) -> Result<(), StoreError> {
    conn.prepare_cached("REPLACE INTO piecewise_given VALUES (?, ?)")?.execute([container, last])?;
    Ok(())
}

/// The tables whose sequence is at this number.
pub(crate) fn with_sequence_at(conn: &Connection, number: i64) -> Result<Vec<String>, StoreError> {
    let Ok(mut stmt) = conn.prepare_cached("SELECT name FROM sqlite_sequence WHERE seq = ? ORDER BY name")
    else {
        return Ok(vec![]); // no table has AUTOINCREMENT
    };
    let names = stmt.query_map([number], |row| row.get::<_, String>(0))?;
    // An application may have written anything there.
    Ok(names.filter_map(Result::ok).collect())
}

/// What SQLite gave out last in an AUTOINCREMENT table; None: nothing yet, or it is no such table.
pub(crate) fn sequence(conn: &Connection, table: &str) -> Result<Option<i64>, StoreError> {
    if !super::schema::table_exists(conn, "sqlite_sequence")? {
        return Ok(None);
    }
    // An application may have written anything there, also several lines.
    let sql = "SELECT max(CAST(seq AS INTEGER)) FROM sqlite_sequence WHERE name = ? COLLATE NOCASE";
    Ok(conn.prepare_cached(sql)?.query_row([table], |row| row.get(0))?)
}

/// Has SQLite give out the number after `last` next.
pub(crate) fn set_sequence(conn: &Connection, table: &str, last: i64) -> Result<(), StoreError> {
    let sql = "UPDATE sqlite_sequence SET seq = ?2 WHERE name = ?1 COLLATE NOCASE";
    if conn.prepare_cached(sql)?.execute(params![table, last])? == 0 {
        let sql = "INSERT INTO sqlite_sequence(name, seq) VALUES (?1, ?2)";
        conn.prepare_cached(sql)?.execute(params![table, last])?;
    }
    Ok(())
}
