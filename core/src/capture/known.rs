//! Known: the change of a row whose document has a baseline, or is one plain insert. Nothing is evaluated, and no segment is
//! read but that of an insert whose values were not needed before.

use super::ChangedRow;
use crate::change::{Action, Merge};
use crate::document::{BaseContent, Baseline, PlainStart, is_large};
use crate::id::Actor;
use crate::key::RowKey;
use crate::replica::{Replica, ReplicaError};
use crate::row::is_same;
use crate::store::documents::At;
use crate::store::holds;
use crate::store::user_table::{DocumentColumn, RowValues, UserTable};
use crate::value::{Value, ValueRef};

impl Replica {
    /// The change of a row whose first change is known, and what it showed before. None: only its whole document tells.
    /// `any_held` says whether rows of the container are held.
    pub(super) fn changed_known_row(
        &mut self,
        no: i64,
        user: &UserTable,
        (key, first): (&RowKey, At),
        now: Option<&RowValues>,
        any_held: bool,
    ) -> Result<Option<Option<ChangedRow>>, ReplicaError> {
        // What came while the table was away is not in it yet.
        let held = any_held && holds::find(&self.conn, no, key)?.is_some();
        if held || self.containers[&no].away.is_some() {
            return Ok(None);
        }
        if self.history.baseline(&self.conn, no, key)?.is_none() {
            return self.changed_plain_row(no, user, key, first, now);
        }
        self.history.read_unread(&self.conn, no, key)?;
        let baseline = self.history.baseline(&self.conn, no, key)?.cloned();
        let Some(baseline) = baseline else { return Ok(None) };
        let Some(incarnation) = baseline.incarnation() else { return Ok(None) };
        let before = self.values_before(no, user, &baseline, &incarnation, now)?;
        let before = self.without_new_columns(no, user, before, now);
        if is_same(Some(&before), now) {
            return Ok(Some(None));
        }
        let Some(now) = now else { return Ok(Some(Some((baseline.delete(), Some(before))))) };
        let mut changed = vec![];
        for (n, column) in user.columns.iter().enumerate() {
            if !before[n].as_ref().same(now[n].as_ref()) {
                let Some(action) = action(&baseline, column, &now[n]) else { return Ok(None) };
                changed.push((column.key.clone(), action));
            }
        }
        Ok(Some(Some((baseline.edit(changed), Some(before)))))
    }

    /// What a live row showed before: of a large value that is another now, only that, where nobody needs more.
    fn values_before(
        &mut self,
        no: i64,
        user: &UserTable,
        baseline: &Baseline,
        incarnation: &Actor,
        now: Option<&RowValues>,
    ) -> Result<RowValues, ReplicaError> {
        let stands_apart = self.stands_apart(no, user);
        let mut before = Vec::with_capacity(user.columns.len());
        for (n, column) in user.columns.iter().enumerate() {
            let Some(cell) = baseline.shown(&column.key, incarnation) else {
                before.push(column.absent.clone());
                continue;
            };
            let now = now.map(|now| &now[n]);
            before.push(match (cell.value(), now) {
                (Some(value), _) => value,
                (None, Some(now)) if cell.is(now.as_ref()) == Some(true) => now.clone(),
                // Any small value differs from a large one.
                (None, Some(now)) if stands_apart && is_large(now.as_ref()) => Value::Null,
                (None, Some(Value::Null)) if stands_apart => Value::Integer(0),
                (None, _) if stands_apart => Value::Null,
                (None, _) => self.history.value_of(&self.conn, cell)?,
            });
        }
        Ok(before)
    }

    /// The same for a row whose document is one plain insert into registers: only this row's values are taken from the
    /// segment.
    fn changed_plain_row(
        &mut self,
        no: i64,
        user: &UserTable,
        key: &RowKey,
        first: At,
        now: Option<&RowValues>,
    ) -> Result<Option<Option<ChangedRow>>, ReplicaError> {
        if user.columns.iter().any(|c| c.merge != Merge::Register) {
            return Ok(None);
        }
        let Some(outline) = self.history.plain(&self.conn, no, key, first)? else { return Ok(None) };
        let hash = self.history.hash(&self.conn, first)?;
        let start = PlainStart { template: &outline.template, actor: outline.actor, hash, at: first };
        let place = |key: &str| outline.template.ops.iter().position(|(name, _)| name == key);
        let read = |values: &[ValueRef<'_>]| -> (RowValues, Option<Baseline>) {
            let value = |c: &DocumentColumn| place(&c.key).map_or(c.absent.clone(), |n| values[n].to_owned());
            (user.columns.iter().map(value).collect(), Baseline::of_plain(&start, Some(values)))
        };
        let (before, baseline) = self.history.plain_values(&self.conn, first, read)?;
        let before = self.without_new_columns(no, user, before, now);
        if is_same(Some(&before), now) {
            return Ok(Some(None));
        }
        let plain = outline.plain(hash);
        let change = match now {
            None => plain.delete(),
            Some(now) => {
                let columns = user.columns.iter().zip(before.iter().zip(now));
                let changed = columns.filter(|(_, (a, b))| !a.as_ref().same(b.as_ref()));
                plain.edit(changed.map(|(c, (_, value))| (c.key.clone(), value.clone())).collect())
            }
        };
        // The change that follows advances it.
        if let Some(baseline) = baseline {
            self.history.offer_baseline(no, key, baseline);
        }
        Ok(Some(Some((change, Some(before)))))
    }
}

/// How a column of a row comes to a value, as `document::author` has it; None if the value is a text that merges.
fn action(baseline: &Baseline, column: &DocumentColumn, value: &Value) -> Option<Action> {
    match (column.merge, value) {
        (Merge::Text, Value::Text(_)) => None,
        (Merge::Counter, Value::Integer(to)) => Some(match baseline.alone(&column.key) {
            Some(cell) => match cell.content() {
                BaseContent::Counter(from) if to.checked_sub(*from).is_some() => Action::Increment(to - from),
                _ => Action::Counter(*to),
            },
            None => Action::Counter(*to),
        }),
        (_, value) => Some(Action::Put(value.clone())),
    }
}
