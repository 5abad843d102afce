//! Capture: rows that changed here become segments.
//!
//! Triggers wrote the keys of changed rows to a log, in the application's own transactions. Capture reads
//! some of it, compares each row with what was last shown for it, and writes only columns that differ.
//! A scan does the same for a whole table, when the log cannot tell what changed.
//! One call does at most a few segments, so that the write lock is never held for long.

mod first_contact;
mod known;
mod pace;
mod scan;

pub(crate) use pace::Pace;

use crate::bytes::{Reader, put_bytes};
use crate::change::{Change, Merge};
use crate::document::{Evaluation, View};
use crate::frame::{FrameWriter, KeyRef, OpKind, Template};
use crate::id::{Actor, Timestamp};
use crate::key::{KEY_LEN_MAX, RowKey, decode_tuple, encode_tuple};
use crate::message::RefusalReason;
use crate::replica::{Captured, Replica, ReplicaError, Scan, StopKind};
use crate::row::{self, is_same};
use crate::segment::{PLAIN_LEN_MAX, ROW_LEN_MAX, Segment};
use crate::store::documents::{At, Lines};
use crate::store::extras::Extras;
use crate::store::holds::{self, Refused};
use crate::store::segments::Origin;
use crate::store::triggers::APPLYING;
use crate::store::user_table::{RowValues, UserTable, value};
use crate::store::{StoreError, documents, layout, log, segments};
use crate::table::Table;
use crate::value::{Value, ValueRef};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// Rows written to a table from documents per call. Once scans have visited this many rows, no further scan is started in the
/// same call.
const FILL_ROWS: usize = 512;
/// Tables scanned in one call.
const SCANS_MAX: usize = 64;
/// How often rows that triggers took away are put back with triggers on.
const PUT_BACK_ROUNDS: usize = 4;
/// Changes in one segment.
pub(crate) const SEGMENT_ROWS: usize = 1024;
/// Bytes of plain frame at which a segment is closed.
pub(crate) const SEGMENT_BYTES: usize = 256 << 10;
/// Writes further apart than this do not share a segment.
const SEGMENT_SPAN_MS: u64 = 60_000;

/// A row that may have changed, and when.
#[derive(Debug, Clone)]
pub(crate) struct Dirty {
    pub(crate) key: RowKey,
    pub(crate) time: Timestamp,
    /// Whether an UPDATE gave the row another key.
    is_left: bool,
}

impl Dirty {
    pub(crate) fn new(key: RowKey, time: Timestamp) -> Self {
        Self { key, time, is_left: false }
    }
}

/// What there is in a container besides rows that show: looked up once for a batch.
#[derive(Debug, Clone, Copy)]
struct Exceptions {
    /// Rows held in it or in one that refers to it.
    held: bool,
    refused: bool,
    conflicts: bool,
}

/// The change of a row, and what it showed before.
type ChangedRow = (Change, Option<RowValues>);

/// Segments being made for one container.
struct Pen {
    no: i64,
    writer: FrameWriter,
    time: Timestamp,
    captured: Captured,
}

impl Pen {
    fn is_full(&self) -> bool {
        self.writer.len() >= SEGMENT_ROWS
            || self.writer.byte_len() >= SEGMENT_BYTES
            || self.writer.work().is_plenty()
    }
}

impl Replica {
    /// Captures what programs wrote, a few thousand rows at most; `more` says whether to call again.
    pub fn capture(&mut self, now: Timestamp) -> Result<Captured, ReplicaError> {
        if self.binding.is_none() || !(self.others_changed_it()? || self.has_work()?) {
            return Ok(Captured::default());
        }
        self.clock = now;
        self.transaction_apart(|r| r.capture_some(now))
    }

    /// Where programs changed the schema, captures what they wrote, so that columns are known by the names that they have now.
    pub fn follow_schema(&mut self, now: Timestamp) -> Result<(), ReplicaError> {
        let is_new = self.binding.is_some()
            && crate::store::schema::schema_version(&self.conn)? != self.schema_version;
        while is_new && self.capture(now)?.more {}
        Ok(())
    }

    /// Captures everything that is dirty. Call it in a transaction, before rows are applied.
    pub(crate) fn capture_all(&mut self, now: Timestamp) -> Result<(), ReplicaError> {
        self.clock = now;
        while self.capture_log(now)?.more {}
        // A row that was not compared yet may have values that are nowhere else. There are such rows only where a
        // program changed the schema a moment ago.
        loop {
            let comparing = self.comparing().next();
            match comparing {
                Some((no, Scan::Gather)) => self.gather(no, now)?,
                Some((no, scan)) => self.scan(no, scan, now)?,
                None => break,
            };
        }
        self.settle_captured()
    }

    /// Tables with rows whose values may be nowhere else.
    fn comparing(&self) -> impl Iterator<Item = (i64, Scan)> {
        let scans = self.containers.scanning().map(|c| (c.no, c.scan()));
        scans.filter(|(_, scan)| matches!(scan, Scan::Compare | Scan::CompareAndFill | Scan::Gather))
    }

    /// Whether there is anything in the log or a scan to go on with.
    fn has_work(&mut self) -> Result<bool, ReplicaError> {
        if self.any_retries()? {
            return Ok(true);
        }
        let changed = crate::store::schema::schema_version(&self.conn)? != self.schema_version;
        let scanning = self.containers.scanning().next().is_some();
        Ok(changed
            || scanning
            || !self.unsettled.is_empty()
            || !self.undescribed.is_empty()
            || self.makes_again
            || log::any(&self.conn, self.log_from, self.containers.any_waiting())?)
    }

    fn capture_some(&mut self, now: Timestamp) -> Result<Captured, ReplicaError> {
        let mut captured = self.capture_log(now)?;
        if captured.more {
            return Ok(captured);
        }
        self.describe_changed(now)?;
        if std::mem::take(&mut self.makes_again) {
            self.quietly(|r| {
                let rows = r.make_tables()?;
                r.settle(rows)
            })?;
        }
        // Nothing is written into tables while rows of any are to be compared: triggers of the application may reach them.
        let comparing: Vec<_> = self.comparing().map(|(no, _)| no).collect();
        let scanning = self.containers.scanning().map(|c| c.no);
        let scanning = scanning.filter(|no| comparing.is_empty() || comparing.contains(no));
        // Tables that others refer to first.
        let mut tables: Vec<_> = scanning.map(|no| (self.depth(no), no)).collect();
        tables.sort_unstable();
        let mut looked_at = 0;
        for (_, no) in tables.into_iter().take(SCANS_MAX) {
            let scanned = match self.containers[&no].scan() {
                Scan::Gather => self.gather(no, now),
                Scan::Join => self.join(no, now),
                Scan::Count => self.count_gone(no),
                Scan::Delete => self.delete_gone(no, now),
                Scan::Fill => self.fill(no, now),
                scan => self.scan(no, scan, now),
            };
            let (scanned, rows) = scanned.map_err(|e| e.of_table(self, no, StopKind::NotCaptured))?;
            captured.rows += scanned.rows;
            captured.segments += scanned.segments;
            captured.more = true;
            looked_at += rows;
            if looked_at >= FILL_ROWS {
                break;
            }
        }
        self.settle_captured()?;
        self.retry_held()?;
        captured.more |= self.retries.any();
        Ok(captured)
    }

    /// Looks at the constraints of captured rows. Only once nothing is left in the log: settling a row may take
    /// others out, and those must have been captured.
    fn settle_captured(&mut self) -> Result<(), ReplicaError> {
        // Rows that are still to be joined are not looked at before.
        let is_joining = self.containers.scanning().any(|c| c.scan() == Scan::Join);
        if self.unsettled.is_empty() || is_joining || self.comparing().next().is_some() {
            return Ok(());
        }
        holds::forget_unsettled(&self.conn)?;
        let rows = std::mem::take(&mut self.unsettled);
        self.settle_quietly(rows)
    }

    fn capture_log(&mut self, now: Timestamp) -> Result<Captured, ReplicaError> {
        // The log of a container waits until its counterpart has been met, and while its table is not here.
        let skip_waiting = self.containers.any_waiting();
        let limit = self.pace.next();
        let entries = log::read(&self.conn, self.log_from, skip_waiting, limit)?;
        let Some(last) = entries.last().map(|e| e.seq) else {
            self.log_from = log::last(&self.conn)?;
            self.note_log_is_read(true);
            return Ok(Captured::default());
        };
        let more = entries.len() == limit;
        self.note_log_is_read(!more);
        let mut by_container: std::collections::BTreeMap<i64, Vec<Dirty>> = Default::default();
        for entry in &entries {
            let Some(user) = self.user_table(entry.container)? else {
                // Nobody has noticed yet that its table is not as it was: its log is kept.
                if let Some((kind, why)) = self.fault_of(entry.container)? {
                    self.stop(entry.container, kind, &why)?;
                    return Ok(Captured { more: true, ..Captured::default() });
                }
                continue;
            };
            by_container.entry(entry.container).or_default().extend(self.dirty_by(entry, &user.table, now));
        }
        let mut captured = Captured { more, ..Captured::default() };
        for (no, dirty) in by_container {
            let done = self.capture_rows(no, dirty);
            let done = done.map_err(|e| e.of_table(self, no, StopKind::NotCaptured))?;
            captured.rows += done.rows;
            captured.segments += done.segments;
        }
        log::clear(&self.conn, self.log_from, last, skip_waiting)?;
        if !more {
            // What is left is kept for tables that cannot be captured now: it is not read again each time.
            self.log_from = log::last(&self.conn)?;
        }
        Ok(captured)
    }

    /// Returns the rows of an entry of the log.
    fn dirty_by<'e>(
        &self,
        entry: &'e log::Entry,
        table: &'e Table,
        now: Timestamp,
    ) -> impl Iterator<Item = Dirty> + use<'e> {
        let time = self.corrected(Timestamp(entry.time)).min(self.corrected(now));
        entry.writes(table).map(move |(key, is_left)| Dirty { key, time, is_left })
    }

    /// Notes whether the log has more. What waited for that may go on.
    fn note_log_is_read(&mut self, is_read: bool) {
        if std::mem::replace(&mut self.numbers.is_reading_log, !is_read) && is_read {
            for no in self.containers.numbers().collect::<Vec<_>>() {
                self.note_changed(no);
            }
        }
    }

    /// Captures these rows of a container if they differ from what was shown.
    pub(crate) fn capture_rows(&mut self, no: i64, dirty: Vec<Dirty>) -> Result<Captured, ReplicaError> {
        let Some(user) = self.user_table(no)? else { return Ok(Captured::default()) };
        let mut captured = Captured::default();
        for mut batch in batches(last_writes(dirty)) {
            // Of one millisecond the last counts.
            batch.reverse();
            batch.sort_by(|a, b| (&a.key, b.time).cmp(&(&b.key, a.time)));
            batch.dedup_by(|later, first| later.key == first.key);
            let mut pen = Pen { no, writer: FrameWriter::default(), time: Timestamp(0), captured };
            self.capture_batch(&user, &batch, &mut pen)?;
            self.close(&mut pen)?;
            captured = pen.captured;
        }
        Ok(captured)
    }

    fn capture_batch(
        &mut self,
        user: &Arc<UserTable>,
        batch: &[Dirty],
        pen: &mut Pen,
    ) -> Result<(), ReplicaError> {
        let any = Exceptions {
            held: self.any_held_around(pen.no)?,
            refused: holds::count_refused(&self.conn, pen.no)? > 0,
            conflicts: documents::any_conflict(&self.conn, pen.no)?,
        };
        let mut rest = batch;
        while let Some(row) = rest.first() {
            let done = if any.refused { 0 } else { self.push_fresh_rows(user, rest, pen)? };
            self.pace.new_rows(done);
            self.note_inserted(pen.no, user, done)?;
            for row in &rest[..done] {
                self.exempt_orphan(pen.no, user, &row.key)?;
                if any.held {
                    self.unsettled.push((pen.no, row.key.clone()));
                }
            }
            if done == 0 {
                self.capture_row(user, row, any, pen)?;
            }
            if pen.is_full() {
                self.close(pen)?;
            }
            rest = &rest[done.max(1)..];
        }
        self.close(pen)
    }

    /// Writes rows, by the time they were written, as inserts that build on nothing.
    fn capture_inserts(
        &mut self,
        no: i64,
        user: &UserTable,
        rows: Vec<Dirty>,
        mut values: HashMap<RowKey, RowValues>,
    ) -> Result<Captured, ReplicaError> {
        let (mut captured, nothing) = (Captured::default(), View::default());
        for mut batch in batches(rows) {
            batch.sort_by(|a, b| a.key.cmp(&b.key));
            let mut pen = Pen { no, writer: FrameWriter::default(), time: Timestamp(0), captured };
            for Dirty { key, time, .. } in batch {
                let Some(values) = values.remove(&key) else { continue };
                let size: usize = values.iter().map(|v| v.as_ref().byte_len()).sum();
                if size > ROW_LEN_MAX || is_too_long(&key) {
                    self.refuse_row(no, &key, time, RefusalReason::TooLarge)?;
                    continue;
                }
                if pen.is_full() || pen.writer.byte_len() + size > PLAIN_LEN_MAX / 2 {
                    self.close(&mut pen)?;
                }
                let all = user.columns.iter().zip(values).map(|(c, value)| (c.key.clone(), c.merge, value));
                pen.writer.push(KeyRef::from(&key), &nothing.insert(&all.collect::<Vec<_>>()));
                pen.time = pen.time.max(time);
                pen.captured.rows += 1;
            }
            self.close(&mut pen)?;
            captured = pen.captured;
        }
        Ok(captured)
    }

    /// Writes rows that nothing is known of, until another row comes or the segment is full; how many.
    fn push_fresh_rows(
        &self,
        user: &UserTable,
        batch: &[Dirty],
        pen: &mut Pen,
    ) -> Result<usize, ReplicaError> {
        let mut select = user.select(&self.conn)?;
        let mut lines = Lines::new(&self.conn, pen.no);
        let mut template = None;
        for (n, Dirty { key, time, .. }) in batch.iter().enumerate() {
            if pen.is_full() || *key == RowKey::Description || lines.knows(&KeyRef::from(key))? {
                return Ok(n);
            }
            user.bind_key(&mut select, 1, key)?;
            let mut rows = select.raw_query();
            let Some(row) = rows.next()? else { continue }; // came and went unseen
            let mut values = Vec::with_capacity(user.columns.len());
            for n in 0..user.columns.len() {
                values.push(value(row.get_ref(n)?));
            }
            let size: usize = values.iter().map(|v| v.byte_len()).sum();
            let fits = pen.writer.is_empty() || pen.writer.byte_len() + size <= PLAIN_LEN_MAX / 2;
            if size > ROW_LEN_MAX || is_too_long(key) || !fits || !is_plain(user, &values) {
                return Ok(n);
            }
            let template = *template.get_or_insert_with(|| pen.writer.template(plain_template(user)));
            pen.writer.push_fresh(KeyRef::from(key), template, values.iter().copied());
            pen.time = pen.time.max(*time);
            pen.captured.rows += 1;
        }
        Ok(batch.len())
    }

    /// Writes what changed in one row, whatever it is.
    fn capture_row(
        &mut self,
        user: &Arc<UserTable>,
        Dirty { key, time, is_left }: &Dirty,
        any: Exceptions,
        pen: &mut Pen,
    ) -> Result<(), ReplicaError> {
        self.pace.known_rows(1);
        let now = user.read(&self.conn, key)?;
        let size: usize = now.iter().flatten().map(|v| v.as_ref().byte_len()).sum();
        if size > ROW_LEN_MAX || is_too_long(key) {
            return self.refuse_row(pen.no, key, *time, RefusalReason::TooLarge);
        }
        if !pen.writer.is_empty() && pen.writer.byte_len() + size > PLAIN_LEN_MAX / 2 {
            self.close(pen)?;
        }
        let known = documents::find(&self.conn, pen.no, key)?;
        let refused = if any.refused { holds::refused_row(&self.conn, pen.no, key)? } else { None };
        if known.is_none() && now.is_none() && refused.is_none() {
            return Ok(());
        }
        let Some((mut change, before)) =
            self.changed_row(pen.no, user, (key, known), now.as_ref(), refused, any)?
        else {
            return Ok(());
        };
        if let Some(before) = &before {
            // SQLite looks after children only where the application asked it to. Here it did not, so they stay.
            for (child, orphan) in self.orphans(user, key, before, now.as_ref())? {
                if let Some(user) = self.user_table(child)? {
                    self.exempt_orphan(child, &user, &orphan)?;
                }
                self.unsettled.push((child, orphan));
            }
            let blocked = self.blocked_by(pen.no, key, user, before)?;
            self.unsettled.extend(blocked.into_iter().map(|held| (pen.no, held)));
        }
        let in_conflict = any.conflicts && documents::in_conflict(&self.conn, pen.no, key)?;
        if *is_left && now.is_none() && in_conflict {
            // Nobody deleted the other row under the key that this one had.
            let view = self.history.view(&self.conn, pen.no, key)?;
            change = view.incarnation().map_or(change, |row| view.delete_row(row));
        }
        self.pace.change();
        pen.writer.push(KeyRef::from(key), &change);
        pen.time = pen.time.max(*time);
        pen.captured.rows += 1;
        // An edit may end a conflict.
        self.exempt_orphan(pen.no, user, key)?;
        if any.held || in_conflict {
            self.unsettled.push((pen.no, key.clone()));
        }
        Ok(())
    }

    /// The change of a row that is known already or is not plain, and what it showed before; None if it shows
    /// what it did.
    fn changed_row(
        &mut self,
        no: i64,
        user: &UserTable,
        (key, known): (&RowKey, Option<At>),
        now: Option<&RowValues>,
        refused: Option<Option<Vec<u8>>>,
        any: Exceptions,
    ) -> Result<Option<ChangedRow>, ReplicaError> {
        // While its number is taken, the row knows only of what was written here.
        let is_taken = self.is_number_taken(no, key)?;
        if refused.is_none()
            && !is_taken
            && let Some(first) = known
            && let Some(done) = self.changed_known_row(no, user, (key, first), now, any.held)?
        {
            return Ok(done);
        }
        let view = match self.view_when_seen(no, key)? {
            _ if is_taken => Arc::new(self.own_document(no, key)?.evaluate()),
            Some(view) => view,
            None => self.history.view(&self.conn, no, key)?,
        };
        let is_held = refused.is_none() && holds::find(&self.conn, no, key)?.is_some();
        if is_held
            && let Some(now) = now
            && view.is_live()
            && self.may_renumber(no)
        {
            // SQLite gave the number of a row that the table does not show to another one.
            return Ok(Some((self.insert_beside(no, user, key, now)?, None)));
        }
        let is_other = refused.is_some() && self.is_refused_beside(no, key)?;
        let before = match refused {
            Some(shown) => shown.map(|bytes| decode_values(&bytes, user)).transpose()?,
            None if is_held && !is_taken => None,
            None => row::shown(&view, user),
        };
        let before = before.map(|before| self.without_new_columns(no, user, before, now));
        if is_same(before.as_ref(), now) {
            return Ok(None);
        }
        holds::forget_refused(&self.conn, no, Some(key))?;
        match now {
            Some(now) if is_other => Ok(Some((self.insert_beside(no, user, key, now)?, None))),
            _ => Ok(row::edit(&view, user, before.as_ref(), now).map(|change| (change, before))),
        }
    }

    /// A row that has the key of another, as an insert that knows nothing of that one; it moves if it may.
    pub(crate) fn insert_beside(
        &mut self,
        no: i64,
        user: &UserTable,
        key: &RowKey,
        values: &RowValues,
    ) -> Result<Change, ReplicaError> {
        // Also where this device may not write yet: the right may be on its way.
        if self.is_renumbered(no) {
            self.note_taken(no, key)?;
        }
        let all = user.columns.iter().zip(values).map(|(c, value)| (c.key.clone(), c.merge, value.clone()));
        Ok(View::default().insert(&all.collect::<Vec<_>>()))
    }

    /// Whether a row that was inserted here was refused, and another device's is under its key by now.
    pub(crate) fn is_refused_beside(&mut self, no: i64, key: &RowKey) -> Result<bool, ReplicaError> {
        Ok(holds::is_refused_insert(&self.conn, no, key)?
            && self.history.view(&self.conn, no, key)?.cells.contains_key(""))
    }

    /// What a document showed when its table was there for the last time, if the table is back and changes came meanwhile
    /// that are not in it yet.
    fn view_when_seen(&mut self, no: i64, key: &RowKey) -> Result<Option<Arc<View>>, ReplicaError> {
        let Some(away) = self.containers[&no].away else { return Ok(None) };
        let changes = documents::changes(&self.conn, no, key)?;
        let mut seen = vec![];
        for at in &changes {
            // What was captured here since comes from the table.
            if at.segment() <= away || segments::is_own(&self.conn, at.segment())? {
                seen.push(*at);
            }
        }
        if seen.len() == changes.len() {
            return Ok(None);
        }
        let mut document = Evaluation::default();
        for at in seen {
            let (actor, change) = self.history.change(&self.conn, at)?;
            document.add(self.history.hash(&self.conn, at)?, actor, &change);
        }
        Ok(Some(document.view().clone()))
    }

    /// What was shown, as the table has it before new columns are filled from documents.
    fn without_new_columns(
        &self,
        no: i64,
        user: &UserTable,
        mut before: RowValues,
        now: Option<&RowValues>,
    ) -> RowValues {
        let columns = &self.containers[&no].columns;
        for (n, column) in user.columns.iter().enumerate() {
            let is_new = columns.iter().any(|b| b.is_new && b.key == column.key);
            let untouched = now.is_some_and(|now| now[n].as_ref().same(column.absent.as_ref()));
            if is_new && untouched {
                before[n] = column.absent.clone();
            }
        }
        before
    }

    /// Writes one change of one row as a segment of its own. Call it in a transaction.
    pub(crate) fn write_change(
        &mut self,
        no: i64,
        key: &RowKey,
        change: &Change,
        time: Timestamp,
    ) -> Result<(), ReplicaError> {
        let mut pen = Pen { no, writer: FrameWriter::default(), time, captured: Captured::default() };
        pen.writer.push(KeyRef::from(key), change);
        self.close(&mut pen)
    }

    /// Seals what the pen has written and takes it in.
    fn close(&mut self, pen: &mut Pen) -> Result<(), ReplicaError> {
        if pen.writer.is_empty() {
            return Ok(());
        }
        self.write_frame(pen.no, std::mem::take(&mut pen.writer), pen.time)?;
        pen.captured.segments += 1;
        pen.time = Timestamp(0);
        Ok(())
    }

    /// Seals a frame as an own segment and takes it in. Returns the actor of its changes. Call it in a transaction.
    pub(crate) fn write_frame(
        &mut self,
        no: i64,
        writer: FrameWriter,
        time: Timestamp,
    ) -> Result<Actor, ReplicaError> {
        let count = writer.len();
        let container = self.containers[&no].id;
        let nonce = self.nonce();
        let frame = writer.finish();
        self.pace.frame(frame.len());
        let mut segment =
            Segment::seal(&self.identity, container, nonce, time, count, frame).map_err(StoreError::from)?;
        if self.is_server {
            let time = self.acceptance_time(no, self.clock.max(time))?;
            segment = segment.accept(&self.identity, time);
        }
        let mut edits = vec![];
        self.take_in(no, &segment, Origin::HERE, false, &mut edits)?;
        self.note_edits(no, &mut edits)?;
        Ok(segment.actor)
    }

    /// Lists a row as written here but not taken. Of a held row, which the table cannot show, it keeps what
    /// was written.
    pub(crate) fn refuse_row(
        &mut self,
        no: i64,
        key: &RowKey,
        time: Timestamp,
        reason: RefusalReason,
    ) -> Result<(), ReplicaError> {
        let Some(user) = self.user_table(no)? else { return Ok(()) };
        let shown = user.read(&self.conn, key)?.map(|values| encode_values(&values, &user));
        let kept = match holds::find(&self.conn, no, key)? {
            None => holds::refused_kept(&self.conn, no, key)?,
            Some(_) => {
                holds::release(&self.conn, no, key)?;
                let view = self.history.view(&self.conn, no, key)?;
                row::shown(&view, &user).map(|values| encode_values(&values, &user))
            }
        };
        let row = Refused { key: key.clone(), reason: reason as u8, time, shown, kept };
        Ok(holds::refuse(&self.conn, no, &row)?)
    }

    /// Writes what the container's description does not say yet about the table here.
    pub(crate) fn describe(&mut self, no: i64, time: Timestamp) -> Result<(), ReplicaError> {
        let Some(user) = self.user_table(no)? else { return Ok(()) };
        let state = &self.containers[&no];
        if state.is_read_only() {
            return Ok(());
        }
        let mut table = user.table.clone();
        for column in &mut table.columns {
            if let Some(binding) = state.columns.iter().find(|c| c.name == column.name) {
                column.name.clone_from(&binding.key);
            }
        }
        let extras = Extras::read(&self.conn, self.kinds()?, &user.table)?;
        let view = self.history.view(&self.conn, no, &RowKey::Description)?;
        let known = row::description_entries(&view);
        let mut wanted = crate::description::entries(&table, &extras);
        wanted.extend(self.settings_of(no).entries());
        let missing: Vec<_> = wanted
            .into_iter()
            .filter(|(key, _)| !known.iter().any(|(k, _)| k == key))
            .filter(|(key, _)| known.is_empty() || crate::description::may_be_added(key))
            .map(|(key, value)| (key, Merge::Register, value))
            .collect();
        let time = time.max(Timestamp(1));
        if !missing.is_empty() {
            let change = if view.is_live() { view.decide(&missing) } else { view.insert(&missing) };
            self.write_change(no, &RowKey::Description, &change, time)?;
        }
        // By itself: the server may refuse it to one who may add to the description.
        if !known.is_empty() && self.keeps_numbers_unsaid(no, &known) {
            self.describe_numbers(no, time)?;
        }
        Ok(())
    }

    /// Writes what descriptions do not say yet of tables whose schema changed.
    fn describe_changed(&mut self, now: Timestamp) -> Result<(), ReplicaError> {
        for no in self.undescribed.clone() {
            self.set_undescribed(no, false)?;
            // What its counterpart says comes first, and a scan begins with it anyway.
            if matches!(self.containers[&no].scan(), Scan::No | Scan::Count | Scan::Delete) {
                self.describe(no, self.corrected(now))?;
            }
        }
        Ok(())
    }

    /// Settles rows with what the application's triggers make of it put back, and clears the log of it.
    pub(crate) fn settle_quietly(&mut self, rows: Vec<(i64, RowKey)>) -> Result<(), ReplicaError> {
        self.quietly(|r| r.settle(rows))
    }

    /// Does what changes tables, with the application's triggers on if it has any, and puts back what they make of
    /// tracked rows. Call it in a transaction in which nothing is left to capture.
    pub(crate) fn quietly<T>(
        &mut self,
        work: impl FnOnce(&mut Self) -> Result<T, ReplicaError>,
    ) -> Result<T, ReplicaError> {
        let with_triggers = self.containers.any_triggers();
        if !with_triggers {
            self.set_triggers(false)?;
            return work(self);
        }
        let is_read_only = self.containers.any_read_only();
        let last = log::last(&self.conn)?;
        self.set_triggers(true)?;
        if is_read_only {
            layout::set_meta(&self.conn, APPLYING, true)?;
        }
        self.guard.set_tracked(self.containers.tables());
        self.unheard.begin();
        self.guard.set_applying(true);
        let done = work(self).and_then(|value| self.put_back(last).map(|()| value));
        self.guard.set_applying(false);
        let done = done.and_then(|value| self.rebuild_searches().map(|()| value));
        if is_read_only && done.is_ok() {
            layout::forget_meta(&self.conn, APPLYING)?;
        }
        done
    }

    /// Undoes what the application's triggers changed in tracked rows since the log ended at `last`, and clears the log of
    /// it: their triggers run for that too, since they keep true what is derived from rows. Only what goes on for ever is
    /// ended without them.
    fn put_back(&mut self, last: i64) -> Result<(), ReplicaError> {
        let mut from = last;
        for round in 0..=PUT_BACK_ROUNDS {
            let entries = if self.guard.disturbs() { log::read_after(&self.conn, from)? } else { vec![] };
            let Some(end) = entries.last().map(|e| e.seq) else { break };
            from = end;
            if round == PUT_BACK_ROUNDS {
                self.set_triggers(false)?;
                self.unheard.is_on = true;
            }
            let mut rows = vec![];
            for entry in &entries {
                let Some(user) = self.user_table(entry.container)? else { continue };
                rows.extend(entry.keys(&user.table).map(|key| (entry.container, key)));
            }
            self.settle(rows)?;
        }
        Ok(log::clear_after(&self.conn, last, self.containers.any_waiting())?)
    }
}

/// Of writes over more than a minute, the last of each row. Its values are read now, so they are of that time: under an
/// earlier one they would lose to an edit of another device that was made before them.
fn last_writes(dirty: Vec<Dirty>) -> Vec<Dirty> {
    let times = || dirty.iter().map(|row| row.time);
    let (Some(first), Some(last)) = (times().min(), times().max()) else { return dirty };
    if last.ms_since(first) <= SEGMENT_SPAN_MS {
        return dirty;
    }
    let mut seen = HashSet::new();
    let mut kept: Vec<_> = dirty.into_iter().rev().filter(|row| seen.insert(row.key.clone())).collect();
    kept.reverse();
    kept
}

/// Cuts dirty rows where more than a minute lies between the first and the next.
fn batches(dirty: Vec<Dirty>) -> Vec<Vec<Dirty>> {
    let mut batches: Vec<Vec<Dirty>> = vec![];
    for row in dirty {
        match batches.last_mut() {
            Some(batch) if row.time.ms_since(batch[0].time) <= SEGMENT_SPAN_MS => batch.push(row),
            _ => batches.push(vec![row]),
        }
    }
    batches
}

fn is_too_long(key: &RowKey) -> bool {
    matches!(key, RowKey::Tuple(bytes) if bytes.len() > KEY_LEN_MAX)
}

fn plain_template(user: &UserTable) -> Template {
    let kind = |merge| if merge == Merge::Counter { OpKind::Counter } else { OpKind::Put };
    Template::fresh_insert(user.columns.iter().map(|c| (c.key.clone(), kind(c.merge))).collect())
}

/// Whether a first insert of these values is plain puts, with integers in all counters.
fn is_plain(user: &UserTable, values: &[ValueRef<'_>]) -> bool {
    user.columns.iter().zip(values).all(|(column, value)| match column.merge {
        Merge::Counter => matches!(value, ValueRef::Integer(_)),
        Merge::Text => !matches!(value, ValueRef::Text(_)),
        Merge::Register => true,
    })
}

/// Marks values that are kept with the keys of their columns; before, they were kept in the columns' order.
const WITH_KEYS: u8 = 2;

/// Values as bytes, each with its column's key in documents: the table may have other columns when they are read.
pub(crate) fn encode_values(values: &RowValues, user: &UserTable) -> Vec<u8> {
    let mut out = vec![WITH_KEYS];
    for (column, value) in user.columns.iter().zip(values) {
        put_bytes(&mut out, column.key.as_bytes());
        put_bytes(&mut out, &encode_tuple(&[value.as_ref()]).unwrap_or_default());
    }
    out
}

/// The values for the columns that the table has now.
pub(crate) fn decode_values(bytes: &[u8], user: &UserTable) -> Result<RowValues, StoreError> {
    let damaged = || StoreError::Damaged { what: "a refused row" };
    let Some((WITH_KEYS, rest)) = bytes.split_first().map(|(first, rest)| (*first, rest)) else {
        return decode_ordered(bytes, user).ok_or_else(damaged);
    };
    let mut values: RowValues = user.columns.iter().map(|c| c.absent.clone()).collect();
    let mut reader = Reader::new(rest);
    while !reader.is_empty() {
        let key = reader.text(usize::MAX, "a column").map_err(|_| damaged())?;
        let value = reader.bytes(usize::MAX, "a value").map_err(|_| damaged())?;
        let value = if value.is_empty() { vec![] } else { decode_tuple(value).map_err(|_| damaged())? };
        if let Some(n) = user.columns.iter().position(|c| c.key == key) {
            values[n] = value.into_iter().next().unwrap_or(Value::Null);
        }
    }
    Ok(values)
}

/// As earlier versions kept them: a flag for each that is NULL, then a tuple of the others. A table that has grown columns
/// since has the first of them.
fn decode_ordered(bytes: &[u8], user: &UserTable) -> Option<RowValues> {
    (0..=user.columns.len()).rev().find_map(|count| {
        let (flags, tuple) = bytes.split_at_checked(count)?;
        let mut rest = decode_tuple(tuple).ok()?.into_iter();
        let full = flags.iter().all(|f| *f <= 1) && rest.len() == flags.iter().filter(|f| **f == 0).count();
        full.then(|| {
            let known =
                flags.iter().map(|f| if *f == 1 { Value::Null } else { rest.next().unwrap_or(Value::Null) });
            let mut values: RowValues = known.collect();
            values.extend(user.columns[count..].iter().map(|c| c.absent.clone()));
            values
        })
    })
}
