//! Placement: the table shows what the documents say, as far as its constraints allow.
//!
//! `writing` puts one row and sees that the table then shows it; `claims` and `parents` say what UNIQUE and foreign keys
//! demand; `held` keeps rows that the table does not show, and `retries` has them looked at again.
//!
//! The table is a pure function of documents and description, so the order of arrival must not matter:
//! * For UNIQUE, a value is taken in the order in which the home server accepted the claims to it: of two rows
//!   with one value the earlier shows and the later is *held*. A row held for a missing parent keeps its
//!   claims, so who wins depends on this table's documents alone.
//! * A live child of a parent that is not shown is held, where the application keeps that foreign key, and unless this
//!   replica's own application wrote it so. A child in a net leans on a parent that is held for a missing parent itself.
//! * What only this table refuses (CHECK, NOT NULL, a trigger that raises) holds the row here.
//!
//! When a row comes, goes or changes, the rows that it may free or block are looked at again.

mod circles;
mod claims;
mod deciding;
mod held;
mod nets;
mod parents;
mod retries;
mod search;
mod writing;

pub(crate) use retries::Retries;
pub(crate) use search::Unheard;
pub(crate) use writing::Stumbles;

use crate::capture::encode_values;
use crate::document::View;
use crate::key::RowKey;
use crate::replica::{Replica, ReplicaError, Scan, StopKind};
use crate::row;
use crate::store::documents;
use crate::store::holds::{self, Claim, HoldKind};
use crate::store::user_table::{Fault, RowValues, UserTable};
use crate::table::ForeignKey;
use crate::value::Value;
use claims::{parent_claim, unique_claim, unique_claims, unique_values};
use parents::Parent;
use std::collections::{BTreeMap, HashSet, VecDeque};
use std::sync::Arc;
use writing::Deed;

/// How often one row may be looked at in one go; more means that constraints chase each other in a circle.
const LOOKS_MAX: u32 = 64;
/// After how many looks a row waits until all others have been looked at.
const LOOKS_RESTLESS: u32 = 8;

/// Rows still to be looked at.
#[derive(Default)]
struct Queue {
    /// True if the table still equals the documents as they were before this batch, so unchanged values may be read from the
    /// table.
    table_is_true: bool,
    rows: VecDeque<(i64, RowKey)>,
    waiting: HashSet<(i64, RowKey)>,
    looks: std::collections::HashMap<(i64, RowKey), u32>,
    /// Rows that came to be held for missing parents, which may be each other.
    parentless: Vec<(i64, RowKey)>,
    /// Rows whose missing parents are among themselves, on their way into their tables.
    circle: HashSet<(i64, RowKey)>,
    /// Of the row that is being looked at: its parents that are held, as claims, which are there for it all the same.
    leans_on: Vec<Claim>,
    /// Rows that the present row took out of its table.
    displaced: Vec<(i64, RowKey)>,
}

impl Queue {
    fn push(&mut self, no: i64, key: RowKey) {
        let row = (no, key);
        if self.looks.get(&row).copied().unwrap_or(0) < LOOKS_MAX && self.waiting.insert(row.clone()) {
            self.rows.push_back(row);
        }
    }

    /// Whether a row came and went again and again, as rows in a circle do that chase each other: each comes when its parent
    /// is there, and takes its children along when it goes.
    fn is_restless(&self, no: i64, key: &RowKey) -> bool {
        let row = (no, key.clone());
        self.looks.get(&row).is_some_and(|looks| *looks > LOOKS_RESTLESS) && !self.circle.contains(&row)
    }

    /// A row is held. If it was to close a circle, the others of it are looked at again.
    fn was_held(&mut self, no: i64, key: &RowKey, kind: HoldKind) {
        let row = (no, key.clone());
        if self.circle.contains(&row) {
            for (no, key) in std::mem::take(&mut self.circle) {
                self.push(no, key);
            }
        }
        if kind == HoldKind::Foreign {
            self.parentless.push(row);
        }
    }

    /// The table does not take the present row: those that it took out may show.
    fn put_back_displaced(&mut self) {
        for (no, key) in std::mem::take(&mut self.displaced) {
            self.push(no, key);
        }
    }

    fn pop(&mut self) -> Option<(i64, RowKey)> {
        let row = self.rows.pop_front()?;
        self.waiting.remove(&row);
        *self.looks.entry(row.clone()).or_default() += 1;
        Some(row)
    }
}

/// One row on its way into its table.
pub(crate) struct Candidate {
    pub(crate) no: i64,
    pub(crate) key: RowKey,
    pub(crate) user: Arc<UserTable>,
    pub(crate) view: Arc<View>,
    pub(crate) wanted: RowValues,
}

impl Replica {
    /// Brings rows of tables in line with their documents, and all rows that this frees or blocks.
    ///
    /// Call it in a transaction in which nothing is left to capture.
    pub(crate) fn settle(&mut self, rows: Vec<(i64, RowKey)>) -> Result<(), ReplicaError> {
        self.settle_all(rows, Queue::default())
    }

    /// As [`settle`](Self::settle), for rows of which the table shows what their documents did before the
    /// changes that came: values that no change replaced are taken from the table.
    pub(crate) fn settle_beside(&mut self, rows: Vec<(i64, RowKey)>) -> Result<(), ReplicaError> {
        self.settle_all(rows, Queue { table_is_true: true, ..Queue::default() })
    }

    fn settle_all(&mut self, rows: Vec<(i64, RowKey)>, mut queue: Queue) -> Result<(), ReplicaError> {
        rows.into_iter().for_each(|(no, key)| queue.push(no, key));
        loop {
            while let Some((no, key)) = queue.pop() {
                if self.unheard.is_on {
                    self.unheard.containers.insert(no);
                }
                let settled = self.settle_row(no, key, &mut queue);
                settled.map_err(|e| e.of_table(self, no, StopKind::NotApplied))?;
            }
            if queue.parentless.is_empty() || !self.find_circles(&mut queue)? {
                return Ok(());
            }
        }
    }

    fn settle_row(&mut self, no: i64, key: RowKey, queue: &mut Queue) -> Result<(), ReplicaError> {
        let Some(user) = self.user_table(no)? else { return Ok(()) };
        if key == RowKey::Description
            || !self.is_joined(no, &key)
            || self.is_number_taken(no, &key)?
            || holds::refused_row(&self.conn, no, &key)?.is_some()
        {
            return Ok(());
        }
        if queue.table_is_true && self.put_edits(no, &key, &user)? {
            return Ok(());
        }
        let now = user.read(&self.conn, &key)?;
        let beside = match &now {
            Some(now) if queue.table_is_true => self.view_beside(no, &key, &user, now)?,
            _ => None,
        };
        let view = match beside {
            Some(view) => view,
            None => self.history.view(&self.conn, no, &key)?,
        };
        let wanted = row::shown(&view, &user);
        documents::note_conflict(&self.conn, no, &key, view.is_in_conflict())?;
        let Some(wanted) = wanted else {
            self.release(no, &user, &key, None, queue)?;
            return self.take_out(no, &key, &user, now, queue);
        };
        let candidate = Candidate { no, key, user, view, wanted };
        queue.displaced.clear();
        if let Some((kind, cause)) = self.hindrance(&candidate, queue)? {
            return self.hold(&candidate, kind, &cause, now, queue);
        }
        if let Some(cause) = self.stumbles.cause(no, &candidate.key, Deed::Write) {
            if now.is_some() {
                self.stumbles.was_shown(no);
            }
            self.hold(&candidate, HoldKind::Tables, &cause, now, queue)?;
            queue.put_back_displaced();
            return Ok(());
        }
        if queue.is_restless(no, &candidate.key)
            && holds::find(&self.conn, no, &candidate.key)? == Some(HoldKind::Foreign)
        {
            // Once none of them comes and goes any more, it shows whether they come together.
            queue.parentless.push((no, candidate.key));
            return Ok(());
        }
        let Candidate { key, user, wanted, .. } = &candidate;
        match self.put(no, user, key, wanted, now.as_ref()) {
            Ok(()) => self.has_come(&candidate, now, queue),
            Err(fault) => {
                let (kind, cause) = self.cause(no, user, key, wanted, fault)?;
                self.hold(&candidate, kind, &cause, now, queue)?;
                queue.put_back_displaced();
                Ok(())
            }
        }
    }

    /// Whether nothing but its own document says whether a row of a table shows.
    pub(crate) fn stands_apart(&self, no: i64, user: &UserTable) -> bool {
        let state = &self.containers[&no];
        user.acts.is_plain()
            && !self.awaits_numbers(user)
            && user.table.unique.is_empty()
            && user.table.foreign_keys.is_empty()
            && self.containers.children_of(&user.table.name).next().is_none()
            && state.scan() == Scan::No
            && !state.columns.iter().any(|c| c.is_new)
    }

    /// Puts the columns that changes wrote into a row of a table whose rows stand apart; false if more than that is to be
    /// done, or the table does not take it.
    fn put_edits(&mut self, no: i64, key: &RowKey, user: &UserTable) -> Result<bool, ReplicaError> {
        if !self.stands_apart(no, user) {
            return Ok(false);
        }
        let Some(edits) = self.history.take_edits(no, key) else { return Ok(false) };
        let mut changed = Vec::with_capacity(edits.len());
        for (key, value) in &edits {
            if let Some(n) = user.columns.iter().position(|c| c.key == *key) {
                if user.may_convert(n, value.as_ref()) {
                    return Ok(false);
                }
                changed.push((n, value));
            }
        }
        changed.sort_unstable_by_key(|(n, _)| *n);
        match user.update_row(&self.conn, key, &changed) {
            Ok(found) => Ok(found),
            Err(Fault::Store(error)) => Err(error.into()),
            Err(_) => Ok(false),
        }
    }

    /// What a row shows whose table shows what its document did before the changes that came; None if its document has no
    /// baseline. Values that the baseline lacks are taken from the table.
    ///
    /// A put never leaves fewer values under its key than itself. So a value of the insert that stands alone
    /// was never replaced, and is what the table shows.
    fn view_beside(
        &mut self,
        no: i64,
        key: &RowKey,
        user: &UserTable,
        now: &RowValues,
    ) -> Result<Option<Arc<View>>, ReplicaError> {
        let state = &self.containers[&no];
        if state.scan() != Scan::No || state.columns.iter().any(|c| c.is_new) {
            return Ok(None);
        }
        let view = self.history.view_of_baseline(&self.conn, no, key, |baseline, cell| {
            let n = user.columns.iter().position(|c| c.key == cell.key())?;
            let same = match cell.is(now[n].as_ref()) {
                Some(same) => same,
                None => baseline.under(cell.key()).len() == 1,
            };
            same.then(|| now[n].clone())
        })?;
        Ok(view.map(Arc::new))
    }

    /// What keeps a row out of the table, if anything. Later rows with its values are taken out.
    fn hindrance(
        &mut self,
        candidate: &Candidate,
        queue: &mut Queue,
    ) -> Result<Option<(HoldKind, String)>, ReplicaError> {
        queue.leans_on.clear();
        let (mut later, mut refused) = (vec![], vec![]);
        for (rival, shared) in self.rivals(candidate)? {
            let Candidate { no, key, user, view, .. } = candidate;
            if self.is_number_taken(*no, &rival)? {
                // What its document shows is the row that has the number. It moves first, and is looked at again then.
                let columns = shared.first().map_or(&[][..], Vec::as_slice);
                return Ok(Some((HoldKind::Unique, clash(user, columns, &rival, false))));
            }
            let rival_view = self.history.view(&self.conn, *no, &rival)?;
            // What the server did not take has no place in the order.
            if holds::refused_row(&self.conn, *no, &rival)?.is_some() {
                if rival_view.is_live() {
                    let columns = shared.first().map_or(&[][..], Vec::as_slice);
                    let cause = format!(
                        "UNIQUE ({}): row {}, whose edit the server refused, has the same",
                        names(user, columns),
                        user.key_text(&rival)
                    );
                    return Ok(Some((HoldKind::Unique, cause)));
                }
                refused.push(rival);
                continue;
            }
            let (gives_way, columns) =
                self.gives_way(*no, user, (&rival, &rival_view), (key, view), &shared)?;
            if gives_way {
                let is_held = holds::find(&self.conn, *no, &rival)?.is_some();
                return Ok(Some((HoldKind::Unique, clash(user, &columns, &rival, is_held))));
            }
            later.push((rival, columns, rival_view));
        }
        for rival in refused {
            self.displace_refused(candidate, &rival, queue)?;
        }
        for (rival, columns, view) in later {
            self.displace(candidate, rival, &columns, view, queue)?;
        }
        if let Some(cause) = self.awaited_number(candidate)? {
            return Ok(Some((HoldKind::Number, cause)));
        }
        for foreign in &candidate.user.table.foreign_keys {
            let values = match self.parent(candidate, foreign)? {
                Parent::Shown => continue,
                Parent::Held(claims) => {
                    queue.leans_on.extend(claims);
                    continue;
                }
                Parent::Missing(values) => values,
            };
            if !self.is_in_circle(candidate, foreign, &values, queue)? {
                let cause = format!(
                    "FOREIGN KEY ({}): no row of {} has {}",
                    foreign_names(&candidate.user, foreign),
                    foreign.parent_table,
                    texts(&values)
                );
                return Ok(Some((HoldKind::Foreign, cause)));
            }
        }
        Ok(None)
    }

    /// Rows, shown or held for a missing parent, that have UNIQUE values of the candidate, each with the columns of those.
    fn rivals(&self, candidate: &Candidate) -> Result<BTreeMap<RowKey, Vec<Vec<usize>>>, ReplicaError> {
        let Candidate { no, key, user, wanted, .. } = candidate;
        let mut rivals = BTreeMap::<RowKey, Vec<Vec<usize>>>::new();
        // Only what lacks a parent keeps others out while it is held.
        let any_held = !user.table.foreign_keys.is_empty() && holds::any(&self.conn, *no)?;
        for unique in user.table.unique.iter() {
            let Some(values) = unique_values(user, unique, key, wanted)? else { continue };
            let columns: Vec<_> = values.iter().map(|v| v.index).collect();
            let mut keys = user.keys_where(&self.conn, &values)?;
            if any_held {
                let claim = unique_claim(user, &values);
                keys.extend(holds::parentless(&self.conn, *no, &claim, user.has_integer_key())?);
            }
            for rival in keys.into_iter().filter(|k| k != key) {
                rivals.entry(rival).or_default().push(columns.clone());
            }
        }
        Ok(rivals)
    }

    /// Takes a later row out of the table because an earlier one has its value.
    fn displace(
        &mut self,
        winner: &Candidate,
        rival: RowKey,
        unique: &[usize],
        view: Arc<View>,
        queue: &mut Queue,
    ) -> Result<(), ReplicaError> {
        let user = winner.user.clone();
        let now = user.read(&self.conn, &rival)?;
        let Some(wanted) = row::shown(&view, &user) else {
            queue.push(winner.no, rival);
            return Ok(());
        };
        let cause = clash(&user, unique, &winner.key, false);
        queue.displaced.push((winner.no, rival.clone()));
        let loser = Candidate { no: winner.no, key: rival, user, view, wanted };
        self.hold(&loser, HoldKind::Unique, &cause, now, queue)
    }

    /// Takes a row out of the table that the server refused: an accepted one has its value. It stays listed, with what was
    /// written.
    fn displace_refused(
        &mut self,
        winner: &Candidate,
        rival: &RowKey,
        queue: &mut Queue,
    ) -> Result<(), ReplicaError> {
        let Candidate { no, user, .. } = winner;
        let Some(now) = user.read(&self.conn, rival)? else { return Ok(()) };
        if self.remove(*no, rival, user)? {
            holds::keep_refused(&self.conn, *no, rival, &encode_values(&now, user))?;
            self.has_gone(*no, rival, user, &now, None, queue)?;
        }
        Ok(())
    }

    /// Removes a row that the table shows, and looks at those that depended on it or were blocked by it.
    fn take_out(
        &mut self,
        no: i64,
        key: &RowKey,
        user: &Arc<UserTable>,
        now: Option<RowValues>,
        queue: &mut Queue,
    ) -> Result<(), ReplicaError> {
        let Some(now) = now else { return Ok(()) };
        if !self.remove(no, key, user)? {
            let cause = format!("table {} does not let it be deleted", user.table.name);
            return self.note_held(no, key, HoldKind::Local, &cause, &[]);
        }
        self.has_gone(no, key, user, &now, None, queue)
    }

    fn has_come(
        &mut self,
        candidate: &Candidate,
        before: Option<RowValues>,
        queue: &mut Queue,
    ) -> Result<(), ReplicaError> {
        let Candidate { no, key, user, wanted, .. } = candidate;
        self.release(*no, user, key, Some(wanted), queue)?;
        holds::watch(&self.conn, *no, key, &queue.leans_on)?;
        match &before {
            Some(before) => self.has_gone(*no, key, user, before, Some(wanted), queue)?,
            None => self.retries.table_changed(&user.table.name, false),
        }
        self.wake_earlier(candidate, queue)?;
        for (child_no, child, foreign) in self.references_to(&user.table.name)? {
            let any_exempt = holds::any_exempt(&self.conn, child_no)?;
            if !any_exempt && !holds::any(&self.conn, child_no)? {
                continue;
            }
            let Some(values) = self.shown_parent_values(user, &foreign, key, wanted)? else { continue };
            let claim = parent_claim(&foreign, Some(&user.table), &values);
            if any_exempt {
                holds::end_exemptions(&self.conn, child_no, &claim)?;
            }
            for held in holds::claimants(&self.conn, child_no, &claim, child.has_integer_key())? {
                queue.push(child_no, held);
            }
        }
        Ok(())
    }

    /// Looks at rows that cared about values which a row no longer has.
    fn has_gone(
        &mut self,
        no: i64,
        key: &RowKey,
        user: &Arc<UserTable>,
        before: &RowValues,
        after: Option<&RowValues>,
        queue: &mut Queue,
    ) -> Result<(), ReplicaError> {
        if holds::any(&self.conn, no)? {
            let freed = unique_claims(user, key, before)?;
            let kept = after.map_or(Ok(vec![]), |after| unique_claims(user, key, after))?;
            self.wake(no, key, freed.iter().filter(|claim| !kept.contains(claim)), queue)?;
        }
        self.retries.table_changed(&user.table.name, false);
        for (child_no, orphan) in self.orphans(user, key, before, after)? {
            queue.push(child_no, orphan);
        }
        Ok(())
    }
}

fn clash(user: &UserTable, unique: &[usize], winner: &RowKey, is_held: bool) -> String {
    // It keeps its claim while a parent is missing.
    let held = if is_held { ", held itself," } else { "" };
    format!(
        "UNIQUE ({}): row {}{held} has the same and was accepted first",
        names(user, unique),
        user.key_text(winner)
    )
}

fn names(user: &UserTable, columns: &[usize]) -> String {
    columns.iter().map(|n| user.table.columns[*n].name.as_str()).collect::<Vec<_>>().join(", ")
}

fn foreign_names(user: &UserTable, foreign: &ForeignKey) -> String {
    names(user, &foreign.columns)
}

fn texts(values: &[Value]) -> String {
    values.iter().map(Value::to_string).collect::<Vec<_>>().join(", ")
}
