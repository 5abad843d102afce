//! Scan: a look at a whole table, some thousand rows at a time, when the log cannot tell what changed.

use super::{Dirty, FILL_ROWS, ROWS_MAX};
use crate::id::Timestamp;
use crate::replica::{Captured, Replica, ReplicaError, Scan};
use crate::store::user_table::UserTable;
use crate::store::{documents, holds, log};
use std::sync::Arc;

/// A scan that would delete more than one row in this many asks first.
const DELETE_SHARE: u64 = 10;
/// So few rows are believed to be deleted all the same, unless they are more than half.
const DELETE_FEW: u64 = 10;

impl Replica {
    /// Looks at the next rows of a table, and how many it looked at; at the end, at documents whose rows are gone.
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
            Scan::Adopt if !state.prefer_local => Timestamp(0),
            _ => self.corrected(now),
        };
        if after.is_none() {
            self.describe(no, time)?;
        }
        let keys = log::keys_after(&self.conn, &user, after.as_ref(), ROWS_MAX)?;
        let last = keys.last().cloned();
        let (looked_at, full) = (keys.len(), keys.len() == ROWS_MAX);
        let dirty = keys.into_iter().map(|key| Dirty { key, time }).collect();
        let mut captured = self.capture_rows(no, dirty)?;
        if full {
            if let Some(state) = self.containers.get_mut(&no) {
                state.scan_after = last;
            }
            return Ok((captured, looked_at));
        }
        if scan == Scan::Compare {
            let gone = self.capture_gone(no, &user, time)?;
            captured.rows += gone.rows;
            captured.segments += gone.segments;
        }
        self.end_scan(no)?;
        Ok((captured, looked_at))
    }

    /// Captures as deleted what documents show and the table has not, unless that is suspiciously much.
    fn capture_gone(
        &mut self,
        no: i64,
        user: &Arc<UserTable>,
        time: Timestamp,
    ) -> Result<Captured, ReplicaError> {
        let known = documents::count(&self.conn, no, user.has_integer_key())?;
        let gone = log::keys_gone(&self.conn, no, user)?;
        let mut live = vec![];
        for key in gone {
            let view = self.history.view(&self.conn, no, &key)?;
            if view.is_live() && holds::find(&self.conn, no, &key)?.is_none() {
                live.push(Dirty { key, time });
            }
        }
        let gone = live.len() as u64;
        if gone > known / DELETE_SHARE && (gone > DELETE_FEW || gone > known / 2) {
            // Not believed: the rows come back. Who meant it deletes them again, with triggers in place.
            self.settle_quietly(live.into_iter().map(|d| (no, d.key)).collect())?;
            return Ok(Captured::default());
        }
        self.capture_rows(no, live)
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
            Some(last) => {
                if let Some(state) = self.containers.get_mut(&no) {
                    state.scan_after = Some(last);
                }
            }
            None => self.end_scan(no)?,
        }
        Ok((Captured::default(), looked_at))
    }
}
