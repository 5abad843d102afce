//! Replay: documents with several changes, made anew by going through the feed once.
//!
//! The changes of one row are in many segments, and each segment holds changes of many rows. To evaluate row by row would decode
//! each segment again for each of its rows, so rows are gathered, and what they show is built up segment by segment, each decoded
//! once. Documents that only all of their changes together tell are evaluated one by one. All of it is in memory: if it is lost,
//! the check goes on where the gathering began.

use super::Looked;
use super::look::is_shown;
use crate::change_codec::{self, FreshEncoder};
use crate::document::{Baseline, PlainStart};
use crate::frame::{KeyRef, OpKind};
use crate::id::Seq;
use crate::key::RowKey;
use crate::replica::{Replica, ReplicaError};
use crate::row;
use crate::store::documents::{self, At};
use crate::store::user_table::UserTable;
use crate::store::{StoreError, segments};
use std::collections::HashMap;

/// Rows gathered at most, and the bytes of what they show.
const ROWS_MAX: usize = 64 << 10;
const BYTES_MAX: usize = 32 << 20;
/// What it costs to compare a row, and to evaluate one by itself, counted in changes that are read.
const ROW_WORK: u64 = 4;
const WHOLE_WORK: u64 = 256;

/// Rows of a container with several changes, and how far their documents have been made anew.
#[derive(Debug)]
pub(crate) struct Replay {
    no: i64,
    /// Where the gathering began, and where it goes on.
    began: Seq,
    next: Seq,
    /// Whether all segments have been gone through for rows.
    is_last: bool,
    phase: Phase,
    rows: HashMap<RowKey, Made>,
    bytes: usize,
}

#[derive(Debug)]
enum Phase {
    Gathering,
    /// Changes up to here are in what rows show.
    Replaying(Seq),
    /// Rows still to be compared, the next one last.
    Comparing(Vec<(RowKey, Made)>),
}

/// What the changes of a row show, as far as the replay has come.
#[derive(Debug)]
enum Made {
    Nothing,
    /// A baseline, as bytes.
    Bytes(Box<[u8]>),
    /// Only all of its changes together tell.
    Whole,
}

impl Made {
    fn of(baseline: &Baseline) -> Self {
        Self::Bytes(baseline.encode().into())
    }

    fn baseline(&self) -> Option<Baseline> {
        match self {
            Self::Bytes(bytes) => Baseline::decode(bytes).ok(),
            _ => None,
        }
    }

    fn len(&self) -> usize {
        match self {
            Self::Bytes(bytes) => bytes.len(),
            _ => 0,
        }
    }
}

impl Replay {
    /// Goes through a container's documents from a place of its feed on.
    pub(super) fn from(no: i64, place: Seq) -> Self {
        let (rows, phase) = (HashMap::new(), Phase::Gathering);
        Self { no, began: place, next: place, is_last: false, phase, rows, bytes: 0 }
    }

    /// Whether it is of this container.
    pub(super) fn is_of(&self, no: i64) -> bool {
        self.no == no
    }

    fn gather(&mut self, keys: Vec<RowKey>) {
        self.rows.extend(keys.into_iter().map(|key| (key, Made::Nothing)));
        if self.rows.is_empty() {
            self.began = self.next;
        }
    }

    fn put(&mut self, key: &RowKey, made: Made) {
        if let Some(place) = self.rows.get_mut(key) {
            self.bytes = self.bytes + made.len() - place.len();
            *place = made;
        }
    }

    /// All segments have been gone through, or as many rows are gathered as there is room for.
    fn end_gathering(&mut self, segments: u64) {
        // A few rows are evaluated sooner than all segments are gone through.
        if (self.rows.len() as u64) * 2 < segments {
            self.rows.values_mut().for_each(|made| *made = Made::Whole);
            self.compare();
        } else {
            self.phase = Phase::Replaying(Seq(0));
        }
    }

    fn compare(&mut self) {
        let mut rows: Vec<_> = std::mem::take(&mut self.rows).into_iter().collect();
        rows.sort_unstable_by(|a, b| b.0.cmp(&a.0));
        self.phase = Phase::Comparing(rows);
    }
}

impl Replica {
    /// Compares documents with rows until about so many changes were read.
    pub(super) fn go_on(
        &mut self,
        replay: &mut Replay,
        user: &UserTable,
        work: u64,
    ) -> Result<Looked, ReplicaError> {
        let no = replay.no;
        let mut looked = Looked::default();
        while looked.work < work {
            match &mut replay.phase {
                Phase::Gathering => {
                    let line = segments::after(&self.conn, no, replay.next, 1)?.pop();
                    if let Some(line) = line {
                        let mut changed = vec![];
                        let rows =
                            self.look_at_segment(no, line.no, user, &mut looked.suspects, &mut changed)?;
                        looked.rows += rows;
                        looked.work += rows;
                        replay.next = line.cursor.seq;
                        replay.gather(changed);
                    } else if replay.rows.is_empty() {
                        return Ok(looked);
                    } else {
                        replay.is_last = true;
                    }
                    if replay.is_last || replay.rows.len() >= ROWS_MAX {
                        replay.end_gathering(self.containers[&no].feed.count());
                    }
                }
                Phase::Replaying(after) => match segments::after(&self.conn, no, *after, 1)?.pop() {
                    Some(line) => {
                        *after = line.cursor.seq;
                        looked.work += self.replay_segment(replay, line.no)?;
                    }
                    None => replay.compare(),
                },
                Phase::Comparing(rows) => match rows.pop() {
                    Some((key, made)) => {
                        looked.work += if matches!(made, Made::Bytes(_)) { ROW_WORK } else { WHOLE_WORK };
                        if !self.is_as_made(no, user, &key, &made)? {
                            looked.suspects.push(key);
                        }
                    }
                    None if replay.is_last => return Ok(looked),
                    None => *replay = Replay::from(no, replay.next),
                },
            }
        }
        looked.place = Some(replay.began.0.to_be_bytes().to_vec());
        Ok(looked)
    }

    /// Brings the changes of a segment into what its rows show; how many it has.
    fn replay_segment(&self, replay: &mut Replay, number: i64) -> Result<u64, ReplicaError> {
        let segment = segments::open(&self.conn, number)?;
        let mut reader = segment.changes().map_err(StoreError::from)?;
        let templates: Vec<_> = reader.templates().cloned().collect();
        let mut encoders: Vec<Option<FreshEncoder>> = templates.iter().map(|_| None).collect();
        while let Some(change) = reader.next_change().map_err(StoreError::from)? {
            if change.key == KeyRef::Description {
                continue;
            }
            let key = RowKey::from(change.key);
            let Some(made) = replay.rows.get(&key) else { continue };
            let (at, actor) = (At::new(number, change.index), segment.actor);
            let made = match (made, made.baseline()) {
                (Made::Nothing, _) if change.template.is_plain_insert() => {
                    let encoder = encoders[change.template_number].get_or_insert_with(|| {
                        let ops = change.template.ops.iter();
                        let columns: Vec<_> =
                            ops.map(|(name, kind)| (name.as_str(), *kind == OpKind::Counter)).collect();
                        FreshEncoder::new(&columns)
                    });
                    let hash = encoder.hash(&actor, change.values);
                    let start = PlainStart { template: change.template, actor, hash, at };
                    Baseline::of_plain(&start, Some(change.values)).map(|baseline| Made::of(&baseline))
                }
                (Made::Bytes(_), Some(mut baseline)) if replay.bytes < BYTES_MAX => {
                    let change = change.into_change();
                    let hash = change_codec::encode(&change, &actor, &mut vec![]);
                    let taken = hash.is_ok_and(|hash| baseline.take(hash, actor, &change, at));
                    taken.then(|| Made::of(&baseline))
                }
                _ => None,
            };
            replay.put(&key, made.unwrap_or(Made::Whole));
        }
        Ok(u64::from(segment.header.count))
    }

    /// Whether a row's table shows what its changes do, and its baseline says so.
    fn is_as_made(
        &mut self,
        no: i64,
        user: &UserTable,
        key: &RowKey,
        made: &Made,
    ) -> Result<bool, ReplicaError> {
        let now = user.read(&self.conn, key)?;
        // Changes that came meanwhile may be of segments that were gone through before.
        let last = documents::last_change(&self.conn, no, key)?;
        let (view, is_right) = match made.baseline().filter(|made| Some(made.last()) == last) {
            Some(made) => {
                let kept = self.history.baseline(&self.conn, no, key)?;
                let is_right = kept.is_none_or(|kept| kept.agrees_with(&made));
                (made.view(|cell| self.history.value_of(&self.conn, cell))?, is_right)
            }
            None => {
                let (view, is_right) = self.history.view_checked(&self.conn, no, key)?;
                (std::sync::Arc::unwrap_or_clone(view), is_right)
            }
        };
        Ok(is_right && is_shown(user, row::shown(&view, user).as_ref(), now.as_ref()))
    }
}
