//! Documents on disk: for each row, in which segments its changes are.
//!
//! By container and key: where the first change of a row is. Rows with neighbouring INTEGER keys that came
//! side by side in one segment share a line of `piecewise_runs`; those with other keys have one each in
//! `piecewise_rows`. The other changes of rows stand in `piecewise_changes`, so that an edit leaves the page
//! of its row as it is; a description has all of its there. The hashes of a segment of plain inserts stand together in
//! `piecewise_hashes`, since a first edit needs no more of the insert than its hash; those of other changes are made from their
//! segment where they are asked for. A change's bytes are nowhere but in its segment.

use super::StoreError;
use crate::frame::KeyRef;
use crate::key::RowKey;
use rusqlite::types::{FromSql, FromSqlResult, ToSqlOutput, ValueRef as SqlRef};
use rusqlite::{CachedStatement, Connection, OptionalExtension, Row, ToSql, params};
use std::sync::Arc;

/// Where a change is: the number of its segment here, and its place in it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct At(i64);

impl At {
    pub(crate) fn new(segment: i64, index: usize) -> Self {
        Self(segment << 16 | index as i64)
    }

    /// The place `n` after this one.
    fn plus(self, n: i64) -> Self {
        Self(self.0.wrapping_add(n))
    }

    pub(crate) fn segment(self) -> i64 {
        self.0 >> 16
    }

    pub(crate) fn index(self) -> usize {
        (self.0 & 0xffff) as usize
    }

    /// The place as one number, such as for bytes.
    pub(crate) fn number(self) -> i64 {
        self.0
    }

    /// From the number that [`number`](Self::number) gave.
    pub(crate) fn from_number(number: i64) -> Self {
        Self(number)
    }
}

impl ToSql for At {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(self.0.into())
    }
}

impl FromSql for At {
    fn column_result(value: SqlRef<'_>) -> FromSqlResult<Self> {
        value.as_i64().map(Self)
    }
}

/// Forgets all that is known of a container's documents.
pub(crate) fn forget(conn: &Connection, container: i64) -> Result<(), StoreError> {
    conn.prepare_cached(
        "DELETE FROM piecewise_hashes WHERE segment IN (SELECT no FROM piecewise_segments WHERE container = ?)",
    )?
    .execute([container])?;
    for table in ["runs", "rows", "changes", "conflicts", "baselines"] {
        let sql = format!("DELETE FROM piecewise_{table} WHERE container = ?");
        conn.prepare_cached(&sql)?.execute([container])?;
    }
    Ok(())
}

/// The key of a row as it stands in SQL.
pub(crate) struct SqlKey<'a>(pub(crate) &'a RowKey);

impl ToSql for SqlKey<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self.0 {
            RowKey::Description => SqlRef::Null,
            RowKey::Integer(i) => SqlRef::Integer(*i),
            RowKey::Tuple(bytes) => SqlRef::Blob(bytes),
        }))
    }
}

/// The key as bytes, for tables shared by all containers.
pub(crate) fn key_bytes(key: &RowKey) -> Vec<u8> {
    match key {
        RowKey::Description => vec![],
        RowKey::Integer(i) => i.to_be_bytes().to_vec(),
        RowKey::Tuple(bytes) => bytes.clone(),
    }
}

/// The key from the bytes that `key_bytes` gave.
pub(crate) fn key_from_bytes(bytes: &[u8], integer_keys: bool) -> Result<RowKey, StoreError> {
    match bytes {
        [] => Ok(RowKey::Description),
        bytes if integer_keys => bytes
            .try_into()
            .map(|b| RowKey::Integer(i64::from_be_bytes(b)))
            .map_err(|_| StoreError::Damaged { what: "a key" }),
        bytes => Ok(RowKey::Tuple(bytes.to_vec())),
    }
}

/// A line of neighbouring INTEGER keys, whose changes are neighbours in one segment.
#[derive(Debug, Clone, Copy)]
struct Run {
    first: i64,
    at: At,
    count: i64,
}

impl Run {
    /// A damaged file may claim any count.
    fn last(&self) -> i64 {
        self.first.saturating_add(self.count.saturating_sub(1))
    }

    /// Where the change of a key is, if the run has it.
    fn find(&self, key: i64) -> Option<At> {
        (self.first <= key && key <= self.last()).then(|| self.at.plus(key.wrapping_sub(self.first)))
    }

    /// The run that begins at or before a key.
    fn before(conn: &Connection, container: i64, key: i64) -> Result<Option<Self>, StoreError> {
        let mut stmt = conn.prepare_cached(
            "SELECT key, at, count FROM piecewise_runs WHERE container = ? AND key <= ? ORDER BY key DESC LIMIT 1",
        )?;
        Ok(stmt.query_row([container, key], Self::read).optional()?)
    }

    fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self { first: row.get(0)?, at: row.get(1)?, count: row.get(2)? })
    }

    fn write(&self, conn: &Connection, container: i64) -> Result<(), StoreError> {
        let mut stmt = conn.prepare_cached("INSERT INTO piecewise_runs VALUES (?, ?, ?, ?)")?;
        stmt.execute(params![container, self.first, self.at, self.count])?;
        Ok(())
    }
}

/// Looks up and records keys of a container in ascending order; remembers gaps between runs to save queries.
pub(crate) struct Lines<'c> {
    conn: &'c Connection,
    container: i64,
    /// Integer keys up to here, from the last one asked for, are not known.
    free_to: Option<i64>,
    run: Option<Run>,
    find_tuple: Option<CachedStatement<'c>>,
    put_tuple: Option<CachedStatement<'c>>,
}

impl<'c> Lines<'c> {
    pub(crate) fn new(conn: &'c Connection, container: i64) -> Self {
        Self { conn, container, free_to: None, run: None, find_tuple: None, put_tuple: None }
    }

    /// Whether anything is known of a row.
    pub(crate) fn knows(&mut self, key: &KeyRef<'_>) -> Result<bool, StoreError> {
        match *key {
            KeyRef::Description => Ok(false),
            KeyRef::Integer(key) => self.knows_integer(key),
            KeyRef::Tuple(bytes) => {
                let sql = "SELECT 1 FROM piecewise_rows WHERE container = ? AND key = ?";
                Ok(kept(&mut self.find_tuple, self.conn, sql)?.exists(params![self.container, bytes])?)
            }
        }
    }

    fn knows_integer(&mut self, key: i64) -> Result<bool, StoreError> {
        if self.free_to.is_some_and(|to| key <= to) {
            return Ok(false);
        }
        if Run::before(self.conn, self.container, key)?.is_some_and(|run| run.find(key).is_some()) {
            return Ok(true);
        }
        let sql = "SELECT min(key) FROM piecewise_runs WHERE container = ? AND key > ?";
        let next = self
            .conn
            .prepare_cached(sql)?
            .query_row([self.container, key], |row| row.get::<_, Option<i64>>(0))?;
        self.free_to = Some(next.map_or(i64::MAX, |next| next - 1));
        Ok(false)
    }

    /// Notes where the first change of a row is, unless one is known; whether it did.
    ///
    /// Call [`finish`](Self::finish) after the last.
    pub(crate) fn note(&mut self, key: &KeyRef<'_>, at: At) -> Result<bool, StoreError> {
        match *key {
            KeyRef::Description => Ok(false),
            KeyRef::Tuple(bytes) => self.note_tuple(bytes, at),
            KeyRef::Integer(key) if self.knows_integer(key)? => Ok(false),
            KeyRef::Integer(key) => {
                match &mut self.run {
                    Some(run) if run.last().checked_add(1) == Some(key) && run.at.plus(run.count) == at => {
                        run.count += 1;
                    }
                    _ => {
                        self.finish()?;
                        self.run = Some(Run { first: key, at, count: 1 });
                    }
                }
                Ok(true)
            }
        }
    }

    fn note_tuple(&mut self, key: &[u8], at: At) -> Result<bool, StoreError> {
        let sql = "INSERT INTO piecewise_rows VALUES (?, ?, ?) ON CONFLICT DO NOTHING";
        Ok(kept(&mut self.put_tuple, self.conn, sql)?.execute(params![self.container, key, at])? > 0)
    }

    /// Writes what is not written yet.
    pub(crate) fn finish(&mut self) -> Result<(), StoreError> {
        self.run.take().map_or(Ok(()), |run| run.write(self.conn, self.container))
    }
}

/// Looks up where first changes of rows are, at the cost of one query for each line when keys ascend.
pub(crate) struct Finder<'c> {
    conn: &'c Connection,
    container: i64,
    run: Option<Run>,
    /// Integer keys that are not known, from one to another.
    free: Option<(i64, i64)>,
    find_tuple: Option<CachedStatement<'c>>,
}

impl<'c> Finder<'c> {
    pub(crate) fn new(conn: &'c Connection, container: i64) -> Self {
        Self { conn, container, run: None, free: None, find_tuple: None }
    }

    /// Where the first change of a row is, if anything is known of it.
    pub(crate) fn find(&mut self, key: &KeyRef<'_>) -> Result<Option<At>, StoreError> {
        match *key {
            KeyRef::Description => Ok(None),
            KeyRef::Integer(key) => self.find_integer(key),
            KeyRef::Tuple(bytes) => {
                let sql = "SELECT at FROM piecewise_rows WHERE container = ? AND key = ?";
                let stmt = kept(&mut self.find_tuple, self.conn, sql)?;
                Ok(stmt.query_row(params![self.container, bytes], |row| row.get(0)).optional()?)
            }
        }
    }

    fn find_integer(&mut self, key: i64) -> Result<Option<At>, StoreError> {
        if let Some(at) = self.run.and_then(|run| run.find(key)) {
            return Ok(Some(at));
        }
        if self.free.is_some_and(|(from, to)| from <= key && key <= to) {
            return Ok(None);
        }
        self.run = Run::before(self.conn, self.container, key)?;
        let found = self.run.and_then(|run| run.find(key));
        if found.is_none() {
            let sql = "SELECT min(key) FROM piecewise_runs WHERE container = ? AND key > ?";
            let mut stmt = self.conn.prepare_cached(sql)?;
            let next = stmt.query_row([self.container, key], |row| row.get::<_, Option<i64>>(0))?;
            self.free = Some((key, next.map_or(i64::MAX, |next| next - 1)));
        }
        Ok(found)
    }
}

/// Tells which rows have more changes than the first, at the cost of one query for each such row when keys ascend.
pub(crate) struct ChangedRows<'c> {
    conn: &'c Connection,
    container: i64,
    /// Integer keys that have one change at most, from one to another.
    unchanged: Option<(i64, i64)>,
    find: Option<CachedStatement<'c>>,
}

impl<'c> ChangedRows<'c> {
    pub(crate) fn new(conn: &'c Connection, container: i64) -> Self {
        Self { conn, container, unchanged: None, find: None }
    }

    /// Whether a row has more changes than the first.
    pub(crate) fn contains(&mut self, key: &KeyRef<'_>) -> Result<bool, StoreError> {
        match *key {
            KeyRef::Description => Ok(true),
            KeyRef::Integer(key) => self.contains_integer(key),
            KeyRef::Tuple(bytes) => {
                let sql = "SELECT 1 FROM piecewise_changes WHERE container = ? AND key = ?";
                Ok(kept(&mut self.find, self.conn, sql)?.exists(params![self.container, bytes])?)
            }
        }
    }

    fn contains_integer(&mut self, key: i64) -> Result<bool, StoreError> {
        if self.unchanged.is_some_and(|(from, to)| from <= key && key <= to) {
            return Ok(false);
        }
        let sql = "SELECT min(key) FROM piecewise_changes WHERE container = ? AND key >= ?";
        let stmt = kept(&mut self.find, self.conn, sql)?;
        let next = stmt
            .query_row(params![self.container, key.to_be_bytes()], |row| row.get::<_, Option<[u8; 8]>>(0))?;
        // As bytes, negative keys come after all others.
        let end = if key < 0 { -1 } else { i64::MAX };
        let next = next.map(i64::from_be_bytes).filter(|next| (key..=end).contains(next));
        self.unchanged = match next {
            Some(next) if next == key => return Ok(true),
            Some(next) => Some((key, next - 1)),
            None => Some((key, end)),
        };
        Ok(false)
    }
}

/// A statement that is prepared once and kept.
fn kept<'s, 'c>(
    place: &'s mut Option<CachedStatement<'c>>,
    conn: &'c Connection,
    sql: &str,
) -> Result<&'s mut CachedStatement<'c>, StoreError> {
    if place.is_none() {
        *place = Some(conn.prepare_cached(sql)?);
    }
    Ok(place.as_mut().expect("it was put there just now"))
}

/// Where the first change of a row is, if anything is known of it.
pub(crate) fn find(conn: &Connection, container: i64, key: &RowKey) -> Result<Option<At>, StoreError> {
    match key {
        RowKey::Description => Ok(None),
        RowKey::Integer(key) => Ok(Run::before(conn, container, *key)?.and_then(|run| run.find(*key))),
        RowKey::Tuple(bytes) => {
            let sql = "SELECT at FROM piecewise_rows WHERE container = ? AND key = ?";
            Ok(conn.prepare_cached(sql)?.query_row(params![container, bytes], |row| row.get(0)).optional()?)
        }
    }
}

/// Adds a change to a row.
pub(crate) fn add(conn: &Connection, container: i64, key: &RowKey, at: At) -> Result<(), StoreError> {
    let mut lines = Lines::new(conn, container);
    if lines.note(&KeyRef::from(key), at)? {
        return lines.finish();
    }
    add_later(conn, container, key, at)
}

/// Adds a change to a row that has some.
pub(crate) fn add_later(conn: &Connection, container: i64, key: &RowKey, at: At) -> Result<(), StoreError> {
    conn.prepare_cached("INSERT INTO piecewise_changes VALUES (?, ?, ?)")?.execute(params![
        container,
        key_bytes(key),
        at
    ])?;
    Ok(())
}

/// The places of all changes of a row, in order of arrival here.
pub(crate) fn changes(conn: &Connection, container: i64, key: &RowKey) -> Result<Vec<At>, StoreError> {
    first_changes(conn, container, key, usize::MAX)
}

/// The places of the first changes of a row, at most so many.
pub(crate) fn first_changes(
    conn: &Connection,
    container: i64,
    key: &RowKey,
    limit: usize,
) -> Result<Vec<At>, StoreError> {
    let mut changes: Vec<_> = find(conn, container, key)?.into_iter().take(limit).collect();
    let rest = i64::try_from(limit - changes.len()).unwrap_or(i64::MAX);
    let sql = "SELECT at FROM piecewise_changes WHERE container = ? AND key = ? ORDER BY at LIMIT ?";
    let mut stmt = conn.prepare_cached(sql)?;
    let mut rows = stmt.query(params![container, key_bytes(key), rest])?;
    while let Some(row) = rows.next()? {
        changes.push(row.get(0)?);
    }
    Ok(changes)
}

/// Whether a row has more changes than the first.
pub(crate) fn has_later(conn: &Connection, container: i64, key: &RowKey) -> Result<bool, StoreError> {
    let sql = "SELECT 1 FROM piecewise_changes WHERE container = ? AND key = ?";
    Ok(conn.prepare_cached(sql)?.exists(params![container, key_bytes(key)])?)
}

/// The place of the last of a row's changes, if it has more than one.
pub(crate) fn last_change(conn: &Connection, container: i64, key: &RowKey) -> Result<Option<At>, StoreError> {
    let sql = "SELECT max(at) FROM piecewise_changes WHERE container = ? AND key = ?";
    Ok(conn.prepare_cached(sql)?.query_row(params![container, key_bytes(key)], |row| row.get(0))?)
}

/// The places of a row's changes that came after the one at a place.
pub(crate) fn changes_after(
    conn: &Connection,
    container: i64,
    key: &RowKey,
    after: At,
) -> Result<Vec<At>, StoreError> {
    let sql = "SELECT at FROM piecewise_changes WHERE container = ? AND key = ? AND at > ? ORDER BY at";
    let mut stmt = conn.prepare_cached(sql)?;
    let changes = stmt.query_map(params![container, key_bytes(key), after], |row| row.get(0))?;
    Ok(changes.collect::<Result<_, _>>()?)
}

/// Takes a change away from a row, with the row itself if it was the only one.
pub(crate) fn remove(conn: &Connection, container: i64, key: &RowKey, at: At) -> Result<(), StoreError> {
    let take = |at: &At| -> Result<(), StoreError> {
        conn.prepare_cached("DELETE FROM piecewise_changes WHERE container = ? AND key = ? AND at = ?")?
            .execute(params![container, key_bytes(key), at])?;
        Ok(())
    };
    if find(conn, container, key)? != Some(at) {
        return take(&at);
    }
    let second = changes(conn, container, key)?.get(1).copied();
    remove_first(conn, container, key)?;
    match second {
        // The second takes the place of the first.
        Some(second) => {
            take(&second)?;
            add(conn, container, key, second)
        }
        None => note_conflict(conn, container, key, false),
    }
}

fn remove_first(conn: &Connection, container: i64, key: &RowKey) -> Result<(), StoreError> {
    let delete = |table: &str, key: &RowKey| -> Result<(), StoreError> {
        let sql = format!("DELETE FROM piecewise_{table} WHERE container = ? AND key = ?");
        conn.prepare_cached(&sql)?.execute(params![container, SqlKey(key)])?;
        Ok(())
    };
    let RowKey::Integer(key) = key else { return delete("rows", key) };
    let Some(run) = Run::before(conn, container, *key)? else { return Ok(()) };
    delete("runs", &RowKey::Integer(run.first))?;
    let (before, behind) = (key.saturating_sub(run.first), run.last().saturating_sub(*key));
    let after = Run { first: key.saturating_add(1), at: run.at.plus(before).plus(1), count: behind };
    for part in [Run { count: before, ..run }, after] {
        if part.count > 0 {
            part.write(conn, container)?;
        }
    }
    Ok(())
}

/// Keys of rows that are known after a key, in key order, at most `limit`.
pub(crate) fn keys_after(
    conn: &Connection,
    container: i64,
    integer_keys: bool,
    after: Option<&RowKey>,
    limit: usize,
) -> Result<Vec<RowKey>, StoreError> {
    if integer_keys {
        return integers_after(conn, container, after, limit);
    }
    let from = after.map_or("", |_| "AND key > ?3");
    let sql = format!("SELECT key FROM piecewise_rows WHERE container = ?1 {from} ORDER BY key LIMIT ?2");
    let mut stmt = conn.prepare_cached(&sql)?;
    stmt.raw_bind_parameter(1, container)?;
    stmt.raw_bind_parameter(2, limit as i64)?;
    if let Some(key) = after {
        stmt.raw_bind_parameter(3, SqlKey(key))?;
    }
    let (mut rows, mut keys) = (stmt.raw_query(), vec![]);
    while let Some(row) = rows.next()? {
        keys.push(RowKey::Tuple(row.get(0)?));
    }
    Ok(keys)
}

fn integers_after(
    conn: &Connection,
    container: i64,
    after: Option<&RowKey>,
    limit: usize,
) -> Result<Vec<RowKey>, StoreError> {
    let start = match after {
        Some(RowKey::Integer(i64::MAX)) => return Ok(vec![]),
        Some(RowKey::Integer(after)) => after + 1,
        _ => i64::MIN,
    };
    let from = Run::before(conn, container, start)?.map_or(start, |run| run.first);
    let sql = "SELECT key, at, count FROM piecewise_runs WHERE container = ? AND key >= ? ORDER BY key";
    let mut stmt = conn.prepare_cached(sql)?;
    let (mut rows, mut keys) = (stmt.query([container, from])?, vec![]);
    while let Some(row) = rows.next()? {
        let run = Run::read(row)?;
        let run = run.first.max(start)..=run.last();
        keys.extend(run.take(limit - keys.len()).map(RowKey::Integer));
        if keys.len() == limit {
            break;
        }
    }
    Ok(keys)
}

/// Keeps the hashes of a segment's changes, in their order.
pub(crate) fn put_hashes(conn: &Connection, segment: i64, hashes: &[u8]) -> Result<(), StoreError> {
    conn.prepare_cached("INSERT INTO piecewise_hashes VALUES (?, ?)")?.execute(params![segment, hashes])?;
    Ok(())
}

/// The hashes of a segment's changes, one after another; None if they are not kept.
pub(crate) fn hashes(conn: &Connection, segment: i64) -> Result<Option<Arc<[u8]>>, StoreError> {
    let mut stmt = conn.prepare_cached("SELECT hashes FROM piecewise_hashes WHERE segment = ?")?;
    Ok(stmt.query_row([segment], |row| Ok(Arc::from(row.get_ref(0)?.as_blob()?))).optional()?)
}

/// Notes whether a row's changes are in conflict.
pub(crate) fn note_conflict(
    conn: &Connection,
    container: i64,
    key: &RowKey,
    conflict: bool,
) -> Result<(), StoreError> {
    let sql = match conflict {
        true => "INSERT OR IGNORE INTO piecewise_conflicts VALUES (?, ?)",
        false => "DELETE FROM piecewise_conflicts WHERE container = ? AND key = ?",
    };
    conn.prepare_cached(sql)?.execute(params![container, key_bytes(key)])?;
    Ok(())
}

/// Whether a row's changes were in conflict when it was looked at last.
pub(crate) fn in_conflict(conn: &Connection, container: i64, key: &RowKey) -> Result<bool, StoreError> {
    let sql = "SELECT 1 FROM piecewise_conflicts WHERE container = ? AND key = ?";
    Ok(conn.prepare_cached(sql)?.exists(params![container, key_bytes(key)])?)
}

/// Whether changes of any row were in conflict.
pub(crate) fn any_conflict(conn: &Connection, container: i64) -> Result<bool, StoreError> {
    let sql = "SELECT 1 FROM piecewise_conflicts WHERE container = ?";
    Ok(conn.prepare_cached(sql)?.exists([container])?)
}

/// Keys of rows whose changes are in conflict, in key order.
pub(crate) fn keys_in_conflict(
    conn: &Connection,
    container: i64,
    integer_keys: bool,
) -> Result<Vec<RowKey>, StoreError> {
    let mut stmt = conn.prepare_cached("SELECT key FROM piecewise_conflicts WHERE container = ?")?;
    let keys = stmt.query_map([container], |row| row.get::<_, Vec<u8>>(0))?;
    let keys: Result<Vec<_>, _> = keys.map(|key| key_from_bytes(&key?, integer_keys)).collect();
    keys.map(|mut keys| {
        keys.sort();
        keys
    })
}

/// How many rows of all containers have changes in conflict.
pub(crate) fn count_in_conflict(conn: &Connection) -> Result<u64, StoreError> {
    let mut stmt = conn.prepare_cached("SELECT count(*) FROM piecewise_conflicts")?;
    Ok(stmt.query_row([], |row| row.get::<_, i64>(0))? as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    /// With rows of other containers beside those that are looked at.
    fn store() -> Connection {
        let conn = Connection::open_in_memory().unwrap();
        super::super::layout::create(&conn).unwrap();
        for other in [0, 2] {
            for key in [RowKey::Integer(i64::MIN), RowKey::Integer(12), RowKey::Tuple(vec![1, 2])] {
                add(&conn, other, &key, At::new(9, 9)).unwrap();
            }
        }
        conn
    }

    fn note(conn: &Connection, segment: i64, keys: impl IntoIterator<Item = i64>) -> Vec<(i64, At)> {
        let mut lines = Lines::new(conn, 1);
        let mut noted = vec![];
        for (n, key) in keys.into_iter().enumerate() {
            let at = At::new(segment, n);
            let known = lines.knows(&KeyRef::Integer(key)).unwrap();
            assert_eq!(lines.note(&KeyRef::Integer(key), at).unwrap(), !known, "{key}");
            if !known {
                noted.push((key, at));
            }
        }
        lines.finish().unwrap();
        noted
    }

    fn check(conn: &Connection, expected: &BTreeMap<i64, At>) {
        for key in -1..40 {
            assert_eq!(find(conn, 1, &RowKey::Integer(key)).unwrap(), expected.get(&key).copied(), "{key}");
        }
        let (mut listed, mut after) = (vec![], None);
        loop {
            let keys = keys_after(conn, 1, true, after.as_ref(), 3).unwrap();
            let Some(last) = keys.last() else { break };
            after = Some(last.clone());
            listed.extend(keys);
        }
        assert_eq!(listed, expected.keys().map(|key| RowKey::Integer(*key)).collect::<Vec<_>>());
    }

    #[test]
    fn each_row_of_a_shared_line_is_found_listed_and_removed_by_itself() {
        let conn = store();
        let mut expected: BTreeMap<i64, At> = BTreeMap::new();
        expected.extend(note(&conn, 1, 10..20));
        expected.extend(note(&conn, 2, (0..40).step_by(3)));
        expected.extend(note(&conn, 3, 5..25));
        expected.extend(note(&conn, 4, [i64::MIN, i64::MAX - 1, i64::MAX]));
        check(&conn, &expected);
        for key in [14, 10, 19, 12, 12, 0, i64::MAX] {
            if let Some(at) = expected.remove(&key) {
                remove(&conn, 1, &RowKey::Integer(key), at).unwrap();
            }
            check(&conn, &expected);
        }
    }

    #[test]
    fn the_second_change_of_a_row_takes_the_place_of_the_first() {
        for key in [RowKey::Integer(7), RowKey::Tuple(vec![1, 2])] {
            let conn = store();
            let places = [At::new(1, 0), At::new(2, 5), At::new(3, 1)];
            places.iter().for_each(|at| add(&conn, 1, &key, *at).unwrap());
            assert_eq!(changes(&conn, 1, &key).unwrap(), places);
            remove(&conn, 1, &key, places[0]).unwrap();
            assert_eq!(changes(&conn, 1, &key).unwrap(), places[1..]);
            remove(&conn, 1, &key, places[2]).unwrap();
            remove(&conn, 1, &key, places[1]).unwrap();
            assert_eq!(changes(&conn, 1, &key).unwrap(), []);
        }
    }

    #[test]
    fn rows_are_found_in_any_order_and_those_with_more_changes_are_told_apart() {
        let conn = store();
        let mut expected: BTreeMap<i64, At> = BTreeMap::new();
        expected.extend(note(&conn, 1, 10..20));
        expected.extend(note(&conn, 2, (0..40).step_by(3)));
        expected.extend(note(&conn, 3, [i64::MIN, -7, -1, i64::MAX]));
        let changed = [i64::MIN, -7, 0, 12, 13, 39, i64::MAX];
        changed.iter().for_each(|key| add(&conn, 1, &RowKey::Integer(*key), At::new(5, 1)).unwrap());
        let keys = [i64::MIN, -8, -7, -2, -1].into_iter().chain(0..41).chain([i64::MAX - 1, i64::MAX]);
        let (mut finder, mut rows) = (Finder::new(&conn, 1), ChangedRows::new(&conn, 1));
        for key in keys.clone().chain(keys.rev()) {
            let at = finder.find(&KeyRef::Integer(key)).unwrap();
            assert_eq!(at, expected.get(&key).copied(), "{key}");
            assert_eq!(rows.contains(&KeyRef::Integer(key)).unwrap(), changed.contains(&key), "{key}");
        }
    }

    #[test]
    fn all_changes_of_a_description_are_kept() {
        let conn = store();
        let places = [At::new(1, 0), At::new(9, 0)];
        places.iter().for_each(|at| add(&conn, 1, &RowKey::Description, *at).unwrap());
        assert_eq!(changes(&conn, 1, &RowKey::Description).unwrap(), places);
    }
}
