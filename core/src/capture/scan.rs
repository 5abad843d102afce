//! Scan: a look at a whole table, some thousand rows at a time, when the log cannot tell what changed.
//!
//! `Adopt` and `Compare` go through the rows. After `Compare` the documents without rows are counted, and then deleted, if
//! they are few enough to be believed, or brought back.

use super::{Dirty, FILL_ROWS};
use crate::id::Timestamp;
use crate::key::RowKey;
use crate::replica::{Captured, Replica, ReplicaError, Scan};
use crate::store::{documents, holds, log};

/// A scan that would delete more than one row in this many does not.
const DELETE_SHARE: u64 = 10;
/// So few rows are believed to be deleted all the same, unless they are more than half.
const DELETE_FEW: u64 = 10;

impl Replica {
    /// Looks at the next rows of a table, and how many it looked at.
    pub(super) fn scan(
        &mut self,
        no: i64,
        scan: Scan,
        now: Timestamp,
    ) -> Result<(Captured, usize), ReplicaError> {
        let Some(user) = self.user_table(no)? else {
            self.end_scan(no)?;
            return Ok(Default::default());
        };
        let state = &self.containers[&no];
        let after = state.scan_after.clone();
        let time = match scan {
            Scan::Adopt if !state.prefer_local => Timestamp::ADOPTED,
            _ => self.corrected(now),
        };
        if after.is_none() {
            self.describe(no, time)?;
        }
        let limit = self.pace.next();
        let keys = log::keys_after(&self.conn, &user, after.as_ref(), limit)?;
        let last = keys.last().cloned();
        let (looked_at, full) = (keys.len(), keys.len() == limit);
        let dirty = keys.into_iter().map(|key| Dirty::new(key, time)).collect();
        let captured = self.capture_rows(no, dirty)?;
        match last.filter(|_| full) {
            Some(last) => self.set_scan_after(no, last)?,
            None if scan == Scan::Compare => self.set_scan(no, Scan::Count)?,
            None if scan == Scan::CompareAndFill => self.set_scan(no, Scan::Fill)?,
            None => self.end_scan(no)?,
        }
        Ok((captured, looked_at))
    }

    /// Counts the next documents that show a row which the table has not, until it is known whether they are suspiciously
    /// many. How far it has come is not written down: what was counted is not either.
    pub(super) fn count_gone(&mut self, no: i64) -> Result<(Captured, usize), ReplicaError> {
        let (gone, last, looked_at) = self.gone_after(no)?;
        let mut live = 0;
        self.pace.known_rows(gone.len());
        for key in &gone {
            live += u64::from(self.history.view(&self.conn, no, key)?.is_live());
        }
        let Some(state) = self.containers.get_mut(&no) else { return Ok(Default::default()) };
        // A table that was made anew with other columns may be quite another one.
        let is_other = state.columns.iter().any(|c| c.is_new);
        let (known, gone) = (state.counted.0 + looked_at as u64, state.counted.1 + live);
        state.counted = (known, gone);
        if last.is_some() {
            state.scan_after = last;
        } else if gone == 0 {
            self.end_scan(no)?;
        } else if gone > known / DELETE_SHARE
            && (gone > DELETE_FEW || gone > known / 2 || (is_other && gone >= known / 2))
        {
            // Not believed: the rows come back. Who meant it deletes them again, with triggers in place.
            let table = state.table.clone();
            *self.restored.entry(table).or_default() += gone;
            self.set_scan(no, Scan::Fill)?;
        } else {
            self.set_scan(no, Scan::Delete)?;
        }
        Ok((Captured::default(), looked_at))
    }

    /// Captures as deleted what the next documents show and the table has not.
    pub(super) fn delete_gone(&mut self, no: i64, now: Timestamp) -> Result<(Captured, usize), ReplicaError> {
        let (gone, last, looked_at) = self.gone_after(no)?;
        let time = self.corrected(now);
        let captured = self.capture_rows(no, gone.into_iter().map(|key| Dirty::new(key, time)).collect())?;
        match last {
            Some(last) => self.set_scan_after(no, last)?,
            None => self.end_scan(no)?,
        }
        Ok((captured, looked_at))
    }

    /// Those of the next documents that have no row in the table and are not held; the last of them all, and how many.
    fn gone_after(&mut self, no: i64) -> Result<(Vec<RowKey>, Option<RowKey>, usize), ReplicaError> {
        let Some(user) = self.user_table(no)? else { return Ok(Default::default()) };
        let state = &self.containers[&no];
        let limit = self.pace.next();
        let keys =
            documents::keys_after(&self.conn, no, state.integer_keys, state.scan_after.as_ref(), limit)?;
        let (last, looked_at) = (keys.last().cloned(), keys.len());
        self.pace.new_rows(looked_at);
        let mut select = user.select(&self.conn)?;
        let mut gone = vec![];
        for key in keys {
            user.bind_key(&mut select, 1, &key)?;
            if select.raw_query().next()?.is_none() && holds::find(&self.conn, no, &key)?.is_none() {
                gone.push(key);
            }
        }
        Ok((gone, last, looked_at))
    }

    /// Brings the next documents into a table that was made anew, and tells how many.
    pub(super) fn fill(&mut self, no: i64, now: Timestamp) -> Result<(Captured, usize), ReplicaError> {
        if self.containers[&no].scan_after.is_none() {
            // The table may have grown a column.
            self.describe(no, self.corrected(now))?;
        }
        let state = &self.containers[&no];
        let after = state.scan_after.as_ref();
        let keys = documents::keys_after(&self.conn, no, state.integer_keys, after, FILL_ROWS)?;
        let (last, looked_at) = (keys.last().cloned(), keys.len());
        self.settle_quietly(keys.into_iter().map(|key| (no, key)).collect())?;
        match last {
            Some(last) => self.set_scan_after(no, last)?,
            None => self.end_scan(no)?,
        }
        Ok((Captured::default(), looked_at))
    }
}
