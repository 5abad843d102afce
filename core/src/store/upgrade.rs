//! Upgrade: the tables of ours that an earlier version made become those of this one.
//!
//! Format 1 had a table of rows for each container, a log without a time of its own, and triggers that fitted both. The
//! triggers are made anew at the next transaction, as after a migration that dropped them. Format 2 did not know how far
//! the scan of a table had come, format 3 not how far a check had, format 4 not what is in `SINCE_5`, format 5 neither baselines
//! nor what is in `SINCE_6`. Format 6 kept the hashes of all changes; they stay. Format 7 did not know who wrote what is here.

use super::{StoreError, layout, log, schema_rows};
use rusqlite::Connection;

/// Brings a file up to date, if it has tables of ours that are older.
pub(crate) fn upgrade(conn: &Connection) -> Result<(), StoreError> {
    if !is_older(conn)? {
        return Ok(());
    }
    conn.execute_batch("BEGIN IMMEDIATE")?;
    let done = from_older(conn).and_then(|()| Ok(conn.execute_batch("COMMIT")?));
    if done.is_err() {
        conn.execute_batch("ROLLBACK")?;
    }
    done
}

fn format(conn: &Connection) -> Result<Option<i64>, StoreError> {
    if super::schema::table_exists(conn, "piecewise_meta")? { layout::meta(conn, "format") } else { Ok(None) }
}

fn is_older(conn: &Connection) -> Result<bool, StoreError> {
    Ok(matches!(format(conn)?, Some(1..layout::FORMAT)))
}

fn from_older(conn: &Connection) -> Result<(), StoreError> {
    let from = match format(conn)? {
        Some(from @ 1..layout::FORMAT) => from,
        _ => return Ok(()), // another program was faster
    };
    if from == 1 {
        from_1(conn)?;
    }
    if from <= 2 {
        conn.execute_batch("ALTER TABLE piecewise_containers ADD COLUMN scan_after BLOB")?;
    }
    conn.execute_batch(layout::CHECKS)?;
    layout::complete(conn)?;
    super::authors::gather(conn)?;
    layout::set_meta(conn, "format", layout::FORMAT)
}

fn from_1(conn: &Connection) -> Result<(), StoreError> {
    schema_rows::drop_those(conn, |name| name.starts_with("piecewise_"))?;
    let keys = "SELECT count(*) - 3 FROM pragma_table_info('piecewise_log')";
    let keys: i64 = conn.query_row(keys, [], |row| row.get(0))?;
    if keys > 0 {
        conn.execute_batch("ALTER TABLE piecewise_log RENAME TO piecewise_log_1")?;
    }
    conn.execute_batch(layout::LOG_AND_ROWS)?;
    log::widen(conn, keys.max(0) as usize)?;
    if keys > 0 {
        let names = log::columns(keys as usize);
        conn.execute_batch(&format!(
            "INSERT INTO piecewise_log(seq, container, time, {names}) SELECT seq, container, time, {names} FROM piecewise_log_1;
             DROP TABLE piecewise_log_1"
        ))?;
    }
    let mut stmt = conn.prepare("SELECT no, integer_keys FROM piecewise_containers")?;
    let containers = stmt.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let containers: Vec<(i64, bool)> = containers.collect::<Result<_, _>>()?;
    for (no, integer_keys) in containers {
        let table = if integer_keys { "runs" } else { "rows" };
        conn.execute_batch(&format!(
            "INSERT INTO piecewise_{table} SELECT {no}, * FROM piecewise_rows_{no}; DROP TABLE piecewise_rows_{no}"
        ))?;
    }
    conn.execute_batch("UPDATE piecewise_containers SET fingerprint = NULL")?;
    layout::set_meta(conn, "schema_version", -1)
}
