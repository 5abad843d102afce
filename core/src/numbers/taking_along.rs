//! Taking along: a row of a conflict that becomes a new one takes references with it.
//!
//! Those follow that the device wrote which inserted the row, after it did, and before it can have seen the other row: on that
//! device, before the other came or the tables met; everywhere, before both were accepted by the server. What it wrote later, and
//! what others wrote, means the row that shows. What refers to columns that change by that follows in turn. A row that is itself
//! in conflict and does not show takes its references along too, and one that was chosen before names the row that it was, so it
//! does not matter which of them is chosen first.

use super::moving::{Columns, Pairs};
use super::origin::{CHOSEN, decode, encode};
use crate::change::{Action, Merge, OWN};
use crate::document::Cell;
use crate::id::{Actor, PeerId, Timestamp};
use crate::key::RowKey;
use crate::replica::{Replica, ReplicaError};
use crate::row;
use crate::store::holds;
use crate::store::user_table::{Compared, RowValues, UserTable};
use crate::store::{documents, segments};
use crate::table::{Collation, Column};
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
    pairs: &'t Pairs,
}

/// A row of a parent table, as references name it and as they shall.
struct Renaming {
    no: i64,
    /// Its key now.
    key: RowKey,
    before: Columns,
    after: Columns,
}

/// The row that becomes new, and the one that shows.
struct Apart {
    own: Writing,
    other: Writing,
    is_here: bool,
    /// Until then the row that becomes new was not there.
    not_before: Timestamp,
}

impl Apart {
    /// Whether a reference means the row that becomes new.
    fn is_meant(&self, by: &Writing) -> bool {
        // At first contact the rows from here are taken in once those of others have come, children that no document knows first.
        let here = self.own.segment.max(self.other.segment);
        let was_here = self.is_here && (by.segment < here || by.time.is_before_tracking());
        // The other row was accepted after it was written, if no more is known.
        let seen = self.own.accepted.max(self.other.accepted).max(Some(self.other.time));
        let before = was_here || seen.is_some_and(|seen| by.time <= seen);
        by.author == self.own.author && by.time >= self.not_before && before
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
        // A segment has the time of the last of its rows.
        let not_before = segments::time_before(&self.conn, no, &own.author, own.time)?;
        let apart = Apart { own, other, is_here: own.author == self.author(), not_before };
        let Some(first) = self.renaming(no, old, new)? else { return Ok((rows, 0)) };
        let mut renamed = vec![first];
        while let Some(renaming) = renamed.pop() {
            let Some(user) = self.user_table(renaming.no)? else { continue };
            let Renaming { before, after, .. } = &renaming;
            let differ = after.iter().filter(|(n, value)| before.get(n) != Some(value));
            for relation in self.relations(&user, &differ.map(|(n, _)| *n).collect())? {
                let is_known = relation.pairs.all.iter().all(|(_, named)| before.contains_key(named));
                if self.containers[&relation.no].is_read_only() || !is_known {
                    continue;
                }
                let place =
                    Place { no: relation.no, parent: &user, child: &relation.child, pairs: &relation.pairs };
                let mut keys = self.children_with(&place, before)?;
                // It may name itself, and is not in its table yet.
                keys.extend((place.no == renaming.no).then(|| renaming.key.clone()));
                for key in keys {
                    if !self.is_reference_meant(&place, &key, before, &apart)? {
                        continue;
                    }
                    if let Some(child) = self.refer_to(&place, &key, &renaming, time)? {
                        count += 1;
                        rows.push((place.no, key.clone()));
                        if child.key != key {
                            rows.push((place.no, child.key.clone()));
                        }
                        renamed.push(child);
                    }
                }
                for child in self.take_along_in_conflicts(&place, &renaming, &apart, time)? {
                    count += 1;
                    rows.push((place.no, child.key.clone()));
                    renamed.push(child);
                }
            }
        }
        Ok((rows, count))
    }

    /// A row that has another key now; None: it has none of these.
    fn renaming(&mut self, no: i64, old: &RowKey, new: &RowKey) -> Result<Option<Renaming>, ReplicaError> {
        let Some(user) = self.user_table(no)? else { return Ok(None) };
        let view = self.history.view(&self.conn, no, new)?;
        let Some(values) = row::shown(&view, &user) else { return Ok(None) };
        let (before, after) = (columns_of(&user, old, &values)?, columns_of(&user, new, &values)?);
        Ok(Some(Renaming { no, key: new.clone(), before, after }))
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

    /// Changes references in rows that do not show, since they are in conflict with others. Their keys stay. Returns how they are
    /// named then.
    fn take_along_in_conflicts(
        &mut self,
        place: &Place<'_>,
        renaming: &Renaming,
        apart: &Apart,
        time: Timestamp,
    ) -> Result<Vec<Renaming>, ReplicaError> {
        let Place { no, child, pairs, .. } = place;
        let mut found = vec![];
        let is_document_column = |n: &usize| child.columns.iter().any(|c| c.index == *n);
        if !pairs.columns().iter().all(is_document_column) {
            return Ok(found);
        }
        for key in documents::keys_in_conflict(&self.conn, *no, child.has_integer_key())? {
            let view = self.history.view(&self.conn, *no, &key)?;
            for (row, cells) in view.other_rows() {
                let here = columns_of(child, &key, &row::values_of(&cells, child))?;
                if !place.names(&here, &renaming.before)
                    || !self.is_meant_in(place, &key, (row, &cells), apart)?
                {
                    continue;
                }
                let changed = place.renamed(&here, renaming);
                let view = self.history.view(&self.conn, *no, &key)?;
                self.write_change(*no, &key, &view.edit_row(row, &place.changes(&changed)), time)?;
                let (before, mut after) = (here.clone(), here);
                after.extend(changed);
                found.push(Renaming { no: *no, key: key.clone(), before, after });
            }
        }
        Ok(found)
    }

    /// The rows that refer to a row: those that the table shows, and held ones.
    fn children_with(&mut self, place: &Place<'_>, before: &Columns) -> Result<Vec<RowKey>, ReplicaError> {
        let Place { no, child, pairs, .. } = place;
        let mut keys = vec![];
        // As columns of numbers and of text keep them; a column without a type has both.
        for like in [Value::Null, Value::Text(String::new())] {
            let compared = pairs.telling.iter().map(|(column, named)| {
                let value = kept_like(&child.table.columns[*column], &like, &before[named]);
                Compared { index: *column, collation: Collation::Binary, value }
            });
            keys.extend(child.keys_where(&self.conn, &compared.collect::<Vec<_>>())?);
        }
        for (key, _) in holds::all(&self.conn, *no, child.has_integer_key())? {
            let view = self.history.view(&self.conn, *no, &key)?;
            let Some(shown) = row::shown(&view, child) else { continue };
            if place.names(&columns_of(child, &key, &shown)?, before) {
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
        before: &Columns,
        apart: &Apart,
    ) -> Result<bool, ReplicaError> {
        let view = self.history.view(&self.conn, place.no, key)?;
        let (Some(cells), Some(incarnation)) = (view.shown(), view.incarnation()) else { return Ok(false) };
        if !place.names(&columns_of(place.child, key, &row::values_of(&cells, place.child))?, before) {
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
        let chosen = cells.get(CHOSEN).map(|cell| row::plain(cell));
        let was = chosen.map(|value| decode(value.as_ref(), place.child.has_integer_key()));
        let was = was.and_then(|was| was.into_iter().next());
        for (n, _) in &place.pairs.telling {
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

    /// Writes a reference of a row; how the row is named then. None: it cannot be changed.
    fn refer_to(
        &mut self,
        place: &Place<'_>,
        key: &RowKey,
        renaming: &Renaming,
        time: Timestamp,
    ) -> Result<Option<Renaming>, ReplicaError> {
        let Place { no, child, .. } = place;
        let view = self.history.view(&self.conn, *no, key)?;
        let (Some(shown), Some(row)) = (row::shown(&view, child), view.incarnation()) else {
            return Ok(None);
        };
        let before = columns_of(child, key, &shown)?;
        let changed = place.renamed(&before, renaming);
        let mut after = before.clone();
        after.extend(changed.iter().map(|(n, value)| (*n, value.clone())));
        let key_columns = child.key_columns();
        if !changed.keys().any(|n| key_columns.contains(n)) {
            self.write_change(*no, key, &view.edit(&place.changes(&changed)), time)?;
            return Ok(Some(Renaming { no: *no, key: key.clone(), before, after }));
        }
        let wanted: Vec<_> = key_columns.iter().map(|n| after[n].as_ref()).collect();
        let Ok(new) = child.table.row_key(&wanted) else { return Ok(None) };
        let at_new = self.history.view(&self.conn, *no, &new)?;
        if at_new.is_live() {
            return Ok(None);
        }
        let mut columns: Vec<(String, Merge, Value)> = child
            .columns
            .iter()
            .zip(shown)
            .map(|(c, value)| (c.key.clone(), c.merge, changed.get(&c.index).cloned().unwrap_or(value)))
            .collect();
        // Its other references are still those of the row that it was.
        let cells = view.shown().unwrap_or_default();
        let was = cells.get(CHOSEN).map(|cell| row::plain(cell));
        columns.push((
            CHOSEN.to_owned(),
            Merge::Register,
            was.unwrap_or_else(|| encode(&[(key.clone(), row)])),
        ));
        self.write_change(*no, key, &view.delete_row(row), time)?;
        self.write_change(*no, &new, &at_new.insert(&columns), time)?;
        Ok(Some(Renaming { no: *no, key: new, before, after }))
    }
}

impl Place<'_> {
    /// Whether a row with these values names a row of the parent's.
    fn names(&self, here: &Columns, parent: &Columns) -> bool {
        let column = |named: &usize| &self.parent.table.columns[*named];
        let is_named = |(n, named): &(usize, usize)| {
            names(column(named), &here[n]) == names(column(named), &parent[named])
        };
        self.pairs.telling.iter().all(is_named)
    }

    /// What changes in a row that names another.
    fn renamed(&self, here: &Columns, renaming: &Renaming) -> Columns {
        let column = |named: &usize| &self.parent.table.columns[*named];
        let follows = |(n, named): &&(usize, usize)| {
            let (before, after) = (&renaming.before[named], &renaming.after[named]);
            before != after && names(column(named), &here[n]) == names(column(named), before)
        };
        let then = |(n, named): &(usize, usize)| {
            (*n, kept_like(&self.child.table.columns[*n], &here[n], &renaming.after[named]))
        };
        self.pairs.all.iter().filter(follows).map(then).collect()
    }

    /// These columns as a change writes them.
    fn changes(&self, changed: &Columns) -> Vec<(String, Merge, Value)> {
        let column = |(n, value): (&usize, &Value)| {
            let column = self.child.columns.iter().find(|c| c.index == *n)?;
            Some((column.key.clone(), column.merge, value.clone()))
        };
        changed.iter().filter_map(column).collect()
    }
}

/// All columns of a row, but those that SQLite generates.
fn columns_of(user: &UserTable, key: &RowKey, values: &RowValues) -> Result<Columns, ReplicaError> {
    let key_values = user.key_values(key)?;
    let columns = user.key_columns().into_iter().chain(user.columns.iter().map(|c| c.index));
    Ok(columns.map(|n| (n, user.value_at(n, &key_values, values))).collect())
}

/// A value by which a child names its parent, as the parent's column has it.
pub(crate) fn names(column: &Column, value: &Value) -> Value {
    column.fold(column.kept(value).as_ref())
}

/// A value that names another row than `before` did, as its column keeps it.
pub(super) fn kept_like(column: &Column, before: &Value, new: &Value) -> Value {
    match (before, new) {
        // A column without a type keeps a number as the text that the application writes.
        (Value::Text(_), Value::Integer(number)) => column.kept(&Value::Text(number.to_string())),
        _ => column.kept(new),
    }
}
