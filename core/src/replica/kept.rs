//! Kept: which foreign keys the application keeps.
//!
//! SQLite enforces a foreign key only where a program asks it to. A table that has rows whose parents do not exist when it
//! is tracked shows that its application does not keep that key: the description says so, and no replica keeps it.

use super::{Replica, ReplicaError};
use crate::description::Description;
use crate::key::RowKey;
use crate::store::StoreError;
use crate::store::holds::{self, HoldKind};
use crate::store::schema::{NoteKind, TrackNote};
use rusqlite::Connection;
use std::collections::{BTreeMap, BTreeSet};

/// Foreign keys that are not kept, by container: their columns as documents name them, joined by U+001F.
pub(super) type Unkept = BTreeMap<i64, BTreeSet<String>>;

/// Reads those of all containers.
pub(super) fn read(conn: &Connection) -> Result<Unkept, StoreError> {
    let mut stmt = conn.prepare_cached("SELECT container, columns FROM piecewise_unkept")?;
    let mut rows = stmt.query([])?;
    let mut unkept = Unkept::new();
    while let Some(row) = rows.next()? {
        unkept.entry(row.get(0)?).or_default().insert(row.get(1)?);
    }
    Ok(unkept)
}

impl Replica {
    pub(super) fn unkept_of(&self, no: i64) -> &BTreeSet<String> {
        const NONE: &BTreeSet<String> = &BTreeSet::new();
        self.unkept.get(&no).unwrap_or(NONE)
    }

    /// Notes foreign keys that are not kept; whether any is new. The table is to be read again then.
    fn add_unkept(&mut self, no: i64, columns: impl Iterator<Item = String>) -> Result<bool, ReplicaError> {
        let mut any = false;
        for columns in columns {
            let mut stmt =
                self.conn.prepare_cached("INSERT OR IGNORE INTO piecewise_unkept VALUES (?, ?)")?;
            if stmt.execute((no, &columns))? > 0 {
                self.unkept.entry(no).or_default().insert(columns);
                any = true;
            }
        }
        Ok(any)
    }

    /// Takes from a description which foreign keys are not kept. Returns the rows to be looked at again.
    pub(super) fn take_unkept(
        &mut self,
        no: i64,
        description: &Description,
    ) -> Result<Vec<(i64, RowKey)>, ReplicaError> {
        if !self.add_unkept(no, description.unkept().iter().cloned())? {
            return Ok(vec![]);
        }
        self.read_user_table(no)?;
        let integer_keys = self.containers[&no].integer_keys;
        let held = holds::of_kind(&self.conn, no, HoldKind::Foreign, integer_keys, None, usize::MAX >> 1)?;
        Ok(held.into_iter().map(|key| (no, key)).collect())
    }

    /// Finds the foreign keys of a table for which it has rows without parents. Returns what to say of them. Call it in a
    /// transaction, once the table is known.
    pub(super) fn find_unkept(&mut self, no: i64) -> Result<Vec<TrackNote>, ReplicaError> {
        let Some(user) = self.user_table(no)? else { return Ok(vec![]) };
        if user.table.foreign_keys.is_empty() {
            return Ok(vec![]);
        }
        let (mut unkept, mut words) = (vec![], vec![]);
        for foreign in &user.table.foreign_keys {
            let orphans = self.orphans_of(&user, foreign)?.len();
            if orphans == 0 {
                continue;
            }
            let names: Vec<_> =
                foreign.columns.iter().map(|n| user.table.columns[*n].name.as_str()).collect();
            let rows = if orphans == 1 { "1 row".to_owned() } else { format!("{orphans} rows") };
            let refer = if orphans == 1 { "refers" } else { "refer" };
            let text = format!(
                "{rows} of {} {refer} to rows of {} that do not exist: this application does not keep the foreign key ({}), so no device does",
                user.table.name,
                foreign.parent_table,
                names.join(", ")
            );
            words.push(TrackNote { kind: NoteKind::Orphans, text });
            unkept.push(names.join("\u{1f}"));
        }
        if self.add_unkept(no, unkept.into_iter())? {
            self.read_user_table(no)?;
        }
        Ok(words)
    }
}
