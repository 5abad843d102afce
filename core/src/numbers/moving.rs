//! Moving: decides about all rows of related tables whose numbers are taken, and carries it out in one transaction.
//!
//! All moves of one decision are one mapping: references are read as they were before any of them. Own segments with a
//! change that moves, or that builds on one, are withdrawn; what they say is written anew, at the times at which it was
//! written first.

mod following;
mod others;
mod rewriting;
mod telling;

pub(super) use self::following::{Columns, Pairs, Relation};

use self::following::{Changed, Generated};
use self::others::Other;
use super::Renumbered;
use super::captured_again::moved_rows;
use super::free::FreeNumbers;
use super::origin::{self, MOVED, Origin};
use crate::change::{Action, OWN};
use crate::document::{Cell, Document, Evaluation, View};
use crate::id::{Actor, ChangeHash, Seq, Timestamp};
use crate::key::RowKey;
use crate::replica::{Replica, ReplicaError};
use crate::row;
use crate::store::user_table::{RowValues, UserTable};
use crate::store::{documents, numbers};
use crate::value::Value;
use std::collections::{BTreeMap, BTreeSet, HashSet};

/// What became of rows whose numbers are taken.
#[derive(Debug, Default)]
pub(crate) struct Settled {
    /// For each container the places of the segments that were taken out of its feed.
    pub(crate) places: BTreeMap<i64, Vec<Seq>>,
    renumbered: Vec<(Renumbered, Timestamp)>,
}

/// What becomes of a row that was written here.
#[derive(Debug, Clone, PartialEq)]
enum Fate {
    /// It gets this key.
    Moves(RowKey),
    /// It is this row, which came from the server.
    Known(RowKey),
    /// It was deleted before anybody else saw it.
    Gone,
}

type Keyed<T> = BTreeMap<i64, BTreeMap<RowKey, T>>;

#[derive(Debug, Default)]
struct Plan {
    fates: Keyed<Fate>,
    /// Values that follow, by the column's place in its table.
    values: Keyed<BTreeMap<usize, Value>>,
    /// What generated columns have to become by that.
    generated: Vec<Generated>,
    /// What changes in tables that are not tracked; None: they were not looked at.
    others: Option<Vec<Other>>,
    /// Rows that were looked at.
    seen: Vec<(i64, RowKey)>,
}

/// The own segments of a container that the server does not have.
pub(super) struct Own {
    pub(super) segments: HashSet<i64>,
    actors: HashSet<Actor>,
    keys: BTreeSet<RowKey>,
    /// Where rows are that were written anew, by the keys under which they were written first.
    pub(super) moved: BTreeMap<RowKey, Vec<RowKey>>,
}

/// A row as it was written here.
struct OwnRow {
    values: RowValues,
    /// Its own changes with what they build on; None: all of it was written here.
    view: Option<View>,
}

impl OwnRow {
    /// Whether what it has in these columns was written here and is not at the server.
    fn is_own(&self, user: &UserTable, columns: &[usize], own: &Own) -> bool {
        let Some(view) = &self.view else { return true };
        let (Some(cells), Some(incarnation)) = (view.shown(), view.incarnation()) else { return false };
        columns.iter().all(|n| match user.columns.iter().find(|c| c.index == *n) {
            Some(column) => {
                cells.get(column.key.as_str()).is_some_and(|cell| own.actors.contains(&cell.id.actor))
            }
            None => own.actors.contains(&incarnation),
        })
    }
}

impl Replica {
    /// Moves the rows of related tables that were written here and whose numbers are taken, with what refers to them.
    ///
    /// Call it once all that the server has of these tables is here and nothing that was sent is under way. `rounds`:
    /// how often numbers were refused on this connection.
    pub(crate) fn settle_numbers(
        &mut self,
        members: &[i64],
        rounds: u32,
        now: Timestamp,
    ) -> Result<Settled, ReplicaError> {
        let mut settled = self.transaction_again(|r| {
            r.capture_all(now)?;
            let plan = r.plan(members, rounds)?;
            r.carry_out(members, plan, now)
        })?;
        self.numbers.lists_quietly = false;
        self.numbers.news.extend(settled.renumbered.drain(..).map(|(moved, _)| moved));
        Ok(settled)
    }

    /// Lets rows whose numbers are taken be in conflict with those that have them.
    pub(crate) fn leave_numbers(&mut self, members: &[i64], now: Timestamp) -> Result<(), ReplicaError> {
        self.transaction_again(|r| {
            r.capture_all(now)?;
            let mut rows = vec![];
            for no in members.iter().filter(|no| r.numbers.taken.contains(no)) {
                let keys = numbers::taken(&r.conn, *no, r.containers[no].integer_keys)?;
                rows.extend(keys.into_iter().map(|key| (*no, key)));
            }
            rows.extend(r.forget_taken(members)?);
            r.settle_quietly(rows)
        })
    }

    /// It is decided about all rows of these tables. Returns those that waited for it, since they refer to them.
    fn forget_taken(&mut self, members: &[i64]) -> Result<Vec<(i64, RowKey)>, ReplicaError> {
        let mut waiting = vec![];
        for no in members {
            if self.numbers.taken.remove(no) {
                numbers::forget_taken(&self.conn, *no)?;
                waiting.extend(self.rows_awaiting(*no)?);
            }
        }
        Ok(waiting)
    }

    fn own(&mut self, no: i64) -> Result<Own, ReplicaError> {
        let integer_keys = self.containers[&no].integer_keys;
        let mut own = Own {
            segments: HashSet::new(),
            actors: HashSet::new(),
            keys: BTreeSet::new(),
            moved: moved_rows(&self.conn, no, integer_keys)?,
        };
        for unsent in numbers::unsent(&self.conn, no)? {
            own.segments.insert(unsent.no);
            own.actors.insert(unsent.actor);
            own.keys.extend(self.history.segment(&self.conn, unsent.no)?.keys().cloned());
        }
        own.keys.remove(&RowKey::Description);
        Ok(own)
    }

    // ---- deciding

    fn plan(&mut self, members: &[i64], rounds: u32) -> Result<Plan, ReplicaError> {
        let mut plan = Plan::default();
        let mut own = BTreeMap::new();
        let mut work = vec![];
        for no in members {
            if !self.numbers.taken.contains(no) {
                continue;
            }
            let Some(user) = self.user_table(*no)? else { continue };
            let of_table = self.own(*no)?;
            let mut free = FreeNumbers::new(rounds);
            let mut moved = vec![];
            for key in numbers::taken(&self.conn, *no, user.has_integer_key())? {
                plan.seen.push((*no, key.clone()));
                let Some(fate) = self.fate(*no, &user, &key, &of_table, &mut free)? else { continue };
                if let Fate::Moves(new) | Fate::Known(new) = &fate
                    && *new != key
                {
                    let changed = user.key_columns().into_iter().zip(user.key_values(new)?).collect();
                    moved.push((key.clone(), changed));
                }
                plan.fates.entry(*no).or_default().insert(key, fate);
            }
            own.insert(*no, of_table);
            work.push(Changed { root: *no, no: *no, rows: moved });
        }
        self.follow_all(members, work, &mut own, &mut plan)?;
        Ok(plan)
    }

    /// What becomes of a row whose number is taken; None: it stays as it is.
    fn fate(
        &mut self,
        no: i64,
        user: &UserTable,
        key: &RowKey,
        own: &Own,
        free: &mut FreeNumbers,
    ) -> Result<Option<Fate>, ReplicaError> {
        let changes = self.changes_of_own_row(no, key, &own.actors)?;
        if changes.is_empty() {
            return Ok(None);
        }
        let document = self.own_document(no, key)?;
        let view = document.evaluate();
        let origins = origins(key, &view, &changes);
        if let Some(place) = self.captured_before(no, user, key, &document, own)? {
            return Ok(Some(Fate::Known(place)));
        }
        if let Some(place) = self.known_place(no, key, &origins, own)? {
            return Ok(Some(Fate::Known(place)));
        }
        if !self.may_renumber(no) || user.key_is_reference() || !self.others_have(no, key, own, &document)? {
            return Ok(None);
        }
        match view.incarnation() {
            None => return Ok(Some(Fate::Gone)),
            Some(row) if !changes.contains(&row) => return Ok(None),
            Some(_) => {}
        }
        let new = self.free_number(no, user, free)?.map(RowKey::Integer);
        match new {
            Some(new) if self.has_room_for(user, key, &new)? => Ok(Some(Fate::Moves(new))),
            _ => Ok(None),
        }
    }

    /// The actors of those own changes of a key that are of a row which was inserted here, not of one that the server has or
    /// had; none where changes of both build on each other.
    fn changes_of_own_row(
        &mut self,
        no: i64,
        key: &RowKey,
        own: &HashSet<Actor>,
    ) -> Result<Vec<Actor>, ReplicaError> {
        let (mut found, mut hashes): (Vec<Actor>, HashSet<ChangeHash>) = Default::default();
        for at in documents::changes(&self.conn, no, key)? {
            let (actor, change) = self.history.change(&self.conn, at)?;
            if !own.contains(&actor) {
                continue;
            }
            let is_of_own = match change.ops.first().map(|op| (&op.action, &op.preds)) {
                Some((Action::Live(row), _)) => *row == OWN || found.contains(row),
                Some((Action::Dead, ended)) => ended.iter().any(|op| found.contains(&op.actor)),
                _ => false,
            };
            if is_of_own {
                found.push(actor);
                hashes.insert(self.history.hash(&self.conn, at)?);
            } else if change.deps.iter().any(|dep| hashes.contains(dep)) {
                return Ok(vec![]);
            }
        }
        Ok(found)
    }

    /// Where a row that was written here is at the server.
    fn known_place(
        &mut self,
        no: i64,
        key: &RowKey,
        origins: &[Origin],
        own: &Own,
    ) -> Result<Option<RowKey>, ReplicaError> {
        for (old, actor) in origins {
            let place = numbers::moved_to(&self.conn, no, actor, old)?;
            for place in place.into_iter().chain([old.clone()]) {
                for at in documents::changes(&self.conn, no, &place)? {
                    if own.segments.contains(&at.segment()) {
                        continue;
                    }
                    let (by, change) = self.history.change(&self.conn, at)?;
                    let names = |op: &crate::change::Op| match &op.action {
                        Action::Put(value) if op.key == MOVED => {
                            let named = origin::decode(value.as_ref(), matches!(key, RowKey::Integer(_)));
                            named.contains(&(old.clone(), *actor))
                        }
                        _ => false,
                    };
                    if (by == *actor && place == *old) || change.ops.iter().any(names) {
                        return Ok(Some(place));
                    }
                }
            }
        }
        Ok(None)
    }

    /// Whether others have a row under a key: one that lives, or lived unknown to those who wrote the own one. To such a number rows
    /// of others may refer, and the table's AUTOINCREMENT gives it to nobody else.
    fn others_have(
        &mut self,
        no: i64,
        key: &RowKey,
        own: &Own,
        known: &Document,
    ) -> Result<bool, ReplicaError> {
        let mut others = Evaluation::default();
        for at in documents::changes(&self.conn, no, key)? {
            if !own.segments.contains(&at.segment()) {
                let (actor, change) = self.history.change(&self.conn, at)?;
                others.add(self.history.hash(&self.conn, at)?, actor, &change);
            }
        }
        let known: HashSet<Actor> = known.changes().map(|(_, actor, _)| *actor).collect();
        let view = others.view();
        let unknown = |cell: &Cell| !known.contains(&cell.id.actor);
        Ok(view.is_live() || view.cells.get("").into_iter().flatten().any(unknown))
    }

    /// A row as it was written here; None if nothing of these columns was.
    ///
    /// What others wrote to it, or under its key, counts only as far as it was known to who wrote here: another value may show by now.
    fn own_row(
        &mut self,
        no: i64,
        user: &UserTable,
        key: &RowKey,
        columns: &[usize],
        own: &Own,
    ) -> Result<Option<OwnRow>, ReplicaError> {
        let changes = documents::changes(&self.conn, no, key)?;
        let is_own = |at: &documents::At| own.segments.contains(&at.segment());
        if changes.iter().all(is_own)
            && let Some(values) = user.read(&self.conn, key)?
        {
            return Ok(Some(OwnRow { values, view: None }));
        }
        let written = user.columns.iter().filter(|c| columns.contains(&c.index));
        let written: Vec<&str> = written.map(|c| c.key.as_str()).collect();
        let mut may_refer = written.len() < columns.len();
        for at in changes.into_iter().filter(is_own) {
            may_refer = may_refer
                || self
                    .history
                    .change(&self.conn, at)?
                    .1
                    .ops
                    .iter()
                    .any(|op| written.contains(&op.key.as_str()));
        }
        if !may_refer {
            return Ok(None);
        }
        let view = self.own_document(no, key)?.evaluate();
        Ok(row::shown(&view, user).map(|values| OwnRow { values, view: Some(view) }))
    }

    // ---- carrying out

    fn carry_out(&mut self, members: &[i64], plan: Plan, now: Timestamp) -> Result<Settled, ReplicaError> {
        let (mut settled, mut again) = (Settled::default(), vec![]);
        let numbers: BTreeSet<i64> = plan.fates.keys().chain(plan.values.keys()).copied().collect();
        for no in &numbers {
            let (fates, values) = (plan.fates.get(no), plan.values.get(no));
            let (places, rewritten) = self.rewrite(*no, fates, values)?;
            again.extend(rewritten.into_iter().map(|key| (*no, key)));
            if !places.is_empty() {
                settled.places.insert(*no, places);
            }
        }
        let waiting = self.forget_taken(members)?;
        let time = self.corrected(now);
        for (no, fates) in &plan.fates {
            for (key, fate) in fates {
                if let (
                    RowKey::Integer(old),
                    Fate::Moves(RowKey::Integer(new)) | Fate::Known(RowKey::Integer(new)),
                ) = (key, fate)
                    && old != new
                {
                    let table = self.containers[no].table.clone();
                    settled.renumbered.push((Renumbered { table, old: *old, new: *new }, time));
                }
            }
        }
        // First the rows that came, so that no value is in two rows; then those that moved, parents before children.
        let mut rows = plan.seen;
        let mut ordered: Vec<_> = numbers.iter().map(|no| (self.depth(*no), *no)).collect();
        ordered.sort_unstable();
        for fates in &plan.fates {
            rows.extend(fates.1.keys().map(|key| (*fates.0, key.clone())));
        }
        for (_, no) in &ordered {
            let fates = plan.fates.get(no).into_iter().flatten();
            rows.extend(fates.filter_map(|(_, fate)| match fate {
                Fate::Moves(new) | Fate::Known(new) => Some((*no, new.clone())),
                Fate::Gone => None,
            }));
            let keys = plan.values.get(no).into_iter().flat_map(|values| values.keys());
            rows.extend(keys.map(|key| (*no, key.clone())));
        }
        rows.append(&mut again);
        rows.extend(waiting);
        self.settle_quietly(rows)?;
        self.change_others(plan.others.as_deref().unwrap_or_default())?;
        self.tell_application(&settled.renumbered)?;
        Ok(settled)
    }
}

/// The changes for which a row that was written here stands: the insert first.
fn origins(key: &RowKey, view: &View, changes: &[Actor]) -> Vec<Origin> {
    let cells = view.cells.get(MOVED).into_iter().flatten();
    let cells = cells.filter(|cell| changes.contains(&cell.incarnation));
    let integer_keys = matches!(key, RowKey::Integer(_));
    let mut origins: Vec<Origin> =
        cells.flat_map(|cell| origin::decode(row::plain(cell).as_ref(), integer_keys)).collect();
    origins.extend(changes.iter().map(|actor| (key.clone(), *actor)));
    origins
}
