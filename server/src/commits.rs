//! Commits: hears when another program writes a SQLite file, within milliseconds and without polling.
//!
//! The operating system tells of writes to the file, its WAL and its journal. A commit becomes visible
//! a moment after the write that announces it, so whoever is told looks again for a short while.

use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher, event::AccessKind};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// How long after a write to look for its commit.
pub const SETTLE: Duration = Duration::from_millis(20);
/// How often to look in that time.
pub const LOOK_EVERY: Duration = Duration::from_millis(1);
/// How often to look when nothing was heard, in case the operating system forgot to tell.
pub const FALLBACK: Duration = Duration::from_secs(1);

/// How long to let further writes gather after one was told.
const REST: Duration = Duration::from_millis(1);

/// Calls back on writes for as long as it lives.
#[derive(Debug)]
pub struct Commits {
    _watcher: RecommendedWatcher,
}

impl Commits {
    /// Watches the file and what SQLite keeps beside it.
    pub fn watch(file: &Path, mut on_write: impl FnMut() + Send + 'static) -> notify::Result<Self> {
        let file = file.canonicalize().unwrap_or_else(|_| file.to_owned());
        let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let ours = [name.clone(), format!("{name}-wal"), format!("{name}-journal")];
        let folder = file.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        Self::watch_folder(folder, move |written| {
            if written.is_empty() || ours.iter().any(|name| name == written) {
                on_write();
            }
        })
    }

    /// Watches all files of a folder; tells the name of one that was written, or "" if the system lost count.
    pub fn watch_folder(
        folder: &Path,
        mut on_write: impl FnMut(&str) + Send + 'static,
    ) -> notify::Result<Self> {
        let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            let Ok(event) = event else { return on_write("") };
            if matches!(event.kind, EventKind::Access(kind) if !matches!(kind, AccessKind::Close(_))) {
                return;
            }
            for path in &event.paths {
                on_write(&path.file_name().unwrap_or_default().to_string_lossy());
            }
            // A large commit is thousands of writes. While nobody listens, the system keeps equal events
            // as one instead of waking this thread for each.
            std::thread::sleep(REST);
        })?;
        watcher.watch(folder, RecursiveMode::NonRecursive)?;
        Ok(Self { _watcher: watcher })
    }
}

/// How a SQLite file and its WAL look from outside: equal means that nobody wrote them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileState([Option<(u64, SystemTime)>; 2]);

impl FileState {
    /// How they look now.
    pub fn of(file: &Path) -> Self {
        let wal = PathBuf::from(format!("{}-wal", file.display()));
        Self([file, &wal].map(|path| {
            let metadata = std::fs::metadata(path).ok()?;
            Some((metadata.len(), metadata.modified().ok()?))
        }))
    }
}
