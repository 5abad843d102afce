//! Progress: a bar on the terminal while long work goes on; nothing where nobody looks.
//!
//! A share of the whole is shown only while the whole is known: it never falls, and 100 % is the end. Before that a line counts what was done.

use crate::drive::Summary;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use piecewise_core::link::Traffic;
use piecewise_server::terminal::{bytes, count, is_json, number};
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
    /// Whether it shows a share of the whole.
    has_whole: bool,
}

impl Progress {
    /// A bar on the error output, if that is a terminal and `wanted`.
    pub(crate) fn new(wanted: bool) -> Self {
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden());
        let mut progress = Self { bar, shown: Duration::ZERO, has_whole: true };
        progress.set_whole(false);
        if wanted && !is_json() {
            progress.bar.set_draw_target(ProgressDrawTarget::stderr_with_hz(10));
        }
        progress
    }

    fn set_whole(&mut self, has_whole: bool) {
        if std::mem::replace(&mut self.has_whole, has_whole) != has_whole {
            let template = match has_whole {
                true => "{bar:24} {percent:>3}% {msg} · {eta} left",
                false => "{spinner} {msg}",
            };
            let style = ProgressStyle::with_template(template);
            self.bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        }
    }

    /// Whether it is time to show something; to count it may take a while.
    fn is_due(&mut self) -> bool {
        let elapsed = self.bar.elapsed();
        let is_due = elapsed >= PATIENCE && elapsed >= self.shown + SHOW_EVERY && self.is_shown();
        if is_due {
            self.shown = elapsed;
        }
        is_due
    }

    fn at(&mut self, done: u64, whole: Option<u64>, message: String) {
        self.set_whole(whole.is_some());
        match whole {
            Some(whole) => {
                self.bar.set_length(whole);
                self.bar.set_position(done.min(whole));
            }
            None => self.bar.tick(),
        }
        self.bar.set_message(message);
    }

    /// Shows how far a talk has come; `is_whole` says whether all is captured that was written here.
    pub(crate) fn show(
        &mut self,
        traffic: impl FnOnce() -> Traffic,
        is_whole: bool,
        summary: &Summary,
        moved: u64,
    ) {
        if !self.is_due() {
            return;
        }
        let traffic = traffic();
        let done = traffic.sent_segments + summary.segments_received;
        let left = traffic.segments_to_send + traffic.segments_to_come;
        let whole = (is_whole && traffic.is_whole && left > 0).then_some(done + left);
        let rows = traffic.sent_rows + summary.rows_received;
        let captured = match whole {
            None if summary.rows_captured > 0 => format!("{} captured · ", number(summary.rows_captured)),
            _ => String::new(),
        };
        let rate = number((rows as f64 / self.bar.elapsed().as_secs_f64()) as u64);
        let message =
            format!("{captured}{} exchanged · {} · {rate} rows/s", count(rows, "row", "rows"), bytes(moved));
        self.at(done, whole, message);
    }

    /// Shows how many of several talks are done.
    pub(crate) fn files(&mut self, done: u64, all: u64, summary: &Summary) {
        if self.is_due() {
            let rows = count(summary.rows_sent + summary.rows_received, "row", "rows");
            self.at(
                done,
                Some(all),
                format!("{} of {} · {rows}", number(done), count(all, "database", "databases")),
            );
        }
    }

    /// Shows how many rows were compared, of how many there are here.
    pub(crate) fn compared(&mut self, done: u64, all: u64) {
        if self.is_due() {
            self.at(done, Some(all), format!("{} of {} compared", number(done), count(all, "row", "rows")));
        }
    }

    /// Whether anybody looks.
    pub(crate) fn is_shown(&self) -> bool {
        !self.bar.is_hidden()
    }

    /// Takes the bar away.
    pub(crate) fn finish(&self) {
        self.bar.finish_and_clear();
    }
}
