//! Nets: tables whose rows refer to each other by more than one foreign key, as a doubly linked list does.
//!
//! Where a row has at most one parent in a circle of tables, as in a tree, what misses a parent is held with all that is
//! below it. In a net nothing is below anything: if each held row took its children out, one missing row would empty the
//! table. There a parent that is held for a missing parent of its own is there for its children: they *lean* on it. So a row of
//! a net is held for its own parents alone, whatever became of theirs: a function of documents, at the cost of one row.
//!
//! A row that leans is shown, and has a claim on the row that it leans on, by which it is looked at again.

use super::claims::{parent_claim, row_claim};
use super::parents::parent_values;
use super::{Candidate, Queue};
use crate::key::RowKey;
use crate::replica::{Replica, ReplicaError};
use crate::store::holds::{self, Claim, HoldKind};
use crate::store::user_table::UserTable;
use crate::table::ForeignKey;

impl Replica {
    /// Whether a foreign key of a table is one of several that lead back to the table.
    pub(super) fn is_in_net(&self, no: i64, user: &UserTable, foreign: &ForeignKey) -> bool {
        self.leads_back(no, user, foreign)
            && user.table.foreign_keys.iter().filter(|f| self.leads_back(no, user, f)).nth(1).is_some()
    }

    fn leads_back(&self, no: i64, user: &UserTable, foreign: &ForeignKey) -> bool {
        if !foreign.kept {
            return false;
        }
        if foreign.parent_table.eq_ignore_ascii_case(&user.table.name) {
            return true;
        }
        let parent = self.containers.of_table(&foreign.parent_table);
        parent.is_some_and(|parent| self.is_circle(no, parent.no))
    }

    /// A row is about to be held, for a cause of this kind. Looks again at the rows that lean on it, and at those that may
    /// lean on it now.
    pub(super) fn held_parent_changes(
        &self,
        candidate: &Candidate,
        kind: HoldKind,
        claims: &[Claim],
        queue: &mut Queue,
    ) -> Result<(), ReplicaError> {
        let Candidate { no, key, user, wanted, .. } = candidate;
        let children = self.net_children(user)?;
        if children.is_empty() {
            return self.forget_leaning(*no, user, key);
        }
        let was_parent = holds::find(&self.conn, *no, key)? == Some(HoldKind::Foreign);
        let is_parent = kind == HoldKind::Foreign;
        let is_same = was_parent && is_parent && {
            let before = holds::claims_of(&self.conn, *no, key)?;
            claims.iter().all(|claim| before.contains(claim))
        };
        self.forget_leaning(*no, user, key)?;
        if is_same {
            return Ok(());
        }
        for (child_no, child, foreign) in children {
            let mut rows = vec![];
            if was_parent {
                rows.extend(holds::claimants(
                    &self.conn,
                    child_no,
                    &row_claim(*no, key),
                    child.has_integer_key(),
                )?);
            }
            if is_parent && let Some(values) = parent_values(user, &foreign, key, wanted)? {
                let claim = parent_claim(&foreign, Some(&user.table), &values);
                rows.extend(holds::claimants(&self.conn, child_no, &claim, child.has_integer_key())?);
            }
            rows.into_iter().for_each(|row| queue.push(child_no, row));
        }
        Ok(())
    }

    /// A row is about to be held no longer. Looks again at the rows that lean on it.
    pub(super) fn held_parent_goes(
        &self,
        no: i64,
        user: &UserTable,
        key: &RowKey,
        queue: &mut Queue,
    ) -> Result<(), ReplicaError> {
        if user.table.foreign_keys.is_empty() {
            return Ok(());
        }
        if holds::find(&self.conn, no, key)? == Some(HoldKind::Foreign) {
            for (child_no, child, _) in self.net_children(user)? {
                let leaning =
                    holds::claimants(&self.conn, child_no, &row_claim(no, key), child.has_integer_key())?;
                leaning.into_iter().for_each(|row| queue.push(child_no, row));
            }
        }
        self.forget_leaning(no, user, key)
    }

    /// Forgets on which rows a row leans: it is looked at anew.
    fn forget_leaning(&self, no: i64, user: &UserTable, key: &RowKey) -> Result<(), ReplicaError> {
        if user.table.foreign_keys.len() > 1 && holds::find(&self.conn, no, key)?.is_none() {
            holds::forget_claims(&self.conn, no, key)?;
        }
        Ok(())
    }

    /// The tables whose rows may lean on rows of this one, with how they refer to it.
    fn net_children(
        &self,
        user: &UserTable,
    ) -> Result<Vec<(i64, std::sync::Arc<UserTable>, ForeignKey)>, ReplicaError> {
        // A table in a circle refers to others.
        if user.table.foreign_keys.is_empty() {
            return Ok(vec![]);
        }
        let mut children = self.references_to(&user.table.name)?;
        children.retain(|(no, child, foreign)| self.is_in_net(*no, child, foreign));
        Ok(children)
    }
}
