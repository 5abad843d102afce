//! First contact: a table that has rows already meets what its counterpart holds.
//!
//! Until all of that is here, it stays in documents alone and the table is as it was. Then, a few thousand rows at a time, what
//! no document knows is taken in, since constraints and triggers may reach any row once others are written. After that the two
//! are joined: a row that is as its document shows, or once showed, becomes what the document shows and
//! costs nothing. Any other was written apart: it becomes an insert beside the document, from before tracking or from
//! when the log tells that it was written.

use super::Dirty;
use crate::document::Evaluation;
use crate::frame::KeyRef;
use crate::id::Timestamp;
use crate::key::RowKey;
use crate::replica::{Captured, Replica, ReplicaError, Scan};
use crate::row::{self, is_same};
use crate::segment::Segment;
use crate::store::documents::{self, At, Finder};
use crate::store::user_table::{RowValues, UserTable};
use crate::store::{log, segments};
use std::collections::{HashMap, HashSet};

impl Replica {
    /// Whether rows of a container that are to meet their counterpart's are here.
    pub(crate) fn has_rows_to_meet(&self, no: i64) -> Result<bool, ReplicaError> {
        let Some(user) = self.user_table(no)? else { return Ok(false) };
        Ok(!log::keys_after(&self.conn, &user, None, 1)?.is_empty() || log::any_of(&self.conn, no)?)
    }

    /// Whether the table's description is here or comes with this segment.
    pub(crate) fn is_described_by(&mut self, no: i64, segment: &Segment) -> Result<bool, ReplicaError> {
        Ok(segment.is_description() || self.description(no)?.is_some())
    }

    /// The table was empty here, so incoming rows are applied directly. Call it in a transaction, once the
    /// description has come.
    pub(crate) fn meet_nothing(&mut self, no: i64, now: Timestamp) -> Result<(), ReplicaError> {
        self.set_scan(no, Scan::No)?;
        self.describe(no, self.corrected(now))
    }

    /// Whether a row may be changed to what its document shows: not while it waits to be joined with it.
    pub(crate) fn is_joined(&self, no: i64, key: &RowKey) -> bool {
        let Some(state) = self.containers.get(&no) else { return false };
        match state.scan() {
            Scan::Meet | Scan::Gather => false,
            Scan::Join => {
                state.scan_after.as_ref().is_some_and(|after| key <= after) || self.is_from_here(no, key)
            }
            _ => true,
        }
    }

    /// Whether a document began here: its row was taken in, and needs not be joined.
    fn is_from_here(&self, no: i64, key: &RowKey) -> bool {
        let first = documents::find(&self.conn, no, key).ok().flatten();
        first.is_some_and(|first| segments::is_own(&self.conn, first.segment()).unwrap_or(false))
    }

    /// Captures the next rows without a document. Returns how many rows were scanned as well.
    pub(super) fn gather(&mut self, no: i64, now: Timestamp) -> Result<(Captured, usize), ReplicaError> {
        let Some(user) = self.user_table(no)? else {
            self.end_scan(no)?;
            return Ok(Default::default());
        };
        let mut captured = self.gather_written(no, &user, now)?;
        if self.containers[&no].scan_after.is_none() {
            // What has no parent now was left without one by the application; later a parent may have given way.
            self.exempt_orphans(no, &user)?;
        }
        let state = &self.containers[&no];
        let time = if state.prefer_local { self.corrected(now) } else { Timestamp::ADOPTED };
        let limit = self.pace.next();
        let keys = log::keys_after(&self.conn, &user, state.scan_after.as_ref(), limit)?;
        let (last, looked_at) = (keys.last().cloned().filter(|_| keys.len() == limit), keys.len());
        let taken = self.capture_unknown(no, keys.into_iter().map(|key| Dirty::new(key, time)))?;
        captured.rows += taken.rows;
        captured.segments += taken.segments;
        match last {
            Some(last) => self.set_scan_after(no, last)?,
            None => self.set_scan(no, Scan::Join)?,
        }
        Ok((captured, looked_at))
    }

    /// Takes in what was written since this was done last, as far as no document knows it.
    fn gather_written(
        &mut self,
        no: i64,
        user: &UserTable,
        now: Timestamp,
    ) -> Result<Captured, ReplicaError> {
        let entries = log::of(&self.conn, no, self.containers[&no].gathered)?;
        let Some(last) = entries.last().map(|entry| entry.seq) else { return Ok(Captured::default()) };
        let dirty: Vec<_> = entries.iter().flat_map(|entry| self.dirty_by(entry, &user.table, now)).collect();
        let captured = self.capture_unknown(no, dirty.into_iter())?;
        if let Some(state) = self.containers.get_mut(&no) {
            state.gathered = last;
        }
        Ok(captured)
    }

    fn capture_unknown(
        &mut self,
        no: i64,
        rows: impl Iterator<Item = Dirty>,
    ) -> Result<Captured, ReplicaError> {
        let mut finder = Finder::new(&self.conn, no);
        let mut dirty = vec![];
        for row in rows {
            if finder.find(&KeyRef::from(&row.key))?.is_none() {
                dirty.push(row);
            }
        }
        drop(finder);
        self.capture_rows(no, dirty)
    }

    /// Joins the next rows with their documents, and tells how many.
    pub(super) fn join(&mut self, no: i64, now: Timestamp) -> Result<(Captured, usize), ReplicaError> {
        let Some(user) = self.user_table(no)? else {
            self.end_scan(no)?;
            return Ok(Default::default());
        };
        let written = self.gather_written(no, &user, now)?;
        let state = &self.containers[&no];
        let after = state.scan_after.clone();
        let limit = self.pace.next();
        let keys = documents::keys_after(&self.conn, no, state.integer_keys, after.as_ref(), limit)?;
        let Some(last) = keys.last().cloned() else {
            self.set_scan(no, Scan::Adopt)?;
            // Their parents may have given way before these rows could be changed.
            let orphans = self.all_orphans(&user)?;
            self.settle_quietly(orphans.into_iter().map(|key| (no, key)).collect())?;
            return Ok((written, 0));
        };
        let looked_at = keys.len();
        self.pace.known_rows(looked_at);
        let watchful = self.any_held_around(no)?;
        let (mut apart, mut unlike) = (HashMap::new(), vec![]);
        let (mut is_own, mut gone) = ((0, false), HashSet::new());
        for key in keys {
            let first = documents::find(&self.conn, no, &key)?;
            if let Some(segment) = first.map(At::segment)
                && is_own.0 != segment
            {
                is_own = (segment, segments::is_own(&self.conn, segment)?);
            }
            let here = user.read(&self.conn, &key)?;
            if first.is_some() && is_own.1 {
                // It was taken in just now.
                gone.extend(here.is_none().then_some(key));
                continue;
            }
            if let Some(first) = first.filter(|_| here.is_some())
                && self.changed_known_row(no, &user, (&key, first), here.as_ref(), true)? == Some(None)
            {
                if watchful {
                    unlike.push((no, key));
                }
                continue;
            }
            if let Some(here) = here
                && !self.ever_showed(no, &user, &key, &here)?
            {
                apart.insert(key.clone(), here);
            }
            unlike.push((no, key));
        }
        // One that nobody deleted went with its table, which was made anew.
        let deleted = log::keys_among(&self.conn, no, &user.table, &gone)?;
        unlike.extend(gone.into_iter().filter(|key| !deleted.contains(key)).map(|key| (no, key)));
        unlike.sort_unstable();
        self.set_scan_after(no, last)?;
        let mut captured = self.capture_apart(no, &user, apart, now)?;
        captured.rows += written.rows;
        captured.segments += written.segments;
        self.settle_quietly(unlike)?;
        Ok((captured, looked_at))
    }

    /// Whether a document showed these values at any time, as far as the order tells in which its changes came.
    fn ever_showed(
        &mut self,
        no: i64,
        user: &UserTable,
        key: &RowKey,
        values: &RowValues,
    ) -> Result<bool, ReplicaError> {
        let mut document = Evaluation::default();
        for at in documents::changes(&self.conn, no, key)? {
            let (actor, change) = self.history.change(&self.conn, at)?;
            document.add(self.history.hash(&self.conn, at)?, actor, &change);
            if is_same(row::shown(document.view(), user).as_ref(), Some(values)) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Writes rows as inserts that know nothing of their documents.
    fn capture_apart(
        &mut self,
        no: i64,
        user: &UserTable,
        rows: HashMap<RowKey, RowValues>,
        now: Timestamp,
    ) -> Result<Captured, ReplicaError> {
        if rows.is_empty() {
            return Ok(Captured::default());
        }
        let now = self.corrected(now);
        let before = if self.containers[&no].prefer_local { now } else { Timestamp::APART };
        let mut written = HashMap::new();
        for entry in log::of(&self.conn, no, 0)? {
            written.extend(self.dirty_by(&entry, &user.table, now).map(|row| (row.key, row.time)));
        }
        let time = |key: &RowKey| written.get(key).copied().unwrap_or(before);
        let mut dirty: Vec<_> = rows.keys().map(|key| Dirty::new(key.clone(), time(key))).collect();
        dirty.sort_by_key(|d| d.time);
        let may_move = self.may_renumber(no) || self.key_may_follow(no)?;
        let (all_move, first_new) = (self.renumbers_mine(no)?, self.first_new_number(no)?);
        let mut clashed = 0;
        for key in rows.keys() {
            // A row from before tracking may be the same as the server's. One with a number that SQLite gave out later was
            // written offline, as any after the first contact. Where keys name a parent, its move decides.
            let is_new = match key {
                RowKey::Integer(number) => first_new.is_some_and(|first| *number >= first),
                _ => written.contains_key(key),
            };
            if may_move && (all_move || is_new) {
                self.note_taken(no, key)?;
            } else if user.has_integer_key() && self.history.view(&self.conn, no, key)?.is_live() {
                clashed += 1;
            }
        }
        if clashed > 0 {
            *self.numbers.clashed.entry(user.table.name.clone()).or_default() += clashed;
        }
        self.capture_inserts(no, user, dirty, rows)
    }
}
