//! Taken: notices that a number has two rows.
//!
//! On a device, when a row comes from the server under a number of a row that the server does not have. On the server,
//! before a row enters: then the device hears of it and moves its row.

use super::origin::{self, MOVED, Origin};
use crate::change::{Action, OWN};
use crate::document::{Cell, Content};
use crate::frame::{KeyRef, Life};
use crate::id::Actor;
use crate::key::RowKey;
use crate::replica::{Replica, ReplicaError};
use crate::segment::Segment;
use crate::store::{StoreError, documents, numbers};
use crate::value::ValueRef;

/// What of a segment that was taken in concerns numbers.
#[derive(Debug, Default)]
pub(crate) struct Arrived {
    /// Rows of which something was known already and of which it has another insert.
    pub(crate) met: Vec<RowKey>,
    /// Rows that stand for others, with the changes for which they stand.
    pub(crate) moved: Vec<(RowKey, Vec<Origin>)>,
}

impl Arrived {
    pub(crate) fn is_empty(&self) -> bool {
        self.met.is_empty() && self.moved.is_empty()
    }

    /// Takes note of what a row stands for.
    pub(crate) fn add_moved(&mut self, key: RowKey, value: ValueRef<'_>) {
        let origins = origin::decode(value, matches!(key, RowKey::Integer(_)));
        if !origins.is_empty() {
            self.moved.push((key, origins));
        }
    }
}

impl Replica {
    /// Notes what came with a segment: where rows are that moved, and which rows written here have to give way.
    pub(crate) fn note_arrived(
        &mut self,
        no: i64,
        segment: &Segment,
        is_own: bool,
        arrived: Arrived,
    ) -> Result<(), ReplicaError> {
        let gives_way = self.numbers.gives_way && !is_own;
        for (new, origins) in arrived.moved {
            for (key, actor) in origins {
                if gives_way {
                    let known = numbers::moved_to(&self.conn, no, &actor, &key)?;
                    for place in [Some(key.clone()), known].into_iter().flatten() {
                        if self.any_unsent(no, &place)? {
                            self.note_taken(no, &place)?;
                        }
                    }
                }
                numbers::put_move(&self.conn, no, &actor, &key, &new)?;
            }
        }
        if !gives_way {
            return Ok(());
        }
        if !arrived.met.is_empty() && (self.may_renumber(no) || self.key_may_follow(no)?) {
            for key in arrived.met {
                if self.is_inserted_here(no, &key)? {
                    self.note_taken(no, &key)?;
                }
            }
        }
        // A row that this device has moved is at the server under the number that it had.
        let integer_keys = self.containers[&no].integer_keys;
        for (_, new) in numbers::moves_of(&self.conn, no, &segment.actor, integer_keys)? {
            if self.any_unsent(no, &new)? {
                self.note_taken(no, &new)?;
            }
        }
        Ok(())
    }

    /// Whether any change of a row was made here and is not at the server.
    fn any_unsent(&self, no: i64, key: &RowKey) -> Result<bool, ReplicaError> {
        for at in documents::changes(&self.conn, no, key)? {
            if numbers::is_unsent(&self.conn, no, at.segment())? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Whether a row was inserted here, after tracking, and is not at the server.
    fn is_inserted_here(&mut self, no: i64, key: &RowKey) -> Result<bool, ReplicaError> {
        for at in documents::changes(&self.conn, no, key)? {
            if numbers::is_unsent(&self.conn, no, at.segment())? {
                let (actor, change) = self.history.change(&self.conn, at)?;
                // Rows from before tracking may be the same as the server's: they stay in conflict.
                if (!actor.time().is_before_tracking() || self.renumbers_mine(no)?)
                    && matches!(change.ops.first().map(|op| &op.action), Some(Action::Live(OWN)))
                {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    /// As the server: whether a segment inserts a row under a number that another row has, or one that is here already
    /// under another number.
    pub(crate) fn takes_number(&mut self, no: i64, segment: &Segment) -> Result<bool, ReplicaError> {
        if self.settings_of(no).keeps {
            return Ok(false);
        }
        let integer_keys = self.containers[&no].integer_keys;
        let reader = segment.changes().map_err(StoreError::from)?;
        let has_inserts = reader.templates().any(|t| t.life == Life::Opens);
        let has_moved = reader.templates().any(|t| t.ops.iter().any(|(key, _)| key == MOVED));
        let moves = numbers::moves_of(&self.conn, no, &segment.actor, integer_keys)?;
        let keys = if has_inserts { reader.into_keys().map_err(StoreError::from)? } else { vec![] };
        let is_new = match (keys.first(), keys.last()) {
            (Some(KeyRef::Integer(first)), Some(KeyRef::Integer(last))) => {
                !numbers::any_known(&self.conn, no, *first, *last)?
            }
            _ => true,
        };
        if !has_inserts || (is_new && moves.is_empty() && !has_moved) {
            return Ok(false);
        }
        let is_after_tracking = !segment.actor.time().is_before_tracking();
        let mut reader = segment.changes().map_err(StoreError::from)?;
        while let Some(row) = reader.next_change().map_err(StoreError::from)? {
            if row.template.life != Life::Opens {
                continue;
            }
            let key = RowKey::from(row.key);
            let change = row.into_change();
            let replaced = change.ops.first().map_or(&[][..], |op| &op.preds);
            let view = self.history.view(&self.conn, no, &key)?;
            // A row that was deleted unknown to who inserts counts as well: others may still refer to its number.
            let counts = |cell: &Cell| is_after_tracking || matches!(cell.content, Content::Live(_));
            let mut cells = view.cells.get("").into_iter().flatten().filter(|_| integer_keys);
            if cells.any(|cell| counts(cell) && !replaced.contains(&cell.id)) {
                return Ok(true);
            }
            if let Some((_, new)) = moves.iter().find(|(old, _)| *old == key)
                && self.history.view(&self.conn, no, new)?.is_live()
            {
                return Ok(true);
            }
            let moved = change.ops.iter().find(|op| op.key == MOVED);
            if let Some(Action::Put(value)) = moved.map(|op| &op.action) {
                for (old, actor) in origin::decode(value.as_ref(), integer_keys) {
                    let place = numbers::moved_to(&self.conn, no, &actor, &old)?;
                    let is_elsewhere = place.is_some_and(|place| place != key || !integer_keys);
                    if is_elsewhere || self.has_change(no, &old, &actor)? {
                        return Ok(true);
                    }
                }
            }
        }
        Ok(false)
    }

    /// Whether a row has a change of this actor.
    fn has_change(&self, no: i64, key: &RowKey, actor: &Actor) -> Result<bool, ReplicaError> {
        for at in documents::changes(&self.conn, no, key)? {
            if crate::store::segments::actor_of(&self.conn, at.segment())? == Some(*actor) {
                return Ok(true);
            }
        }
        Ok(false)
    }
}
