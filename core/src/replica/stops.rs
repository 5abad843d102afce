//! Stops: tables that cannot take part now, each with its cause in words and since when; all others go on.
//!
//! A stop of the table itself (it is gone, its key is another, it cannot be written, …) *halts* it: it is neither captured
//! nor written, its log of writes is kept, and what comes for it is stored in documents. The table then stands as one that
//! is away, so that once its cause is gone it is compared with what documents showed when it stopped. It is looked at again
//! whenever anybody changes the schema, and what failed for no reason of the schema at each start. Other stops are of the
//! session with the server or of a table that is still to be made, and halt nothing.
//!
//! They are settings of the file: `stopped N`, for the container with number N.

use super::{Replica, ReplicaError, Scan};
use crate::id::Timestamp;
use crate::store::segments;
use crate::store::{StoreError, layout, schema};
use rusqlite::Connection;
use std::collections::HashMap;
use std::fmt;

const SEPARATOR: char = '\u{1f}';
/// Longest cause that is kept, in bytes.
const WHY_LEN_MAX: usize = 512;

/// What kind of cause stops a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum StopKind {
    /// The table is not in the file: it was dropped or has another name.
    Missing = 1,
    /// It became something that cannot be tracked.
    Unfit = 2,
    /// Its primary key is not the one that its documents have.
    Key = 3,
    /// This program cannot write it, since its schema uses what only its application has.
    NotWritable = 4,
    /// Its writes could not be captured.
    NotCaptured = 5,
    /// What came for it could not be brought into it.
    NotApplied = 6,
    /// Its description cannot be read, or asks for what cannot be made of it here.
    Description = 7,
    /// The table cannot be made here.
    NotMade = 8,
    /// Its session with the server failed on this side.
    NotSynced = 9,
    /// The server cannot take part with it.
    AtServer = 10,
    /// The server does not grant it to this device.
    NotGranted = 11,
    /// The server makes no more tables for this device.
    OverQuota = 12,
    /// The server has it under a name in other capitals, and to SQLite both are one.
    OtherCapitals = 13,
}

impl StopKind {
    const ALL: [Self; 13] = [
        Self::Missing,
        Self::Unfit,
        Self::Key,
        Self::NotWritable,
        Self::NotCaptured,
        Self::NotApplied,
        Self::Description,
        Self::NotMade,
        Self::NotSynced,
        Self::AtServer,
        Self::NotGranted,
        Self::OverQuota,
        Self::OtherCapitals,
    ];

    fn from_code(code: i64) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| *kind as i64 == code)
    }

    /// Returns a name that programs can rely on.
    pub fn name(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Unfit => "unfit",
            Self::Key => "key",
            Self::NotWritable => "not_writable",
            Self::NotCaptured => "not_captured",
            Self::NotApplied => "not_applied",
            Self::Description => "description",
            Self::NotMade => "not_made",
            Self::NotSynced => "not_synced",
            Self::AtServer => "at_server",
            Self::NotGranted => "not_granted",
            Self::OverQuota => "over_quota",
            Self::OtherCapitals => "other_capitals",
        }
    }

    /// Whether the table is neither captured nor written meanwhile.
    fn halts(self) -> bool {
        use StopKind::{Key, Missing, NotApplied, NotCaptured, NotWritable, Unfit};
        matches!(self, Missing | Unfit | Key | NotWritable | NotCaptured | NotApplied)
    }

    /// Whether the cause may be gone although the schema is as it was.
    fn is_retried(self) -> bool {
        matches!(self, Self::NotCaptured | Self::NotApplied | Self::NotMade)
    }

    /// Whether it is about the session with the server, and ends once both sides are in sync.
    fn is_of_session(self) -> bool {
        matches!(
            self,
            Self::NotSynced | Self::AtServer | Self::NotGranted | Self::OverQuota | Self::OtherCapitals
        )
    }
}

/// Why a table is stopped, and since when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stopped {
    /// What kind of cause it is.
    pub kind: StopKind,
    /// The cause in words.
    pub why: String,
    /// When it was noticed.
    pub since: Timestamp,
}

impl fmt::Display for Stopped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.why)
    }
}

impl Stopped {
    /// Whether the table is neither captured nor written meanwhile.
    pub(crate) fn halts(&self) -> bool {
        self.kind.halts()
    }

    /// What the user can do about it. `file` and `table` name it as in a command.
    pub fn hint(&self, file: &str, table: &str) -> String {
        let going_on = "it goes on by itself once that is so";
        match self.kind {
            StopKind::Missing => format!(
                "bring it back under this name, and {going_on}; or `piecewise untrack {file} {table}`"
            ),
            StopKind::Unfit | StopKind::Key => format!(
                "give it the shape that it had, and {going_on}; or `piecewise untrack {file} {table}` and track it as another table"
            ),
            StopKind::NotWritable => format!("its schema may use SQLite's own functions and collations, and its triggers tables that are there: {going_on}"),
            StopKind::NotCaptured | StopKind::NotApplied => {
                "what is written to it is kept; it is tried again at each start and whenever the schema changes".into()
            }
            StopKind::Description => "its rows are kept; a device that may administer it can describe it anew".into(),
            StopKind::NotMade => "its rows are kept, and it is made once nothing is in the way".into(),
            StopKind::NotSynced => "it is tried again at the next connection; what is written here waits".into(),
            StopKind::AtServer => "whoever runs the server finds more in its log; what is written here waits".into(),
            StopKind::NotGranted => "ask who runs the server for a grant".into(),
            StopKind::OverQuota => "on the server, see --containers-per-peer".into(),
            StopKind::OtherCapitals => format!(
                "`piecewise untrack {file} {table}`, give it the server's name by way of another (`ALTER TABLE \"{table}\" RENAME TO \"{table}_\"`, then to that name), and `piecewise track` it again"
            ),
        }
    }

    fn to_text(&self) -> String {
        format!("{}{SEPARATOR}{}{SEPARATOR}{}", self.kind as i64, self.since.0, self.why)
    }

    fn from_text(text: &str) -> Option<Self> {
        let mut parts = text.splitn(3, SEPARATOR);
        let kind = StopKind::from_code(parts.next()?.parse().ok()?)?;
        let since = Timestamp(parts.next()?.parse().ok()?);
        Some(Self { kind, since, why: parts.next()?.to_owned() })
    }
}

/// A table that stopped, or goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StopNews {
    /// The table.
    pub table: String,
    /// Why it is stopped; None: it goes on.
    pub stopped: Option<Stopped>,
}

fn setting(no: i64) -> String {
    format!("stopped {no}")
}

/// The stops that are noted in the file, by container.
pub(super) fn read(conn: &Connection) -> Result<HashMap<i64, Stopped>, StoreError> {
    let sql =
        "SELECT CAST(substr(name, 9) AS INTEGER), value FROM piecewise_meta WHERE name GLOB 'stopped *'";
    let mut stmt = conn.prepare_cached(sql)?;
    let rows = stmt.query_map([], |row| Ok((row.get(0)?, row.get::<_, String>(1)?)))?;
    let rows: Vec<(i64, String)> = rows.collect::<Result<_, _>>()?;
    Ok(rows.into_iter().filter_map(|(no, text)| Some((no, Stopped::from_text(&text)?))).collect())
}

impl Replica {
    /// Stops a table, unless it is stopped for this cause already. Call it in a transaction.
    pub(crate) fn stop(&mut self, no: i64, kind: StopKind, why: &str) -> Result<(), ReplicaError> {
        let Some(state) = self.containers.get(&no) else { return Ok(()) };
        let why = why[..why.floor_char_boundary(WHY_LEN_MAX)].to_owned();
        let before = state.stopped.as_ref();
        // What is wrong with the table itself matters more than how its session went.
        if before.is_some_and(|s| {
            (s.kind == kind && s.why == why) || (kind.is_of_session() && !s.kind.is_of_session())
        }) {
            return Ok(());
        }
        if kind.halts() && state.has_table() {
            if state.away.is_none() {
                let last = segments::last(&self.conn)?;
                self.set_away(no, Some(last))?;
            }
            self.set_fingerprint(no, None)?;
        }
        let stopped = Stopped { kind, why, since: self.clock };
        layout::set_meta(&self.conn, &setting(no), stopped.to_text())?;
        self.change_stop(no, Some(stopped));
        Ok(())
    }

    /// Forgets why a table was stopped; whether it was. Call it in a transaction.
    pub(crate) fn forget_stop(&mut self, no: i64) -> Result<bool, ReplicaError> {
        if self.containers.get(&no).is_none_or(|state| state.stopped.is_none()) {
            return Ok(false);
        }
        layout::forget_meta(&self.conn, &setting(no))?;
        self.change_stop(no, None);
        Ok(true)
    }

    fn change_stop(&mut self, no: i64, stopped: Option<Stopped>) {
        self.log_from = 0;
        if let Some(state) = self.containers.get(&no) {
            let table = state.table.clone();
            self.stops_to_tell.retain(|news| news.table != table);
            self.stops_to_tell.push(StopNews { table, stopped: stopped.clone() });
        }
        self.containers.change(no, |state| {
            state.stopped = stopped;
            state.user.take();
        });
    }

    /// The containers that are looked at again although the schema is as it was: once after a start.
    pub(super) fn take_retried(&mut self) -> Vec<i64> {
        if !std::mem::take(&mut self.retries_stopped) {
            return vec![];
        }
        let is_retried = |stopped: &Stopped| stopped.kind.is_retried();
        self.containers
            .stopped()
            .filter(|c| c.stopped.as_ref().is_some_and(is_retried))
            .map(|c| c.no)
            .collect()
    }

    /// Looks again at a table that could not be made: it is made with the next that are. Call it in a transaction.
    pub(super) fn make_again(&mut self, no: i64) -> Result<(), ReplicaError> {
        let state = &self.containers[&no];
        let may_be_made = matches!(&state.stopped, Some(s) if s.kind == StopKind::NotMade);
        if may_be_made && !state.has_table() {
            self.set_scan(no, Scan::Make)?;
            self.makes_again = true;
        }
        Ok(())
    }

    /// Notes how a container's session with the server failed, or that it is in sync.
    pub(crate) fn note_session(
        &mut self,
        no: i64,
        failed: Option<(StopKind, &str)>,
    ) -> Result<(), ReplicaError> {
        let before = self.containers.get(&no).and_then(|c| c.stopped.as_ref());
        let is_news = match failed {
            Some((kind, why)) => {
                before.is_none_or(|s| s.kind.is_of_session() && (s.kind != kind || s.why != why))
            }
            None => before.is_some_and(|s| s.kind.is_of_session()),
        };
        if !is_news {
            return Ok(());
        }
        self.transaction(|r| match failed {
            Some((kind, why)) => r.stop(no, kind, why),
            None => r.forget_stop(no).map(drop),
        })
    }

    /// Everything is in sync with the server, as far as sessions go.
    pub(crate) fn note_all_sessions(&mut self) -> Result<(), ReplicaError> {
        let stopped: Vec<_> = self.containers.stopped().map(|c| c.no).collect();
        stopped.into_iter().try_for_each(|no| self.note_session(no, None))
    }

    /// Runs `work` in a transaction as often as needed: a table that fails is stopped, and the work done again without it.
    ///
    /// That costs nothing while nothing fails, where a savepoint for each table would copy every page that is written.
    pub(crate) fn transaction_apart<T>(
        &mut self,
        mut work: impl FnMut(&mut Self) -> Result<T, ReplicaError>,
    ) -> Result<T, ReplicaError> {
        let mut failed = vec![];
        loop {
            match self.transaction_again(&mut work) {
                Err(ReplicaError::Table { no, kind, why, source, .. })
                    if !failed.contains(&no) && !source.is_poison() =>
                {
                    failed.push(no);
                    self.transaction(|r| r.stop(no, kind, &why))?;
                }
                done => return done,
            }
        }
    }

    /// Tables that stopped or go on since this was asked last.
    pub fn take_stop_news(&mut self) -> Vec<StopNews> {
        std::mem::take(&mut self.stop_news)
    }

    /// The tables that are stopped, in the order of their names.
    pub fn stopped(&self) -> Vec<(String, Stopped)> {
        let found = self.containers.stopped();
        let mut found: Vec<_> = found.filter_map(|c| Some((c.table.clone(), c.stopped.clone()?))).collect();
        found.sort_by(|a, b| a.0.cmp(&b.0));
        found
    }

    /// Why a table is stopped, also if nobody has noticed yet.
    pub(crate) fn stop_of(&self, no: i64) -> Result<Option<Stopped>, ReplicaError> {
        let Some(state) = self.containers.get(&no) else { return Ok(None) };
        if state.stopped.is_some() {
            return Ok(state.stopped.clone());
        }
        let is_known = schema::schema_version(&self.conn)? == self.schema_version;
        let found = if state.has_table() && !is_known { self.fault_of(no)? } else { None };
        Ok(found.map(|(kind, why)| Stopped { kind, why, since: self.clock }))
    }
}

impl ReplicaError {
    /// The same, as a failure of one table, unless it is of the whole file.
    pub(crate) fn of_table(self, replica: &Replica, no: i64, kind: StopKind) -> Self {
        let Self::Store(source) = self else { return self };
        if source.is_of_file() {
            return Self::Store(source);
        }
        let table = replica.containers.get(&no).map(|c| c.table.clone()).unwrap_or_default();
        let what = match kind {
            StopKind::NotCaptured => "its writes could not be captured",
            _ => "what came for it could not be brought into it",
        };
        Self::Table { no, kind, why: format!("{what}: {source}"), table, source: Box::new(source) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::change::Merge;
    use crate::id::{PeerId, RealmId};
    use crate::identity::Identity;
    use crate::key::RowKey;
    use crate::replica::{Binding, Follow, TrackOptions};
    use crate::value::Value;

    const NOW: Timestamp = Timestamp(1_700_000_000_000);

    /// A replica with the tables `t` and `fine` that have met their counterparts.
    fn replica() -> Replica {
        let conn = Connection::open_in_memory().unwrap();
        conn.execute_batch(
            "CREATE TABLE t(id INTEGER PRIMARY KEY, v TEXT); CREATE TABLE fine(id INTEGER PRIMARY KEY, v TEXT)",
        )
        .unwrap();
        let mut replica = Replica::from_connection(conn, Identity::from_seed([1; 32]), [2; 32]).unwrap();
        let (realm, server) = (RealmId([3; 16]), PeerId([4; 32]));
        replica.bind(Binding { database: "app".into(), realm, server, follow: Follow::All }).unwrap();
        for table in ["t", "fine"] {
            replica.track(table, &TrackOptions::default()).unwrap();
            let no = replica.number(table).unwrap();
            replica.transaction(|r| r.meet_nothing(no, NOW)).unwrap();
        }
        replica
    }

    fn write(replica: &Replica, sql: &str) {
        replica.connection().execute_batch(sql).unwrap();
    }

    fn segments(replica: &Replica, table: &str) -> u64 {
        replica.containers[&replica.number(table).unwrap()].feed.count()
    }

    #[test]
    fn a_table_whose_rows_cannot_be_captured_stops_alone_and_its_log_is_kept() {
        let mut replica = replica();
        write(&replica, "INSERT INTO t VALUES (1, 'x'); INSERT INTO fine VALUES (1, 'x')");
        replica.capture(NOW).unwrap();
        let no = replica.number("t").unwrap();
        // What an earlier version or a torn page left behind: a row without its segment.
        write(
            &replica,
            "UPDATE piecewise_segments SET bytes = x'00', outline = NULL WHERE container = (SELECT no FROM piecewise_containers WHERE table_name = 't')",
        );
        replica.history.clear();
        let before = segments(&replica, "fine");
        write(&replica, "UPDATE t SET v = 'y'; UPDATE fine SET v = 'y'");
        while replica.capture(NOW).unwrap().more {}
        let stopped = replica.stopped();
        assert!(
            matches!(&stopped[..], [(table, s)] if table == "t" && s.kind == StopKind::NotCaptured && s.since == NOW),
            "{stopped:?}"
        );
        assert_eq!(segments(&replica, "fine"), before + 1);
        let kept = "SELECT count(*) FROM piecewise_log WHERE container = ?";
        assert_eq!(replica.conn.query_row(kept, [no], |row| row.get::<_, i64>(0)), Ok(1));
        assert!(!replica.waiting().unwrap().is_caught_up());
        // Nothing is to do for a table that is stopped, and the next write of another costs one look.
        assert_eq!(replica.capture(NOW).unwrap(), crate::replica::Captured::default());
        write(&replica, "UPDATE fine SET v = 'z'");
        while replica.capture(NOW).unwrap().more {}
        assert_eq!(segments(&replica, "fine"), before + 2);
    }

    #[test]
    fn a_description_that_cannot_be_read_is_told_of_until_a_better_one_comes() {
        let mut replica = replica();
        let no = replica.number("t").unwrap();
        let describe = |replica: &mut Replica, key: &str| {
            let value = Value::Text(key.to_owned());
            let view = replica.history.view(&replica.conn, no, &RowKey::Description).unwrap();
            let change = view.edit(&[("key".to_owned(), Merge::Register, value)]);
            replica
                .transaction(|r| {
                    r.write_change(no, &RowKey::Description, &change, NOW)?;
                    r.follow_description(no)
                })
                .unwrap();
        };
        describe(&mut replica, "nothing like it");
        let stopped = replica.stopped();
        assert!(matches!(&stopped[..], [(_, s)] if s.kind == StopKind::Description), "{stopped:?}");
        assert!(stopped[0].1.why.contains("description"), "{stopped:?}");
        describe(&mut replica, "id");
        assert_eq!(replica.stopped(), []);
        let told: Vec<_> = replica.take_stop_news().into_iter().map(|news| news.stopped.is_some()).collect();
        assert_eq!(told, [false], "what is over when it is told is told as over");
    }

    #[test]
    fn a_stop_is_read_as_it_was_written() {
        for kind in StopKind::ALL {
            let stopped = Stopped { kind, why: format!("odd {SEPARATOR} words"), since: Timestamp(7) };
            assert_eq!(Stopped::from_text(&stopped.to_text()), Some(stopped));
        }
        assert_eq!(Stopped::from_text("99\u{1f}1\u{1f}x"), None);
        assert_eq!(Stopped::from_text("1"), None);
    }
}
