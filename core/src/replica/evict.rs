//! Evict: what an author wrote since a time is undone, by new changes in this replica's own name.
//!
//! Nothing is taken out of feeds: what was signed and logged stays, and every device gets the change that undoes it as it gets any
//! other. A column goes back to what its row shows without those changes, unless somebody has written it since; a row that
//! nobody else has written goes, and one that only they deleted comes back. Texts and counters go back to what they were without
//! those changes and what builds on them.

use super::{Replica, ReplicaError};
use crate::document::{Content, Document, View};
use crate::id::{Actor, PeerId, Timestamp};
use crate::key::RowKey;
use crate::row;
use crate::store::segments;
use crate::store::user_table::{RowValues, UserTable};
use crate::value::Value;
use std::collections::{BTreeSet, HashSet};

/// What was undone.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Evicted {
    /// Segments of the author since the time.
    pub segments: u64,
    /// Rows that show something else now.
    pub rows: u64,
    /// Names of the tables whose description the author changed: an administrator has to look at these.
    pub described: Vec<String>,
}

impl Replica {
    /// Undoes in all tables what `author` wrote at `since` or later, by the times in its changes.
    pub fn evict(
        &mut self,
        author: &PeerId,
        since: Timestamp,
        now: Timestamp,
    ) -> Result<Evicted, ReplicaError> {
        while self.capture(now)?.more {}
        let mut evicted = Evicted::default();
        for no in self.containers.numbers().collect::<Vec<_>>() {
            self.transaction(|r| {
                r.capture_all(now)?;
                r.evict_from(no, author, since, now, &mut evicted)
            })?;
        }
        Ok(evicted)
    }

    fn evict_from(
        &mut self,
        no: i64,
        author: &PeerId,
        since: Timestamp,
        now: Timestamp,
        evicted: &mut Evicted,
    ) -> Result<(), ReplicaError> {
        let Some(user) = self.user_table(no)? else { return Ok(()) };
        let (mut actors, mut keys) = (HashSet::new(), BTreeSet::new());
        for segment in segments::of_author(&self.conn, no, author, since)? {
            let segment = self.history.segment(&self.conn, segment)?;
            actors.insert(segment.segment.actor);
            keys.extend(segment.keys().cloned());
            evicted.segments += 1;
        }
        if keys.remove(&RowKey::Description) {
            evicted.described.push(self.containers[&no].name.clone());
        }
        let mut changed = vec![];
        for key in keys {
            let document = self.history.document(&self.conn, no, &key)?;
            let view = document.evaluate();
            let before = row::shown(&view, &user);
            let after = without(&document, &view, &actors, &user);
            if let Some(change) = row::edit(&view, &user, before.as_ref(), after.as_ref()) {
                self.write_change(no, &key, &change, self.corrected(now).max(Timestamp(1)))?;
                changed.push((no, key));
            }
        }
        evicted.rows += changed.len() as u64;
        self.settle_quietly(changed)
    }
}

/// What a row shall show once the changes by these actors are undone; None: no row.
fn without(document: &Document, view: &View, actors: &HashSet<Actor>, user: &UserTable) -> Option<RowValues> {
    let mut rest = Document::default();
    for (hash, actor, change) in document.changes().filter(|(_, actor, _)| !actors.contains(actor)) {
        rest.insert(*hash, *actor, change.clone());
    }
    let rest = row::shown(&rest.evaluate(), user);
    let Some(cells) = view.shown() else {
        // It came back unless somebody else deleted it as well.
        let by_them = |cell: &crate::document::Cell| actors.contains(&cell.id.actor);
        return rest.filter(|_| view.cells.get("").is_some_and(|lives| lives.iter().all(by_them)));
    };
    let is_theirs = |key: &str| cells.get(key).is_some_and(|cell| actors.contains(&cell.id.actor));
    if rest.is_none() && cells.keys().all(|key| is_theirs(key)) {
        return None;
    }
    let now = row::values_of(&cells, user);
    let mixed = |key: &str| {
        let content = cells.get(key).map(|cell| &cell.content);
        matches!(content, Some(Content::Text(_) | Content::Counter(_)))
    };
    let value = |(n, value): (usize, Value)| {
        let column = &user.columns[n];
        match is_theirs(&column.key) || mixed(&column.key) {
            true => rest.as_ref().map_or(column.absent.clone(), |rest: &RowValues| rest[n].clone()),
            false => value,
        }
    };
    Some(now.into_iter().enumerate().map(value).collect())
}
