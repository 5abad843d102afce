//! Look: rows and documents side by side, in one read transaction and without the write lock.
//!
//! Documents are gone through by the segments that hold their first changes, in the feed's order: a segment is opened once, and
//! its plain inserts are compared where they stand, while the table's rows with neighbouring keys are read in a row. Documents
//! with more changes are evaluated by all of them, see `replay`.

use super::replay::Replay;
use super::{Looked, Stage};
use crate::capture::decode_values;
use crate::frame::{KeyRef, Template};
use crate::id::Seq;
use crate::key::RowKey;
use crate::replica::{Replica, ReplicaError};
use crate::row::is_same;
use crate::store::documents::{self, At, ChangedRows, Finder};
use crate::store::user_table::{RowValues, UserTable, value};
use crate::store::{StoreError, holds, log, segments};
use crate::table::Affinity;
use crate::value::ValueRef;
use rusqlite::{Connection, Row};
use std::collections::HashSet;

/// Keys that lie further apart are looked up one by one instead of reading the rows between them.
const GAP_MAX: i64 = 8;

/// A document whose first change is in a segment.
struct First<'a> {
    key: KeyRef<'a>,
    template: usize,
    /// Where the values of its plain insert begin; None: it is another change.
    values: Option<usize>,
    /// Whether it has more changes.
    more: bool,
}

impl Replica {
    /// Compares the next rows: those that differ, and where to go on.
    pub(super) fn look(
        &mut self,
        no: i64,
        stage: Stage,
        place: Option<&[u8]>,
        rows: usize,
    ) -> Result<Looked, ReplicaError> {
        let Some(user) = self.user_table(no)? else { return Ok(Looked::default()) };
        self.conn.execute_batch("BEGIN")?;
        let looked = match stage {
            Stage::Documents => self.look_at_documents(no, &user, place, rows),
            Stage::Rows => self.look_at_rows(no, &user, place, rows),
            Stage::Refused => self.look_at_refused(no, &user),
            Stage::Held => Ok(Looked::default()),
        };
        let looked = looked.and_then(|looked| self.without_explained(no, &user, looked));
        self.conn.execute_batch("COMMIT")?;
        looked
    }

    fn look_at_documents(
        &mut self,
        no: i64,
        user: &UserTable,
        place: Option<&[u8]>,
        rows: usize,
    ) -> Result<Looked, ReplicaError> {
        let place = place.and_then(|p| p.try_into().ok()).map_or(Seq(0), |p| Seq(u64::from_be_bytes(p)));
        let under_way = self.scrubbing.replay.take().filter(|replay| replay.is_of(no));
        let mut replay = under_way.unwrap_or_else(|| Replay::from(no, place));
        let looked = self.go_on(&mut replay, user, rows as u64)?;
        self.scrubbing.replay = looked.place.is_some().then_some(replay);
        Ok(looked)
    }

    /// Compares the documents whose first change is in a segment, if that is all of them; gives the others to `changed`.
    /// Returns how many there are.
    pub(super) fn look_at_segment(
        &self,
        no: i64,
        number: i64,
        user: &UserTable,
        suspects: &mut Vec<RowKey>,
        changed: &mut Vec<RowKey>,
    ) -> Result<u64, ReplicaError> {
        let segment = segments::open(&self.conn, number)?;
        let (mut firsts, mut values) = (vec![], vec![]);
        let mut reader = segment.changes().map_err(StoreError::from)?;
        let templates: Vec<_> = reader.templates().map(|t| Sources::new(t, user)).collect();
        let (mut finder, mut more) = (Finder::new(&self.conn, no), ChangedRows::new(&self.conn, no));
        while let Some(row) = reader.next_change().map_err(StoreError::from)? {
            if finder.find(&row.key)? == Some(At::new(number, row.index)) {
                let plain = row.template.is_plain_insert().then_some(values.len());
                values.extend(row.values);
                let (template, more) = (row.template_number, more.contains(&row.key)?);
                firsts.push(First { key: row.key, template, values: plain, more });
            }
        }
        drop((finder, more));
        let count = firsts.len() as u64 + 1;
        each_row(&self.conn, user, &firsts, |first, found, offset| {
            let sources = &templates[first.template];
            match first.values {
                Some(at) if !first.more => {
                    if !sources.are_shown(user, &values[at..], found, offset)? {
                        suspects.push(first.key.into());
                    }
                }
                _ => changed.push(first.key.into()),
            }
            Ok(())
        })?;
        Ok(count)
    }

    /// Rows of the table that no document knows.
    fn look_at_rows(
        &mut self,
        no: i64,
        user: &UserTable,
        place: Option<&[u8]>,
        rows: usize,
    ) -> Result<Looked, ReplicaError> {
        let after = place.map(|p| documents::key_from_bytes(p, user.has_integer_key())).transpose()?;
        let keys = log::keys_after(&self.conn, user, after.as_ref(), rows)?;
        let mut looked = Looked { rows: keys.len() as u64, work: keys.len() as u64, ..Looked::default() };
        if keys.len() == rows {
            looked.place = keys.last().map(documents::key_bytes);
        }
        let mut finder = Finder::new(&self.conn, no);
        for key in keys {
            if finder.find(&KeyRef::from(&key))?.is_none() {
                looked.suspects.push(key);
            }
        }
        Ok(looked)
    }

    /// Refused rows that are not as they were when they were refused.
    fn look_at_refused(&mut self, no: i64, user: &UserTable) -> Result<Looked, ReplicaError> {
        let mut looked = Looked::default();
        if holds::count_refused(&self.conn, no)? == 0 {
            return Ok(looked);
        }
        for refused in holds::refused(&self.conn, no, user.has_integer_key())? {
            looked.rows += 1;
            looked.work += 1;
            let shown = refused.shown.map(|bytes| decode_values(&bytes, user)).transpose()?;
            if !is_same(shown.as_ref(), user.read(&self.conn, &refused.key)?.as_ref()) {
                looked.suspects.push(refused.key);
            }
        }
        Ok(looked)
    }

    /// Leaves out rows whose difference has a reason: they wait in the log, or are held or refused as they should be.
    fn without_explained(
        &self,
        no: i64,
        user: &UserTable,
        mut looked: Looked,
    ) -> Result<Looked, ReplicaError> {
        if looked.suspects.is_empty() {
            return Ok(looked);
        }
        let mut written = HashSet::new();
        for entry in log::of(&self.conn, no, 0)? {
            written.extend(entry.keys(&user.table));
        }
        let mut suspects = vec![];
        for key in std::mem::take(&mut looked.suspects) {
            if !written.contains(&key) && !self.is_explained(no, user, &key)? {
                suspects.push(key);
            }
        }
        looked.suspects = suspects;
        Ok(looked)
    }

    fn is_explained(&self, no: i64, user: &UserTable, key: &RowKey) -> Result<bool, ReplicaError> {
        if let Some(shown) = holds::refused_row(&self.conn, no, key)? {
            let shown = shown.map(|bytes| decode_values(&bytes, user)).transpose()?;
            return Ok(is_same(shown.as_ref(), user.read(&self.conn, key)?.as_ref()));
        }
        Ok(holds::find(&self.conn, no, key)?.is_some() && user.read(&self.conn, key)?.is_none())
    }
}

/// How the operations of a template fill the document columns.
struct Sources {
    sources: Vec<Option<usize>>,
}

impl Sources {
    fn new(template: &Template, user: &UserTable) -> Self {
        let place = |key: &str| template.ops.iter().position(|(name, _)| name == key);
        Self { sources: user.columns.iter().map(|c| place(&c.key)).collect() }
    }

    /// Whether a row of the table shows these values.
    fn are_shown(
        &self,
        user: &UserTable,
        values: &[ValueRef<'_>],
        row: Option<&Row<'_>>,
        offset: usize,
    ) -> Result<bool, StoreError> {
        let Some(row) = row else { return Ok(false) };
        for (n, source) in self.sources.iter().enumerate() {
            let shown = value(row.get_ref(offset + n)?);
            let wanted = source.map_or(user.columns[n].absent.as_ref(), |op| values[op]);
            if !shown.same(wanted) && !is_stored_as(user, n, wanted, shown) {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// Gives each document's row in the table to `take`, or None, with the place of its first document column. Rows whose
/// integer keys are neighbours are read by one query.
fn each_row(
    conn: &Connection,
    user: &UserTable,
    documents: &[First<'_>],
    mut take: impl FnMut(&First<'_>, Option<&Row<'_>>, usize) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    if !user.has_integer_key() {
        let mut stmt = user.select(conn)?;
        for document in documents {
            user.bind_key(&mut stmt, 1, &document.key.into())?;
            take(document, stmt.raw_query().next()?, 0)?;
        }
        return Ok(());
    }
    let mut stmt = user.select_from(conn)?;
    let integer = |document: &First<'_>| match document.key {
        KeyRef::Integer(key) => key,
        _ => i64::MIN, // no key of this table: it finds no row
    };
    let near = |a: &First<'_>, b: &First<'_>| integer(b).saturating_sub(integer(a)) <= GAP_MAX;
    for neighbours in documents.chunk_by(near) {
        stmt.raw_bind_parameter(1, integer(&neighbours[0]))?;
        let mut rows = stmt.raw_query();
        let mut row = rows.next()?;
        for document in neighbours {
            let wanted = integer(document);
            while let Some(before) = row
                && before.get::<_, i64>(0)? < wanted
            {
                row = rows.next()?;
            }
            let found = match row {
                Some(found) if found.get::<_, i64>(0)? == wanted => Some(found),
                _ => None,
            };
            take(document, found, 1)?;
        }
    }
    Ok(())
}

/// Whether a value that documents have is stored as another by the affinity of its column here.
fn is_stored_as(user: &UserTable, n: usize, wanted: ValueRef<'_>, shown: ValueRef<'_>) -> bool {
    let affinity = user.table.columns[user.columns[n].index].affinity();
    let number = |text: &str| text.trim().parse::<f64>().ok();
    match (affinity, wanted, shown) {
        (Affinity::Blob, ..) => false,
        (Affinity::Text, ValueRef::Integer(i), ValueRef::Text(text)) => text == i.to_string(),
        (Affinity::Text, ValueRef::Real(f), ValueRef::Text(text)) => number(text) == Some(f),
        (Affinity::Text, ..) => false,
        (_, ValueRef::Integer(a), ValueRef::Real(b)) => a as f64 == b,
        (_, ValueRef::Real(a), ValueRef::Integer(b)) => a == b as f64,
        (_, ValueRef::Real(a), ValueRef::Real(b)) => a == b,
        (_, ValueRef::Text(text), ValueRef::Integer(i)) => {
            text.trim().parse() == Ok(i) || number(text) == Some(i as f64)
        }
        (_, ValueRef::Text(text), ValueRef::Real(f)) => number(text) == Some(f),
        _ => false,
    }
}

/// Whether a table that is to show `wanted` shows it.
pub(super) fn is_shown(user: &UserTable, wanted: Option<&RowValues>, now: Option<&RowValues>) -> bool {
    match (wanted, now) {
        (None, None) => true,
        (Some(wanted), Some(now)) => wanted.iter().zip(now).enumerate().all(|(n, (wanted, now))| {
            now.as_ref().same(wanted.as_ref()) || is_stored_as(user, n, wanted.as_ref(), now.as_ref())
        }),
        _ => false,
    }
}
