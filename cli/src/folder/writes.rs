//! Writes: which files of a folder other programs have written, as the system tells it.

use super::file_of;
use piecewise_server::commits::{Commits, FALLBACK};
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;
use tokio::sync::Notify;

/// Hears of writes for as long as it lives.
#[derive(Debug)]
pub(crate) struct Writes {
    heard: Arc<Heard>,
    commits: Option<Commits>,
    looked: Instant,
}

#[derive(Debug, Default)]
struct Heard {
    files: Mutex<Written>,
    told: Notify,
}

/// What was written.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Written {
    pub(super) files: BTreeSet<String>,
    /// Whether it may be any file.
    pub(super) any: bool,
}

impl Writes {
    pub(crate) fn of(folder: &Path) -> Self {
        let heard = Arc::<Heard>::default();
        let tell = heard.clone();
        // Without news from the operating system all files are looked at each second.
        let commits = Commits::watch_folder(folder, move |name| tell.hear(name)).ok();
        Self { heard, commits, looked: Instant::now() }
    }

    /// Waits until there may be something.
    pub(super) async fn wait(&self) {
        match self.commits {
            Some(_) => self.heard.told.notified().await,
            None => tokio::time::sleep(FALLBACK).await,
        }
    }

    /// What was written since it was asked last.
    pub(super) fn take(&mut self) -> Written {
        let mut written = std::mem::take(&mut *self.heard.files());
        if self.commits.is_none() && self.looked.elapsed() >= FALLBACK {
            (written.any, self.looked) = (true, Instant::now());
        }
        written
    }
}

impl Heard {
    fn files(&self) -> std::sync::MutexGuard<'_, Written> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn hear(&self, name: &str) {
        match (name, file_of(name)) {
            ("", _) => self.files().any = true,
            (_, Some(file)) => drop(self.files().files.insert(file.to_owned())),
            (_, None) => return,
        }
        self.told.notify_one();
    }
}
