//! Pieces: the part of a frame that came before its connection was cut, kept until the rest comes over another.
//!
//! The table is made when the first piece comes: most files never see one.

use super::{StoreError, schema};
use crate::id::Timestamp;
use rusqlite::{Connection, OptionalExtension, params};

const TABLE: &str = "
CREATE TABLE IF NOT EXISTS piecewise_pieces(
  no INTEGER PRIMARY KEY, peer BLOB NOT NULL, hash BLOB NOT NULL, at INTEGER NOT NULL, time INTEGER NOT NULL,
  bytes BLOB NOT NULL);
CREATE UNIQUE INDEX IF NOT EXISTS piecewise_pieces_frame ON piecewise_pieces(peer, hash, at);
";

/// Peers of which something is kept: each has at most one frame here.
const PEERS_MAX: i64 = 16;
/// Milliseconds for which the start of a frame is kept.
const AGE_MAX: u64 = 7 * 24 * 3600 * 1000;

/// The frame of which pieces of a peer are here: its hash and how many of its first bytes.
pub(crate) fn held(conn: &Connection, peer: &[u8; 32]) -> Result<Option<([u8; 32], u64)>, StoreError> {
    if !schema::table_exists(conn, "piecewise_pieces")? {
        return Ok(None);
    }
    let sql = "SELECT hash, at + length(bytes) FROM piecewise_pieces WHERE peer = ? ORDER BY no DESC LIMIT 1";
    let mut stmt = conn.prepare_cached(sql)?;
    let found = stmt.query_row([peer], |row| Ok((row.get(0)?, row.get::<_, i64>(1)? as u64)));
    Ok(found.optional()?)
}

/// Begins a frame of a peer in place of another. Call it in a transaction.
pub(crate) fn begin(conn: &Connection, peer: &[u8; 32], now: Timestamp) -> Result<(), StoreError> {
    conn.execute_batch(TABLE)?;
    forget(conn, peer)?;
    let sql = "DELETE FROM piecewise_pieces WHERE peer NOT IN
                 (SELECT peer FROM piecewise_pieces GROUP BY peer ORDER BY max(no) DESC LIMIT ?)";
    conn.execute(sql, [PEERS_MAX - 1])?;
    let old = now.0.saturating_sub(AGE_MAX) as i64;
    conn.execute("DELETE FROM piecewise_pieces WHERE time < ?", [old])?;
    Ok(())
}

/// Keeps a piece that follows what is here.
pub(crate) fn add(
    conn: &Connection,
    peer: &[u8; 32],
    hash: &[u8; 32],
    at: u64,
    bytes: &[u8],
    now: Timestamp,
) -> Result<(), StoreError> {
    let sql = "INSERT INTO piecewise_pieces(peer, hash, at, time, bytes) VALUES (?, ?, ?, ?, ?)";
    conn.prepare_cached(sql)?.execute(params![peer, hash, at as i64, now.0 as i64, bytes])?;
    Ok(())
}

/// All pieces of a frame, joined.
pub(crate) fn joined(conn: &Connection, peer: &[u8; 32], hash: &[u8; 32]) -> Result<Vec<u8>, StoreError> {
    let sql = "SELECT bytes FROM piecewise_pieces WHERE peer = ? AND hash = ? ORDER BY at";
    let mut stmt = conn.prepare_cached(sql)?;
    let mut rows = stmt.query(params![peer, hash])?;
    let mut frame = vec![];
    while let Some(row) = rows.next()? {
        let bytes = row.get_ref(0)?.as_blob();
        frame.extend_from_slice(bytes.map_err(|_| StoreError::Damaged { what: "a piece of a frame" })?);
    }
    Ok(frame)
}

/// Forgets the pieces of a peer.
pub(crate) fn forget(conn: &Connection, peer: &[u8; 32]) -> Result<(), StoreError> {
    conn.prepare_cached("DELETE FROM piecewise_pieces WHERE peer = ?")?.execute([peer])?;
    Ok(())
}
