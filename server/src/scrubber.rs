//! Scrubber: tables are checked against their documents at a bounded pace, while nothing else is to be done.
//!
//! Each step is followed by a pause in proportion, so that all files of a process together cost a fixed share of one core.
//! Whether a check is due the replica says, see `piecewise_core::scrub`.

use crate::terminal::{count, number, shown};
use piecewise_core::replica::{Replica, ReplicaError};
use piecewise_core::scrub::{CheckStatus, Checked, Finding};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The share of a core, in percent, unless it is set.
pub const PERCENT: f64 = 1.0;
/// Rows compared in one step: some milliseconds.
const STEP_ROWS: usize = 2048;
/// How long after a step that failed the next one begins.
const FAILED: Duration = Duration::from_secs(60);
/// How long at most until the next step is thought of again.
const WAIT_MAX: Duration = Duration::from_secs(600);

/// When the next step may begin, of any of the files that share it.
#[derive(Debug)]
pub struct Pace {
    share: f64,
    next: Mutex<Instant>,
}

impl Pace {
    /// A share of one core in percent; 0: nothing is checked.
    pub fn of_percent(percent: f64) -> Self {
        Self { share: (percent / 100.0).clamp(0.0, 1.0), next: Mutex::new(Instant::now()) }
    }

    /// How long until the next step may begin; None: never.
    fn wait(&self) -> Option<Duration> {
        (self.share > 0.0).then(|| self.next().saturating_duration_since(Instant::now()))
    }

    /// A step took so long, and ends now.
    fn worked(&self, took: Duration) {
        let pause = took.mul_f64(1.0 / self.share - 1.0).min(WAIT_MAX);
        *self.next() = Instant::now() + pause;
    }

    fn next(&self) -> std::sync::MutexGuard<'_, Instant> {
        self.next.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Checks one file.
#[derive(Debug, Default)]
pub struct Scrubber {
    /// After a failure, when it is tried again.
    rests_until: Option<Instant>,
    failed: bool,
}

impl Scrubber {
    /// How long until [`step`](Self::step) should be called; None: there is no need to.
    pub fn wait(&self, pace: &Pace, replica: &mut Replica) -> Option<Duration> {
        let pace = pace.wait()?;
        let rest = self.rests_until.map_or(Duration::ZERO, |at| at.saturating_duration_since(Instant::now()));
        let due = match replica.check_is_due(crate::now()) {
            Ok(Ok(())) => Duration::ZERO,
            Ok(Err(ms)) => Duration::from_millis(ms),
            Err(_) => FAILED,
        };
        Some(pace.max(rest).max(due).min(WAIT_MAX))
    }

    /// Does the next step if its time has come. An error is told of once, until a step succeeds.
    pub fn step(&mut self, pace: &Pace, replica: &mut Replica) -> Option<Result<Checked, ReplicaError>> {
        if self.wait(pace, replica) != Some(Duration::ZERO) {
            return None;
        }
        let started = Instant::now();
        let done = replica.check_some(crate::now(), STEP_ROWS);
        pace.worked(started.elapsed());
        self.rests_until = done.is_err().then(|| Instant::now() + FAILED);
        let told = std::mem::replace(&mut self.failed, done.is_err());
        (done.is_ok() || !told).then_some(done)
    }
}

/// Findings listed for each table by a command.
const LISTED_MAX: usize = 20;

/// Checks all tables of a file at full speed. `progress` is given how many rows were compared in each step.
pub fn check_all(replica: &mut Replica, mut progress: impl FnMut(u64)) -> Result<Found, ReplicaError> {
    // What waits in the log is captured first, so that nothing is left out.
    while replica.capture(crate::now())?.more {}
    replica.begin_check(crate::now())?;
    let mut found = Found::default();
    loop {
        let checked = replica.check_some(crate::now(), STEP_ROWS)?;
        progress(checked.rows);
        for finding in checked.findings {
            let of_table = found.first.entry(finding.table.clone()).or_default();
            if of_table.len() < LISTED_MAX {
                of_table.push(finding);
            }
        }
        if checked.is_over {
            return Ok(found);
        }
    }
}

/// The first rows that a check found, by table.
#[derive(Debug, Default)]
pub struct Found {
    first: BTreeMap<String, Vec<Finding>>,
}

impl Found {
    /// The outcome of a check for people: a line for each table, and one for each of the first rows found in it.
    pub fn lines(&self, status: &CheckStatus) -> Vec<String> {
        let mut lines = vec![];
        for t in &status.tables {
            if let Some(reason) = &t.left_out {
                lines.push(format!("{}: not checked, {reason}", t.table));
                continue;
            }
            let outcome = match (t.found, t.unhealed) {
                (0, _) => "all as their documents say".to_owned(),
                (1, 0) => "1 was not as its document says, healed".to_owned(),
                (found, 0) => format!("{} were not as their documents say, all healed", number(found)),
                (found, unhealed) => format!(
                    "{} not as their documents say, {} of them NOT healed",
                    count(found, "was", "were"),
                    number(unhealed)
                ),
            };
            lines.push(format!("{}: {}, {outcome}", t.table, count(t.rows, "comparison", "comparisons")));
            let first = self.first.get(&t.table).map_or(&[][..], Vec::as_slice);
            let line = |f: &Finding| shown(&format!("{} {}: {}; {}", f.table, f.key, f.fault, f.healing));
            lines.extend(first.iter().map(line));
            if t.found > first.len() as u64 {
                lines.push(format!("{}: {} more", t.table, t.found - first.len() as u64));
            }
        }
        lines
    }

    /// The same for programs.
    pub fn as_json(&self, status: &CheckStatus) -> Value {
        let finding = |f: &Finding| {
            json!({ "key": f.key, "fault": f.fault.name(), "healing": f.healing.name(),
                    "text": format!("{}; {}", f.fault, f.healing) })
        };
        let table = |t: &piecewise_core::scrub::TableCheck| {
            let first = self.first.get(&t.table).map_or(&[][..], Vec::as_slice);
            json!({ "table": t.table, "rows": t.rows, "found": t.found, "unhealed": t.unhealed,
                    "left_out": t.left_out, "first": first.iter().map(finding).collect::<Vec<_>>() })
        };
        status.tables.iter().map(table).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_is_followed_by_a_pause_in_proportion_and_none_begins_where_it_is_off() {
        let pace = Pace::of_percent(1.0);
        assert_eq!(pace.wait(), Some(Duration::ZERO));
        pace.worked(Duration::from_millis(10));
        let wait = pace.wait().expect("it goes on");
        assert!(wait > Duration::from_millis(900) && wait <= Duration::from_millis(990), "{wait:?}");
        assert_eq!(Pace::of_percent(0.0).wait(), None);
        let whole = Pace::of_percent(100.0);
        whole.worked(Duration::from_secs(10));
        assert_eq!(whole.wait(), Some(Duration::ZERO));
    }
}
