//! Scrub: what tables show is compared with what their documents say, row by row, and healed where they differ.
//!
//! Segments prove what a container holds; nothing proves its table. A program that turned triggers off, a tool that
//! wrote the file while it was damaged, or a defect of ours leaves rows that no log and no root tells of. A check goes
//! through all containers in steps: documents against rows, rows against documents, held rows against their causes,
//! refused rows against what they showed. A step reads without the write lock, which is taken for rows that differ alone. How far
//! it has come stands in the file. The caller gives the time and how many rows a step may look at (`look` compares, `heal` heals).
//!
//! The rule by which a row is healed, which never loses a value:
//! * Its document's last changes came from peers, and the table shows what the document did before one of them: apply
//!   left it behind, and the document's row is put there. What it showed stays in the row's history.
//! * A row is missing: it is put back, or held if the table does not take it. A delete that no trigger saw can be
//!   repeated; a row that is deleted everywhere by mistake cannot be brought back by who never saw it.
//! * Anything else in the table was written by somebody whom no trigger saw: it is captured as an edit of now.

mod heal;
mod look;
mod replay;

use crate::id::Timestamp;
use crate::replica::{Replica, ReplicaError, Scan};
use crate::store::checks::{self, Check, Counts};
use crate::store::{layout, schema};
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

/// How long after a check the next one begins, if the file was written meanwhile, and if it was not.
const REST_MS: u64 = 60_000;
const REST_UNCHANGED_MS: u64 = 24 * 3_600_000;
/// How often at most the place of a check is written down.
const NOTE_MS: u64 = 30_000;
/// Findings described for each table in a step; all are counted.
const FINDINGS_MAX: usize = 100;

/// A row that was not what its document says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The table.
    pub table: String,
    /// The row's key.
    pub key: String,
    /// What was wrong.
    pub fault: RowFault,
    /// What was done.
    pub healing: Healing,
}

/// What was wrong with a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum RowFault {
    /// The table showed other values than the document.
    Differs,
    /// The table lacked the document's row.
    Missing,
    /// The table had a row that no document shows.
    Unknown,
    /// The row was held although nothing hinders it.
    HeldWithoutCause,
    /// A row that the server refused was changed, and no trigger saw it.
    RefusedChanged,
    /// The baseline of the row was not what all of its changes say.
    Baseline,
}

/// What was done about a row.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Healing {
    /// What the table shows was captured as an edit.
    Captured,
    /// The table shows what the document says again.
    PutRight,
    /// The row is held, since the table does not take it.
    Held,
    /// The row is listed as refused, since this device may not write.
    Refused,
    /// Nothing helped, for this reason.
    Failed(String),
}

impl RowFault {
    /// A word for programs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Differs => "differs",
            Self::Missing => "missing",
            Self::Unknown => "unknown",
            Self::HeldWithoutCause => "held_without_cause",
            Self::RefusedChanged => "refused_changed",
            Self::Baseline => "baseline",
        }
    }
}

impl std::fmt::Display for RowFault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Differs => "the table showed other values than its document",
            Self::Missing => "the table lacked the row of its document",
            Self::Unknown => "the table showed a row that no document has",
            Self::HeldWithoutCause => "it was held without a cause",
            Self::RefusedChanged => "it was refused, and changed unnoticed",
            Self::Baseline => "its baseline was not what its changes say",
        })
    }
}

impl Healing {
    /// A word for programs.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Captured => "captured",
            Self::PutRight => "put_right",
            Self::Held => "held",
            Self::Refused => "refused",
            Self::Failed(_) => "failed",
        }
    }
}

impl std::fmt::Display for Healing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Captured => f.write_str("captured as an edit of now"),
            Self::PutRight => f.write_str("put right from its document"),
            Self::Held => f.write_str("held, see `held`"),
            Self::Refused => f.write_str("listed as refused, see `refused`"),
            Self::Failed(reason) => write!(f, "not healed: {reason}"),
        }
    }
}

/// What a step of a check did.
#[derive(Debug, Clone, Default)]
pub struct Checked {
    /// Rows and documents compared.
    pub rows: u64,
    /// Rows that were not what their documents say, those that are described and all others.
    pub found: u64,
    /// The first of them.
    pub findings: Vec<Finding>,
    /// Whether all containers have been checked now.
    pub is_over: bool,
}

/// How the tables of a file have been checked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CheckStatus {
    /// When the oldest of the last complete checks of all tables ended; None: some were never checked.
    pub checked: Option<Timestamp>,
    /// What those checks found.
    pub found: u64,
    /// Rows among those that could not be healed.
    pub unhealed: u64,
    /// Rows that all checks ever found, and when the last was.
    pub found_ever: u64,
    /// When the last of them was found.
    pub found_last: Option<Timestamp>,
    /// Each table.
    pub tables: Vec<TableCheck>,
}

/// How a table has been checked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TableCheck {
    /// The table.
    pub table: String,
    /// When its last complete check ended.
    pub checked: Option<Timestamp>,
    /// Rows and documents compared in it.
    pub rows: u64,
    /// Rows found by it.
    pub found: u64,
    /// Those of them that could not be healed.
    pub unhealed: u64,
    /// Why it cannot be checked now.
    pub left_out: Option<String>,
}

/// The part of a container's check that is under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Documents against rows, by the segments that hold their first changes.
    Documents = 1,
    /// Rows against documents, by key.
    Rows = 2,
    /// Held rows against their causes.
    Held = 3,
    /// Refused rows against what they showed.
    Refused = 4,
}

impl Stage {
    fn from_code(code: i64) -> Option<Self> {
        [Self::Documents, Self::Rows, Self::Held, Self::Refused].into_iter().find(|s| *s as i64 == code)
    }

    fn next(self) -> Option<Self> {
        Self::from_code(self as i64 + 1)
    }
}

/// A check of all containers, as far as it is known in memory.
#[derive(Debug, Default)]
pub(crate) struct Scrubbing {
    /// The check that is under way.
    round: Option<Round>,
    /// When the last one ended, and the state of the file then.
    ended: Option<Timestamp>,
    state: Option<FileState>,
    /// Documents that are made anew.
    replay: Option<replay::Replay>,
}

/// Tells whether a file was written: the commits of other connections, and our own.
type FileState = (i64, i64);

#[derive(Debug)]
struct Round {
    began: Timestamp,
    checks: BTreeMap<i64, Check>,
    /// Containers that are not checked yet in this round.
    left: BTreeSet<i64>,
    /// Containers whose check is to be written down, and when that was done last.
    dirty: BTreeSet<i64>,
    noted: Timestamp,
}

impl Scrubbing {
    /// A container is gone.
    pub(crate) fn forget(&mut self, no: i64) {
        self.replay = None;
        if let Some(round) = &mut self.round {
            round.left.remove(&no);
            round.dirty.remove(&no);
            round.checks.remove(&no);
        }
    }

    /// Segments of a container were given other places: its check begins anew.
    pub(crate) fn begin_anew(&mut self, no: i64) {
        self.replay = None;
        if let Some(check) = self.round.as_mut().and_then(|round| round.checks.get_mut(&no)) {
            (check.stage, check.place, check.current) = (0, None, Counts::default());
        }
    }
}

impl Replica {
    /// Begins a check of all tables, from the start.
    pub fn begin_check(&mut self, now: Timestamp) -> Result<(), ReplicaError> {
        self.begin_round(now, false)
    }

    /// Whether a check is under way or due, and if not, in how many milliseconds it may be.
    ///
    /// It is due a minute after the last one if the file was written meanwhile, else a day after it.
    pub fn check_is_due(&mut self, now: Timestamp) -> Result<Result<(), u64>, ReplicaError> {
        if self.binding.is_none() {
            return Ok(Err(REST_MS));
        }
        if self.scrubbing.round.is_some() {
            return Ok(Ok(()));
        }
        let Some(ended) = self.scrubbing.ended else { return Ok(Ok(())) };
        let changed = self.scrubbing.state != Some(self.file_state()?);
        let rest = if changed { REST_MS } else { REST_UNCHANGED_MS };
        let waited = now.ms_since(ended);
        Ok(if waited >= rest { Ok(()) } else { Err(rest - waited) })
    }

    /// Does the next step of the check that is under way, or begins one where the last program left it: compares about
    /// `rows` rows, or reads so many changes of rows that have several, and heals what differs.
    ///
    /// Takes the write lock only where rows differ or are held, and now and then to note how far it has come.
    pub fn check_some(&mut self, now: Timestamp, rows: usize) -> Result<Checked, ReplicaError> {
        let mut checked = Checked::default();
        if self.binding.is_none() {
            checked.is_over = true;
            return Ok(checked);
        }
        if self.others_changed_it()? || schema::schema_version(&self.conn)? != self.schema_version {
            // Reads anew what another program changed.
            self.transaction(|_| Ok(()))?;
        }
        if self.scrubbing.round.is_none() {
            self.begin_round(now, true)?;
        }
        let mut work = 0;
        while work < rows as u64 {
            let round = self.scrubbing.round.as_ref().expect("it was begun above");
            let Some(no) = round.left.first().copied() else {
                self.end_round(now)?;
                checked.is_over = true;
                return Ok(checked);
            };
            work += self.check_container(no, now, rows - work as usize, &mut checked)?;
        }
        let round = self.scrubbing.round.as_ref().expect("it was begun above");
        if now.ms_since(round.noted) >= NOTE_MS {
            self.note_round(now)?;
        }
        Ok(checked)
    }

    /// How the tables have been checked.
    pub fn check_status(&self) -> Result<CheckStatus, ReplicaError> {
        let mut status = CheckStatus::default();
        if self.binding.is_none() {
            return Ok(status);
        }
        let known = self.checks()?;
        let mut oldest = Some(Timestamp::MAX);
        for state in self.containers.values().filter(|state| state.has_table() || state.stopped.is_some()) {
            let check = known.get(&state.no).cloned().unwrap_or_default();
            status.found += check.last.found;
            status.unhealed += check.last.unhealed;
            status.found_ever += check.found_ever;
            status.found_last = status.found_last.max(check.found_last);
            oldest = if state.has_table() { oldest.min(check.checked) } else { oldest };
            status.tables.push(TableCheck {
                table: state.table.clone(),
                checked: check.checked,
                rows: check.last.rows,
                found: check.last.found,
                unhealed: check.last.unhealed,
                left_out: match &state.stopped {
                    Some(stopped) => Some(stopped.why.clone()),
                    None => self.left_out(state.no)?.map(str::to_owned),
                },
            });
        }
        status.tables.sort_by(|a, b| a.table.cmp(&b.table));
        status.checked = oldest.filter(|oldest| *oldest != Timestamp::MAX);
        Ok(status)
    }

    /// How each container has been checked, as far as it was.
    pub(crate) fn checks(&self) -> Result<Cow<'_, BTreeMap<i64, Check>>, ReplicaError> {
        Ok(match &self.scrubbing.round {
            Some(round) => Cow::Borrowed(&round.checks),
            None if self.binding.is_some() => Cow::Owned(checks::all(&self.conn)?),
            None => Cow::Owned(BTreeMap::new()),
        })
    }

    /// Why a container's table cannot be compared with its documents now.
    fn left_out(&self, no: i64) -> Result<Option<&'static str>, ReplicaError> {
        let Some(state) = self.containers.get(&no) else { return Ok(Some("it is not tracked")) };
        Ok(match state.scan() {
            Scan::Meet | Scan::Gather | Scan::Join => Some("it has not met the server's table yet"),
            Scan::No if self.user_table(no)?.is_none() => Some("there is no table that fits"),
            Scan::No => None,
            Scan::Make => Some("it is still to be made"),
            _ => Some("it is being compared or filled"),
        })
    }

    fn begin_round(&mut self, now: Timestamp, goes_on: bool) -> Result<(), ReplicaError> {
        if self.binding.is_none() {
            return Ok(());
        }
        let mut checks = checks::all(&self.conn)?;
        let mut left: BTreeSet<_> =
            self.containers.values().filter(|c| c.has_table()).map(|c| c.no).collect();
        let mut began = now;
        if goes_on && let Some(ms) = layout::meta::<i64>(&self.conn, "check_began")? {
            began = Timestamp(ms as u64);
            left.retain(|no| checks.get(no).and_then(|c| c.checked).is_none_or(|checked| checked < began));
        } else {
            for check in checks.values_mut() {
                (check.stage, check.place, check.current) = (0, None, Counts::default());
            }
        }
        let (dirty, noted) = (BTreeSet::new(), now);
        self.scrubbing.replay = None;
        self.scrubbing.round = Some(Round { began, checks, left, dirty, noted });
        Ok(())
    }

    fn end_round(&mut self, now: Timestamp) -> Result<(), ReplicaError> {
        self.note_round(now)?;
        self.scrubbing.round = None;
        self.scrubbing.ended = Some(now);
        self.scrubbing.state = Some(self.file_state()?);
        Ok(())
    }

    /// Writes down how far the check has come.
    fn note_round(&mut self, now: Timestamp) -> Result<(), ReplicaError> {
        self.transaction(|r| {
            let Some(round) = &r.scrubbing.round else { return Ok(()) };
            for no in &round.dirty {
                if let (Some(check), Some(_)) = (round.checks.get(no), r.containers.get(no)) {
                    checks::put(&r.conn, *no, check)?;
                }
            }
            match round.left.is_empty() {
                true => layout::forget_meta(&r.conn, "check_began")?,
                false => layout::set_meta(&r.conn, "check_began", round.began.0 as i64)?,
            }
            Ok(())
        })?;
        if let Some(round) = &mut self.scrubbing.round {
            round.dirty.clear();
            round.noted = now;
        }
        Ok(())
    }

    fn file_state(&self) -> Result<FileState, ReplicaError> {
        Ok((self.data_version()?, self.generation))
    }

    /// Goes on with the check of a container; how much was done, counted in rows.
    fn check_container(
        &mut self,
        no: i64,
        now: Timestamp,
        rows: usize,
        checked: &mut Checked,
    ) -> Result<u64, ReplicaError> {
        let Some(round) = &mut self.scrubbing.round else { return Ok(0) };
        let mut check = round.checks.remove(&no).unwrap_or_default();
        if self.left_out(no)?.is_some() {
            (check.stage, check.place) = (0, None);
            self.keep_check(no, check, true);
            return Ok(0);
        }
        let stage = Stage::from_code(check.stage).unwrap_or(Stage::Documents);
        if check.stage == 0 {
            (check.place, check.current) = (None, Counts::default());
        }
        let done = self.check_stage(no, stage, check.place.as_deref(), now, rows);
        let (looked, healed) = match done {
            Ok(done) => done,
            Err(error) => {
                self.keep_check(no, check, false);
                return Err(error);
            }
        };
        checked.rows += looked.rows;
        checked.found += healed.len() as u64;
        check.current.rows += looked.rows;
        check.current.found += healed.len() as u64;
        check.found_ever += healed.len() as u64;
        check.current.unhealed +=
            healed.iter().filter(|f| matches!(f.healing, Healing::Failed(_))).count() as u64;
        if !healed.is_empty() {
            check.found_last = Some(now);
        }
        checked.findings.extend(healed.into_iter().take(FINDINGS_MAX));
        let next = if looked.place.is_some() { Some(stage) } else { stage.next() };
        check.place = looked.place;
        check.stage = next.map_or(0, |stage| stage as i64);
        if next.is_none() {
            check.checked = Some(now);
            check.last = std::mem::take(&mut check.current);
        }
        self.keep_check(no, check, next.is_none());
        Ok(looked.work)
    }

    fn keep_check(&mut self, no: i64, check: Check, is_done: bool) {
        let Some(round) = &mut self.scrubbing.round else { return };
        round.checks.insert(no, check);
        round.dirty.insert(no);
        if is_done {
            round.left.remove(&no);
        }
    }

    /// Compares the next rows of a part of a container's check, and heals those that differ.
    fn check_stage(
        &mut self,
        no: i64,
        stage: Stage,
        place: Option<&[u8]>,
        now: Timestamp,
        rows: usize,
    ) -> Result<(Looked, Vec<Finding>), ReplicaError> {
        match stage {
            Stage::Held => self.check_held(no, place, now, rows),
            _ => {
                let looked = self.look(no, stage, place, rows)?;
                let healed = self.heal(no, &looked.suspects, now)?;
                Ok((looked, healed))
            }
        }
    }
}

/// What a look at some rows brought.
#[derive(Debug, Default)]
struct Looked {
    /// Rows and documents compared.
    rows: u64,
    /// What that cost, counted in rows.
    work: u64,
    /// Rows that differ.
    suspects: Vec<crate::key::RowKey>,
    /// Where to go on; None: at the next part.
    place: Option<Vec<u8>>,
}
