//! Rewriting: own segments are withdrawn, and what they say is written anew with rows under other keys.
//!
//! A row of which all changes are withdrawn becomes one insert that names the changes for which it stands. Changes of
//! other rows are written again as they were, with what they build on.

use super::{Fate, origins};
use crate::change::{Action, Change, Merge, OWN, OpId, TextRun};
use crate::document::View;
use crate::frame::{FrameWriter, KeyRef};
use crate::history::Decoded;
use crate::id::{Actor, ChangeHash, Seq, Timestamp};
use crate::key::RowKey;
use crate::numbers::origin::{self, MOVED, Origin};
use crate::replica::{Replica, ReplicaError};
use crate::row;
use crate::segment::PLAIN_LEN_MAX;
use crate::store::documents::{self, At};
use crate::store::numbers::{self, Unsent};
use crate::store::segments;
use crate::store::user_table::{DocumentColumn, RowValues, UserTable};
use crate::value::Value;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

/// Bytes of a plain frame at which a segment is closed.
const SEGMENT_BYTES: usize = PLAIN_LEN_MAX / 2;
/// Rows in one segment.
const SEGMENT_ROWS: usize = 1024;

/// A segment that is withdrawn.
struct Withdrawn {
    unsent: Unsent,
    decoded: Arc<Decoded>,
}

/// What is written in the place of a change.
enum Written {
    /// A row as one insert.
    Insert(Change),
    /// The change as it was, and what it was called.
    Again { change: Change, hash: ChangeHash, actor: Actor },
}

/// Edits of a row that the server has under another key, made here after it was moved.
struct Edits {
    key: RowKey,
    /// None: it was deleted.
    columns: Option<Vec<(String, Merge, Value)>>,
    time: Timestamp,
}

/// What changes are called that were written anew.
#[derive(Default)]
struct Names {
    hashes: HashMap<ChangeHash, ChangeHash>,
    actors: HashMap<(RowKey, Actor), Actor>,
}

impl Replica {
    /// Writes own segments anew with rows moved and values replaced. Returns the places of those that were withdrawn, and
    /// the rows whose changes were written again: of two concurrent values of one time another may show now.
    pub(super) fn rewrite(
        &mut self,
        no: i64,
        fates: Option<&BTreeMap<RowKey, Fate>>,
        values: Option<&BTreeMap<RowKey, BTreeMap<usize, Value>>>,
    ) -> Result<(Vec<Seq>, Vec<RowKey>), ReplicaError> {
        let Some(user) = self.user_table(no)? else { return Ok(Default::default()) };
        let mut again = vec![];
        let touched =
            fates.into_iter().flat_map(|f| f.keys()).chain(values.into_iter().flat_map(|v| v.keys()));
        let withdrawn = self.withdrawable(no, touched.cloned().collect())?;
        let mut rows: BTreeMap<RowKey, Vec<(usize, usize)>> = BTreeMap::new();
        for (n, segment) in withdrawn.iter().enumerate() {
            for (index, key) in segment.decoded.keys().enumerate() {
                rows.entry(key.clone()).or_default().push((n, index));
            }
        }
        let actors: HashSet<Actor> = withdrawn.iter().map(|segment| segment.unsent.actor).collect();
        let mut written: BTreeMap<usize, Vec<(RowKey, Written)>> = BTreeMap::new();
        let mut edits = vec![];
        for (key, places) in &rows {
            let fate = fates.and_then(|fates| fates.get(key));
            let values = values.and_then(|values| values.get(key));
            let is_alone = documents::changes(&self.conn, no, key)?.len() == places.len();
            let becomes_one = fate.is_some() || is_alone;
            // What was written to a row that the server has or had stays with that one.
            let of_own = if becomes_one { self.changes_of_own_row(no, key, &actors)? } else { vec![] };
            let (folded, others): (Vec<_>, Vec<_>) =
                places.iter().copied().partition(|(n, _)| of_own.contains(&withdrawn[*n].unsent.actor));
            let mut following = values.filter(|_| !becomes_one).cloned().unwrap_or_default();
            for (n, index) in others.into_iter().rev() {
                again.push(key.clone());
                let at = At::new(withdrawn[n].unsent.no, index);
                let (actor, change) = self.history.change(&self.conn, at)?;
                let hash = self.history.hash(&self.conn, at)?;
                let change = with_values(change, &user, &mut following);
                written.entry(n).or_default().push((key.clone(), Written::Again { change, hash, actor }));
            }
            let Some((last, _)) = folded.last().copied() else { continue };
            let view = self.own_document(no, key)?.evaluate();
            match fate {
                Some(Fate::Known(place)) => {
                    edits
                        .extend(self.edits_since(no, key, place, &user, values, &withdrawn, &folded, &view)?);
                    continue;
                }
                Some(Fate::Gone) => continue,
                _ => {}
            }
            let Some(shown) = row::shown(&view, &user) else {
                continue; // it was deleted before anybody else saw it
            };
            let changes: Vec<Actor> = folded.iter().map(|(n, _)| withdrawn[*n].unsent.actor).collect();
            let to = if let Some(Fate::Moves(new)) = fate { new } else { key };
            let mut put = |n: usize, shown: RowValues, origins: &[Origin]| {
                let change = insert(&user, shown, values, origins);
                written.entry(n).or_default().push((to.clone(), Written::Insert(change)));
            };
            // Other own inserts of the key, such as a held row, stay in conflict with it.
            let others: Vec<_> =
                view.other_rows().into_iter().filter(|(life, _)| of_own.contains(life)).collect();
            for (life, cells) in &others {
                let place = folded.iter().find(|(n, _)| withdrawn[*n].unsent.actor == *life);
                let n = place.map_or(last, |(n, _)| *n);
                put(n, row::values_of(cells, &user), &[(key.clone(), *life)]);
            }
            let is_other = |origin: &Origin| others.iter().any(|(life, _)| origin.1 == *life);
            let origins: Vec<_> =
                origins(key, &view, &changes).into_iter().filter(|origin| !is_other(origin)).collect();
            put(last, shown, &origins);
        }
        let places = self.take_back(no, &withdrawn, &rows)?;
        let mut names = Names::default();
        for (n, segment) in withdrawn.iter().enumerate() {
            let Some(rows) = written.remove(&n) else { continue };
            self.write_anew(no, rows, segment.decoded.segment.header.time, &mut names)?;
        }
        for edit in edits {
            let view = self.history.view(&self.conn, no, &edit.key)?;
            let change = match edit.columns {
                Some(columns) if view.is_live() => view.edit(&columns),
                None if view.is_live() => view.delete(),
                _ => continue,
            };
            self.write_change(no, &edit.key, &change, edit.time)?;
        }
        Ok((places, again))
    }

    /// The own segments with changes of these rows, and those with changes that build on what is in them.
    fn withdrawable(
        &mut self,
        no: i64,
        mut touched: HashSet<RowKey>,
    ) -> Result<Vec<Withdrawn>, ReplicaError> {
        let mut found = vec![];
        for unsent in numbers::unsent(&self.conn, no)? {
            let decoded = self.history.segment(&self.conn, unsent.no)?;
            let is_touched = decoded.keys().any(|key| touched.contains(key));
            if is_touched && !decoded.segment.is_description() {
                touched.extend(decoded.keys().cloned());
                found.push(Withdrawn { unsent, decoded });
            }
        }
        Ok(found)
    }

    /// What was written here to a row after the copy was made of which the server has it.
    #[allow(clippy::too_many_arguments)] // one row, here and there
    fn edits_since(
        &mut self,
        no: i64,
        key: &RowKey,
        place: &RowKey,
        user: &UserTable,
        values: Option<&BTreeMap<usize, Value>>,
        withdrawn: &[Withdrawn],
        places: &[(usize, usize)],
        view: &View,
    ) -> Result<Option<Edits>, ReplicaError> {
        let mut known: HashSet<Origin> = HashSet::new();
        for at in documents::changes(&self.conn, no, place)? {
            let (actor, change) = self.history.change(&self.conn, at)?;
            known.insert((place.clone(), actor));
            for op in change.ops.iter().filter(|op| op.key == MOVED) {
                if let Action::Put(value) = &op.action {
                    known.extend(origin::decode(value.as_ref(), matches!(key, RowKey::Integer(_))));
                }
            }
        }
        let own_places: HashSet<_> = places.iter().map(|(n, _)| withdrawn[*n].unsent.actor).collect();
        let is_new = |actor: &Actor| {
            own_places.contains(actor)
                && (key == place || !known.contains(&(key.clone(), *actor)))
                && !known.contains(&(key.clone(), *actor))
        };
        let (last, index) = places[places.len() - 1];
        let actor = withdrawn[last].unsent.actor;
        let time = withdrawn[last].decoded.segment.header.time;
        let is_insert = withdrawn[last]
            .decoded
            .change(index)
            .is_some_and(|c| matches!(c.ops.first().map(|op| &op.action), Some(Action::Live(OWN))));
        if is_insert || !is_new(&actor) {
            return Ok(None);
        }
        let Some(cells) = view.shown() else {
            return Ok(Some(Edits { key: place.clone(), columns: None, time }));
        };
        let mut columns = vec![];
        for column in &user.columns {
            if let Some(cell) = cells.get(column.key.as_str())
                && view.incarnation() != Some(cell.id.actor)
                && is_new(&cell.id.actor)
            {
                let follows = values.and_then(|values| values.get(&column.index)).cloned();
                columns.push((column.key.clone(), column.merge, follows.unwrap_or_else(|| row::plain(cell))));
            }
        }
        Ok((!columns.is_empty()).then(|| Edits { key: place.clone(), columns: Some(columns), time }))
    }

    /// Takes own segments out of the feed with all their changes.
    fn take_back(
        &mut self,
        no: i64,
        withdrawn: &[Withdrawn],
        rows: &BTreeMap<RowKey, Vec<(usize, usize)>>,
    ) -> Result<Vec<Seq>, ReplicaError> {
        if withdrawn.is_empty() {
            return Ok(vec![]);
        }
        for (key, places) in rows {
            self.history.forget_baseline(&self.conn, no, key)?;
            for (n, index) in places {
                documents::remove(&self.conn, no, key, At::new(withdrawn[*n].unsent.no, *index))?;
            }
        }
        for segment in withdrawn {
            segments::remove(&self.conn, segment.unsent.no)?;
            numbers::forget_segment(&self.conn, no, segment.unsent.no)?;
        }
        self.history.clear();
        self.order_feed(no)?;
        Ok(withdrawn.iter().map(|segment| segment.unsent.seq).collect())
    }

    fn write_anew(
        &mut self,
        no: i64,
        mut rows: Vec<(RowKey, Written)>,
        time: Timestamp,
        names: &mut Names,
    ) -> Result<(), ReplicaError> {
        let mut writer = FrameWriter::default();
        let mut named = vec![];
        rows.sort_by(|a, b| a.0.cmp(&b.0));
        let mut last: Option<RowKey> = None;
        for (key, written) in rows {
            // Two rows that come under one key are two changes, by two actors: they are in conflict.
            let is_again = last.replace(key.clone()).is_some_and(|last| last == key);
            if is_again
                || writer.len() >= SEGMENT_ROWS
                || writer.byte_len() >= SEGMENT_BYTES
                || writer.work().is_plenty()
            {
                self.seal(no, std::mem::take(&mut writer), time, std::mem::take(&mut named), names)?;
            }
            match written {
                Written::Insert(change) => writer.push(KeyRef::from(&key), &change),
                Written::Again { change, hash, actor } => {
                    named.push((writer.len(), key.clone(), hash, actor));
                    writer.push(KeyRef::from(&key), &names.of(change, &key));
                }
            }
        }
        self.seal(no, writer, time, named, names)
    }

    fn seal(
        &mut self,
        no: i64,
        writer: FrameWriter,
        time: Timestamp,
        named: Vec<(usize, RowKey, ChangeHash, Actor)>,
        names: &mut Names,
    ) -> Result<(), ReplicaError> {
        if writer.is_empty() {
            return Ok(());
        }
        let actor = self.write_frame(no, writer, time)?;
        let number = segments::last(&self.conn)?;
        for (index, key, hash, old) in named {
            names.hashes.insert(hash, self.history.hash(&self.conn, At::new(number, index))?);
            names.actors.insert((key, old), actor);
        }
        Ok(())
    }
}

impl Names {
    /// A change that builds on others as they are called now.
    fn of(&self, mut change: Change, key: &RowKey) -> Change {
        let actor = |actor: &mut Actor| {
            if let Some(new) = self.actors.get(&(key.clone(), *actor)) {
                *actor = *new;
            }
        };
        let id = |id: &mut OpId| actor(&mut id.actor);
        for dep in &mut change.deps {
            *dep = self.hashes.get(dep).copied().unwrap_or(*dep);
        }
        change.deps.sort_unstable();
        for op in &mut change.ops {
            op.preds.iter_mut().for_each(id);
            op.preds.sort_unstable();
            if let Action::Live(incarnation) = &mut op.action {
                actor(incarnation);
            }
        }
        for run in &mut change.text {
            match run {
                TextRun::Insert { object, after, .. } => {
                    id(object);
                    after.iter_mut().for_each(id);
                }
                TextRun::Delete { object, first, .. } => {
                    id(object);
                    id(first);
                }
            }
        }
        change
    }
}

/// A row that was written here as one insert, which names the changes for which it stands.
fn insert(
    user: &UserTable,
    shown: RowValues,
    values: Option<&BTreeMap<usize, Value>>,
    origins: &[Origin],
) -> Change {
    let column = |(column, value): (&DocumentColumn, Value)| {
        let value = values.and_then(|values| values.get(&column.index)).cloned().unwrap_or(value);
        (column.key.clone(), column.merge, value)
    };
    let mut columns: Vec<_> = user.columns.iter().zip(shown).map(column).collect();
    columns.push((MOVED.to_owned(), Merge::Register, origin::encode(origins)));
    View::default().insert(&columns)
}

/// A change with the values that follow in the columns that it writes; those are taken out, since earlier changes of them
/// mean other rows.
fn with_values(mut change: Change, user: &UserTable, values: &mut BTreeMap<usize, Value>) -> Change {
    values.retain(|index, value| {
        let Some(column) = user.columns.iter().find(|c| c.index == *index) else { return true };
        let puts = change.ops.iter_mut().filter(|op| op.key == column.key);
        let mut is_written = false;
        for old in puts.filter_map(|op| if let Action::Put(old) = &mut op.action { Some(old) } else { None })
        {
            old.clone_from(value);
            is_written = true;
        }
        !is_written
    });
    change
}
