//! Checking: a watch compares tables with their documents at a bounded pace, and says what it healed.

use piecewise_core::replica::Replica;
use piecewise_core::scrub::Finding;
use piecewise_server::say;
use piecewise_server::scrubber::{PERCENT, Pace, Scrubber};
use piecewise_server::terminal::{is_json, note, shown};
use serde_json::json;
use std::time::Duration;

/// The check of one file that is watched.
#[derive(Debug)]
pub(crate) struct Checking {
    pace: Pace,
    scrubber: Scrubber,
}

impl Checking {
    /// With at most so much of one core, in percent.
    pub(crate) fn new(percent: Option<f64>) -> Self {
        let pace = Pace::of_percent(percent.unwrap_or(PERCENT));
        Self { pace, scrubber: Scrubber::default() }
    }

    /// How long until the next step, if there is one to wait for.
    pub(crate) fn wait(&self, replica: &mut Replica) -> Option<Duration> {
        self.scrubber.wait(&self.pace, replica)
    }

    /// Does the next step if its time has come. Returns whether rows were healed, which others may have to be sent.
    pub(crate) fn step(&mut self, replica: &mut Replica) -> bool {
        let database = replica.binding().map(|b| b.database.clone()).unwrap_or_default();
        match self.scrubber.step(&self.pace, replica) {
            None => false,
            Some(Ok(checked)) => {
                checked.findings.iter().for_each(|finding| print(&database, finding));
                checked.found > 0
            }
            Some(Err(error)) => {
                note(&format!("{database}: the tables cannot be checked: {error}; it is tried again"));
                false
            }
        }
    }
}

fn print(database: &str, finding: &Finding) {
    let Finding { table, key, fault, healing } = finding;
    match is_json() {
        true => say!(
            "{}",
            json!({ "database": database, "table": table, "key": key, "fault": fault.name(), "healing": healing.name() })
        ),
        false => say!("{database}: {} {}: {fault}; {healing}", shown(table), shown(key)),
    }
}
