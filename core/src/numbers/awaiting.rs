//! Awaiting: rows of others that refer to a number which a row written here has, until it is decided about that one.
//!
//! What such a reference means is at the server; in the table the row from here still has the number. So the row that refers to it
//! is held until the one from here has moved: else it would show under the wrong parent, whose application might edit or delete
//! it as its own.

use super::moving::Pairs;
use super::taking_along::names;
use crate::id::Actor;
use crate::key::RowKey;
use crate::placement::Candidate;
use crate::replica::{Replica, ReplicaError};
use crate::store::holds::{self, HoldKind};
use crate::store::user_table::UserTable;
use crate::store::{documents, segments};
use crate::table::ForeignKey;
use crate::value::Value;
use std::collections::BTreeSet;

impl Replica {
    /// Whether rows of a table may refer to numbers that are still to be decided about.
    pub(crate) fn awaits_numbers(&self, user: &UserTable) -> bool {
        !self.numbers.taken.is_empty() && self.undecided_parents(user).next().is_some()
    }

    /// The references of a table to others of whose rows some wait for their numbers, each with the container.
    fn undecided_parents<'r>(&'r self, user: &'r UserTable) -> impl Iterator<Item = (&'r ForeignKey, i64)> {
        let all = user.table.foreign_keys.iter().chain(&user.references);
        all.filter_map(|foreign| {
            let parent = self.containers.of_table(&foreign.parent_table)?.no;
            self.numbers.taken.contains(&parent).then_some((foreign, parent))
        })
    }

    /// Why a row has to wait until another one has moved, if it has.
    pub(crate) fn awaited_number(&mut self, candidate: &Candidate) -> Result<Option<String>, ReplicaError> {
        if self.numbers.taken.is_empty() {
            return Ok(None);
        }
        let Candidate { no, key, user, view, wanted } = candidate;
        let parents: Vec<_> =
            self.undecided_parents(user).map(|(foreign, no)| (foreign.clone(), no)).collect();
        for (foreign, parent_no) in parents {
            let Some(parent) = self.user_table(parent_no)? else { continue };
            let Some(pairs) = Pairs::of(&foreign, &parent) else { continue };
            let key_values = user.key_values(key)?;
            let named = parent.key_columns().into_iter().map(|n| {
                let (column, _) = pairs.telling.iter().find(|(_, named)| *named == n)?;
                Some(names(&parent.table.columns[n], &user.value_at(*column, &key_values, wanted)))
            });
            let Some(named) = named.collect::<Option<Vec<_>>>() else { continue };
            let named: Vec<_> = named.iter().map(Value::as_ref).collect();
            let Ok(named) = parent.table.row_key(&named) else { continue };
            if !self.is_number_taken(parent_no, &named)? {
                continue;
            }
            let (Some(cells), Some(incarnation)) = (view.shown(), view.incarnation()) else { continue };
            let writer = |column: &usize| {
                let column = user.columns.iter().find(|c| c.index == *column);
                column.and_then(|c| cells.get(c.key.as_str())).map_or(incarnation, |cell| cell.id.actor)
            };
            let writers: BTreeSet<Actor> = pairs.telling.iter().map(|(column, _)| writer(column)).collect();
            if self.any_from_elsewhere(*no, key, &writers)? {
                let (table, text) = (&parent.table.name, parent.key_text(&named));
                return Ok(Some(format!(
                    "it refers to row {text} of {table}, whose number a row of this device has until the next sync is done"
                )));
            }
        }
        Ok(None)
    }

    /// Whether one of these changes of a row was not written here.
    fn any_from_elsewhere(
        &self,
        no: i64,
        key: &RowKey,
        writers: &BTreeSet<Actor>,
    ) -> Result<bool, ReplicaError> {
        for at in documents::changes(&self.conn, no, key)? {
            let segment = at.segment();
            if segments::actor_of(&self.conn, segment)?.is_some_and(|actor| writers.contains(&actor))
                && !segments::is_own(&self.conn, segment)?
            {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Rows that were held since they refer to rows of this table.
    pub(super) fn rows_awaiting(&self, no: i64) -> Result<Vec<(i64, RowKey)>, ReplicaError> {
        let mut found = vec![];
        for child in self.containers.children_of(&self.containers[&no].table) {
            let integer_keys = self.containers[&child].integer_keys;
            let held =
                holds::of_kind(&self.conn, child, HoldKind::Number, integer_keys, None, usize::MAX >> 1)?;
            found.extend(held.into_iter().map(|key| (child, key)));
        }
        Ok(found)
    }
}
