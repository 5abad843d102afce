//! Taking along: a row of a conflict that becomes a new one takes references with it.
//!
//! Those follow that the device wrote which inserted the row, after it did, and before it can have seen the other row: on that
//! device, before the other came; elsewhere, before both were accepted by the server. What it wrote later, and what others wrote,
//! means the row that shows. A row that is itself in conflict and does not show takes its references along too, and one that was
//! chosen before names the row that it was, so it does not matter which of them is chosen first.

use super::origin::{CHOSEN, decode};
use crate::change::{Action, Merge, OWN};
use crate::document::Cell;
use crate::id::{Actor, PeerId, Timestamp};
use crate::key::RowKey;
use crate::replica::{Replica, ReplicaError};
use crate::row;
use crate::store::holds;
use crate::store::user_table::{Compared, RowValues, UserTable};
use crate::store::{documents, segments};
use crate::table::{Collation, Column, ForeignKey};
use crate::value::Value;
use std::collections::BTreeMap;

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

/// A reference from one table to another.
struct Place<'t> {
    /// The child's container.
    no: i64,
    parent: &'t UserTable,
    child: &'t UserTable,
    foreign: &'t ForeignKey,
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
                let place = Place { no: child_no, parent: &user, child: &child, foreign: &foreign };
                let (from, to) = (named(&user, &foreign, &old)?, named(&user, &foreign, &new)?);
                let mut keys = self.children_with(&place, &from)?;
                // It may name itself, and is not in its table yet.
                keys.extend((child_no == no).then(|| new.clone()));
                for key in keys {
                    if !self.is_reference_meant(&place, &key, &from, &apart)? {
                        continue;
                    }
                    if let Some(new) = self.refer_to(&place, &key, &from, &to, time)? {
                        count += 1;
                        rows.push((child_no, key.clone()));
                        if new != key {
                            rows.push((child_no, new.clone()));
                            moved.push((child_no, key, new));
                        }
                    }
                }
                for key in self.take_along_in_conflicts(&place, (&from, &to), &apart, time)? {
                    count += 1;
                    rows.push((child_no, key));
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

    /// Changes references in rows that do not show, since they are in conflict with others. Their keys stay. Returns the keys.
    fn take_along_in_conflicts(
        &mut self,
        place: &Place<'_>,
        (from, to): (&[Value], &[Value]),
        apart: &Apart,
        time: Timestamp,
    ) -> Result<Vec<RowKey>, ReplicaError> {
        let Place { no, child, foreign, .. } = place;
        let mut found = vec![];
        let is_document_column = |n: &usize| child.columns.iter().any(|c| c.index == *n);
        if !foreign.columns.iter().all(is_document_column) {
            return Ok(found);
        }
        for key in documents::keys_in_conflict(&self.conn, *no, child.has_integer_key())? {
            let view = self.history.view(&self.conn, *no, &key)?;
            for (row, cells) in view.other_rows() {
                let before = place.values(&key, &row::values_of(&cells, child))?;
                if naming(place.parent, foreign, &before) != from {
                    continue;
                }
                if !self.is_meant_in(place, &key, (row, &cells), apart)? {
                    continue;
                }
                let values = renamed(child, foreign, &before, from, to);
                let view = self.history.view(&self.conn, *no, &key)?;
                self.write_change(*no, &key, &view.edit_row(row, &place.columns(values)), time)?;
                found.push(key.clone());
            }
        }
        Ok(found)
    }

    /// The rows that refer to a key by a foreign key: those that the table shows, and held ones.
    fn children_with(&mut self, place: &Place<'_>, from: &[Value]) -> Result<Vec<RowKey>, ReplicaError> {
        let Place { no, parent, child, foreign } = place;
        let mut keys = vec![];
        // As columns of numbers and of text keep them; a column without a type has both.
        for like in [Value::Null, Value::Text(String::new())] {
            let before = vec![like; from.len()];
            let values = renamed(child, foreign, &before, &vec![Value::Null; from.len()], from);
            let compared = foreign.columns.iter().zip(values);
            let compared: Vec<_> = compared
                .map(|(index, value)| Compared { index: *index, collation: Collation::Binary, value })
                .collect();
            keys.extend(child.keys_where(&self.conn, &compared)?);
        }
        for (key, _) in holds::all(&self.conn, *no, child.has_integer_key())? {
            let view = self.history.view(&self.conn, *no, &key)?;
            let Some(shown) = row::shown(&view, child) else { continue };
            if naming(parent, foreign, &place.values(&key, &shown)?) == from {
                keys.push(key);
            }
        }
        keys.sort();
        keys.dedup();
        Ok(keys)
    }

    /// Whether a row refers to this key and means the row that becomes new.
    fn is_reference_meant(
        &mut self,
        place: &Place<'_>,
        key: &RowKey,
        from: &[Value],
        apart: &Apart,
    ) -> Result<bool, ReplicaError> {
        let view = self.history.view(&self.conn, place.no, key)?;
        let (Some(cells), Some(incarnation)) = (view.shown(), view.incarnation()) else { return Ok(false) };
        if naming(place.parent, place.foreign, &place.values(key, &row::values_of(&cells, place.child))?)
            != from
        {
            return Ok(false);
        }
        self.is_meant_in(place, key, (incarnation, &cells), apart)
    }

    /// Whether the reference in one of the rows under a key means the row that becomes new.
    fn is_meant_in(
        &mut self,
        place: &Place<'_>,
        key: &RowKey,
        (row, cells): (Actor, &BTreeMap<&str, &Cell>),
        apart: &Apart,
    ) -> Result<bool, ReplicaError> {
        let chosen = cells.get(CHOSEN).filter(|cell| cell.incarnation == row).map(|cell| row::plain(cell));
        let was = chosen.map(|value| decode(value.as_ref(), place.child.has_integer_key()));
        let was = was.and_then(|was| was.into_iter().next());
        for n in &place.foreign.columns {
            let column = place.child.columns.iter().find(|c| c.index == *n).map(|c| c.key.as_str());
            let shown = column.and_then(|column| cells.get(column)).map(|cell| cell.id.actor);
            let (mut key, mut by) = (key, self.first_writer(place.no, key, &row, column, shown)?);
            if let Some((key_then, row_then)) = was.as_ref().filter(|_| by == Some(row)) {
                // It has it from the row that it was.
                (key, by) = (key_then, self.first_writer(place.no, key_then, row_then, column, None)?);
            }
            let by = by.map_or(Ok(None), |by| self.writing(place.no, key, &by))?;
            if !by.is_some_and(|by| apart.is_meant(&by)) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// The change of a row that gave a column the value which `last` wrote there, or the last change that wrote it. A decision
    /// about a conflict writes values again that others gave. Without a column, the insert.
    fn first_writer(
        &mut self,
        no: i64,
        key: &RowKey,
        row: &Actor,
        column: Option<&str>,
        last: Option<Actor>,
    ) -> Result<Option<Actor>, ReplicaError> {
        let Some(column) = column else { return Ok(Some(*row)) };
        let mut writes = vec![];
        for at in documents::changes(&self.conn, no, key)? {
            let (actor, change) = self.history.change(&self.conn, at)?;
            let is_of_row = match change.ops.first().map(|op| &op.action) {
                Some(Action::Live(life)) => life == row || (*life == OWN && actor == *row),
                _ => false,
            };
            let put = change.ops.into_iter().find(|op| is_of_row && op.key == column);
            writes.extend(put.map(|op| (actor, op.action)));
        }
        let place = match last {
            Some(last) => writes.iter().position(|(actor, _)| *actor == last),
            None => writes.len().checked_sub(1),
        };
        let Some(mut place) = place else { return Ok(None) };
        while place > 0 && writes[place - 1].1 == writes[place].1 {
            place -= 1;
        }
        Ok(Some(writes[place].0))
    }

    /// Writes a reference of a row; the key that the row has then. None: it cannot be changed.
    fn refer_to(
        &mut self,
        place: &Place<'_>,
        key: &RowKey,
        from: &[Value],
        to: &[Value],
        time: Timestamp,
    ) -> Result<Option<RowKey>, ReplicaError> {
        let Place { no, child, foreign, .. } = place;
        let view = self.history.view(&self.conn, *no, key)?;
        let Some(shown) = row::shown(&view, child) else { return Ok(None) };
        let values = renamed(child, foreign, &place.values(key, &shown)?, from, to);
        let key_columns = child.key_columns();
        if !foreign.columns.iter().any(|n| key_columns.contains(n)) {
            self.write_change(*no, key, &view.edit(&place.columns(values)), time)?;
            return Ok(Some(key.clone()));
        }
        let to = |index: usize| {
            let place = foreign.columns.iter().position(|n| *n == index);
            place.map(|n| values[n].clone())
        };
        let old: Vec<Value> = child.key_values(key)?;
        let wanted: Vec<Value> = key_columns.iter().zip(old).map(|(n, old)| to(*n).unwrap_or(old)).collect();
        let wanted: Vec<_> = wanted.iter().map(Value::as_ref).collect();
        let Ok(new) = child.table.row_key(&wanted) else { return Ok(None) };
        let at_new = self.history.view(&self.conn, *no, &new)?;
        if at_new.is_live() {
            return Ok(None);
        }
        let columns: Vec<(String, Merge, Value)> = child
            .columns
            .iter()
            .zip(shown)
            .map(|(c, value)| (c.key.clone(), c.merge, to(c.index).unwrap_or(value)))
            .collect();
        self.write_change(*no, key, &view.delete(), time)?;
        self.write_change(*no, &new, &at_new.insert(&columns), time)?;
        Ok(Some(new))
    }
}

impl Place<'_> {
    /// What a row has in the columns of the reference.
    fn values(&self, key: &RowKey, values: &RowValues) -> Result<Vec<Value>, ReplicaError> {
        let key_values = self.child.key_values(key)?;
        Ok(self.foreign.columns.iter().map(|n| self.child.value_at(*n, &key_values, values)).collect())
    }

    /// These columns as a change writes them.
    fn columns(&self, values: Vec<Value>) -> Vec<(String, Merge, Value)> {
        let column = |(n, value): (&usize, Value)| {
            let column = self.child.columns.iter().find(|c| c.index == *n)?;
            Some((column.key.clone(), column.merge, value))
        };
        self.foreign.columns.iter().zip(values).filter_map(column).collect()
    }
}

/// The values by which a foreign key names a row.
fn named(user: &UserTable, foreign: &ForeignKey, key: &RowKey) -> Result<Vec<Value>, ReplicaError> {
    let (values, columns) = (user.key_values(key)?, user.key_columns());
    let place = |n: usize| columns.iter().position(|column| *column == n);
    let places = parent_columns(user, foreign).filter_map(place);
    Ok(places.map(|n| values[n].clone()).collect())
}

/// What a row has in the columns of a foreign key, as the key that it names has it: columns here and there may be of other types.
fn naming(user: &UserTable, foreign: &ForeignKey, values: &[Value]) -> Vec<Value> {
    let column = |(n, value): (usize, &Value)| names(&user.table.columns[n], value);
    parent_columns(user, foreign).zip(values).map(column).collect()
}

/// A value by which a child names its parent, as the parent's column has it.
pub(crate) fn names(column: &Column, value: &Value) -> Value {
    column.fold(column.kept(value).as_ref())
}

/// What a row has in the columns of a foreign key when it names `new`, as those columns keep it. `before` is what it has there
/// while it names `old`.
fn renamed(
    child: &UserTable,
    foreign: &ForeignKey,
    before: &[Value],
    old: &[Value],
    new: &[Value],
) -> Vec<Value> {
    let columns = foreign.columns.iter().map(|n| &child.table.columns[*n]);
    let values = columns.zip(before).zip(old.iter().zip(new)).map(|((column, before), (old, new))| {
        if old == new { before.clone() } else { kept_like(column, before, new) }
    });
    values.collect()
}

/// A value that names another row than `before` did, as its column keeps it.
pub(super) fn kept_like(column: &Column, before: &Value, new: &Value) -> Value {
    match (before, new) {
        // A column without a type keeps a number as the text that the application writes.
        (Value::Text(_), Value::Integer(number)) => column.kept(&Value::Text(number.to_string())),
        _ => column.kept(new),
    }
}

/// The columns of the parent that a foreign key names, by their places.
fn parent_columns(user: &UserTable, foreign: &ForeignKey) -> impl Iterator<Item = usize> {
    let columns = &user.table.columns;
    foreign
        .parent_columns
        .iter()
        .filter_map(|name| columns.iter().position(|c| c.name.eq_ignore_ascii_case(name)))
}
