//! The log of writes that triggers keep, and the ways to go through all keys of a table.

use super::StoreError;
use super::user_table::{UserTable, value};
use crate::key::RowKey;
use crate::table::Table;
use crate::value::Value;
use rusqlite::{Connection, OptionalExtension, Statement};
use std::collections::HashSet;

/// A row that was written.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) seq: i64,
    pub(crate) container: i64,
    pub(crate) time: u64,
    values: Vec<Value>,
}

impl Entry {
    /// The keys that were written.
    pub(crate) fn keys(&self, table: &Table) -> impl Iterator<Item = RowKey> {
        self.writes(table).map(|(key, _)| key)
    }

    /// The key of the row, and after an update the one it had before, if that is another; of each, whether the row left it.
    pub(crate) fn writes(&self, table: &Table) -> impl Iterator<Item = (RowKey, bool)> {
        let width = table.key_columns().len();
        let key = |n: usize| {
            let values = self.values.iter().skip(n * width).take(width).map(Value::as_ref);
            // What was no update has NULLs in place of a second key.
            table.row_key(&values.collect::<Vec<_>>()).ok()
        };
        let now = key(0);
        let before = key(1).filter(|before| Some(before) != now.as_ref());
        now.map(|key| (key, false)).into_iter().chain(before.map(|key| (key, true)))
    }
}

/// The columns of the first `width` values of keys.
pub(crate) fn columns(width: usize) -> String {
    (0..width).map(|n| format!("k{n}")).collect::<Vec<_>>().join(", ")
}

/// Makes room for entries with `width` values of keys.
pub(crate) fn widen(conn: &Connection, width: usize) -> Result<(), StoreError> {
    let sql = "SELECT count(*) - 3 FROM pragma_table_info('piecewise_log')";
    let have: i64 = conn.query_row(sql, [], |row| row.get(0))?;
    for n in have..width as i64 {
        conn.execute_batch(&format!("ALTER TABLE piecewise_log ADD COLUMN k{n}"))?;
    }
    Ok(())
}

/// What leaves out entries of containers that have not met their counterpart or are not joined with it, and of those
/// whose table is not here or does not fit.
const OF_READY: &str = "NOT EXISTS (SELECT 1 FROM piecewise_containers c WHERE c.no = container
  AND (c.scan IN (1, 6, 10) OR c.fingerprint IS NULL))";

fn filter(skip_waiting: bool) -> String {
    if skip_waiting { format!(" AND {OF_READY}") } else { String::new() }
}

/// Whether there is an entry after `from`; `skip_waiting`: of a container whose rows can be captured.
pub(crate) fn any(conn: &Connection, from: i64, skip_waiting: bool) -> Result<bool, StoreError> {
    let sql = format!("SELECT 1 FROM piecewise_log WHERE seq > ?{} LIMIT 1", filter(skip_waiting));
    Ok(conn.prepare_cached(&sql)?.exists([from])?)
}

/// The first entries after `from`, at most `limit`; `skip_waiting`: of containers whose rows can be captured.
pub(crate) fn read(
    conn: &Connection,
    from: i64,
    skip_waiting: bool,
    limit: usize,
) -> Result<Vec<Entry>, StoreError> {
    let sql = format!(
        "SELECT * FROM piecewise_log WHERE seq > ?{} ORDER BY seq LIMIT {limit}",
        filter(skip_waiting)
    );
    let mut stmt = conn.prepare_cached(&sql)?;
    stmt.raw_bind_parameter(1, from)?;
    entries(&mut stmt)
}

/// All entries after `last`.
pub(crate) fn read_after(conn: &Connection, last: i64) -> Result<Vec<Entry>, StoreError> {
    let sql = format!("SELECT * FROM piecewise_log WHERE seq > {last} ORDER BY seq");
    entries(&mut *conn.prepare_cached(&sql)?)
}

fn entries(stmt: &mut Statement<'_>) -> Result<Vec<Entry>, StoreError> {
    let mut rows = stmt.raw_query();
    let mut found = vec![];
    while let Some(row) = rows.next()? {
        // Asked anew of each row: the log may have been widened since the statement was made.
        let width = row.as_ref().column_count();
        let values =
            (3..width).map(|n| row.get_ref(n).map(|v| value(v).to_owned())).collect::<Result<_, _>>()?;
        // Anybody may write here, whatever comes to mind.
        let number = |n: usize| row.get_ref(n).map(|v| v.as_i64().unwrap_or(0));
        let (container, time) = (number(1)?, number(2)?.max(0) as u64);
        found.push(Entry { seq: row.get(0)?, container, time, values });
    }
    Ok(found)
}

/// The last entry's number.
pub(crate) fn last(conn: &Connection) -> Result<i64, StoreError> {
    let sql = "SELECT coalesce(max(seq), 0) FROM piecewise_log";
    Ok(conn.prepare_cached(sql)?.query_row([], |row| row.get(0))?)
}

/// Removes entries after `from`, up to `last`; `skip_waiting`: of containers whose rows can be captured.
pub(crate) fn clear(conn: &Connection, from: i64, last: i64, skip_waiting: bool) -> Result<(), StoreError> {
    let sql = format!("DELETE FROM piecewise_log WHERE seq > ? AND seq <= ?{}", filter(skip_waiting));
    conn.prepare_cached(&sql)?.execute([from, last])?;
    Ok(())
}

/// Removes entries after `last`; `skip_waiting`: of containers whose rows can be captured.
pub(crate) fn clear_after(conn: &Connection, last: i64, skip_waiting: bool) -> Result<(), StoreError> {
    let sql = format!("DELETE FROM piecewise_log WHERE seq > ?{}", filter(skip_waiting));
    conn.prepare_cached(&sql)?.execute([last])?;
    Ok(())
}

/// The entries of a container after `last`.
pub(crate) fn of(conn: &Connection, container: i64, last: i64) -> Result<Vec<Entry>, StoreError> {
    let mut stmt =
        conn.prepare_cached("SELECT * FROM piecewise_log WHERE container = ? AND seq > ? ORDER BY seq")?;
    stmt.raw_bind_parameter(1, container)?;
    stmt.raw_bind_parameter(2, last)?;
    entries(&mut stmt)
}

/// A table that was written after `last`, and of whose rows some may be known to no document since it has not met its counterpart.
pub(crate) fn ungathered_after(conn: &Connection, last: i64) -> Result<Option<String>, StoreError> {
    let sql = "SELECT c.table_name FROM piecewise_log l, piecewise_containers c
               WHERE l.seq > ? AND c.no = l.container AND c.scan IN (1, 10) LIMIT 1";
    Ok(conn.prepare_cached(sql)?.query_row([last], |row| row.get(0)).optional()?)
}

/// Whether there is an entry of a container.
pub(crate) fn any_of(conn: &Connection, container: i64) -> Result<bool, StoreError> {
    let sql = "SELECT 1 FROM piecewise_log WHERE container = ? LIMIT 1";
    Ok(conn.prepare_cached(sql)?.exists([container])?)
}

/// Those of some keys of a container that were written since it was captured last.
pub(crate) fn keys_among(
    conn: &Connection,
    container: i64,
    table: &Table,
    wanted: &HashSet<RowKey>,
) -> Result<HashSet<RowKey>, StoreError> {
    let mut found = HashSet::new();
    let mut last = 0;
    while found.len() < wanted.len() {
        let sql = "SELECT * FROM piecewise_log WHERE container = ? AND seq > ? ORDER BY seq LIMIT 4096";
        let mut stmt = conn.prepare_cached(sql)?;
        stmt.raw_bind_parameter(1, container)?;
        stmt.raw_bind_parameter(2, last)?;
        let some = entries(&mut stmt)?;
        let Some(entry) = some.last() else { break };
        last = entry.seq;
        found.extend(some.iter().flat_map(|entry| entry.keys(table)).filter(|key| wanted.contains(key)));
    }
    Ok(found)
}

/// Keys of the table's rows after a key, in key order, at most `limit`.
pub(crate) fn keys_after(
    conn: &Connection,
    user: &UserTable,
    after: Option<&RowKey>,
    limit: usize,
) -> Result<Vec<RowKey>, StoreError> {
    let mut stmt = user.select_keys(conn, after.is_some())?;
    let mut next = 1;
    if let Some(key) = after {
        next = user.bind_key(&mut stmt, 1, key)?;
    }
    stmt.raw_bind_parameter(next, limit as i64)?;
    let mut rows = stmt.raw_query();
    let mut keys = vec![];
    while let Some(row) = rows.next()? {
        keys.extend(user.row_key(row)?);
    }
    Ok(keys)
}

/// How many entries there are that are not kept for a table which is stopped.
pub(crate) fn count(conn: &Connection) -> Result<u64, StoreError> {
    let mut stmt = conn.prepare_cached(
        "SELECT count(*) FROM piecewise_log WHERE container NOT IN
           (SELECT c.no FROM piecewise_meta m, piecewise_containers c
            WHERE m.name GLOB 'away *' AND c.no = CAST(substr(m.name, 6) AS INTEGER) AND c.fingerprint IS NULL)",
    )?;
    Ok(stmt.query_row([], |row| row.get::<_, i64>(0))? as u64)
}
