//! The outbox of the supervisor's log: entries written in the transactions that they are about, until the
//! server has brought them into its log.

use super::StoreError;
use rusqlite::{Connection, params};

/// Adds an entry. Call it in the transaction that it is about.
pub(crate) fn put(conn: &Connection, entry: &[u8]) -> Result<(), StoreError> {
    conn.prepare_cached("INSERT INTO piecewise_outbox(entry) VALUES (?)")?.execute([entry])?;
    Ok(())
}

/// The first entries, with their numbers.
pub(crate) fn first(conn: &Connection, limit: usize) -> Result<Vec<(i64, Vec<u8>)>, StoreError> {
    let mut stmt = conn.prepare_cached("SELECT no, entry FROM piecewise_outbox ORDER BY no LIMIT ?")?;
    let rows = stmt.query_map([limit as i64], |row| Ok((row.get(0)?, row.get(1)?)))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Removes entries up to a number: the log has them.
pub(crate) fn clear(conn: &Connection, last: i64) -> Result<(), StoreError> {
    conn.prepare_cached("DELETE FROM piecewise_outbox WHERE no <= ?")?.execute(params![last])?;
    Ok(())
}

/// How many entries wait.
pub(crate) fn count(conn: &Connection) -> Result<u64, StoreError> {
    let mut stmt = conn.prepare_cached("SELECT count(*) FROM piecewise_outbox")?;
    Ok(stmt.query_row([], |row| row.get::<_, i64>(0))? as u64)
}
