//! Talks: what a file notes of its talks with the server, and what a server's copy tells of itself at a glance.

use super::reading::HistorySize;
use super::{Replica, ReplicaError, Stopped};
use crate::id::Timestamp;
use crate::link::Stop;
use crate::message::Cursor;
use crate::store::{holds, layout, log, outbox, schema, segments};

/// Segments whose sizes are read to tell what all of them take.
const SEGMENTS_LOOKED_AT: u64 = 20_000;

/// A talk with the server, as it was left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Talk {
    /// When this was noted.
    pub time: Timestamp,
    /// Whether both sides held the same then. False from the moment on at which the connection is lost.
    pub level: bool,
    /// Segments that were still to come.
    pub segments_to_come: u64,
    /// Why the server took nothing in, if it did not.
    pub stopped: Option<Stop>,
}

/// What is still to be done until a file and its server hold the same, as far as is known here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Waiting {
    /// Rows written and not captured yet.
    pub rows: u64,
    /// Own segments that the server has not said to have.
    pub segments: u64,
    /// The last talk with the server.
    pub talk: Option<Talk>,
    /// Tables that cannot take part now.
    pub stopped: u64,
    /// Tables that have not met their counterparts at the server.
    pub unmet: u64,
    /// Whether the schema changed since it was looked at.
    pub schema_changed: bool,
}

impl Waiting {
    /// True if nothing is pending: as far as the last session and the local log show, both sides are in sync.
    pub fn is_over(&self) -> bool {
        self.rows == 0 && self.segments == 0 && self.talk.is_some_and(|talk| talk.level)
    }

    /// Whether every tracked table is in sync with the server, as far as is known here.
    pub fn is_caught_up(&self) -> bool {
        self.is_over() && self.stopped == 0 && self.unmet == 0 && !self.schema_changed
    }
}

/// A replica at a glance, without a look at any table's rows.
#[derive(Debug, Clone, Default)]
pub struct Overview {
    /// Its containers, those asked for alone.
    pub containers: Vec<OverviewOf>,
    /// Entries that wait to be brought into the supervisor's log.
    pub outbox: u64,
}

/// A container at a glance.
#[derive(Debug, Clone)]
pub struct OverviewOf {
    /// Its name.
    pub name: String,
    /// Segments it holds.
    pub segments: u64,
    /// Rows held.
    pub held: u64,
    /// Why its table cannot take part now, if it cannot.
    pub stopped: Option<Stopped>,
    /// When its table was last checked against its documents.
    pub checked: Option<Timestamp>,
    /// Rows that this check found.
    pub found: u64,
    /// Those of them that it could not heal.
    pub unhealed: u64,
}

impl Replica {
    /// Whether a table is stopped.
    pub fn any_stopped(&self) -> bool {
        self.containers.stopped().next().is_some()
    }

    /// Notes how a talk with the server stands; writes only what differs.
    pub fn note_talk(&mut self, talk: &Talk) -> Result<(), ReplicaError> {
        self.clock = talk.time;
        let same = |old: Talk| Talk { time: talk.time, ..old } == *talk && !talk.level;
        if self.binding.is_none() || self.last_talk()?.is_some_and(same) {
            return Ok(());
        }
        self.transaction(|r| {
            let set = |name: &str, value: i64| layout::set_meta(&r.conn, name, value);
            set("talk_time", talk.time.0 as i64)?;
            set("talk_level", i64::from(talk.level))?;
            set("talk_to_come", talk.segments_to_come as i64)?;
            set("talk_stopped", talk.stopped.map_or(0, |stop| stop as i64))?;
            if talk.level {
                set("last_level", talk.time.0 as i64)?;
            }
            Ok(())
        })
    }

    /// What is still to be done until this file and its server hold the same.
    pub fn waiting(&self) -> Result<Waiting, ReplicaError> {
        let talk = self.last_talk()?;
        let mut waiting = Waiting { rows: 0, segments: 0, talk, stopped: 0, unmet: 0, schema_changed: false };
        if self.binding.is_none() {
            return Ok(waiting);
        }
        waiting.rows = log::count(&self.conn)?;
        waiting.stopped = self.containers.stopped().len() as u64;
        waiting.unmet = self.containers.count_unmet();
        let version = schema::schema_version(&self.conn)?;
        waiting.schema_changed = version != self.schema_version && !self.containers.is_empty();
        for no in segments::unacknowledged(&self.conn)? {
            waiting.segments += segments::count_unsent(&self.conn, no)?.0;
        }
        Ok(waiting)
    }

    /// What the file's segments take, and those made before a time. Of very many segments some are looked at.
    pub fn history_size(&self, before: Timestamp) -> Result<HistorySize, ReplicaError> {
        if self.binding.is_none() {
            return Ok(HistorySize::default());
        }
        let count: u64 = self.containers.values().map(|state| state.feed.count()).sum();
        let (looked_at, bytes, bytes_before) = segments::sizes(&self.conn, before, SEGMENTS_LOOKED_AT)?;
        let is_estimate = looked_at < count;
        let scale =
            |n: u64| if is_estimate { (n as f64 * count as f64 / looked_at as f64) as u64 } else { n };
        Ok(HistorySize { bytes: scale(bytes), bytes_before: scale(bytes_before), is_estimate })
    }

    fn last_talk(&self) -> Result<Option<Talk>, ReplicaError> {
        if self.binding.is_none() {
            return Ok(None);
        }
        let get = |name: &str| layout::meta::<i64>(&self.conn, name);
        let Some(time) = get("talk_time")? else { return Ok(None) };
        Ok(Some(Talk {
            time: Timestamp(time as u64),
            level: get("talk_level")? == Some(1),
            segments_to_come: get("talk_to_come")?.unwrap_or(0) as u64,
            stopped: get("talk_stopped")?.and_then(|code| Stop::from_code(code as u8)),
        }))
    }

    /// Where the feeds end now of which it is not known that the server has all.
    pub(crate) fn unacknowledged(&self) -> Result<Vec<(i64, Cursor)>, ReplicaError> {
        let numbers = segments::unacknowledged(&self.conn)?;
        Ok(numbers.into_iter().filter_map(|no| Some((no, self.containers.get(&no)?.feed.tip))).collect())
    }

    /// Takes note that the server has these feeds up to there: not what was captured since.
    pub(crate) fn acknowledge(&mut self, reached: &[(i64, Cursor)]) -> Result<(), ReplicaError> {
        if reached.is_empty() {
            return Ok(());
        }
        self.transaction(|r| {
            for (no, cursor) in reached {
                if segments::hash_at(&r.conn, *no, cursor.seq)? == Some(cursor.hash) {
                    segments::acknowledge(&r.conn, *no, cursor.seq)?;
                }
            }
            Ok(())
        })
    }

    /// The containers whose names are `covered`, at a glance.
    pub fn overview(&self, covered: impl Fn(&str) -> bool) -> Result<Overview, ReplicaError> {
        let held = holds::counts(&self.conn)?;
        let checks = self.checks()?;
        let containers =
            self.containers.values().filter(|state| covered(&state.name)).map(|state| OverviewOf {
                name: state.name.clone(),
                segments: state.feed.count(),
                held: held.get(&state.no).copied().unwrap_or(0),
                stopped: state.stopped.clone(),
                checked: checks.get(&state.no).and_then(|check| check.checked),
                found: checks.get(&state.no).map_or(0, |check| check.last.found),
                unhealed: checks.get(&state.no).map_or(0, |check| check.last.unhealed),
            });
        Ok(Overview { containers: containers.collect(), outbox: outbox::count(&self.conn)? })
    }
}
