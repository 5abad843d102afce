//! Numbers on disk: which own segments the server does not have yet, which rows have a number that another row has, and
//! where rows went that moved. See `numbers`.

use super::StoreError;
use super::documents::{key_bytes, key_from_bytes};
use crate::id::{Actor, SegmentId, Seq, Timestamp};
use crate::key::RowKey;
use rusqlite::{Connection, OptionalExtension, params};

/// An own segment that the server does not have, as far as is known.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Unsent {
    pub(crate) no: i64,
    pub(crate) id: SegmentId,
    pub(crate) seq: Seq,
    pub(crate) actor: Actor,
}

const IS_UNSENT: &str =
    "peer = 0 AND seq > (SELECT coalesce(max(seq), 0) FROM piecewise_acknowledged WHERE container = ?1)
  AND NOT EXISTS (SELECT 1 FROM piecewise_returned r WHERE r.container = ?1 AND r.segment = no)";

/// The own segments of a container that the server does not have, in the order of the feed.
pub(crate) fn unsent(conn: &Connection, container: i64) -> Result<Vec<Unsent>, StoreError> {
    let sql = format!(
        "SELECT no, seq, actor, id FROM piecewise_segments WHERE container = ?1 AND {IS_UNSENT} ORDER BY seq"
    );
    let mut stmt = conn.prepare_cached(&sql)?;
    let rows = stmt.query_map([container], |row| {
        let seq = Seq(row.get::<_, i64>(1)? as u64);
        Ok(Unsent { no: row.get(0)?, id: SegmentId(row.get(3)?), seq, actor: Actor(row.get(2)?) })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Whether the server does not have this own segment; false of what others wrote.
pub(crate) fn is_unsent(conn: &Connection, container: i64, segment: i64) -> Result<bool, StoreError> {
    let sql = format!("SELECT 1 FROM piecewise_segments WHERE no = ?2 AND container = ?1 AND {IS_UNSENT}");
    Ok(conn.prepare_cached(&sql)?.exists([container, segment])?)
}

/// How far the server has said to have come in our feed.
pub(crate) fn acknowledged(conn: &Connection, container: i64) -> Result<Seq, StoreError> {
    let sql = "SELECT seq FROM piecewise_acknowledged WHERE container = ?";
    let seq: Option<i64> = conn.prepare_cached(sql)?.query_row([container], |row| row.get(0)).optional()?;
    Ok(Seq(seq.unwrap_or(0) as u64))
}

/// Notes that the server has an own segment, whatever its cursors say.
pub(crate) fn put_returned(conn: &Connection, container: i64, segment: i64) -> Result<(), StoreError> {
    let sql = "INSERT OR IGNORE INTO piecewise_returned VALUES (?, ?)";
    conn.prepare_cached(sql)?.execute([container, segment])?;
    Ok(())
}

/// Forgets what was noted of a segment that was taken out of the feed.
pub(crate) fn forget_segment(conn: &Connection, container: i64, segment: i64) -> Result<(), StoreError> {
    let sql = "DELETE FROM piecewise_returned WHERE container = ? AND segment = ?";
    conn.prepare_cached(sql)?.execute([container, segment])?;
    Ok(())
}

/// Notes that a row written here has a number that another row has, or stands for a row that came.
pub(crate) fn put_taken(conn: &Connection, container: i64, key: &RowKey) -> Result<(), StoreError> {
    let sql = "INSERT OR IGNORE INTO piecewise_taken VALUES (?, ?)";
    conn.prepare_cached(sql)?.execute(params![container, key_bytes(key)])?;
    Ok(())
}

/// Whether that is noted of a row.
pub(crate) fn is_taken(conn: &Connection, container: i64, key: &RowKey) -> Result<bool, StoreError> {
    let sql = "SELECT 1 FROM piecewise_taken WHERE container = ? AND key = ?";
    Ok(conn.prepare_cached(sql)?.exists(params![container, key_bytes(key)])?)
}

/// The rows of a container of which it is noted.
pub(crate) fn taken(
    conn: &Connection,
    container: i64,
    integer_keys: bool,
) -> Result<Vec<RowKey>, StoreError> {
    let mut stmt = conn.prepare_cached("SELECT key FROM piecewise_taken WHERE container = ?")?;
    let keys = stmt.query_map([container], |row| row.get::<_, Vec<u8>>(0))?;
    let keys: Result<Vec<_>, _> = keys.map(|key| key_from_bytes(&key?, integer_keys)).collect();
    keys.map(|mut keys| {
        keys.sort();
        keys
    })
}

/// The containers with rows of which it is noted.
pub(crate) fn with_taken(conn: &Connection) -> Result<Vec<i64>, StoreError> {
    let mut stmt = conn.prepare_cached("SELECT DISTINCT container FROM piecewise_taken")?;
    let numbers = stmt.query_map([], |row| row.get(0))?;
    Ok(numbers.collect::<Result<_, _>>()?)
}

/// Forgets all of a container.
pub(crate) fn forget_taken(conn: &Connection, container: i64) -> Result<(), StoreError> {
    conn.prepare_cached("DELETE FROM piecewise_taken WHERE container = ?")?.execute([container])?;
    Ok(())
}

/// Notes where a row is that an actor's change wrote under another key.
pub(crate) fn put_move(
    conn: &Connection,
    container: i64,
    actor: &Actor,
    key: &RowKey,
    new: &RowKey,
) -> Result<(), StoreError> {
    let sql = "REPLACE INTO piecewise_moves VALUES (?, ?, ?, ?)";
    conn.prepare_cached(sql)?.execute(params![container, actor.0, key_bytes(key), key_bytes(new)])?;
    Ok(())
}

/// Where that row is.
pub(crate) fn moved_to(
    conn: &Connection,
    container: i64,
    actor: &Actor,
    key: &RowKey,
) -> Result<Option<RowKey>, StoreError> {
    let sql = "SELECT new FROM piecewise_moves WHERE container = ? AND actor = ? AND key = ?";
    let mut stmt = conn.prepare_cached(sql)?;
    let new = stmt.query_row(params![container, actor.0, key_bytes(key)], |row| row.get::<_, Vec<u8>>(0));
    new.optional()?.map(|new| key_from_bytes(&new, matches!(key, RowKey::Integer(_)))).transpose()
}

/// Rows that an actor wrote and that moved: the keys under which it wrote them, and where they are.
pub(crate) fn moves_of(
    conn: &Connection,
    container: i64,
    actor: &Actor,
    integer_keys: bool,
) -> Result<Vec<(RowKey, RowKey)>, StoreError> {
    let sql = "SELECT key, new FROM piecewise_moves WHERE container = ? AND actor = ?";
    let mut stmt = conn.prepare_cached(sql)?;
    let mut rows = stmt.query(params![container, actor.0])?;
    let mut found = vec![];
    while let Some(row) = rows.next()? {
        let key = |n: usize| -> Result<RowKey, StoreError> {
            key_from_bytes(&row.get::<_, Vec<u8>>(n)?, integer_keys)
        };
        found.push((key(0)?, key(1)?));
    }
    Ok(found)
}

/// The same of all actors.
pub(crate) fn all_moves(
    conn: &Connection,
    container: i64,
    integer_keys: bool,
) -> Result<Vec<(RowKey, RowKey)>, StoreError> {
    let mut stmt = conn.prepare_cached("SELECT key, new FROM piecewise_moves WHERE container = ?")?;
    let rows =
        stmt.query_map([container], |row| Ok((row.get::<_, Vec<u8>>(0)?, row.get::<_, Vec<u8>>(1)?)))?;
    let mut found = vec![];
    for row in rows {
        let (key, new) = row?;
        found.push((key_from_bytes(&key, integer_keys)?, key_from_bytes(&new, integer_keys)?));
    }
    Ok(found)
}

/// Whether any row with an INTEGER key from `first` to `last` is known.
pub(crate) fn any_known(
    conn: &Connection,
    container: i64,
    first: i64,
    last: i64,
) -> Result<bool, StoreError> {
    // Lines do not overlap: the last one that begins in or before the range reaches furthest into it.
    let sql = "SELECT key + (count - 1) FROM piecewise_runs WHERE container = ? AND key <= ? ORDER BY key DESC LIMIT 1";
    let end: Option<i64> =
        conn.prepare_cached(sql)?.query_row([container, last], |row| row.get(0)).optional()?;
    Ok(end.is_some_and(|end| end >= first))
}

/// The greatest INTEGER key that is known, also of deleted rows.
pub(crate) fn greatest(conn: &Connection, container: i64) -> Result<Option<i64>, StoreError> {
    let sql = "SELECT key + (count - 1) FROM piecewise_runs WHERE container = ? ORDER BY key DESC LIMIT 1";
    Ok(conn.prepare_cached(sql)?.query_row([container], |row| row.get(0)).optional()?)
}

/// Lists a row that moved, for applications.
pub(crate) fn put_renumbered(
    conn: &Connection,
    table: &str,
    old: i64,
    new: i64,
    time: Timestamp,
) -> Result<(), StoreError> {
    let sql = "INSERT INTO piecewise_renumbered(table_name, old, new, time) VALUES (?, ?, ?, ?)";
    conn.prepare_cached(sql)?.execute(params![table, old, new, time.0 as i64])?;
    Ok(())
}

/// How many rows of a table moved.
pub(crate) fn count_renumbered(conn: &Connection, table: &str) -> Result<u64, StoreError> {
    let sql = "SELECT count(*) FROM piecewise_renumbered WHERE table_name = ?";
    Ok(conn.prepare_cached(sql)?.query_row([table], |row| row.get::<_, i64>(0))? as u64)
}
