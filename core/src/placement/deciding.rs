//! Deciding: what a person does about a held row: have it show, edit it, or give it up. Each is a change like any other, so
//! all replicas follow it.

use super::Candidate;
use crate::change::{Change, Merge};
use crate::id::Timestamp;
use crate::key::RowKey;
use crate::replica::{Replica, ReplicaError};
use crate::row;
use crate::store::holds::{self, HoldKind};
use crate::store::user_table::UserTable;
use crate::value::Value;
use std::sync::Arc;

impl Replica {
    /// Has a row show that is held because another has its UNIQUE value; the others are held then. Returns their keys.
    ///
    /// The others write their values again, so that the claim of this row is the older one.
    pub fn choose_held(
        &mut self,
        now: Timestamp,
        table: &str,
        key: &str,
    ) -> Result<Vec<String>, ReplicaError> {
        let (held, kind) = self.held_row(now, table, key)?;
        if kind != HoldKind::Unique {
            return Err(ReplicaError::Invalid {
                what: "no other row keeps it out of the table; `held` says what does".into(),
            });
        }
        let user = held.user.clone();
        let mut changes: Vec<(RowKey, Change)> = vec![];
        for (rival, columns) in self.rivals(&held)? {
            let view = self.history.view(&self.conn, held.no, &rival)?;
            let Some(values) = row::shown(&view, &user) else { continue };
            let again = |(n, column): (usize, &crate::store::user_table::DocumentColumn)| {
                columns
                    .iter()
                    .flatten()
                    .any(|index| *index == column.index)
                    .then(|| (column.key.clone(), Merge::Register, values[n].clone()))
            };
            let again: Vec<_> = user.columns.iter().enumerate().filter_map(again).collect();
            if again.is_empty() {
                return Err(ReplicaError::Invalid {
                    what: "what both rows have is part of their keys".into(),
                });
            }
            changes.push((rival, view.edit(&again)));
        }
        let losers = changes.iter().map(|(key, _)| user.key_text(key)).collect();
        self.decide(now, held.no, changes, held.key, true)?;
        Ok(losers)
    }

    /// Gives columns of a held row other values, so that the table may show it; whether it does then.
    pub fn edit_held(
        &mut self,
        now: Timestamp,
        table: &str,
        key: &str,
        columns: &[(String, String)],
    ) -> Result<bool, ReplicaError> {
        let (held, _) = self.held_row(now, table, key)?;
        let mut edited = vec![];
        for (name, text) in columns {
            let column = held
                .user
                .columns
                .iter()
                .find(|c| held.user.table.columns[c.index].name.eq_ignore_ascii_case(name));
            let Some(column) = column else {
                return Err(ReplicaError::NotFound {
                    what: format!("column {name} that can be edited in {table}"),
                });
            };
            edited.push((column.key.clone(), column.merge, held.user.parse_column(column.index, text)));
        }
        let change = held.view.edit(&edited);
        self.decide(now, held.no, vec![(held.key.clone(), change)], held.key.clone(), false)?;
        Ok(holds::find(&self.conn, held.no, &held.key)?.is_none())
    }

    /// Deletes a held row, everywhere.
    pub fn discard_held(&mut self, now: Timestamp, table: &str, key: &str) -> Result<(), ReplicaError> {
        let (held, _) = self.held_row(now, table, key)?;
        let change = held.view.delete();
        self.decide(now, held.no, vec![(held.key.clone(), change)], held.key, false)
    }

    fn held_row(
        &mut self,
        now: Timestamp,
        table: &str,
        key: &str,
    ) -> Result<(Candidate, HoldKind), ReplicaError> {
        while self.capture(now)?.more {}
        let no = self.number(table)?;
        let missing = || ReplicaError::NotFound { what: format!("held row {key} of {table}") };
        let user: Arc<UserTable> = self.user_table(no)?.ok_or_else(missing)?;
        if self.containers[&no].is_read_only() {
            return Err(ReplicaError::Invalid { what: format!("table {table} is read-only on this device") });
        }
        let key = user.parse_key(key).map_err(|what| ReplicaError::Invalid { what })?;
        let kind = holds::find(&self.conn, no, &key)?.ok_or_else(missing)?;
        let view = self.history.view(&self.conn, no, &key)?;
        let wanted = row::shown(&view, &user).ok_or_else(missing)?;
        Ok((Candidate { no, key, user, view, wanted }, kind))
    }

    /// Writes changes and looks at their rows and that of `key` again. `must_show`: nothing is done if that one is held all the same.
    fn decide(
        &mut self,
        now: Timestamp,
        no: i64,
        changes: Vec<(RowKey, Change)>,
        key: RowKey,
        must_show: bool,
    ) -> Result<(), ReplicaError> {
        let time = self.corrected(now);
        self.transaction_again(|r| {
            let mut rows = vec![];
            for (key, change) in &changes {
                r.write_change(no, key, change, time)?;
                rows.push((no, key.clone()));
            }
            rows.push((no, key.clone()));
            r.settle_quietly(rows)?;
            // It may refer to a row that gives way to it.
            if must_show && holds::find(&r.conn, no, &key)?.is_some() {
                let what = "it would be held all the same, such as by a reference to the row that gives way";
                return Err(ReplicaError::Invalid { what: what.into() });
            }
            Ok(())
        })
    }
}

impl UserTable {
    /// A value for a column as a person writes it; `NULL` is none.
    fn parse_column(&self, index: usize, text: &str) -> Value {
        if text.eq_ignore_ascii_case("NULL") { Value::Null } else { self.parse_value(index, text) }
    }
}
