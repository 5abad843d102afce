//! Checks on disk: how far the tables have been checked against their documents, and what was found.

use super::StoreError;
use crate::id::Timestamp;
use rusqlite::{Connection, Row, params};
use std::collections::BTreeMap;

/// How a container's table has been checked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Check {
    /// The part of a check that is under way; 0: none is.
    pub(crate) stage: i64,
    /// Where that part goes on.
    pub(crate) place: Option<Vec<u8>>,
    /// What the check that is under way has counted.
    pub(crate) current: Counts,
    /// When the last complete check ended.
    pub(crate) checked: Option<Timestamp>,
    /// What it counted.
    pub(crate) last: Counts,
    /// Rows found by all checks, and when the last of them was.
    pub(crate) found_ever: u64,
    pub(crate) found_last: Option<Timestamp>,
}

/// What a check counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Rows and documents compared.
    pub(crate) rows: u64,
    /// Rows that were not what their documents say.
    pub(crate) found: u64,
    /// Those of them that could not be healed.
    pub(crate) unhealed: u64,
}

impl Check {
    fn read(row: &Row<'_>) -> rusqlite::Result<(i64, Self)> {
        let number = |n: usize| row.get::<_, i64>(n).map(|n| n as u64);
        let time = |n: usize| row.get::<_, Option<i64>>(n).map(|ms| ms.map(|ms| Timestamp(ms as u64)));
        let check = Self {
            stage: row.get(1)?,
            place: row.get(2)?,
            current: Counts { rows: number(3)?, found: number(4)?, unhealed: number(5)? },
            checked: time(6)?,
            last: Counts { rows: number(7)?, found: number(8)?, unhealed: number(9)? },
            found_ever: number(10)?,
            found_last: time(11)?,
        };
        Ok((row.get(0)?, check))
    }
}

/// How each container has been checked; those that never were are left out.
pub(crate) fn all(conn: &Connection) -> Result<BTreeMap<i64, Check>, StoreError> {
    let mut stmt = conn.prepare_cached(
        "SELECT container, stage, place, rows, found, unhealed, checked, checked_rows, checked_found, checked_unhealed,
           found_ever, found_last FROM piecewise_checks",
    )?;
    let rows = stmt.query_map([], Check::read)?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Notes how a container has been checked.
pub(crate) fn put(conn: &Connection, container: i64, check: &Check) -> Result<(), StoreError> {
    let ms = |time: Option<Timestamp>| time.map(|t| t.0 as i64);
    let mut stmt =
        conn.prepare_cached("REPLACE INTO piecewise_checks VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)")?;
    stmt.execute(params![
        container,
        check.stage,
        check.place,
        check.current.rows as i64,
        check.current.found as i64,
        check.current.unhealed as i64,
        ms(check.checked),
        check.last.rows as i64,
        check.last.found as i64,
        check.last.unhealed as i64,
        check.found_ever as i64,
        ms(check.found_last)
    ])?;
    Ok(())
}
