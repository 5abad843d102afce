//! Placement: the table shows what the documents say, as far as its constraints allow.
//!
//! The table is a pure function of documents and description, so the order of arrival must not matter:
//! * For UNIQUE, claims are taken in the order (time, actor, key) of each row's latest claim: of two rows
//!   with one value the earlier shows and the later is *held*. A row held for a missing parent keeps its
//!   claims, so who wins depends on this table's documents alone.
//! * A live child of a parent that is not shown is held.
//! * What only this table refuses (CHECK, NOT NULL, a trigger that raises) holds the row here.
//!
//! When a row comes, goes or changes, the rows that it may free or block are looked at again.

use crate::change::Action;
use crate::document::View;
use crate::id::Actor;
use crate::key::RowKey;
use crate::replica::{Replica, ReplicaError, Scan, StopKind};
use crate::row;
use crate::store::documents;
use crate::store::holds::{self, Claim, HoldKind};
use crate::store::user_table::{Compared, DocumentColumn, Fault, RowValues, UserTable, quote};
use crate::table::{Collation, ForeignKey, Table, Unique};
use crate::value::{Value, ValueRef};
use sha2::{Digest, Sha256};
use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

/// How often one row may be looked at in one go; more means that constraints chase each other in a circle.
const LOOKS_MAX: u32 = 64;

/// The order in which rows take what only one may have.
type Rank = (Actor, RowKey);

/// Rows still to be looked at.
#[derive(Default)]
struct Queue {
    /// Whether the table shows what documents did before the changes that are being settled.
    table_is_true: bool,
    rows: VecDeque<(i64, RowKey)>,
    waiting: HashSet<(i64, RowKey)>,
    looks: std::collections::HashMap<(i64, RowKey), u32>,
}

impl Queue {
    fn push(&mut self, no: i64, key: RowKey) {
        let row = (no, key);
        if self.looks.get(&row).copied().unwrap_or(0) < LOOKS_MAX && self.waiting.insert(row.clone()) {
            self.rows.push_back(row);
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
struct Candidate {
    no: i64,
    key: RowKey,
    user: Arc<UserTable>,
    view: Arc<View>,
    wanted: RowValues,
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
        while let Some((no, key)) = queue.pop() {
            let settled = self.settle_row(no, key, &mut queue);
            settled.map_err(|e| e.of_table(self, no, StopKind::NotApplied))?;
        }
        Ok(())
    }

    fn settle_row(&mut self, no: i64, key: RowKey, queue: &mut Queue) -> Result<(), ReplicaError> {
        let Some(user) = self.user_table(no)? else { return Ok(()) };
        if key == RowKey::Description
            || !self.is_joined(no, &key)
            || holds::refused_row(&self.conn, no, &key)?.is_some()
        {
            return Ok(());
        }
        if queue.table_is_true && self.put_plain_edit(no, &key, &user)? {
            return Ok(());
        }
        let now = user.read(&self.conn, &key)?;
        let beside = match &now {
            Some(now) if queue.table_is_true => self.wanted_beside(no, &key, &user, now)?,
            _ => None,
        };
        let (view, wanted) = match beside {
            Some((view, wanted)) => (view, Some(wanted)),
            None => {
                let view = self.history.view(&self.conn, no, &key)?;
                let wanted = row::shown(&view, &user);
                (view, wanted)
            }
        };
        documents::note_conflict(&self.conn, no, &key, view.is_in_conflict())?;
        let Some(wanted) = wanted else {
            holds::release(&self.conn, no, &key)?;
            return self.take_out(no, &key, &user, now, queue);
        };
        let candidate = Candidate { no, key, user, view, wanted };
        if let Some((kind, cause)) = self.hindrance(&candidate, queue)? {
            return self.hold(&candidate, kind, &cause, now, queue);
        }
        match self.put(&candidate, now.as_ref()) {
            Ok(()) => self.has_come(&candidate, now, queue),
            Err(Fault::Store(error)) => Err(error.into()),
            Err(Fault::Unique) => {
                let cause = "a UNIQUE constraint of this table alone".to_owned();
                self.hold(&candidate, HoldKind::Local, &cause, now, queue)
            }
            Err(Fault::Constraint(cause)) => self.hold(&candidate, HoldKind::Local, &cause, now, queue),
        }
    }

    /// Puts the first edit of a plain insert into a table whose rows do not depend on others; false if it is
    /// anything else, or the table does not take it.
    fn put_plain_edit(&mut self, no: i64, key: &RowKey, user: &UserTable) -> Result<bool, ReplicaError> {
        let state = &self.containers[&no];
        let apart = user.table.unique.is_empty()
            && user.table.foreign_keys.is_empty()
            && self.containers.children_of(&user.table.name).next().is_none();
        if !apart || state.scan() != Scan::No || state.columns.iter().any(|c| c.is_new) {
            return Ok(false);
        }
        let Some((changes, outline)) = self.history.plain(&self.conn, no, key)? else { return Ok(false) };
        let [first, second] = changes[..] else { return Ok(false) };
        let (actor, change) = self.history.change(&self.conn, second)?;
        if !outline.plain(self.history.hash(&self.conn, first)?).is_edited_by(&actor, &change) {
            return Ok(false);
        }
        let put = |(n, column): (usize, &DocumentColumn)| {
            let op = change.ops[1..].iter().find(|op| op.key == column.key)?;
            if let Action::Put(value) = &op.action { Some((n, value)) } else { None }
        };
        let changed: Vec<_> = user.columns.iter().enumerate().filter_map(put).collect();
        match user.update_row(&self.conn, key, &changed) {
            Ok(found) => Ok(found),
            Err(Fault::Store(error)) => Err(error.into()),
            Err(_) => Ok(false),
        }
    }

    /// What a row shall show, from the changes beside its insert and from what it shows; None if only the whole
    /// document can tell.
    ///
    /// A put never leaves fewer values under its key than itself. So a value of the insert that stands alone
    /// was never replaced, and is what the table shows.
    fn wanted_beside(
        &mut self,
        no: i64,
        key: &RowKey,
        user: &UserTable,
        now: &RowValues,
    ) -> Result<Option<(Arc<View>, RowValues)>, ReplicaError> {
        let state = &self.containers[&no];
        if state.scan() != Scan::No || state.columns.iter().any(|c| c.is_new) {
            return Ok(None);
        }
        let Some((document, outlined)) = self.history.outline(&self.conn, no, key)? else { return Ok(None) };
        let view = document.evaluate();
        let plain = view.waiting.is_empty() && view.void.is_empty();
        if !plain || view.cells.values().any(|cells| cells.len() != 1) {
            return Ok(None);
        }
        let Some(cells) = view.shown() else { return Ok(None) };
        let value = |(n, column): (usize, &DocumentColumn)| match cells.get(column.key.as_str()) {
            None => column.absent.clone(),
            Some(cell) if outlined.contains(&cell.id.actor) => now[n].clone(),
            Some(cell) => row::plain(cell),
        };
        let wanted = user.columns.iter().enumerate().map(value).collect();
        drop(cells);
        Ok(Some((Arc::new(view), wanted)))
    }

    /// What keeps a row out of the table, if anything. Later rows with its values are taken out.
    fn hindrance(
        &mut self,
        candidate: &Candidate,
        queue: &mut Queue,
    ) -> Result<Option<(HoldKind, String)>, ReplicaError> {
        let mut later = vec![];
        let rivals = self.rivals(candidate)?;
        if !rivals.is_empty() {
            let rank = rank(&candidate.view, &candidate.user, &candidate.key);
            for (rival, unique) in rivals {
                let view = self.history.view(&self.conn, candidate.no, &rival)?;
                if self::rank(&view, &candidate.user, &rival) < rank {
                    let cause = clash(&candidate.user, &unique, &rival);
                    return Ok(Some((HoldKind::Unique, cause)));
                }
                later.push((rival, unique, view));
            }
        }
        for (rival, unique, view) in later {
            self.displace(candidate, rival, &unique, view, queue)?;
        }
        for foreign in &candidate.user.table.foreign_keys {
            if let Some(values) = self.missing_parent(candidate, foreign)? {
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

    /// Rows, shown or held for a missing parent, that have one of the candidate's UNIQUE values.
    fn rivals(&self, candidate: &Candidate) -> Result<Vec<(RowKey, Vec<usize>)>, ReplicaError> {
        let Candidate { no, key, user, wanted, .. } = candidate;
        let mut rivals: Vec<(RowKey, Vec<usize>)> = vec![];
        let any_held = holds::count(&self.conn, *no)? > 0;
        for unique in user.table.unique.iter() {
            let Some(values) = unique_values(user, unique, key, wanted)? else { continue };
            let columns: Vec<_> = values.iter().map(|v| v.index).collect();
            let mut keys = user.keys_where(&self.conn, &values)?;
            if any_held {
                let claim = unique_claim(user, &values);
                for held in holds::claimants(&self.conn, *no, &claim, user.has_integer_key())? {
                    if holds::find(&self.conn, *no, &held)? == Some(HoldKind::Foreign) {
                        keys.push(held);
                    }
                }
            }
            rivals.extend(keys.into_iter().filter(|k| k != key).map(|k| (k, columns.clone())));
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
        let cause = clash(&user, unique, &winner.key);
        let loser = Candidate { no: winner.no, key: rival, user, view, wanted };
        self.hold(&loser, HoldKind::Unique, &cause, now, queue)
    }

    /// Whether a row names a parent that is not shown. `value` gives a column of the table by its index.
    pub(crate) fn lacks_parent(
        &self,
        user: &UserTable,
        value: impl Fn(usize) -> Value,
    ) -> Result<bool, ReplicaError> {
        for foreign in &user.table.foreign_keys {
            let values: Vec<_> = foreign.columns.iter().map(|n| value(*n)).collect();
            if values.contains(&Value::Null) || parent_exists(self, foreign, &values)? {
                continue;
            }
            if !foreign.parent_table.eq_ignore_ascii_case(&user.table.name) {
                return Ok(true);
            }
            let place =
                |name: &String| user.table.columns.iter().position(|c| c.name.eq_ignore_ascii_case(name));
            let own = foreign.parent_columns.iter().map(|name| place(name).map(&value));
            if !own.zip(&values).all(|(a, b)| a.is_some_and(|a| a.as_ref().same(b.as_ref()))) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Rows that refer to values which a row had and has no longer.
    pub(crate) fn orphans(
        &self,
        user: &UserTable,
        key: &RowKey,
        before: &RowValues,
        after: Option<&RowValues>,
    ) -> Result<Vec<(i64, RowKey)>, ReplicaError> {
        let mut orphans = vec![];
        for (child_no, child, foreign) in self.references_to(&user.table.name)? {
            let Some(old) = parent_values(user, &foreign, key, before)? else { continue };
            if let Some(after) = after
                && let Some(new) = parent_values(user, &foreign, key, after)?
                && old.iter().zip(&new).all(|(a, b)| a.as_ref().same(b.as_ref()))
            {
                continue;
            }
            // The parent's columns say which values are equal.
            let collation = |name: &String| {
                let parent = user.table.columns.iter().find(|c| c.name.eq_ignore_ascii_case(name));
                parent.map_or(Collation::Binary, |c| c.collation)
            };
            let collations = foreign.parent_columns.iter().map(collation);
            let compared = foreign.columns.iter().zip(collations).zip(old);
            let compared: Vec<_> = compared
                .map(|((index, collation), value)| Compared { index: *index, collation, value })
                .collect();
            let keys = child.keys_where(&self.conn, &compared)?;
            orphans.extend(keys.into_iter().map(|key| (child_no, key)));
        }
        Ok(orphans)
    }

    /// Whether rows are held in this container or in one that refers to it, so that every row that comes matters.
    pub(crate) fn any_held_around(&self, no: i64) -> Result<bool, ReplicaError> {
        let Some(state) = self.containers.get(&no) else { return Ok(false) };
        if holds::count(&self.conn, no)? > 0 {
            return Ok(true);
        }
        for child in self.containers.children_of(&state.table) {
            if holds::count(&self.conn, child)? > 0 {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn missing_parent(
        &self,
        candidate: &Candidate,
        foreign: &ForeignKey,
    ) -> Result<Option<Vec<Value>>, ReplicaError> {
        let Some(values) = foreign_values(&candidate.user, foreign, &candidate.key, &candidate.wanted)?
        else {
            return Ok(None);
        };
        let own_table = foreign.parent_table.eq_ignore_ascii_case(&candidate.user.table.name);
        if own_table && self.is_own_parent(candidate, foreign, &values)? {
            return Ok(None);
        }
        let exists = parent_exists(self, foreign, &values)?;
        Ok((!exists).then_some(values))
    }

    /// Whether a row of a table that refers to itself is its own parent.
    fn is_own_parent(
        &self,
        candidate: &Candidate,
        foreign: &ForeignKey,
        values: &[Value],
    ) -> Result<bool, ReplicaError> {
        let table = &candidate.user.table;
        let place = |name: &String| table.columns.iter().position(|c| c.name.eq_ignore_ascii_case(name));
        let Some(columns) = foreign.parent_columns.iter().map(place).collect::<Option<Vec<_>>>() else {
            return Ok(false);
        };
        let own = column_values(&candidate.user, &columns, &candidate.key, &candidate.wanted)?;
        Ok(own.iter().zip(values).all(|(a, b)| a.as_ref().same(b.as_ref())))
    }

    fn put(&self, candidate: &Candidate, now: Option<&RowValues>) -> Result<(), Fault> {
        let Candidate { key, user, wanted, .. } = candidate;
        let Some(now) = now else { return user.insert_row(&self.conn, key, wanted) };
        let changed: Vec<_> =
            wanted.iter().enumerate().filter(|(n, value)| !now[*n].as_ref().same(value.as_ref())).collect();
        user.update_row(&self.conn, key, &changed).map(drop)
    }

    fn hold(
        &mut self,
        candidate: &Candidate,
        kind: HoldKind,
        cause: &str,
        now: Option<RowValues>,
        queue: &mut Queue,
    ) -> Result<(), ReplicaError> {
        let Candidate { no, key, user, wanted, .. } = candidate;
        let mut claims = unique_claims(user, key, wanted)?;
        for foreign in &user.table.foreign_keys {
            if let Some(values) = foreign_values(user, foreign, key, wanted)? {
                let parent = match self.containers.of_table(&foreign.parent_table) {
                    Some(parent) => self.user_table(parent.no)?,
                    None => None,
                };
                claims.push(parent_claim(foreign, parent.as_ref().map(|p| &p.table), &values));
            }
        }
        holds::hold(&self.conn, *no, key, kind, cause, &claims)?;
        self.take_out(*no, key, user, now, queue)
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
        let Some(now) = now else {
            // A row that was held and is gone may have blocked others all the same.
            return self.wake_blocked(no, key, user, None, queue);
        };
        match user.delete_row(&self.conn, key) {
            Err(Fault::Store(error)) => return Err(error.into()),
            // A trigger of the application does not let it go; but what documents say comes first.
            Err(_) => self.without_triggers(|r| match user.delete_row(&r.conn, key) {
                Err(Fault::Store(error)) => Err(error.into()),
                Err(_) => Err(ReplicaError::Invalid {
                    what: format!("table {} does not let a row be deleted", user.table.name),
                }),
                Ok(()) => Ok(()),
            })?,
            Ok(()) => {}
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
        holds::release(&self.conn, *no, key)?;
        if let Some(before) = &before {
            self.has_gone(*no, key, user, before, Some(wanted), queue)?;
        }
        for (child_no, child, foreign) in self.references_to(&user.table.name)? {
            if holds::count(&self.conn, child_no)? == 0 {
                continue;
            }
            let Some(values) = parent_values(user, &foreign, key, wanted)? else { continue };
            let claim = parent_claim(&foreign, Some(&user.table), &values);
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
        self.wake_blocked(no, key, user, Some(before), queue)?;
        for (child_no, orphan) in self.orphans(user, key, before, after)? {
            queue.push(child_no, orphan);
        }
        Ok(())
    }

    /// Looks again at held rows that competed with these values, or with any if they are not known.
    fn wake_blocked(
        &mut self,
        no: i64,
        key: &RowKey,
        user: &Arc<UserTable>,
        before: Option<&RowValues>,
        queue: &mut Queue,
    ) -> Result<(), ReplicaError> {
        let blocked = match before {
            Some(before) => self.blocked_by(no, key, user, before)?,
            None if holds::count(&self.conn, no)? == 0 => vec![],
            None => holds::of_kind(&self.conn, no, HoldKind::Unique, user.has_integer_key())?,
        };
        blocked.into_iter().filter(|held| held != key).for_each(|held| queue.push(no, held));
        Ok(())
    }

    /// Held rows that competed with a row's values.
    pub(crate) fn blocked_by(
        &self,
        no: i64,
        key: &RowKey,
        user: &UserTable,
        values: &RowValues,
    ) -> Result<Vec<RowKey>, ReplicaError> {
        let mut blocked = vec![];
        if holds::count(&self.conn, no)? > 0 {
            for claim in unique_claims(user, key, values)? {
                blocked.extend(holds::claimants(&self.conn, no, &claim, user.has_integer_key())?);
            }
        }
        blocked.retain(|held| held != key);
        Ok(blocked)
    }

    /// Containers whose tables refer to this one, with how.
    fn references_to(&self, parent: &str) -> Result<Vec<(i64, Arc<UserTable>, ForeignKey)>, ReplicaError> {
        let mut found = vec![];
        for no in self.containers.children_of(parent) {
            let Some(user) = self.user_table(no)? else { continue };
            for foreign in &user.table.foreign_keys {
                if foreign.parent_table.eq_ignore_ascii_case(parent) {
                    found.push((no, user.clone(), foreign.clone()));
                }
            }
        }
        Ok(found)
    }
}

/// The actor of the latest of a row's claims to UNIQUE values, then its key.
fn rank(view: &View, user: &UserTable, key: &RowKey) -> Rank {
    let mut latest = Actor([0; Actor::LEN]);
    if let Some(cells) = view.shown() {
        let columns = user.table.unique.iter().flat_map(|u| u.columns.iter().filter_map(|t| t.column));
        for index in columns {
            let column = user.columns.iter().find(|c| c.index == index);
            if let Some(cell) = column.and_then(|c| cells.get(c.key.as_str())) {
                latest = latest.max(cell.id.actor);
            }
        }
    }
    (latest, key.clone())
}

/// Values of columns of the table (by index), from the key or the document columns.
fn column_values(
    user: &UserTable,
    columns: &[usize],
    key: &RowKey,
    values: &RowValues,
) -> Result<Vec<Value>, ReplicaError> {
    let key_values = user.key_values(key)?;
    Ok(columns.iter().map(|index| user.value_at(*index, &key_values, values)).collect())
}

/// The columns and values of a plain UNIQUE index, compared as it does; None if one is NULL or the index is not plain.
fn unique_values(
    user: &UserTable,
    unique: &Unique,
    key: &RowKey,
    values: &RowValues,
) -> Result<Option<Vec<Compared>>, ReplicaError> {
    let Some(columns) = unique.columns.iter().map(|t| t.column).collect::<Option<Vec<_>>>() else {
        return Ok(None);
    };
    if unique.partial.is_some() {
        return Ok(None);
    }
    let values = column_values(user, &columns, key, values)?;
    if values.contains(&Value::Null) {
        return Ok(None);
    }
    let collations =
        unique.columns.iter().map(|t| Collation::from_name(&t.collation).unwrap_or(Collation::Binary));
    let compared = columns.into_iter().zip(collations).zip(values);
    Ok(Some(compared.map(|((index, collation), value)| Compared { index, collation, value }).collect()))
}

fn unique_claims(user: &UserTable, key: &RowKey, values: &RowValues) -> Result<Vec<Claim>, ReplicaError> {
    let mut claims = vec![];
    for unique in &user.table.unique {
        if let Some(values) = unique_values(user, unique, key, values)? {
            claims.push(unique_claim(user, &values));
        }
    }
    Ok(claims)
}

fn unique_claim(user: &UserTable, values: &[Compared]) -> Claim {
    let column = |v: &Compared| &user.table.columns[v.index];
    let names: Vec<_> = values.iter().map(|v| column(v).name.as_str()).collect();
    let folded: Vec<_> = values.iter().map(|v| column(v).fold_as(v.collation, v.value.as_ref())).collect();
    claim("unique", &names.join("\0"), &folded)
}

/// `parent` is the parent's table, whose columns say which values are equal; None where it is not tracked.
fn parent_claim(foreign: &ForeignKey, parent: Option<&Table>, values: &[Value]) -> Claim {
    let name = format!("{}\0{}", foreign.parent_table, foreign.parent_columns.join("\0"));
    let fold = |(name, value): (&String, &Value)| {
        let column = parent.and_then(|t| t.columns.iter().find(|c| c.name.eq_ignore_ascii_case(name)));
        column.map_or_else(|| value.clone(), |c| c.fold(value.as_ref()))
    };
    let folded: Vec<_> = foreign.parent_columns.iter().zip(values).map(fold).collect();
    claim("parent", &name.to_lowercase(), &folded)
}

/// 16 bytes of SHA-256: values of one number in other storage classes count as the same.
fn claim(kind: &str, name: &str, values: &[Value]) -> Claim {
    let mut hash = Sha256::new().chain_update(kind).chain_update([0]).chain_update(name).chain_update([0]);
    for value in values {
        let (class, bytes): (u8, Vec<u8>) = match value.as_ref() {
            ValueRef::Null => (0, vec![]),
            ValueRef::Integer(i) => (1, i.to_be_bytes().to_vec()),
            ValueRef::Real(f) if f.fract() == 0.0 && f.abs() < 9e15 => (1, (f as i64).to_be_bytes().to_vec()),
            ValueRef::Real(f) => (2, f.to_bits().to_be_bytes().to_vec()),
            ValueRef::Text(s) => (3, s.as_bytes().to_vec()),
            ValueRef::Blob(b) => (4, b.to_vec()),
            ValueRef::RawText(b) => (5, b.to_vec()),
        };
        hash =
            hash.chain_update([class]).chain_update((bytes.len() as u64).to_be_bytes()).chain_update(bytes);
    }
    let hash = hash.finalize();
    std::array::from_fn(|n| hash[n])
}

/// The values by which a child names its parent; None if one is NULL.
fn foreign_values(
    user: &UserTable,
    foreign: &ForeignKey,
    key: &RowKey,
    values: &RowValues,
) -> Result<Option<Vec<Value>>, ReplicaError> {
    let values = column_values(user, &foreign.columns, key, values)?;
    Ok((!values.contains(&Value::Null)).then_some(values))
}

/// The values by which children name this row; None if the columns are not there or one is NULL.
fn parent_values(
    user: &UserTable,
    foreign: &ForeignKey,
    key: &RowKey,
    values: &RowValues,
) -> Result<Option<Vec<Value>>, ReplicaError> {
    let place = |name: &String| user.table.columns.iter().position(|c| c.name.eq_ignore_ascii_case(name));
    let Some(columns) = foreign.parent_columns.iter().map(place).collect::<Option<Vec<_>>>() else {
        return Ok(None);
    };
    let values = column_values(user, &columns, key, values)?;
    Ok((!values.contains(&Value::Null)).then_some(values))
}

/// Whether a parent row is in its table; true as well where there is no such table or column here.
fn parent_exists(replica: &Replica, foreign: &ForeignKey, values: &[Value]) -> Result<bool, ReplicaError> {
    let terms: Vec<_> = foreign.parent_columns.iter().map(|c| format!("{} = ?", quote(c))).collect();
    let sql = format!("SELECT 1 FROM {} WHERE {}", quote(&foreign.parent_table), terms.join(" AND "));
    let Ok(mut stmt) = replica.conn.prepare_cached(&sql) else { return Ok(true) };
    for (n, value) in values.iter().enumerate() {
        stmt.raw_bind_parameter(n + 1, value.as_ref())?;
    }
    let mut rows = stmt.raw_query();
    Ok(rows.next()?.is_some())
}

fn clash(user: &UserTable, unique: &[usize], winner: &RowKey) -> String {
    format!("UNIQUE ({}): row {} has the same and was earlier", names(user, unique), user.key_text(winner))
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
