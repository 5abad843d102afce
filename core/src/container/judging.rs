//! Judging: whether a change of a table's description may enter a server, by its effect on everyone and not by its form.

use crate::change::{Action, Change};
use crate::change_codec;
use crate::description::{self, Description};
use crate::grant::Access;
use crate::id::PeerId;
use crate::key::RowKey;
use crate::message::RefusalReason;
use crate::replica::{Replica, ReplicaError};
use crate::row;
use crate::segment::Segment;
use crate::store::StoreError;
use crate::value::Value;

/// Entries by key.
type Entries = Vec<(String, Value)>;

/// What a change says of entries, as if no other value stood against it.
struct Effect {
    entries: Entries,
    /// Whether an entry that was there says something else.
    changes: bool,
    /// Keys of the entries that were not there.
    added: Vec<String>,
    /// Whether it ends the description.
    ends: bool,
}

impl Effect {
    fn of(change: &Change, old: &Entries) -> Self {
        let ends = change.ops.iter().any(|op| matches!(op.action, Action::Dead));
        let mut effect = Self { entries: old.clone(), changes: false, added: vec![], ends };
        for op in change.ops.iter().filter(|op| !op.key.is_empty()) {
            let value = match &op.action {
                Action::Put(value) => value.clone(),
                _ => Value::Null,
            };
            match effect.entries.iter_mut().find(|(key, _)| *key == op.key) {
                Some((key, known)) => {
                    effect.changes |= !description::is_same_entry(key, known, &value);
                    *known = value;
                }
                None => {
                    effect.added.push(op.key.clone());
                    effect.entries.push((op.key.clone(), value));
                }
            }
        }
        effect
    }
}

fn read(entries: &Entries) -> Option<Description> {
    Description::from_entries(entries.iter().map(|(key, value)| (key.as_str(), value))).ok()
}

impl Replica {
    /// Why a change of the table's description may not enter; None: it may.
    ///
    /// Whoever may write makes the first description and adds to it what a table may grow by. To say something else than is
    /// said takes an administrator, also where another value shows as long as it is there. From nobody comes a table that SQLite
    /// does not make, or a foreign key to a table that its author may not see.
    /// `may_see` says of an author and a container whether it may see it.
    pub(super) fn judge_description(
        &mut self,
        no: i64,
        access: Access,
        segment: &Segment,
        may_see: &dyn Fn(&PeerId, &str) -> bool,
    ) -> Result<Option<RefusalReason>, ReplicaError> {
        let mut changes = segment.changes().map_err(StoreError::from)?;
        let Some(first) = changes.next_change().map_err(StoreError::from)? else { return Ok(None) };
        let change = first.into_change();
        let mut document = self.history.document(&self.conn, no, &RowKey::Description)?;
        let old = row::description_entries(&document.evaluate());
        let Ok(hash) = change_codec::encode(&change, &segment.actor, &mut vec![]) else {
            return Ok(Some(RefusalReason::Malformed));
        };
        let Effect { entries, changes: is_changed, added, ends } = Effect::of(&change, &old);
        let (before, after) = (read(&old), read(&entries));
        // An entry that cannot be read would hide all that are added later; rows are found by keys of one kind.
        if let Some(before) = &before
            && !after.as_ref().is_some_and(|after| after.has_keys_of(before))
        {
            return Ok(Some(RefusalReason::Malformed));
        }
        if let Some(after) = &after {
            if after.has_other_capitals() {
                return Ok(Some(RefusalReason::Malformed));
            }
            if before.as_ref() != Some(after) && after.try_out(before.as_ref()).is_err() {
                return Ok(Some(RefusalReason::Malformed));
            }
            let author = segment.header.author;
            let was_named =
                |table: &str| before.as_ref().is_some_and(|b| b.parents().any(|(known, _)| known == table));
            let mut new = after.parents().map(|(table, _)| table).filter(|table| !was_named(table));
            if !new.all(|table| self.sees_parent(no, table, &|name| may_see(&author, name))) {
                return Ok(Some(RefusalReason::NoGrant));
            }
        }
        if access == Access::Admin || old.is_empty() && !ends {
            return Ok(None);
        }
        document.insert(hash, segment.actor, change);
        let view = document.evaluate();
        // What waits has its effect when nobody judges it.
        let counts = !view.void.contains_key(&hash) && !view.waiting.contains(&hash);
        let allowed =
            counts && !ends && !is_changed && added.iter().all(|key| description::may_be_added(key));
        Ok((!allowed).then_some(RefusalReason::NeedsAdmin))
    }

    /// Whether the author of a container's description may see a table that it refers to: rows of the one follow those of the other.
    fn sees_parent(&self, no: i64, table: &str, may_see: &dyn Fn(&str) -> bool) -> bool {
        let own = &self.containers[&no];
        let database = own.name.split_once('/').map_or("", |(database, _)| database);
        match self.containers.of_table(table) {
            Some(parent) => parent.no == no || may_see(&parent.name),
            None => may_see(&format!("{database}/{table}")),
        }
    }
}
