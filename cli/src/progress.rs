//! Progress: a bar on the terminal while long work goes on; nothing where nobody looks.

use crate::drive::Summary;
use indicatif::{HumanBytes, HumanCount, ProgressBar, ProgressDrawTarget, ProgressStyle};
use piecewise_core::link::Traffic;
use std::time::Duration;

/// Work shorter than this shows no bar.
const PATIENCE: Duration = Duration::from_millis(500);
/// How often it is shown.
const SHOW_EVERY: Duration = Duration::from_millis(100);

/// A bar for one talk.
#[derive(Debug)]
pub(crate) struct Progress {
    bar: ProgressBar,
    /// When it was shown last.
    shown: Duration,
}

impl Progress {
    /// A bar on the error output, if that is a terminal and `wanted`.
    pub(crate) fn new(wanted: bool) -> Self {
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden());
        let style = ProgressStyle::with_template("{bar:24} {percent:>3}% {msg} · {eta} left");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        if wanted {
            bar.set_draw_target(ProgressDrawTarget::stderr_with_hz(10));
        }
        Self { bar, shown: Duration::ZERO }
    }

    /// Shows how far a talk has come. To count that takes longer, the more tables there are.
    pub(crate) fn show(&mut self, traffic: impl FnOnce() -> Traffic, summary: &Summary, bytes: u64) {
        let elapsed = self.bar.elapsed();
        if elapsed < PATIENCE || elapsed < self.shown + SHOW_EVERY || self.bar.is_hidden() {
            return;
        }
        self.shown = elapsed;
        let traffic = traffic();
        let done = traffic.sent_segments + summary.segments_received;
        self.bar.set_length(done + traffic.segments_to_send + traffic.segments_to_come);
        self.bar.set_position(done);
        let rows = traffic.sent_rows + summary.rows_received;
        let rate = rows as f64 / elapsed.as_secs_f64();
        self.bar.set_message(format!(
            "{} rows · {} · {} rows/s",
            HumanCount(rows),
            HumanBytes(bytes),
            HumanCount(rate as u64)
        ));
    }

    /// Shows how many of several talks are done.
    pub(crate) fn count(&self, done: u64, all: u64, summary: &Summary) {
        if self.bar.elapsed() < PATIENCE || self.bar.is_hidden() {
            return;
        }
        self.bar.set_length(all);
        self.bar.set_position(done);
        let rows = summary.rows_sent + summary.rows_received;
        self.bar.set_message(format!("{done} of {all} databases · {} rows", HumanCount(rows)));
    }

    /// Takes the bar away.
    pub(crate) fn finish(&self) {
        self.bar.finish_and_clear();
    }
}
