//! Held and refused rows on disk.
//!
//! A held row has a *claim* for each thing it waits for or competes for: a hash over a constraint's name
//! and its values. When such a thing comes or goes, the rows with that claim are looked at again.

use super::StoreError;
use super::documents::{key_bytes, key_from_bytes};
use crate::id::Timestamp;
use crate::key::RowKey;
use rusqlite::{Connection, OptionalExtension, params};
use std::collections::HashMap;

/// What kind of cause holds a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum HoldKind {
    /// An earlier row has its value of a UNIQUE index.
    Unique = 1,
    /// A parent is missing.
    Foreign = 2,
    /// The schema of this replica's table, whatever is in other rows: a CHECK, a type, an expression.
    Local = 3,
    /// Something of this replica that depends on what is in tables: a trigger, or a UNIQUE index over expressions.
    Tables = 4,
    /// It refers to a number that a row written here has, until that one moves.
    Number = 5,
}

impl HoldKind {
    fn from_code(code: i64) -> Self {
        match code {
            1 => Self::Unique,
            2 => Self::Foreign,
            4 => Self::Tables,
            5 => Self::Number,
            _ => Self::Local,
        }
    }
}

/// The fingerprint of something that rows can compete or wait for.
pub(crate) type Claim = [u8; 16];

/// Records that a row is held, with what to watch for.
pub(crate) fn hold(
    conn: &Connection,
    container: i64,
    key: &RowKey,
    kind: HoldKind,
    cause: &str,
    claims: &[Claim],
) -> Result<(), StoreError> {
    release(conn, container, key)?;
    let key = key_bytes(key);
    conn.prepare_cached("INSERT INTO piecewise_held(container, key, kind, cause) VALUES (?, ?, ?, ?)")?
        .execute(params![container, key, kind as i64, cause])?;
    let mut stmt = conn
        .prepare_cached("INSERT OR IGNORE INTO piecewise_claims(container, claim, key) VALUES (?, ?, ?)")?;
    for claim in claims {
        stmt.execute(params![container, claim, key])?;
    }
    Ok(())
}

/// Records that a row is held no longer; whether it was.
///
/// Without being told which index to use, SQLite goes through all claims of the container.
pub(crate) fn release(conn: &Connection, container: i64, key: &RowKey) -> Result<bool, StoreError> {
    let key = key_bytes(key);
    let was = conn
        .prepare_cached("DELETE FROM piecewise_held WHERE container = ? AND key = ?")?
        .execute(params![container, key])?;
    if was > 0 {
        conn.prepare_cached(
            "DELETE FROM piecewise_claims INDEXED BY piecewise_claims_key WHERE container = ? AND key = ?",
        )?
        .execute(params![container, key])?;
    }
    Ok(was > 0)
}

/// Whether any row of a container is held for this kind of cause.
pub(crate) fn any_of_kind(conn: &Connection, container: i64, kind: HoldKind) -> Result<bool, StoreError> {
    let sql = "SELECT 1 FROM piecewise_held WHERE container = ? AND kind = ?";
    Ok(conn.prepare_cached(sql)?.exists((container, kind as i64))?)
}

/// The cause for which a row is held.
pub(crate) fn find(conn: &Connection, container: i64, key: &RowKey) -> Result<Option<HoldKind>, StoreError> {
    let mut stmt = conn.prepare_cached("SELECT kind FROM piecewise_held WHERE container = ? AND key = ?")?;
    let kind = stmt.query_row(params![container, key_bytes(key)], |row| row.get(0)).optional()?;
    Ok(kind.map(HoldKind::from_code))
}

/// Notes the rank of a claim of a row that is held for a UNIQUE value.
pub(crate) fn set_rank(
    conn: &Connection,
    container: i64,
    key: &RowKey,
    claim: &Claim,
    rank: &[u8],
) -> Result<(), StoreError> {
    let mut stmt = conn.prepare_cached(
        "UPDATE piecewise_claims SET rank = ? WHERE container = ? AND claim = ? AND key = ?",
    )?;
    stmt.execute(params![rank, container, claim, key_bytes(key)])?;
    Ok(())
}

/// Whether any held row has this claim.
pub(crate) fn any_claimant(conn: &Connection, container: i64, claim: &Claim) -> Result<bool, StoreError> {
    let sql = "SELECT 1 FROM piecewise_claims WHERE container = ? AND claim = ? LIMIT 1";
    Ok(conn.prepare_cached(sql)?.exists(params![container, claim])?)
}

/// Rows that are held for a UNIQUE value although their claim to it ranks before another's, or whose rank is not known.
pub(crate) fn earlier_claimants(
    conn: &Connection,
    container: i64,
    claim: &Claim,
    rank: &[u8],
    integer_keys: bool,
) -> Result<Vec<RowKey>, StoreError> {
    let mut stmt = conn.prepare_cached(
        "SELECT key FROM piecewise_claims c WHERE container = ?1 AND claim = ?2 AND (rank IS NULL OR rank <= ?3)
           AND EXISTS (SELECT 1 FROM piecewise_held h WHERE h.container = ?1 AND h.key = c.key AND h.kind = 1)",
    )?;
    let keys = stmt.query_map(params![container, claim, rank], |row| row.get::<_, Vec<u8>>(0))?;
    keys.map(|key| key_from_bytes(&key?, integer_keys)).collect()
}

/// Notes claims of a row that is shown, so that it is looked at again as a held one with them is.
pub(crate) fn watch(
    conn: &Connection,
    container: i64,
    key: &RowKey,
    claims: &[Claim],
) -> Result<(), StoreError> {
    for claim in claims {
        conn.prepare_cached(
            "INSERT OR IGNORE INTO piecewise_claims(container, claim, key) VALUES (?, ?, ?)",
        )?
        .execute(params![container, claim, key_bytes(key)])?;
    }
    Ok(())
}

/// Forgets the claims of a row.
pub(crate) fn forget_claims(conn: &Connection, container: i64, key: &RowKey) -> Result<(), StoreError> {
    conn.prepare_cached(
        "DELETE FROM piecewise_claims INDEXED BY piecewise_claims_key WHERE container = ? AND key = ?",
    )?
    .execute(params![container, key_bytes(key)])?;
    Ok(())
}

/// The claims of a held row.
pub(crate) fn claims_of(conn: &Connection, container: i64, key: &RowKey) -> Result<Vec<Claim>, StoreError> {
    let mut stmt = conn.prepare_cached(
        "SELECT claim FROM piecewise_claims INDEXED BY piecewise_claims_key WHERE container = ? AND key = ?",
    )?;
    let claims = stmt.query_map(params![container, key_bytes(key)], |row| row.get(0))?;
    Ok(claims.collect::<Result<_, _>>()?)
}

/// Whether any row of a container is held.
pub(crate) fn any(conn: &Connection, container: i64) -> Result<bool, StoreError> {
    Ok(conn
        .prepare_cached("SELECT 1 FROM piecewise_held WHERE container = ? LIMIT 1")?
        .exists([container])?)
}

/// The containers that have rows held for causes of these kinds.
pub(crate) fn with_kind(conn: &Connection, kind: HoldKind) -> Result<Vec<i64>, StoreError> {
    let sql = "SELECT no FROM piecewise_containers WHERE EXISTS
               (SELECT 1 FROM piecewise_held h WHERE h.container = no AND h.kind = ?)";
    let mut stmt = conn.prepare_cached(sql)?;
    let numbers = stmt.query_map([kind as i64], |row| row.get(0))?;
    Ok(numbers.collect::<Result<_, _>>()?)
}

/// How many rows of a container are held.
pub(crate) fn count(conn: &Connection, container: i64) -> Result<u64, StoreError> {
    let mut stmt = conn.prepare_cached("SELECT count(*) FROM piecewise_held WHERE container = ?")?;
    Ok(stmt.query_row([container], |row| row.get::<_, i64>(0))? as u64)
}

/// How many rows of all containers are held.
pub(crate) fn count_all(conn: &Connection) -> Result<u64, StoreError> {
    let mut stmt = conn.prepare_cached("SELECT count(*) FROM piecewise_held")?;
    Ok(stmt.query_row([], |row| row.get::<_, i64>(0))? as u64)
}

/// How many rows are held, by container; those without any are left out.
pub(crate) fn counts(conn: &Connection) -> Result<HashMap<i64, u64>, StoreError> {
    let mut stmt =
        conn.prepare_cached("SELECT container, count(*) FROM piecewise_held GROUP BY container")?;
    let rows = stmt.query_map([], |row| Ok((row.get(0)?, row.get::<_, i64>(1)? as u64)))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Held rows with this claim.
pub(crate) fn claimants(
    conn: &Connection,
    container: i64,
    claim: &Claim,
    integer_keys: bool,
) -> Result<Vec<RowKey>, StoreError> {
    let mut stmt =
        conn.prepare_cached("SELECT key FROM piecewise_claims WHERE container = ? AND claim = ?")?;
    let keys = stmt.query_map(params![container, claim], |row| row.get::<_, Vec<u8>>(0))?;
    keys.map(|key| key_from_bytes(&key?, integer_keys)).collect()
}

/// Rows with this claim that are held for a missing parent. Those that are held for a UNIQUE value have ranks, and may be many.
pub(crate) fn parentless(
    conn: &Connection,
    container: i64,
    claim: &Claim,
    integer_keys: bool,
) -> Result<Vec<RowKey>, StoreError> {
    let mut stmt = conn.prepare_cached(
        "SELECT key FROM piecewise_claims c WHERE container = ?1 AND claim = ?2 AND rank IS NULL
           AND EXISTS (SELECT 1 FROM piecewise_held h WHERE h.container = ?1 AND h.key = c.key AND h.kind = 2)",
    )?;
    let keys = stmt.query_map(params![container, claim], |row| row.get::<_, Vec<u8>>(0))?;
    keys.map(|key| key_from_bytes(&key?, integer_keys)).collect()
}

/// Rows held for a cause of this kind, in the order of their keys after one, at most `limit`.
pub(crate) fn of_kind(
    conn: &Connection,
    container: i64,
    kind: HoldKind,
    integer_keys: bool,
    after: Option<&RowKey>,
    limit: usize,
) -> Result<Vec<RowKey>, StoreError> {
    let sql = "SELECT key FROM piecewise_held WHERE container = ?1 AND kind = ?2 AND (?3 IS NULL OR key > ?3)
               ORDER BY key LIMIT ?4";
    let mut stmt = conn.prepare_cached(sql)?;
    let after = after.map(key_bytes);
    let params = params![container, kind as i64, after, limit as i64];
    let keys = stmt.query_map(params, |row| row.get::<_, Vec<u8>>(0))?;
    keys.map(|key| key_from_bytes(&key?, integer_keys)).collect()
}

/// All held rows of a container with their causes.
pub(crate) fn all(
    conn: &Connection,
    container: i64,
    integer_keys: bool,
) -> Result<Vec<(RowKey, String)>, StoreError> {
    let mut stmt =
        conn.prepare_cached("SELECT key, cause FROM piecewise_held WHERE container = ? ORDER BY key")?;
    let rows = stmt.query_map([container], |row| Ok((row.get::<_, Vec<u8>>(0)?, row.get(1)?)))?;
    rows.map(|row| {
        let (key, cause) = row?;
        Ok((key_from_bytes(&key, integer_keys)?, cause))
    })
    .collect()
}

/// Notes that a row stays in its table although the parent with this claim is missing.
pub(crate) fn exempt(
    conn: &Connection,
    container: i64,
    key: &RowKey,
    claim: &Claim,
) -> Result<(), StoreError> {
    let mut stmt = conn.prepare_cached("INSERT OR IGNORE INTO piecewise_exempt VALUES (?, ?, ?)")?;
    stmt.execute(params![container, claim, key_bytes(key)])?;
    Ok(())
}

/// Whether a row stays in its table although the parent with this claim is missing.
pub(crate) fn is_exempt(
    conn: &Connection,
    container: i64,
    key: &RowKey,
    claim: &Claim,
) -> Result<bool, StoreError> {
    let sql = "SELECT 1 FROM piecewise_exempt WHERE container = ? AND claim = ? AND key = ?";
    Ok(conn.prepare_cached(sql)?.exists(params![container, claim, key_bytes(key)])?)
}

/// Whether any row of a container stays in its table although a parent is missing.
pub(crate) fn any_exempt(conn: &Connection, container: i64) -> Result<bool, StoreError> {
    let sql = "SELECT 1 FROM piecewise_exempt WHERE container = ? LIMIT 1";
    Ok(conn.prepare_cached(sql)?.exists([container])?)
}

/// A parent with this claim has come: should it go again, its children are as any others.
pub(crate) fn end_exemptions(conn: &Connection, container: i64, claim: &Claim) -> Result<(), StoreError> {
    let mut stmt = conn.prepare_cached("DELETE FROM piecewise_exempt WHERE container = ? AND claim = ?")?;
    stmt.execute(params![container, claim])?;
    Ok(())
}

/// The next held rows of a container after a key, in the order of their bytes, with their causes.
pub(crate) fn after(
    conn: &Connection,
    container: i64,
    after: Option<&RowKey>,
    limit: usize,
    integer_keys: bool,
) -> Result<Vec<(RowKey, String)>, StoreError> {
    let sql = "SELECT key, cause FROM piecewise_held WHERE container = ? AND key > ? ORDER BY key LIMIT ?";
    let mut stmt = conn.prepare_cached(sql)?;
    let after = after.map_or(vec![], key_bytes);
    let rows = stmt.query_map(params![container, after, limit as i64], |row| {
        Ok((row.get::<_, Vec<u8>>(0)?, row.get(1)?))
    })?;
    rows.map(|row| {
        let (key, cause) = row?;
        Ok((key_from_bytes(&key, integer_keys)?, cause))
    })
    .collect()
}

/// A row written here that the server did not take.
#[derive(Debug, Clone)]
pub(crate) struct Refused {
    pub(crate) key: RowKey,
    pub(crate) reason: u8,
    pub(crate) time: Timestamp,
    /// What the table showed when it was refused, as the bytes of a tuple; None: no row.
    pub(crate) shown: Option<Vec<u8>>,
    /// What was written, if the table could not show it: the row was held.
    pub(crate) kept: Option<Vec<u8>>,
}

/// Records a refused row.
pub(crate) fn refuse(conn: &Connection, container: i64, row: &Refused) -> Result<(), StoreError> {
    let sql = "INSERT INTO piecewise_refused VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET
               reason = excluded.reason | (reason & 256), time = excluded.time, shown = excluded.shown, kept = excluded.kept";
    conn.prepare_cached(sql)?.execute(params![
        container,
        key_bytes(&row.key),
        i64::from(row.reason),
        row.time.0 as i64,
        row.shown,
        row.kept
    ])?;
    Ok(())
}

/// Notes that a refused row was inserted here: it is another than what comes under its key. Kept beside its reason.
pub(crate) fn note_refused_insert(conn: &Connection, container: i64, key: &RowKey) -> Result<(), StoreError> {
    let sql = "UPDATE piecewise_refused SET reason = reason | 256 WHERE container = ? AND key = ?";
    conn.prepare_cached(sql)?.execute(params![container, key_bytes(key)])?;
    Ok(())
}

/// Whether a row is refused and was inserted here.
pub(crate) fn is_refused_insert(conn: &Connection, container: i64, key: &RowKey) -> Result<bool, StoreError> {
    let sql = "SELECT 1 FROM piecewise_refused WHERE container = ? AND key = ? AND reason & 256";
    Ok(conn.prepare_cached(sql)?.exists(params![container, key_bytes(key)])?)
}

/// Notes that the table shows a refused row no longer, and what was written to it.
pub(crate) fn keep_refused(
    conn: &Connection,
    container: i64,
    key: &RowKey,
    kept: &[u8],
) -> Result<(), StoreError> {
    let sql = "UPDATE piecewise_refused SET shown = NULL, kept = ? WHERE container = ? AND key = ?";
    conn.prepare_cached(sql)?.execute(params![kept, container, key_bytes(key)])?;
    Ok(())
}

/// The refused rows of a container.
pub(crate) fn refused(
    conn: &Connection,
    container: i64,
    integer_keys: bool,
) -> Result<Vec<Refused>, StoreError> {
    let mut stmt = conn.prepare_cached(
        "SELECT key, reason & 255, time, shown, kept FROM piecewise_refused WHERE container = ? ORDER BY key",
    )?;
    let rows = stmt.query_map([container], |row| {
        Ok((row.get::<_, Vec<u8>>(0)?, row.get(1)?, row.get::<_, i64>(2)?, row.get(3)?, row.get(4)?))
    })?;
    rows.map(|row| {
        let (key, reason, time, shown, kept) = row?;
        let key = key_from_bytes(&key, integer_keys)?;
        Ok(Refused { key, reason, time: Timestamp(time as u64), shown, kept })
    })
    .collect()
}

/// What was written to a refused row that the table could not show.
pub(crate) fn refused_kept(
    conn: &Connection,
    container: i64,
    key: &RowKey,
) -> Result<Option<Vec<u8>>, StoreError> {
    let sql = "SELECT kept FROM piecewise_refused WHERE container = ? AND key = ?";
    let mut stmt = conn.prepare_cached(sql)?;
    Ok(stmt.query_row(params![container, key_bytes(key)], |row| row.get(0)).optional()?.flatten())
}

/// What the table showed for a refused row when it was refused last; None if the row is not refused.
pub(crate) fn refused_row(
    conn: &Connection,
    container: i64,
    key: &RowKey,
) -> Result<Option<Option<Vec<u8>>>, StoreError> {
    let sql = "SELECT shown FROM piecewise_refused WHERE container = ? AND key = ?";
    let mut stmt = conn.prepare_cached(sql)?;
    Ok(stmt.query_row(params![container, key_bytes(key)], |row| row.get(0)).optional()?)
}

/// Forgets that rows of a container were refused: one, or all.
pub(crate) fn forget_refused(
    conn: &Connection,
    container: i64,
    key: Option<&RowKey>,
) -> Result<u64, StoreError> {
    let key = key.map(key_bytes);
    let mut stmt = conn
        .prepare_cached("DELETE FROM piecewise_refused WHERE container = ?1 AND (?2 IS NULL OR key = ?2)")?;
    Ok(stmt.execute(params![container, key])? as u64)
}

/// How many rows of a container are refused.
pub(crate) fn count_refused(conn: &Connection, container: i64) -> Result<u64, StoreError> {
    let mut stmt = conn.prepare_cached("SELECT count(*) FROM piecewise_refused WHERE container = ?")?;
    Ok(stmt.query_row([container], |row| row.get::<_, i64>(0))? as u64)
}

/// How many rows of all containers are refused.
pub(crate) fn count_all_refused(conn: &Connection) -> Result<u64, StoreError> {
    let mut stmt = conn.prepare_cached("SELECT count(*) FROM piecewise_refused")?;
    Ok(stmt.query_row([], |row| row.get::<_, i64>(0))? as u64)
}

/// Keeps captured rows that are still to be looked at.
pub(crate) fn keep_unsettled(conn: &Connection, rows: &[(i64, RowKey)]) -> Result<(), StoreError> {
    let mut stmt = conn.prepare_cached("INSERT OR IGNORE INTO piecewise_unsettled VALUES (?, ?)")?;
    for (container, key) in rows {
        stmt.execute(params![container, key_bytes(key)])?;
    }
    Ok(())
}

/// Forgets them all.
pub(crate) fn forget_unsettled(conn: &Connection) -> Result<(), StoreError> {
    conn.prepare_cached("DELETE FROM piecewise_unsettled")?.execute([])?;
    Ok(())
}

/// Captured rows that are still to be looked at. `integer_keys` tells of a container whether its keys are integers.
pub(crate) fn unsettled(
    conn: &Connection,
    integer_keys: impl Fn(i64) -> Option<bool>,
) -> Result<Vec<(i64, RowKey)>, StoreError> {
    let mut stmt = conn.prepare_cached("SELECT container, key FROM piecewise_unsettled")?;
    let mut rows = stmt.query([])?;
    let mut found = vec![];
    while let Some(row) = rows.next()? {
        let container = row.get(0)?;
        if let Some(integer_keys) = integer_keys(container) {
            found.push((container, key_from_bytes(&row.get::<_, Vec<u8>>(1)?, integer_keys)?));
        }
    }
    Ok(found)
}
