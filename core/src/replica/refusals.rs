//! Refusals: rows that were written here and that the server did not take.
//!
//! The refused segment leaves feed and root; its rows stay as the user wrote them and are listed, until
//! the user tries again or takes the server's state.

use super::stops::StopKind;
use super::{Replica, ReplicaError};
use crate::capture::{Dirty, decode_values};
use crate::change::{Action, OWN};
use crate::feed;
use crate::id::{Seq, Timestamp};
use crate::key::RowKey;
use crate::message::Refusal;
use crate::row;
use crate::store::documents::{self, At};
use crate::store::{holds, numbers, segments};
use std::collections::BTreeMap;

impl Replica {
    /// Takes refused segments out of the feed: how many rows that concerns, and where the segments were.
    /// Call it in a transaction.
    pub(crate) fn withdraw(
        &mut self,
        no: i64,
        refusals: &[Refusal],
        now: Timestamp,
    ) -> Result<(u64, Vec<Seq>), ReplicaError> {
        let mut reasons = BTreeMap::new();
        for refusal in refusals {
            if let Some(number) = segments::find(&self.conn, no, &refusal.segment)? {
                reasons.insert(number, refusal);
            }
        }
        let (mut rows, mut places, mut described) = (0, vec![], false);
        for (number, refusal) in &reasons {
            places.push(segments::seq_of(&self.conn, *number)?);
            let decoded = self.history.segment(&self.conn, *number)?;
            for (index, key) in decoded.keys().enumerate() {
                if *key == RowKey::Description {
                    described = true;
                } else {
                    self.refuse_row(no, key, now, refusal.reason)?;
                    let first = decoded.change(index).and_then(|change| change.ops.into_iter().next());
                    if first.is_some_and(|op| op.action == Action::Live(OWN) && op.preds.is_empty()) {
                        holds::note_refused_insert(&self.conn, no, key)?;
                    }
                    rows += 1;
                }
                self.history.forget_baseline(&self.conn, no, key)?;
                documents::remove(&self.conn, no, key, At::new(*number, index))?;
            }
            segments::remove(&self.conn, *number)?;
            numbers::forget_segment(&self.conn, no, *number)?;
            self.history.forget_documents();
        }
        if !reasons.is_empty() {
            self.history.clear();
            self.order_feed(no)?;
            // What the server has of ours is counted by places.
            let acknowledged = numbers::acknowledged(&self.conn, no)?;
            let gone = places.iter().filter(|seq: &&Seq| **seq <= acknowledged).count() as u64;
            if gone > 0 {
                segments::acknowledge(&self.conn, no, Seq(acknowledged.0 - gone))?;
            }
        }
        if described && self.description(no)?.is_none() {
            let why = "the server does not take its description: this device may not write it, or not see a table that it refers to";
            self.stop(no, StopKind::Description, why)?;
        } else if described {
            // The table is described by others alone now.
            let unsettled = self.follow_description(no)?;
            self.settle_quietly(unsettled)?;
        }
        Ok((rows, places))
    }

    /// Gives every segment its place anew. The running hash differs from the first gap on, which is how
    /// peers notice.
    pub(crate) fn order_feed(&mut self, no: i64) -> Result<(), ReplicaError> {
        let mut feed = feed::Feed::default();
        let mut after = Seq(0);
        loop {
            let lines = segments::after(&self.conn, no, after, 1024)?;
            let Some(last) = lines.last() else { break };
            after = last.cursor.seq;
            for line in &lines {
                let cursor = feed.append(&line.id);
                if cursor != line.cursor {
                    segments::renumber(&self.conn, line.no, &cursor)?;
                }
            }
        }
        if let Some(state) = self.containers.get_mut(&no) {
            state.feed = feed;
        }
        self.touch(no);
        self.scrubbing.begin_anew(no);
        Ok(())
    }

    /// Writes all refused rows again, as they are in the tables now; how many.
    pub fn retry_refused(&mut self, now: Timestamp) -> Result<u64, ReplicaError> {
        self.each_refused(|r, no, keys| {
            let time = r.corrected(now);
            let mut dirty = vec![];
            for key in keys {
                if r.retry_beside(no, &key, time)? {
                    continue;
                }
                match holds::refused_kept(&r.conn, no, &key)? {
                    None => dirty.push(Dirty::new(key, time)),
                    Some(kept) => r.write_kept(no, &key, &kept, time)?,
                }
            }
            holds::forget_refused(&r.conn, no, None)?;
            r.capture_rows(no, dirty)?;
            Ok(())
        })
    }

    /// Writes a refused row again that was inserted here, if another device's row is under its key by now; whether it is.
    fn retry_beside(&mut self, no: i64, key: &RowKey, time: Timestamp) -> Result<bool, ReplicaError> {
        if !self.is_refused_beside(no, key)? {
            return Ok(false);
        }
        let Some(user) = self.user_table(no)? else { return Ok(false) };
        let values = match holds::refused_kept(&self.conn, no, key)? {
            Some(kept) => Some(decode_values(&kept, &user)?),
            None => user.read(&self.conn, key)?,
        };
        if let Some(values) = values {
            let change = self.insert_beside(no, &user, key, &values)?;
            self.write_change(no, key, &change, time)?;
        }
        self.unsettled.push((no, key.clone()));
        Ok(true)
    }

    /// Writes again what was written to a row that the table could not show.
    fn write_kept(
        &mut self,
        no: i64,
        key: &RowKey,
        kept: &[u8],
        time: Timestamp,
    ) -> Result<(), ReplicaError> {
        let Some(user) = self.user_table(no)? else { return Ok(()) };
        let kept = decode_values(kept, &user)?;
        let view = self.history.view(&self.conn, no, key)?;
        if let Some(change) = row::edit(&view, &user, row::shown(&view, &user).as_ref(), Some(&kept)) {
            self.write_change(no, key, &change, time)?;
        }
        self.unsettled.push((no, key.clone()));
        Ok(())
    }

    /// Gives all refused rows up: the tables show again what the documents say. How many.
    pub fn revert_refused(&mut self) -> Result<u64, ReplicaError> {
        self.each_refused(|r, no, keys| {
            holds::forget_refused(&r.conn, no, None)?;
            r.settle_quietly(keys.into_iter().map(|key| (no, key)).collect())
        })
    }

    fn each_refused(
        &mut self,
        work: impl Fn(&mut Self, i64, Vec<RowKey>) -> Result<(), ReplicaError>,
    ) -> Result<u64, ReplicaError> {
        let numbers: Vec<_> = self.containers.numbers().collect();
        self.transaction_again(|r| {
            let mut rows = 0;
            for &no in &numbers {
                let integer_keys = r.containers[&no].integer_keys;
                let mut keys: Vec<_> =
                    holds::refused(&r.conn, no, integer_keys)?.into_iter().map(|row| row.key).collect();
                keys.dedup();
                rows += keys.len() as u64;
                if !keys.is_empty() {
                    work(r, no, keys)?;
                }
            }
            Ok(rows)
        })
    }
}
