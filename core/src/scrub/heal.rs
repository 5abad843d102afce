//! Heal: rows that differ from their documents are captured or put right, under the write lock and a few at a time.
//!
//! Which of the two is decided for each row anew, after everything in the log has been captured: see the rule in `scrub`.

use super::look::is_shown;
use super::{Finding, Healing, Looked, RowFault};
use crate::capture::{Dirty, decode_values};
use crate::document::{Document, View};
use crate::id::Timestamp;
use crate::key::RowKey;
use crate::message::RefusalReason;
use crate::replica::{Replica, ReplicaError};
use crate::row::{self, is_same};
use crate::store::user_table::{RowValues, UserTable};
use crate::store::{documents, holds, segments};
use std::sync::Arc;

/// Rows healed in one transaction.
const ROWS_AT_ONCE: usize = 128;
/// Earlier states of a document that a row of the table is compared with.
const STATES_MAX: usize = 32;

impl Replica {
    /// Heals those of these rows that differ still once all in the log has been captured.
    pub(super) fn heal(
        &mut self,
        no: i64,
        suspects: &[RowKey],
        now: Timestamp,
    ) -> Result<Vec<Finding>, ReplicaError> {
        let mut healed = vec![];
        for keys in suspects.chunks(ROWS_AT_ONCE) {
            match self.transaction_again(|r| r.heal_rows(no, keys, now)) {
                Ok(found) => healed.extend(found),
                Err(error) if may_pass(&error) => return Err(error),
                // One row that cannot be healed does not keep the others from it.
                Err(_) => {
                    for key in keys {
                        match self.transaction_again(|r| r.heal_rows(no, std::slice::from_ref(key), now)) {
                            Ok(found) => healed.extend(found),
                            Err(error) if may_pass(&error) => return Err(error),
                            Err(error) => healed.push(self.failed(no, key, &error)?),
                        }
                    }
                }
            }
        }
        Ok(healed)
    }

    fn failed(&self, no: i64, key: &RowKey, error: &ReplicaError) -> Result<Finding, ReplicaError> {
        let (table, text) = match self.user_table(no)? {
            Some(user) => (user.table.name.clone(), user.key_text(key)),
            None => Default::default(),
        };
        let healing = Healing::Failed(error.to_string());
        Ok(Finding { table, key: text, fault: RowFault::Differs, healing })
    }

    fn heal_rows(&mut self, no: i64, keys: &[RowKey], now: Timestamp) -> Result<Vec<Finding>, ReplicaError> {
        self.capture_all(now)?;
        let Some(user) = self.user_table(no)? else { return Ok(vec![]) };
        let mut faults = vec![];
        for key in keys {
            if let Some((fault, healing)) = self.heal_row(no, key, &user, now)? {
                faults.push((key, fault, healing));
            }
        }
        if !self.unsettled.is_empty() {
            holds::forget_unsettled(&self.conn)?;
            let rows = std::mem::take(&mut self.unsettled);
            self.settle_quietly(rows)?;
        }
        let mut findings = vec![];
        for (key, fault, healing) in faults {
            let healing = self.outcome(no, key, &user, healing)?;
            findings.push(Finding {
                table: user.table.name.clone(),
                key: user.key_text(key),
                fault,
                healing,
            });
        }
        Ok(findings)
    }

    /// Heals a row if it differs: what was wrong, and what was done.
    fn heal_row(
        &mut self,
        no: i64,
        key: &RowKey,
        user: &Arc<UserTable>,
        now: Timestamp,
    ) -> Result<Option<(RowFault, Healing)>, ReplicaError> {
        let table = user.read(&self.conn, key)?;
        if let Some(shown) = holds::refused_row(&self.conn, no, key)? {
            let shown = shown.map(|bytes| decode_values(&bytes, user)).transpose()?;
            if is_same(shown.as_ref(), table.as_ref()) {
                return Ok(None);
            }
            return Ok(Some((RowFault::RefusedChanged, self.capture_unseen(no, key, now)?)));
        }
        let held = holds::find(&self.conn, no, key)?.is_some();
        let (view, is_right) = self.history.view_checked(&self.conn, no, key)?;
        if !is_right {
            self.history.forget_baseline(&self.conn, no, key)?;
        }
        let wanted = row::shown(&view, user);
        let fault = match (&wanted, &table) {
            _ if !is_right && is_shown(user, wanted.as_ref(), table.as_ref()) => {
                return Ok(Some((RowFault::Baseline, Healing::PutRight)));
            }
            _ if !held && is_shown(user, wanted.as_ref(), table.as_ref()) => return Ok(None),
            (_, None) if held => return Ok(None), // the next part of the check asks for its cause
            (Some(_), None) => RowFault::Missing,
            (None, _) => RowFault::Unknown,
            (Some(_), Some(_)) => RowFault::Differs,
        };
        let is_behind = table.is_none() || (!held && self.is_behind(no, key, user, table.as_ref())?);
        let healing = if is_behind {
            self.settle_quietly(vec![(no, key.clone())])?;
            Healing::PutRight
        } else {
            self.capture_unseen(no, key, now)?
        };
        Ok(Some((fault, healing)))
    }

    /// Captures what the table shows of a row as an edit of now; where this device may not write, it is listed as refused.
    fn capture_unseen(&mut self, no: i64, key: &RowKey, now: Timestamp) -> Result<Healing, ReplicaError> {
        let time = self.corrected(now);
        if self.containers[&no].is_read_only() {
            self.refuse_row(no, key, time, RefusalReason::NoGrant)?;
            return Ok(Healing::Refused);
        }
        self.capture_rows(no, vec![Dirty::new(key.clone(), time)])?;
        Ok(Healing::Captured)
    }

    /// Whether the table shows what a document did before some of its last changes, all of which came from peers: then
    /// they were left out. What was captured here the table has shown.
    fn is_behind(
        &mut self,
        no: i64,
        key: &RowKey,
        user: &UserTable,
        table: Option<&RowValues>,
    ) -> Result<bool, ReplicaError> {
        let changes = documents::changes(&self.conn, no, key)?;
        let mut came = 0;
        for at in changes.iter().rev().take(STATES_MAX) {
            if segments::origin(&self.conn, at.segment())?.peer == 0 {
                break;
            }
            came += 1;
        }
        let mut document = Document::default();
        for (n, at) in changes.iter().enumerate() {
            if n + came >= changes.len() && n > 0 && is_shown(user, shown(&document, user).as_ref(), table) {
                return Ok(true);
            }
            let (actor, change) = self.history.change(&self.conn, *at)?;
            document.insert(self.history.hash(&self.conn, *at)?, actor, change);
        }
        Ok(false)
    }

    /// What became of a row.
    fn outcome(
        &mut self,
        no: i64,
        key: &RowKey,
        user: &UserTable,
        healing: Healing,
    ) -> Result<Healing, ReplicaError> {
        if holds::refused_row(&self.conn, no, key)?.is_some() {
            return Ok(Healing::Refused);
        }
        let table = user.read(&self.conn, key)?;
        if table.is_none() && holds::find(&self.conn, no, key)?.is_some() {
            return Ok(Healing::Held);
        }
        let view: Arc<View> = self.history.view(&self.conn, no, key)?;
        Ok(match is_shown(user, row::shown(&view, user).as_ref(), table.as_ref()) {
            true => healing,
            false => Healing::Failed("the table does not take what its document says".into()),
        })
    }

    /// Looks at the next held rows again, and tells of those that nothing hinders.
    pub(super) fn check_held(
        &mut self,
        no: i64,
        place: Option<&[u8]>,
        now: Timestamp,
        rows: usize,
    ) -> Result<(Looked, Vec<Finding>), ReplicaError> {
        let Some(user) = self.user_table(no)? else { return Ok(Default::default()) };
        let integer_keys = user.has_integer_key();
        let after = place.map(|p| documents::key_from_bytes(p, integer_keys)).transpose()?;
        let limit = rows.min(ROWS_AT_ONCE);
        let held = holds::after(&self.conn, no, after.as_ref(), limit, integer_keys)?;
        let count = held.len() as u64;
        let mut looked = Looked { rows: count, work: count, ..Looked::default() };
        if held.len() == limit {
            looked.place = held.last().map(|(key, _)| documents::key_bytes(key));
        }
        if held.is_empty() {
            return Ok((looked, vec![]));
        }
        let keys: Vec<_> = held.into_iter().map(|(key, _)| key).collect();
        let findings = match self.transaction_again(|r| r.release_standing(no, &keys, &user, now)) {
            Err(error) if may_pass(&error) => return Err(error),
            Err(error) => vec![self.failed(no, &keys[0], &error)?],
            Ok(findings) => findings,
        };
        Ok((looked, findings))
    }

    /// Settles held rows anew; what stays as it was is not written.
    fn release_standing(
        &mut self,
        no: i64,
        keys: &[RowKey],
        user: &UserTable,
        now: Timestamp,
    ) -> Result<Vec<Finding>, ReplicaError> {
        self.capture_all(now)?;
        let count = holds::count_all(&self.conn)?;
        let before = self.holds_of(no, keys)?;
        self.conn.execute_batch("SAVEPOINT piecewise_check")?;
        self.settle_quietly(keys.iter().map(|key| (no, key.clone())).collect())?;
        let after = self.holds_of(no, keys)?;
        if before == after && holds::count_all(&self.conn)? == count {
            self.conn.execute_batch("ROLLBACK TO piecewise_check")?;
        }
        self.conn.execute_batch("RELEASE piecewise_check")?;
        let mut findings = vec![];
        for ((key, before), after) in keys.iter().zip(before).zip(after) {
            if before && !after {
                let (fault, healing) = (RowFault::HeldWithoutCause, Healing::PutRight);
                let (table, key) = (user.table.name.clone(), user.key_text(key));
                findings.push(Finding { table, key, fault, healing });
            }
        }
        Ok(findings)
    }

    fn holds_of(&self, no: i64, keys: &[RowKey]) -> Result<Vec<bool>, ReplicaError> {
        keys.iter().map(|key| Ok(holds::find(&self.conn, no, key)?.is_some())).collect()
    }
}

fn shown(document: &Document, user: &UserTable) -> Option<RowValues> {
    row::shown(&document.evaluate(), user)
}

/// Whether an error is the file's and may be gone later, not a row's.
fn may_pass(error: &ReplicaError) -> bool {
    matches!(error, ReplicaError::Store(error) if error.may_pass())
}
