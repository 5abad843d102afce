//! Taking along: a row of a conflict that becomes a new one takes references with it.
//!
//! Those follow that the device wrote which inserted the row, after it did, and before it can have seen the other row: on that
//! device, before the other came; elsewhere, before both were accepted by the server. What it wrote later, and what others wrote,
//! means the row that shows.

use crate::change::Merge;
use crate::id::{Actor, PeerId, Timestamp};
use crate::key::RowKey;
use crate::replica::{Replica, ReplicaError};
use crate::row;
use crate::store::holds;
use crate::store::user_table::{Compared, UserTable};
use crate::store::{documents, segments};
use crate::table::{Collation, ForeignKey};
use crate::value::Value;
use std::sync::Arc;

/// Who wrote a change, and when.
#[derive(Debug, Clone, Copy)]
struct Writing {
    author: PeerId,
    time: Timestamp,
    /// When it was accepted, if that is known.
    accepted: Option<Timestamp>,
    /// The segment, by its place among all that came to this file.
    segment: i64,
}

/// The row that becomes new, and the one that shows.
struct Apart {
    own: Writing,
    other: Writing,
    is_here: bool,
}

impl Apart {
    /// Whether a reference means the row that becomes new.
    fn is_meant(&self, by: &Writing) -> bool {
        let seen = self.own.accepted.max(self.other.accepted);
        let before = match self.is_here {
            true => by.segment < self.other.segment,
            false => seen.is_none_or(|seen| by.time <= seen),
        };
        by.author == self.own.author && by.time >= self.own.time && before
    }
}

impl Replica {
    /// Changes references to a row that was inserted by `actor` under `old`, where they mean it, to `new`. Returns the rows to be
    /// settled, and how many references were changed. Call it in a transaction.
    pub(crate) fn take_along(
        &mut self,
        no: i64,
        (old, actor): (&RowKey, &Actor),
        new: &RowKey,
        time: Timestamp,
    ) -> Result<(Vec<(i64, RowKey)>, u64), ReplicaError> {
        let (mut rows, mut count) = (vec![], 0);
        let Some(shown) = self.history.view(&self.conn, no, old)?.incarnation() else { return Ok((rows, 0)) };
        let (own, other) = (self.writing(no, old, actor)?, self.writing(no, old, &shown)?);
        let (Some(own), Some(other)) = (own, other) else { return Ok((rows, 0)) };
        let apart = Apart { own, other, is_here: own.author == self.author() };
        let mut moved = vec![(no, old.clone(), new.clone())];
        while let Some((no, old, new)) = moved.pop() {
            let Some(user) = self.user_table(no)? else { continue };
            for (child_no, child, foreign) in self.key_references(&user)? {
                if self.containers[&child_no].is_read_only() {
                    continue;
                }
                let (from, to) = (named(&user, &foreign, &old)?, named(&user, &foreign, &new)?);
                for key in self.children_with(child_no, &child, &foreign, &from)? {
                    if !self.is_reference_meant(child_no, &child, &foreign, &key, &apart)? {
                        continue;
                    }
                    if let Some(new) = self.refer_to(child_no, &child, &foreign, &key, &to, time)? {
                        count += 1;
                        rows.push((child_no, key.clone()));
                        if new != key {
                            rows.push((child_no, new.clone()));
                            moved.push((child_no, key, new));
                        }
                    }
                }
            }
        }
        Ok((rows, count))
    }

    /// Who wrote the change of a row that has this actor.
    fn writing(&mut self, no: i64, key: &RowKey, actor: &Actor) -> Result<Option<Writing>, ReplicaError> {
        for at in documents::changes(&self.conn, no, key)? {
            let segment = at.segment();
            if segments::actor_of(&self.conn, segment)? != Some(*actor) {
                continue;
            }
            let header = self.history.segment(&self.conn, segment)?.segment.header;
            let accepted = segments::acceptance(&self.conn, no, segment)?.map(|(accepted, _)| accepted.time);
            return Ok(Some(Writing { author: header.author, time: header.time, accepted, segment }));
        }
        Ok(None)
    }

    /// The rows that refer to a key by a foreign key: those that the table shows, and held ones.
    fn children_with(
        &mut self,
        no: i64,
        child: &UserTable,
        foreign: &ForeignKey,
        values: &[Value],
    ) -> Result<Vec<RowKey>, ReplicaError> {
        let compared: Vec<_> = foreign
            .columns
            .iter()
            .zip(values)
            .map(|(index, value)| Compared {
                index: *index,
                collation: Collation::Binary,
                value: value.clone(),
            })
            .collect();
        let mut keys = child.keys_where(&self.conn, &compared)?;
        for (key, _) in holds::all(&self.conn, no, child.has_integer_key())? {
            let view = self.history.view(&self.conn, no, &key)?;
            let Some(shown) = row::shown(&view, child) else { continue };
            let key_values = child.key_values(&key)?;
            let refers = foreign.columns.iter().zip(values);
            if refers.into_iter().all(|(n, value)| child.value_at(*n, &key_values, &shown) == *value) {
                keys.push(key);
            }
        }
        Ok(keys)
    }

    fn is_reference_meant(
        &mut self,
        no: i64,
        child: &UserTable,
        foreign: &ForeignKey,
        key: &RowKey,
        apart: &Apart,
    ) -> Result<bool, ReplicaError> {
        let view = self.history.view(&self.conn, no, key)?;
        let (Some(cells), Some(incarnation)) = (view.shown(), view.incarnation()) else { return Ok(false) };
        for n in &foreign.columns {
            let column = child.columns.iter().find(|c| c.index == *n);
            let actor = match column {
                Some(column) => cells.get(column.key.as_str()).map(|cell| cell.id.actor),
                None => Some(incarnation),
            };
            let by = actor.map_or(Ok(None), |actor| self.writing(no, key, &actor))?;
            if !by.is_some_and(|by| apart.is_meant(&by)) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Writes a reference of a row; the key that the row has then. None: it cannot be changed.
    fn refer_to(
        &mut self,
        no: i64,
        child: &Arc<UserTable>,
        foreign: &ForeignKey,
        key: &RowKey,
        values: &[Value],
        time: Timestamp,
    ) -> Result<Option<RowKey>, ReplicaError> {
        let view = self.history.view(&self.conn, no, key)?;
        let to = |index: usize| {
            let place = foreign.columns.iter().position(|n| *n == index);
            place.map(|n| values[n].clone())
        };
        let key_columns = child.key_columns();
        if !foreign.columns.iter().any(|n| key_columns.contains(n)) {
            let columns: Vec<(String, Merge, Value)> =
                child.columns.iter().filter_map(|c| Some((c.key.clone(), c.merge, to(c.index)?))).collect();
            self.write_change(no, key, &view.edit(&columns), time)?;
            return Ok(Some(key.clone()));
        }
        let Some(shown) = row::shown(&view, child) else { return Ok(None) };
        let old: Vec<Value> = child.key_values(key)?;
        let wanted: Vec<Value> = key_columns.iter().zip(old).map(|(n, old)| to(*n).unwrap_or(old)).collect();
        let wanted: Vec<_> = wanted.iter().map(Value::as_ref).collect();
        let Ok(new) = child.table.row_key(&wanted) else { return Ok(None) };
        let place = self.history.view(&self.conn, no, &new)?;
        if place.is_live() {
            return Ok(None);
        }
        let columns: Vec<(String, Merge, Value)> = child
            .columns
            .iter()
            .zip(shown)
            .map(|(c, value)| (c.key.clone(), c.merge, to(c.index).unwrap_or(value)))
            .collect();
        self.write_change(no, key, &view.delete(), time)?;
        self.write_change(no, &new, &place.insert(&columns), time)?;
        Ok(Some(new))
    }
}

/// The values by which a foreign key names a row.
pub(super) fn named(
    user: &UserTable,
    foreign: &ForeignKey,
    key: &RowKey,
) -> Result<Vec<Value>, ReplicaError> {
    let (values, columns) = (user.key_values(key)?, user.key_columns());
    let place =
        |name: &String| columns.iter().position(|n| user.table.columns[*n].name.eq_ignore_ascii_case(name));
    Ok(foreign.parent_columns.iter().filter_map(place).map(|n| values[n].clone()).collect())
}
