//! Others: tables of the file that are not tracked follow as well. All of their rows were written here.
//!
//! A table that does not let its references change stops the move, whether it says so or a trigger undoes the change.

use super::following::{Changed, Columns, Pairs, tuple};
use super::{Own, Plan};
use crate::replica::{Replica, ReplicaError, StopKind};
use crate::store::StoreError;
use crate::store::holds::{self, HoldKind};
use crate::store::other_tables::{self, OtherRow, OtherTable};
use crate::store::user_table::UserTable;
use rusqlite::ffi;
use std::collections::{BTreeMap, BTreeSet};

/// What changes in a table that is not tracked.
#[derive(Debug)]
pub(super) struct Other {
    table: OtherTable,
    /// The container whose rows move.
    root: i64,
    /// The rows by what tells them apart.
    rows: BTreeMap<Vec<u8>, OtherRow>,
}

impl Replica {
    /// The tables that are not tracked and refer to others.
    pub(in crate::numbers) fn other_tables(&self) -> Result<Vec<OtherTable>, ReplicaError> {
        Ok(other_tables::referring(&self.conn, self.kinds()?, |table| self.is_tracked(table))?)
    }

    /// Has references of tables that are not tracked follow to rows that change.
    pub(super) fn follow_in_others(
        &mut self,
        user: &UserTable,
        changed: &Changed,
        columns: &BTreeSet<usize>,
        own: &Own,
        plan: &mut Plan,
    ) -> Result<(), ReplicaError> {
        let others = match &mut plan.others {
            Some(others) => others,
            None => {
                let other = |table| Other { table, root: changed.root, rows: BTreeMap::new() };
                plan.others.insert(self.other_tables()?.into_iter().map(other).collect())
            }
        };
        for Other { table, root, rows } in others {
            let foreign = table.references.iter();
            let foreign = foreign.filter(|f| f.parent_table.eq_ignore_ascii_case(&user.table.name));
            for pairs in foreign.filter_map(|foreign| Pairs::of(foreign, user)) {
                if !pairs.name_any(columns) {
                    continue;
                }
                let named = self.named_rows(user, changed, &pairs, own)?;
                table.each_row(&self.conn, &pairs.columns(), |OtherRow { identity, values: here }| {
                    let follows: Columns = pairs.follow(&named, &user.table.columns, &table.columns, &here);
                    let Some(told) = tuple(&identity).filter(|_| !follows.is_empty()) else { return };
                    *root = changed.root;
                    let row = rows.entry(told).or_insert(OtherRow { identity, values: Columns::new() });
                    for (n, value) in follows {
                        row.values.entry(n).or_insert(value);
                    }
                })?;
            }
        }
        Ok(())
    }

    /// Changes the rows, with the application's triggers on, and looks at what stands there then.
    pub(super) fn change_others(&mut self, others: &[Other]) -> Result<(), ReplicaError> {
        if others.iter().all(|other| other.rows.is_empty()) {
            return Ok(());
        }
        self.set_triggers(true)?;
        for Other { table, root, rows } in others {
            // From the last on, since numbers mostly become greater.
            for row in rows.values().rev() {
                if let Err(error) = table.update(&self.conn, row) {
                    let column = row.values.keys().next().copied().unwrap_or_default();
                    return Err(self.cannot_follow(*root, &table.name, &table.columns[column].name, error));
                }
            }
        }
        for Other { table, root, rows } in others {
            for row in rows.values() {
                if let Some(column) = table.differs(&self.conn, row)? {
                    let column = &table.columns[column].name;
                    return Err(self.cannot_follow(*root, &table.name, column, undone()));
                }
            }
        }
        self.settle_children_of(others)
    }

    /// Looks again at rows of tracked tables that refer to such a table: their parents may be there now, or no longer.
    fn settle_children_of(&mut self, others: &[Other]) -> Result<(), ReplicaError> {
        let mut found = vec![];
        for other in others.iter().filter(|other| !other.rows.is_empty()) {
            for (no, child, foreign) in self.references_to(&other.table.name)? {
                let held = holds::of_kind(
                    &self.conn,
                    no,
                    HoldKind::Foreign,
                    child.has_integer_key(),
                    None,
                    usize::MAX >> 1,
                )?;
                let keys = self.orphans_of(&child, &foreign)?.into_iter().chain(held);
                found.extend(keys.map(|key| (no, key)));
            }
        }
        if found.is_empty() { Ok(()) } else { self.settle_quietly(found) }
    }

    /// A table does not let its references change, so rows of `no` cannot move.
    pub(super) fn cannot_follow(
        &self,
        no: i64,
        child: &str,
        column: &str,
        source: StoreError,
    ) -> ReplicaError {
        if source.is_of_file() {
            return source.into();
        }
        let table = self.containers[&no].table.clone();
        let why = format!(
            "rows whose numbers other rows have at the server cannot get others, since {child}.{column} refers to them \
             and does not let itself be changed"
        );
        ReplicaError::Table { no, table, kind: StopKind::NotSynced, why, source: Box::new(source) }
    }
}

/// The error for a change that SQLite made and that does not stand.
fn undone() -> StoreError {
    let what = "it has another value after it was set: a trigger or a generated column";
    rusqlite::Error::SqliteFailure(ffi::Error::new(ffi::SQLITE_CONSTRAINT_TRIGGER), Some(what.into())).into()
}
