//! Captured again: a file that was restored with a log of writes that was not captured gives rows a second time.
//!
//! Their segments are others, so nothing in documents names them. A row is known again by its author, by the time at which it was
//! written and by its values; those of references may have followed rows that moved meanwhile.

use super::moving::Own;
use super::origin::MOVED;
use crate::change::{Action, OWN};
use crate::document::Document;
use crate::id::ChangeHash;
use crate::key::RowKey;
use crate::replica::{Replica, ReplicaError};
use crate::store::user_table::UserTable;
use crate::store::{documents, numbers};
use std::collections::{BTreeMap, BTreeSet, HashSet};

/// Between the times of two segments that captured one write.
const CAPTURED_WITHIN_MS: u64 = 60_000;

/// A row as this device inserted it.
struct Inserted {
    time: u64,
    values: BTreeMap<String, Action>,
    /// Whether it was written anew after it was captured.
    is_anew: bool,
}

impl Inserted {
    /// Whether a row that came is this one.
    fn is(&self, other: &Self, references: &BTreeSet<&str>) -> bool {
        let counts = |key: &&String| !(other.is_anew && references.contains(key.as_str()));
        self.time.abs_diff(other.time) <= CAPTURED_WITHIN_MS
            && self.values.keys().eq(other.values.keys())
            && self.values.keys().filter(counts).all(|key| self.values[key] == other.values[key])
    }
}

impl Replica {
    /// Where a row is at the server that was captured here again; None: it was not. A row that was known here when this one was
    /// written is another.
    pub(super) fn captured_before(
        &mut self,
        no: i64,
        user: &UserTable,
        key: &RowKey,
        document: &Document,
        own: &Own,
    ) -> Result<Option<RowKey>, ReplicaError> {
        let known: HashSet<ChangeHash> = document.changes().map(|(hash, _, _)| *hash).collect();
        let mut here = vec![];
        self.each_insert(no, key, |_, segment, row| {
            here.extend(own.segments.contains(&segment).then_some(row));
        })?;
        let foreign = user.table.foreign_keys.iter().chain(&user.references).flat_map(|f| &f.columns);
        let foreign: BTreeSet<usize> = foreign.copied().collect();
        let references = user.columns.iter().filter(|c| foreign.contains(&c.index));
        let references: BTreeSet<&str> = references.map(|c| c.key.as_str()).collect();
        let moved = own.moved.get(key).into_iter().flatten();
        for place in std::iter::once(key).chain(moved) {
            let mut is_there = false;
            self.each_insert(no, place, |hash, segment, row| {
                let came = !own.segments.contains(&segment) && !known.contains(&hash);
                is_there |= came && here.iter().any(|own| own.is(&row, &references));
            })?;
            if is_there {
                return Ok(Some(place.clone()));
            }
        }
        Ok(None)
    }

    /// Goes through the inserts of a key that this device wrote, here or before the file was restored.
    fn each_insert(
        &mut self,
        no: i64,
        key: &RowKey,
        mut look: impl FnMut(ChangeHash, i64, Inserted),
    ) -> Result<(), ReplicaError> {
        for at in documents::changes(&self.conn, no, key)? {
            let decoded = self.history.segment(&self.conn, at.segment())?;
            let header = &decoded.segment.header;
            let Some(change) = decoded.change(at.index()).filter(|_| header.author == self.author()) else {
                continue;
            };
            if !matches!(change.ops.first(), Some(op) if op.action == Action::Live(OWN)) {
                continue;
            }
            let time = header.time.0;
            let mut values: BTreeMap<_, _> =
                change.ops.into_iter().skip(1).map(|op| (op.key, op.action)).collect();
            let is_anew = values.remove(MOVED).is_some();
            let hash = self.history.hash(&self.conn, at)?;
            look(hash, at.segment(), Inserted { time, values, is_anew });
        }
        Ok(())
    }
}

/// Where rows are that were written anew under other keys, by the keys under which they were written first.
pub(super) fn moved_rows(
    conn: &rusqlite::Connection,
    no: i64,
    integer_keys: bool,
) -> Result<BTreeMap<RowKey, Vec<RowKey>>, ReplicaError> {
    let mut found: BTreeMap<RowKey, Vec<RowKey>> = BTreeMap::new();
    for (old, new) in numbers::all_moves(conn, no, integer_keys)? {
        if old != new {
            found.entry(old).or_default().push(new);
        }
    }
    Ok(found)
}
