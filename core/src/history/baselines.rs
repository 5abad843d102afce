//! Baselines of rows in the transaction under way: read once, advanced with each change, written before the commit.
//!
//! Outside a transaction nothing is kept, since other programs may write the file at any time. Each change of a row that has
//! a baseline goes through `note`, which advances the baseline or removes it; so one that is on disk stands for all changes.

use super::History;
use crate::change::{Action, Change};
use crate::document::{BaseCell, Baseline, PlainStart, View};
use crate::frame::OpKind;
use crate::id::{Actor, ChangeHash};
use crate::key::RowKey;
use crate::store::documents::{self, At};
use crate::store::{StoreError, baselines, segments};
use crate::value::{Value, ValueRef};
use rusqlite::Connection;
use std::collections::HashMap;

/// Bytes of baselines at which a transaction writes them before its end.
const BYTES_MAX: usize = 32 << 20;

/// Baselines of the transaction under way.
#[derive(Debug, Default)]
pub(super) struct Baselines {
    rows: HashMap<(i64, RowKey), Entry>,
    bytes: usize,
    in_transaction: bool,
}

/// A row whose baseline was looked up; None: it has none.
#[derive(Debug, Default)]
struct Entry {
    baseline: Option<Baseline>,
    /// Whether it is to be written.
    dirty: bool,
    /// Whether one was found in the file.
    is_there: bool,
    /// The columns that were written since the table showed what the baseline does. None: only the whole baseline tells.
    edited: Option<Vec<String>>,
}

/// A change and its place, as it is noted.
pub(crate) struct Noted<'a> {
    pub(crate) at: At,
    pub(crate) hash: ChangeHash,
    pub(crate) actor: Actor,
    pub(crate) change: &'a Change,
    /// Whether no other segment of the container has this actor. Two changes of a row by one actor are a forgery, or a copy;
    /// then only all changes together tell which of them counts.
    pub(crate) is_only: bool,
}

impl Entry {
    fn new(baseline: Option<Baseline>, dirty: bool) -> Self {
        let edited = baseline.as_ref().filter(|b| b.is_simple()).map(|_| vec![]);
        Self { baseline, dirty, edited, is_there: false }
    }

    /// Takes in a change. Returns whether the baseline did.
    fn take(&mut self, noted: &Noted<'_>) -> bool {
        let Some(baseline) = &mut self.baseline else { return false };
        let change = noted.change;
        let incarnation = baseline.incarnation();
        if !noted.is_only || !baseline.take(noted.hash, noted.actor, change, noted.at) {
            (self.baseline, self.edited) = (None, None);
            return false;
        }
        if let Some(edited) = &mut self.edited {
            let under_it = change.ops.first().is_some_and(|life| match life.action {
                Action::Live(under) => Some(under) == incarnation,
                _ => false,
            });
            let alone = |key: &str| baseline.under(key).len() == 1;
            if under_it && change.ops.iter().all(|op| alone(&op.key)) {
                let new = change.ops[1..].iter().filter(|op| !edited.contains(&op.key));
                let new: Vec<_> = new.map(|op| op.key.clone()).collect();
                edited.extend(new);
            } else {
                self.edited = None;
            }
        }
        true
    }
}

impl Baselines {
    fn put(&mut self, row: (i64, RowKey), entry: Entry) -> &mut Entry {
        self.bytes += entry.baseline.as_ref().map_or(64, Baseline::size);
        let place = self.rows.entry(row);
        place.insert_entry(entry).into_mut()
    }
}

impl History {
    /// A transaction begins: baselines may be kept until its end.
    pub(crate) fn begin(&mut self) {
        self.baselines = Baselines { in_transaction: true, ..Baselines::default() };
    }

    /// Writes the baselines that changed. Call it before the commit.
    pub(crate) fn write_baselines(&mut self, conn: &Connection) -> Result<(), StoreError> {
        let changed = self.baselines.rows.iter_mut().filter(|(_, entry)| entry.dirty);
        let mut changed: Vec<_> = changed.collect();
        changed.sort_unstable_by(|a, b| a.0.cmp(b.0));
        for ((container, key), entry) in changed {
            match &entry.baseline {
                Some(baseline) => baselines::put(conn, *container, key, &baseline.encode(), entry.is_there)?,
                None => baselines::remove(conn, *container, key)?,
            }
            entry.dirty = false;
        }
        Ok(())
    }

    /// The transaction ended, or was rolled back.
    pub(crate) fn end(&mut self) {
        self.baselines = Baselines::default();
    }

    /// Removes the baseline of a row of which changes are taken out. Call it in a transaction.
    pub(crate) fn forget_baseline(
        &mut self,
        conn: &Connection,
        container: i64,
        key: &RowKey,
    ) -> Result<(), StoreError> {
        self.baselines.rows.remove(&(container, key.clone()));
        baselines::remove(conn, container, key)
    }

    /// Forgets the baselines of a container whose changes are all taken out.
    pub(crate) fn forget_container(&mut self, container: i64) {
        self.baselines.rows.retain(|(no, _), _| *no != container);
    }

    /// The baseline of a row, if it has one.
    fn entry(&mut self, conn: &Connection, container: i64, key: &RowKey) -> Result<&mut Entry, StoreError> {
        let row = (container, key.clone());
        if self.baselines.in_transaction && self.baselines.rows.contains_key(&row) {
            return Ok(self.baselines.rows.get_mut(&row).expect("it was found just now"));
        }
        // One that cannot be read, such as that of a later version, is made anew.
        let found = baselines::read(conn, container, key, |bytes| Baseline::decode(bytes).ok())?.flatten();
        if cfg!(debug_assertions)
            && let Some(found) = &found
        {
            let last = documents::last_change(conn, container, key)?;
            assert_eq!(last, Some(found.last()), "a baseline stands for all changes of row {key:?}");
        }
        if !self.baselines.in_transaction {
            self.baselines = Baselines::default();
        }
        let is_there = found.is_some();
        Ok(self.baselines.put(row, Entry { is_there, ..Entry::new(found, false) }))
    }

    /// The baseline of a row, if it has one.
    pub(crate) fn baseline(
        &mut self,
        conn: &Connection,
        container: i64,
        key: &RowKey,
    ) -> Result<Option<&Baseline>, StoreError> {
        Ok(self.entry(conn, container, key)?.baseline.as_ref())
    }

    /// Offers the baseline of a row that is one plain insert, for the change that may follow. Call it in a transaction.
    pub(crate) fn offer_baseline(&mut self, container: i64, key: &RowKey, baseline: Baseline) {
        self.baselines.put((container, key.clone()), Entry::new(Some(baseline), false));
    }

    /// Keeps the baseline of a document that was evaluated as a whole, if it may have one. Returns whether it does.
    pub(super) fn keep_baseline(
        &mut self,
        conn: &Connection,
        container: i64,
        key: &RowKey,
        view: &View,
    ) -> Result<bool, StoreError> {
        if !self.baselines.in_transaction || *key == RowKey::Description {
            return Ok(false);
        }
        let Some(baseline) = self.baseline_of(conn, container, key, view)? else { return Ok(false) };
        let entry = Entry { baseline: Some(baseline), dirty: true, ..Entry::default() };
        self.baselines.put((container, key.clone()), entry);
        Ok(true)
    }

    /// The baseline of a document that was evaluated as a whole, if it may have one.
    pub(super) fn baseline_of(
        &self,
        conn: &Connection,
        container: i64,
        key: &RowKey,
        view: &View,
    ) -> Result<Option<Baseline>, StoreError> {
        let Some(last) = documents::last_change(conn, container, key)? else { return Ok(None) };
        let mut places: Option<HashMap<Actor, At>> = None;
        let place = |actor: &Actor| -> Result<At, StoreError> {
            if places.is_none() {
                let mut found = HashMap::new();
                for at in documents::changes(conn, container, key)? {
                    found.extend(segments::actor_of(conn, at.segment())?.map(|actor| (actor, at)));
                }
                places = Some(found);
            }
            let found = places.as_ref().and_then(|places| places.get(actor).copied());
            found.ok_or(StoreError::Damaged { what: "a change whose segment is missing" })
        };
        Baseline::of_view(view, last, place)
    }

    /// Adds a change to a row, and advances its baseline. Call it in a transaction.
    pub(crate) fn note(
        &mut self,
        conn: &Connection,
        container: i64,
        key: &RowKey,
        noted: &Noted<'_>,
    ) -> Result<(), StoreError> {
        if *key == RowKey::Description {
            return documents::add(conn, container, key, noted.at);
        }
        if self.entry(conn, container, key)?.baseline.is_none() {
            let Some(first) = documents::find(conn, container, key)? else {
                return documents::add(conn, container, key, noted.at);
            };
            // The second change of a row that is a plain insert so far.
            if !documents::has_later(conn, container, key)?
                && let Some(start) = self.plain_baseline(conn, first)?
            {
                self.offer_baseline(container, key, start);
            }
        }
        documents::add_later(conn, container, key, noted.at)?;
        let entry = self.baselines.rows.get_mut(&(container, key.clone()));
        if let Some(entry) = entry.filter(|entry| entry.baseline.is_some()) {
            entry.dirty = true;
            entry.take(noted);
        }
        if self.baselines.bytes > BYTES_MAX {
            self.write_baselines(conn)?;
            self.begin();
        }
        Ok(())
    }

    /// The baseline of a row whose only change is at a place, if that is a plain insert into a segment of such. Values of
    /// registers are not read.
    fn plain_baseline(&mut self, conn: &Connection, at: At) -> Result<Option<Baseline>, StoreError> {
        let Some(outline) = self.outline_of(conn, at.segment())?.clone() else { return Ok(None) };
        let hash = self.hash(conn, at)?;
        let start = PlainStart { template: &outline.template, actor: outline.actor, hash, at };
        if outline.template.ops.iter().any(|(_, kind)| *kind == OpKind::Counter) {
            return self.plain_values(conn, at, |values| Baseline::of_plain(&start, Some(values)));
        }
        Ok(Baseline::of_plain(&start, None))
    }

    /// The columns of a live row that changed since its table showed its document, each with its only value; None if only
    /// the whole document tells. Each is given once.
    pub(crate) fn take_edits(&mut self, container: i64, key: &RowKey) -> Option<Vec<(String, Value)>> {
        let entry = self.baselines.rows.get_mut(&(container, key.clone()))?;
        let (baseline, edited) = (entry.baseline.as_ref()?, entry.edited.as_mut()?);
        let edited = std::mem::take(edited);
        let value = |key: String| {
            let value = baseline.under(&key).first()?.value()?;
            Some((key, value))
        };
        let edits: Option<Vec<_>> = edited.into_iter().map(value).collect();
        edits.filter(|edits| !edits.is_empty())
    }

    /// Reads the values of its plain insert that a row's baseline lacks. They are written with its next change.
    pub(crate) fn read_unread(
        &mut self,
        conn: &Connection,
        container: i64,
        key: &RowKey,
    ) -> Result<(), StoreError> {
        let unread = self.entry(conn, container, key)?.baseline.as_ref().and_then(Baseline::unread);
        let Some(at) = unread else { return Ok(()) };
        let values = self.plain_values(conn, at, |values| -> Vec<Value> {
            values.iter().copied().map(ValueRef::to_owned).collect()
        })?;
        let values: Vec<_> = values.iter().map(Value::as_ref).collect();
        if let Some(baseline) = &mut self.entry(conn, container, key)?.baseline {
            baseline.fill_in(at, &values);
        }
        Ok(())
    }

    /// What a row shows by its baseline; None if it has none. `known` may give values that the baseline lacks.
    pub(crate) fn view_of_baseline(
        &mut self,
        conn: &Connection,
        container: i64,
        key: &RowKey,
        known: impl Fn(&Baseline, &BaseCell) -> Option<Value>,
    ) -> Result<Option<View>, StoreError> {
        let Some(baseline) = self.entry(conn, container, key)?.baseline.clone() else { return Ok(None) };
        let view = baseline.view(|cell| match known(&baseline, cell) {
            Some(value) => Ok(value),
            None => self.value_of(conn, cell),
        });
        view.map(Some)
    }

    /// The value of a cell, from its change.
    pub(crate) fn value_of(&mut self, conn: &Connection, cell: &BaseCell) -> Result<Value, StoreError> {
        if let Some(value) = cell.value() {
            return Ok(value);
        }
        let (at, counter) = cell.place();
        if self.outline_of(conn, at.segment())?.is_some() {
            let place = usize::try_from(counter).ok().and_then(|n| n.checked_sub(2));
            let value =
                |values: &[ValueRef<'_>]| place.and_then(|n| values.get(n).copied()).map(ValueRef::to_owned);
            let found = self.plain_values(conn, at, value)?;
            return found.ok_or(StoreError::Damaged { what: "a baseline" });
        }
        let (_, change) = self.change(conn, at)?;
        let place = counter.checked_sub(change.start_op).and_then(|n| usize::try_from(n).ok());
        match place.and_then(|n| change.ops.into_iter().nth(n)).map(|op| op.action) {
            Some(Action::Put(value)) => Ok(value),
            _ => Err(StoreError::Damaged { what: "a baseline" }),
        }
    }

    /// Whether the baseline of a row, if it has one, says what all of its changes do.
    pub(crate) fn is_baseline_right(
        &mut self,
        conn: &Connection,
        container: i64,
        key: &RowKey,
        full: &View,
    ) -> Result<bool, StoreError> {
        let Some(baseline) = self.entry(conn, container, key)?.baseline.clone() else { return Ok(true) };
        let full = self.baseline_of(conn, container, key, full)?;
        Ok(full.is_some_and(|full| baseline.agrees_with(&full)))
    }
}
