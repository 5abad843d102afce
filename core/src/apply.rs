//! Apply: a segment becomes documents here, and documents become rows.
//!
//! `take_in` appends a segment to the feed and notes its changes, all in the caller's transaction. Most
//! rows arrive as a first insert: those go into the table at once. Whatever else changed is handed to
//! `placement`, which looks at the whole document.

use crate::change::{Action, Change};
use crate::change_codec::{self, FreshEncoder};
use crate::frame::{KeyRef, Life, OpKind, RowChange, Template};
use crate::history::Noted;
use crate::id::{Actor, ChangeHash};
use crate::key::RowKey;
use crate::numbers::{Arrived, MOVED};
use crate::replica::{Replica, ReplicaError, Scan};
use crate::segment::Segment;
use crate::store::StoreError;
use crate::store::documents::{self, At, Lines};
use crate::store::numbers;
use crate::store::segments::{self, Origin};
use crate::store::user_table::{Fault, UserTable};
use crate::value::Value;
use rusqlite::CachedStatement;
use std::sync::Arc;

/// What became of a segment's rows.
#[derive(Debug, Default)]
pub(crate) struct TakenIn {
    /// Whether it was new here.
    pub(crate) is_new: bool,
    /// Changes in it.
    pub(crate) rows: u64,
    /// Rows to be placed by looking at their documents.
    pub(crate) unsettled: Vec<(i64, RowKey)>,
    /// Whether it changed the table's description.
    pub(crate) description: bool,
    /// Whether no other segment of the container has its actor.
    has_new_actor: bool,
    /// What of it concerns numbers.
    arrived: Arrived,
}

/// A change that is noted by looking at what its row has.
#[derive(Debug)]
pub(crate) struct Edit {
    key: RowKey,
    at: At,
    hash: ChangeHash,
    actor: Actor,
    change: Change,
    /// See [`Noted::is_only`].
    is_only: bool,
}

/// What segments brought into a container and is not noted, or not shown, yet.
#[derive(Debug, Default)]
pub(crate) struct Arrivals {
    pub(crate) edits: Vec<Edit>,
    pub(crate) unsettled: Vec<(i64, RowKey)>,
}

/// Where rows of a segment go at once, if anywhere.
struct Target {
    user: Arc<UserTable>,
    /// True if any row is held here or in a child table: every incoming row may release one or conflict with one. Also if it may
    /// refer to a row that waits for its number.
    watchful: bool,
}

/// How the operations of a template fill the parameters of the table's insert.
struct Filling {
    encoder: FreshEncoder,
    /// For each document column the operation that fills it, or none.
    sources: Vec<Option<usize>>,
    /// The operation that says for which changes the row stands.
    moved: Option<usize>,
}

impl Replica {
    /// Appends a segment to its container's feed and notes its changes; unless it is there already.
    ///
    /// With `into_table`, first inserts go into the user's table. Changes that are no plain first inserts of their rows join `edits`,
    /// with those of segments before it; if any of them has to be known at once, all are noted. Call it in a transaction.
    pub(crate) fn take_in(
        &mut self,
        no: i64,
        segment: &Segment,
        origin: Origin,
        into_table: bool,
        edits: &mut Vec<Edit>,
    ) -> Result<TakenIn, ReplicaError> {
        let mut taken = TakenIn::default();
        if let Some(number) = segments::find(&self.conn, no, &segment.id)? {
            if origin != Origin::HERE && !self.is_server && segments::is_own(&self.conn, number)? {
                numbers::put_returned(&self.conn, no, number)?;
            }
            return Ok(taken);
        }
        taken.is_new = true;
        self.read_root(no)?;
        let Some(state) = self.containers.get_mut(&no) else {
            return Err(StoreError::Damaged { what: "a container is missing" }.into());
        };
        let cursor = state.feed.append(&segment.id);
        taken.has_new_actor = !segments::has_actor(&self.conn, no, &segment.actor)?;
        let number = segments::append(&self.conn, no, &cursor, origin, segment)?;
        self.touch(no);
        self.note_author(&segment.header.author)?;
        self.tell_log_of(no, segment, origin.peer)?;
        let target = if into_table { self.target(no)? } else { None };
        // A repair may bring an edit before its insert: that is noted first, since it came first.
        if !edits.is_empty() && has_inserts(segment)? {
            self.note_edits(no, edits)?;
        }
        self.note_changes(no, number, segment, target.as_ref(), &mut taken, edits)?;
        taken.rows = u64::from(segment.header.count) - u64::from(taken.description);
        if !taken.arrived.is_empty() || taken.description {
            self.note_edits(no, edits)?;
        }
        let arrived = std::mem::take(&mut taken.arrived);
        self.note_arrived(no, segment, origin == Origin::HERE, arrived)?;
        Ok(taken)
    }

    fn target(&self, no: i64) -> Result<Option<Target>, ReplicaError> {
        let Some(user) = self.user_table(no)? else { return Ok(None) };
        let state = &self.containers[&no];
        if state.scan() == Scan::Fill && state.scan_after.is_none() {
            return Ok(None); // it comes with all others
        }
        let watchful = self.any_held_around(no)? || self.awaits_numbers(&user);
        Ok(Some(Target { user, watchful }))
    }

    fn note_changes(
        &self,
        no: i64,
        number: i64,
        segment: &Segment,
        target: Option<&Target>,
        taken: &mut TakenIn,
        edits: &mut Vec<Edit>,
    ) -> Result<(), ReplicaError> {
        let conn = &self.conn;
        let mut lines = Lines::new(conn, no);
        // Where it cannot be prepared, each row is held for the reason.
        let plain = target.filter(|t| t.user.acts.is_plain());
        let mut insert = plain.and_then(|t| t.user.insert(conn).ok());
        let mut reader = segment.changes().map_err(StoreError::from)?;
        let templates: Vec<_> = reader.templates().cloned().collect();
        // A first edit asks for the hash of the insert alone; what edits, is read as a whole where its hash is asked for.
        let is_plain = templates.iter().all(Template::is_plain_insert);
        let mut hashes =
            Vec::with_capacity(if is_plain { segment.header.count as usize * ChangeHash::LEN } else { 0 });
        let mut fillings: Vec<Option<Filling>> = templates.iter().map(|_| None).collect();
        let integer_keys = self.containers[&no].integer_keys;
        while let Some(row) = reader.next_change().map_err(StoreError::from)? {
            let at = At::new(number, row.index);
            check_key(&row.key, integer_keys)?;
            if row.key == KeyRef::Description || !row.template.is_plain_insert() {
                taken.description |= row.key == KeyRef::Description;
                let (key, opens) = (RowKey::from(row.key), row.template.life == Life::Opens);
                let change = row.into_change();
                if opens && key != RowKey::Description && documents::find(conn, no, &key)?.is_some() {
                    taken.arrived.met.push(key.clone());
                }
                if let Some(Action::Put(value)) =
                    change.ops.iter().find(|op| op.key == MOVED).map(|op| &op.action)
                {
                    taken.arrived.add_moved(key.clone(), value.as_ref());
                }
                let edit = edit(segment, (key, at, change), taken)?;
                if target.is_some() && edit.key != RowKey::Description {
                    taken.unsettled.push((no, edit.key.clone()));
                }
                let hash = edit.hash;
                edits.push(edit);
                if is_plain {
                    hashes.extend_from_slice(&hash.0);
                }
                continue;
            }
            let filling = fillings[row.template_number]
                .get_or_insert_with(|| Filling::new(row.template, target.map(|t| &*t.user)));
            if is_plain {
                hashes.extend_from_slice(&filling.encoder.hash(&segment.actor, row.values).0);
            }
            let key = row.key;
            if let Some(moved) = filling.moved {
                taken.arrived.add_moved(key.into(), row.values[moved]);
            }
            if !lines.note(&key, at)? {
                taken.arrived.met.push(key.into());
                if target.is_some() {
                    taken.unsettled.push((no, key.into()));
                }
                edits.push(edit(segment, (key.into(), at, row.into_change()), taken)?);
                continue;
            }
            let Some(target) = target else { continue };
            if target.watchful
                || self.lacks_parent_in(&target.user, filling, &row)?
                || !Self::insert(filling, insert.as_mut(), &target.user, &row)?
            {
                taken.unsettled.push((no, key.into()));
            }
        }
        lines.finish()?;
        if is_plain {
            documents::put_hashes(conn, number, &hashes)?;
        }
        Ok(())
    }

    fn lacks_parent_in(
        &self,
        user: &UserTable,
        filling: &Filling,
        row: &RowChange<'_, '_>,
    ) -> Result<bool, ReplicaError> {
        if user.table.foreign_keys.is_empty() {
            return Ok(false);
        }
        let key_values = user.key_values(&row.key.into())?;
        self.lacks_parent(user, |index| filling.value(user, row, &key_values, index))
    }

    /// Inserts a row into the user's table; whether the table shows it.
    fn insert(
        filling: &Filling,
        plain: Option<&mut CachedStatement<'_>>,
        user: &UserTable,
        row: &RowChange<'_, '_>,
    ) -> Result<bool, ReplicaError> {
        // What acts on rows, or stores a value as another, is for placement to see.
        match plain {
            Some(stmt) if !filling.may_be_converted(user, row) => filling.insert(stmt, user, row),
            _ => Ok(false),
        }
    }

    /// Notes edits, by their rows: what rows near each other have in common is read and written once.
    pub(crate) fn note_edits(&mut self, no: i64, edits: &mut Vec<Edit>) -> Result<(), ReplicaError> {
        edits.sort_unstable_by(|a, b| (&a.key, a.at).cmp(&(&b.key, b.at)));
        for Edit { key, at, hash, actor, change, is_only } in edits.drain(..) {
            self.history.note(&self.conn, no, &key, &Noted { at, hash, actor, change: &change, is_only })?;
        }
        Ok(())
    }
}

/// A change that is not the plain first insert of its row, to be noted.
fn edit(
    segment: &Segment,
    (key, at, change): (RowKey, At, Change),
    taken: &TakenIn,
) -> Result<Edit, StoreError> {
    let hash = change_codec::encode(&change, &segment.actor, &mut vec![])
        .map_err(|_| StoreError::BadChange { segment: segment.id })?;
    Ok(Edit { key, at, hash, actor: segment.actor, change, is_only: taken.has_new_actor })
}

/// Whether any change of a segment is a plain insert.
fn has_inserts(segment: &Segment) -> Result<bool, StoreError> {
    Ok(segment.changes()?.templates().any(Template::is_plain_insert))
}

fn check_key(key: &KeyRef<'_>, integer_keys: bool) -> Result<(), StoreError> {
    match key {
        KeyRef::Integer(_) if !integer_keys => Err(StoreError::WrongKey),
        KeyRef::Tuple(_) if integer_keys => Err(StoreError::WrongKey),
        _ => Ok(()),
    }
}

impl Filling {
    fn new(template: &Template, user: Option<&UserTable>) -> Self {
        let ops: Vec<_> =
            template.ops.iter().map(|(name, kind)| (name.as_str(), *kind == OpKind::Counter)).collect();
        let source = |key: &str| template.ops.iter().position(|(name, _)| name == key);
        let sources = user.map_or(vec![], |u| u.columns.iter().map(|c| source(&c.key)).collect());
        Self { encoder: FreshEncoder::new(&ops), sources, moved: source(MOVED) }
    }

    /// What a row will have in a column of the table.
    fn value(&self, user: &UserTable, row: &RowChange<'_, '_>, key: &[Value], index: usize) -> Value {
        match user.columns.iter().position(|c| c.index == index) {
            Some(n) => self.sources[n].map_or(user.columns[n].absent.clone(), |op| row.values[op].to_owned()),
            None => {
                let place = user.key_columns().iter().position(|k| *k == index);
                place.and_then(|n| key.get(n).cloned()).unwrap_or(Value::Null)
            }
        }
    }

    /// Whether the table may store one of a row's values as another.
    fn may_be_converted(&self, user: &UserTable, row: &RowChange<'_, '_>) -> bool {
        let value = |op: usize| row.values[op];
        self.sources.iter().enumerate().any(|(n, op)| op.is_some_and(|op| user.may_convert(n, value(op))))
    }

    /// Inserts a row into the user's table; whether SQLite took it.
    fn insert(
        &self,
        stmt: &mut CachedStatement<'_>,
        user: &UserTable,
        row: &RowChange<'_, '_>,
    ) -> Result<bool, ReplicaError> {
        for (n, source) in self.sources.iter().enumerate() {
            match source {
                Some(op) => stmt.raw_bind_parameter(n + 1, row.values[*op])?,
                None => stmt.raw_bind_parameter(n + 1, user.columns[n].absent.as_ref())?,
            }
        }
        match row.key {
            KeyRef::Integer(i) => stmt.raw_bind_parameter(self.sources.len() + 1, i)?,
            key => user.bind_insert_key(stmt, &key.into())?,
        }
        match stmt.raw_execute().map_err(Fault::from) {
            Ok(_) => Ok(true),
            Err(Fault::Store(error)) => Err(error.into()),
            Err(_) => Ok(false),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::{PeerId, RealmId, Seq, Timestamp};
    use crate::identity::Identity;
    use crate::replica::{Binding, Follow, TrackOptions};
    use rusqlite::Connection;

    const NOW: Timestamp = Timestamp(1_700_000_000_000);

    /// A replica whose table `t` has met the server's; and its container.
    fn replica(seed: u8) -> (Replica, i64) {
        let conn = Connection::open_in_memory().unwrap();
        conn.execute_batch("CREATE TABLE t(id TEXT PRIMARY KEY, v TEXT)").unwrap();
        let mut replica =
            Replica::from_connection(conn, Identity::from_seed([seed; 32]), [seed; 32]).unwrap();
        let (realm, server) = (RealmId([3; 16]), PeerId([4; 32]));
        replica.bind(Binding { database: "app".into(), realm, server, follow: Follow::All }).unwrap();
        replica.track("t", &TrackOptions::default()).unwrap();
        let no = replica.number("t").unwrap();
        replica.transaction(|r| r.meet_nothing(no, NOW)).unwrap();
        (replica, no)
    }

    #[test]
    fn edits_that_come_before_their_inserts_in_a_batch_are_noted_in_the_order_of_places() {
        let (mut author, no) = replica(1);
        for sql in [
            "INSERT INTO t VALUES ('a', 'x'), ('b', 'x')",
            "UPDATE t SET v = 'y'",
            "UPDATE t SET v = 'z' WHERE id = 'a'",
        ] {
            author.connection().execute_batch(sql).unwrap();
            while author.capture(NOW).unwrap().more {}
        }
        let numbers = segments::after(&author.conn, no, Seq(0), 10).unwrap();
        let written: Vec<_> =
            numbers.iter().map(|line| segments::open(&author.conn, line.no).unwrap()).collect();
        let [insert, edit, again] = written.iter().filter(|s| !s.is_description()).collect::<Vec<_>>()[..]
        else {
            panic!("{} segments", written.len())
        };
        for order in [[edit, insert, again], [again, edit, insert], [insert, again, edit]] {
            let (mut reader, no) = replica(2);
            reader
                .transaction(|r| {
                    let mut edits = vec![];
                    for (n, segment) in order.into_iter().enumerate() {
                        r.take_in(no, segment, Origin { peer: 1, seq: Seq(n as u64 + 1) }, true, &mut edits)?;
                    }
                    r.note_edits(no, &mut edits)
                })
                .unwrap();
            for (key, shown) in [("a", "z"), ("b", "y")] {
                let key = reader.user_table(no).unwrap().unwrap().parse_key(&format!("'{key}'")).unwrap();
                let (view, is_right) = reader.history.view_checked(&reader.conn, no, &key).unwrap();
                assert!(is_right, "its baseline stands for all changes");
                let user = reader.user_table(no).unwrap().unwrap();
                let values = crate::row::shown(&view, &user);
                assert_eq!(values, Some(vec![Value::Text(shown.to_owned())]), "{order:?}");
            }
        }
    }
}
