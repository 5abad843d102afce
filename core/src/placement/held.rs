//! Held rows: noting them with what they claim, and looking at those again for which something changed.
//!
//! A row is looked at again for a value that came or went, never because another held row was looked at: so the cost is in
//! proportion to what changed, whatever the number of held rows.

use super::claims::unique_claims;
use super::parents::foreign_values;
use super::{Candidate, Queue};
use crate::key::RowKey;
use crate::replica::{Replica, ReplicaError};
use crate::store::holds::{self, Claim, HoldKind};
use crate::store::user_table::{RowValues, UserTable};

impl Replica {
    /// Whether rows are held in this container or in one that refers to it, so that every row that comes matters.
    pub(crate) fn any_held_around(&self, no: i64) -> Result<bool, ReplicaError> {
        let Some(state) = self.containers.get(&no) else { return Ok(false) };
        if holds::any(&self.conn, no)? {
            return Ok(true);
        }
        for child in self.containers.children_of(&state.table) {
            if holds::any(&self.conn, child)? || holds::any_exempt(&self.conn, child)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Holds a row, and takes it out of the table if it is there.
    pub(super) fn hold(
        &mut self,
        candidate: &Candidate,
        kind: HoldKind,
        cause: &str,
        now: Option<RowValues>,
        queue: &mut Queue,
    ) -> Result<(), ReplicaError> {
        let Candidate { no, key, user, wanted, .. } = candidate;
        if kind == HoldKind::Number && holds::find(&self.conn, *no, key)?.is_none() {
            // There may be very many, which nothing wakes but the move that they wait for.
            self.note_held(*no, key, kind, cause, &[])?;
            queue.was_held(*no, key, kind);
            return self.take_out(*no, key, user, now, queue);
        }
        let parents = self.parent_claims(user, key, wanted)?;
        let claims = [unique_claims(user, key, wanted)?, parents.clone()].concat();
        let kept = if kind == HoldKind::Foreign { &claims } else { &parents };
        if self.keeps_others_out(*no, user, key)? {
            self.wake_freed(*no, key, kept, queue)?;
        }
        self.held_parent_changes(candidate, kind, &claims, queue)?;
        self.note_held(*no, key, kind, cause, &claims)?;
        if kind == HoldKind::Foreign && user.acts.triggers {
            self.unheard.parentless.insert(*no);
        }
        if kind == HoldKind::Unique {
            for (claim, rank) in self.ranked_claims(*no, &candidate.view, user, key, wanted)? {
                holds::set_rank(&self.conn, *no, key, &claim, &rank)?;
            }
        }
        if kind == HoldKind::Foreign {
            // It keeps its claims while it is held; where it wrote them again, others come first.
            self.wake_earlier(candidate, queue)?;
        }
        queue.was_held(*no, key, kind);
        self.take_out(*no, key, user, now, queue)
    }

    pub(super) fn note_held(
        &mut self,
        no: i64,
        key: &RowKey,
        kind: HoldKind,
        cause: &str,
        claims: &[Claim],
    ) -> Result<(), ReplicaError> {
        self.note_constraints(no, kind)?;
        holds::hold(&self.conn, no, key, kind, cause, claims)?;
        if kind == HoldKind::Tables {
            self.watch_tables(no)?;
        }
        Ok(())
    }

    /// Claims to all parents that a row names by keys that are kept.
    fn parent_claims(
        &self,
        user: &UserTable,
        key: &RowKey,
        values: &RowValues,
    ) -> Result<Vec<Claim>, ReplicaError> {
        let mut claims = vec![];
        for foreign in user.table.foreign_keys.iter().filter(|f| f.kept) {
            if let Some(values) = foreign_values(user, foreign, key, values)? {
                claims.push(self.parent_claim_of(foreign, &values)?);
            }
        }
        Ok(claims)
    }

    /// Notes that a row is held no longer, and shows `values` from now on if there are any.
    pub(super) fn release(
        &mut self,
        no: i64,
        user: &UserTable,
        key: &RowKey,
        values: Option<&RowValues>,
        queue: &mut Queue,
    ) -> Result<(), ReplicaError> {
        if self.keeps_others_out(no, user, key)? {
            let kept = match values {
                Some(values) => {
                    [unique_claims(user, key, values)?, self.parent_claims(user, key, values)?].concat()
                }
                None => vec![],
            };
            self.wake_freed(no, key, &kept, queue)?;
        }
        self.held_parent_goes(no, user, key, queue)?;
        holds::release(&self.conn, no, key)?;
        Ok(())
    }

    /// Whether a row is held for a missing parent and keeps others from its UNIQUE values.
    fn keeps_others_out(&self, no: i64, user: &UserTable, key: &RowKey) -> Result<bool, ReplicaError> {
        Ok(!user.table.unique.is_empty() && holds::find(&self.conn, no, key)? == Some(HoldKind::Foreign))
    }

    /// Looks at the rows that such a row kept out by claims other than `kept`. Its claims to parents have to be among those:
    /// any number of rows share them, and each would wake all others.
    fn wake_freed(
        &mut self,
        no: i64,
        key: &RowKey,
        kept: &[Claim],
        queue: &mut Queue,
    ) -> Result<(), ReplicaError> {
        let freed = holds::claims_of(&self.conn, no, key)?;
        self.wake(no, key, freed.iter().filter(|claim| !kept.contains(claim)), queue)
    }

    /// Looks again at held rows with one of these claims.
    pub(super) fn wake<'c>(
        &self,
        no: i64,
        key: &RowKey,
        claims: impl Iterator<Item = &'c Claim>,
        queue: &mut Queue,
    ) -> Result<(), ReplicaError> {
        let mut any = None;
        for claim in claims {
            if !*any.get_or_insert(holds::any(&self.conn, no)?) {
                return Ok(());
            }
            let integer_keys = self.containers[&no].integer_keys;
            for held in holds::claimants(&self.conn, no, claim, integer_keys)? {
                if held != *key {
                    queue.push(no, held);
                }
            }
        }
        Ok(())
    }

    /// A row is in its table, or claims its values while it is held for a missing parent: looks again at held rows with its
    /// values whose claims are the older ones, as after it wrote its own again.
    pub(super) fn wake_earlier(&self, candidate: &Candidate, queue: &mut Queue) -> Result<(), ReplicaError> {
        let Candidate { no, key, user, view, wanted } = candidate;
        if user.table.unique.is_empty() || !holds::any(&self.conn, *no)? {
            return Ok(());
        }
        let claims = unique_claims(user, key, wanted)?;
        let any_claimant = |claim: &Claim| holds::any_claimant(&self.conn, *no, claim);
        if !claims.iter().map(any_claimant).collect::<Result<Vec<_>, _>>()?.contains(&true) {
            return Ok(());
        }
        for (claim, rank) in self.ranked_claims(*no, view, user, key, wanted)? {
            for held in holds::earlier_claimants(&self.conn, *no, &claim, &rank, user.has_integer_key())? {
                queue.push(*no, held);
            }
        }
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
        if holds::any(&self.conn, no)? {
            for claim in unique_claims(user, key, values)? {
                blocked.extend(holds::claimants(&self.conn, no, &claim, user.has_integer_key())?);
            }
        }
        blocked.retain(|held| held != key);
        Ok(blocked)
    }
}
