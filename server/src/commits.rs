//! Commits: hears when another program writes a SQLite file, within milliseconds and without polling.
//!
//! The operating system tells of writes to the file, its WAL and its journal. A commit becomes visible
//! a moment after the write that announces it, so whoever is told looks again for a short while.

use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher, event::AccessKind};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// How long after a write its commit is expected.
pub const SETTLE: Duration = Duration::from_millis(20);
/// How often to look for it at first.
const LOOK_EVERY: Duration = Duration::from_micros(300);
/// How often to look when nothing was heard, in case the operating system forgot to tell.
pub const FALLBACK: Duration = Duration::from_secs(1);

/// When to look for a commit, after a write was heard of.
///
/// As a rule it is there at once. But whoever commits may be held up on the way, so the looks go on, further and further
/// apart: none comes later than half of the time that it took. Once a commit was seen, or where the write was most likely
/// our own, they are rarer: whatever is written from then on is told of again.
#[derive(Debug, Clone, Copy, Default)]
pub struct Lookout {
    heard: Option<Instant>,
    /// Whether what was heard of is explained.
    is_explained: bool,
    /// Rows that our own connection has changed, and when we noticed last that it had.
    own_changes: u64,
    wrote: Option<Instant>,
}

impl Lookout {
    /// A write was heard of.
    pub fn hear(&mut self) {
        self.heard = Some(Instant::now());
        self.is_explained = self.wrote.is_some_and(|wrote| wrote.elapsed() < SETTLE);
    }

    /// After a look: whether another program has committed, and how many rows our own connection has changed in all.
    pub fn looked(&mut self, found: bool, own_changes: u64) {
        self.is_explained |= found;
        if std::mem::replace(&mut self.own_changes, own_changes) != own_changes {
            self.wrote = Some(Instant::now());
        }
    }

    /// After how long to look again.
    pub fn wait(&self) -> Duration {
        let Some(heard) = self.heard else { return FALLBACK };
        let elapsed = heard.elapsed();
        let wait = if self.is_explained { elapsed * 3 } else { elapsed / 2 };
        wait.clamp(LOOK_EVERY, FALLBACK)
    }

    /// Whether a commit is expected any moment.
    pub fn is_expecting(&self) -> bool {
        self.heard.is_some_and(|heard| heard.elapsed() < SETTLE)
    }

    /// Whether a look is worth it although nobody asks for one.
    pub fn is_looking(&self) -> bool {
        self.heard.is_some_and(|heard| heard.elapsed() < FALLBACK)
    }
}

/// How long to let further writes gather after one was told of.
const REST: Duration = Duration::from_millis(2);
/// Writes that come so soon after others are most likely of the same work: a larger commit, or what we write ourselves.
const SOON: Duration = Duration::from_millis(5);
/// How long it takes at most to tell of what came during a rest.
const TELLING: Duration = Duration::from_micros(200);

/// When to tell of writes: a commit is many of them. While nobody listens, the system keeps equal events as one instead of
/// waking the thread for each.
#[derive(Debug, Default)]
struct Rest {
    told: Option<Instant>,
    ended: Option<Instant>,
}

impl Rest {
    /// Whether an event is told only after a rest: it came so long after the last one was told, and after the last rest ended.
    fn is_due(told: Option<Duration>, ended: Option<Duration>) -> bool {
        told.is_some_and(|told| told < SOON) && ended.is_none_or(|ended| ended >= TELLING)
    }

    fn take(&mut self) {
        let since = |at: Option<Instant>| at.map(|at| at.elapsed());
        if Self::is_due(since(self.told), since(self.ended)) {
            std::thread::sleep(REST);
            self.ended = Some(Instant::now());
        }
        self.told = Some(Instant::now());
    }
}

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
        let mut rest = Rest::default();
        let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            let Ok(event) = event else { return on_write("") };
            if matches!(event.kind, EventKind::Access(kind) if !matches!(kind, AccessKind::Close(_))) {
                return;
            }
            rest.take();
            for path in &event.paths {
                on_write(&path.file_name().unwrap_or_default().to_string_lossy());
            }
        })?;
        watcher.watch(folder, RecursiveMode::NonRecursive)?;
        Ok(Self { _watcher: watcher })
    }
}

/// A file's times tell of a write once the clock has moved on by so much: where they are kept in nanoseconds, by the
/// ticks of the system's clock; where only whole seconds are kept, by two of them.
const GRAIN: Duration = Duration::from_millis(20);
const COARSE_GRAIN: Duration = Duration::from_millis(2500);

/// How a SQLite file and its WAL look from outside: equal means that nobody wrote them, if it [`settled`](Self::settles_in)
/// before the look. A WAL that is empty counts as none, for the last to close a file takes it away.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileState {
    file: Option<Look>,
    wal: Option<Look>,
}

/// One file: which it is, its length, when its content and when anything of it changed, in nanoseconds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Look {
    identity: (u64, u64),
    len: u64,
    modified: i64,
    changed: i64,
}

impl FileState {
    /// How they look now.
    pub fn of(file: &Path) -> Self {
        let wal = PathBuf::from(format!("{}-wal", file.display()));
        Self { file: Look::at(file), wal: Look::at(&wal).filter(|wal| wal.len > 0) }
    }

    /// Time until the file's timestamps can distinguish any later write from the last one.
    pub fn settles_in(&self, now: SystemTime) -> Duration {
        let now = nanos_since_epoch(now);
        let of = |look: &Look| {
            let last = look.modified.max(look.changed);
            let grain = if last % 1_000_000_000 == 0 { COARSE_GRAIN } else { GRAIN };
            last.saturating_add(grain.as_nanos() as i64)
                .saturating_sub(now)
                .clamp(0, COARSE_GRAIN.as_nanos() as i64)
        };
        let nanos = self.file.iter().chain(&self.wal).map(of).max().unwrap_or(0);
        Duration::from_nanos(nanos as u64)
    }

    /// Whether there is a file.
    pub fn exists(&self) -> bool {
        self.file.is_some()
    }
}

impl Look {
    fn at(path: &Path) -> Option<Self> {
        let metadata = std::fs::metadata(path).ok()?;
        #[cfg(unix)]
        {
            use std::os::unix::fs::MetadataExt;
            let nanos =
                |seconds: i64, nanos: i64| seconds.saturating_mul(1_000_000_000).saturating_add(nanos);
            Some(Self {
                identity: (metadata.dev(), metadata.ino()),
                len: metadata.len(),
                modified: nanos(metadata.mtime(), metadata.mtime_nsec()),
                changed: nanos(metadata.ctime(), metadata.ctime_nsec()),
            })
        }
        #[cfg(not(unix))]
        {
            let modified = nanos_since_epoch(metadata.modified().ok()?);
            Some(Self { identity: (0, 0), len: metadata.len(), modified, changed: modified })
        }
    }
}

fn nanos_since_epoch(time: SystemTime) -> i64 {
    let nanos = time.duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
    i64::try_from(nanos).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rusqlite::Connection;

    fn look(modified: i64) -> FileState {
        FileState { file: Some(Look { identity: (1, 2), len: 3, modified, changed: modified }), wal: None }
    }

    #[test]
    fn looks_are_rarer_once_a_commit_was_seen_or_was_our_own() {
        let mut lookout = Lookout::default();
        assert_eq!(lookout.wait(), FALLBACK);
        lookout.hear();
        assert!(lookout.wait() < SETTLE && !lookout.is_explained);
        lookout.looked(true, 0);
        assert!(lookout.is_explained);
        // Another write is looked for anew, but for one that comes right behind our own.
        lookout.hear();
        assert!(!lookout.is_explained);
        lookout.looked(false, 3);
        lookout.hear();
        assert!(lookout.is_explained);
        lookout.wrote = lookout.wrote.map(|wrote| wrote - SETTLE);
        lookout.hear();
        assert!(!lookout.is_explained);
    }

    #[test]
    fn the_first_write_is_told_of_at_once_and_those_that_follow_it_together() {
        assert!(!Rest::is_due(None, None));
        assert!(Rest::is_due(Some(SOON / 2), None));
        assert!(!Rest::is_due(Some(TELLING / 2), Some(TELLING / 2)));
        assert!(Rest::is_due(Some(TELLING), Some(TELLING)));
        assert!(!Rest::is_due(Some(SOON), Some(SOON)));
    }

    #[test]
    fn a_look_tells_further_writes_apart_once_the_clock_has_moved_on() {
        let at = |ms: u64| UNIX_EPOCH + Duration::from_millis(ms);
        let fine = look(5_000_000_001);
        assert!(fine.settles_in(at(5_001)) > Duration::from_millis(18));
        assert_eq!(fine.settles_in(at(5_021)), Duration::ZERO);
        let coarse = look(5_000_000_000);
        assert_eq!(coarse.settles_in(at(5_021)), Duration::from_millis(2479));
        assert_eq!(coarse.settles_in(at(7_500)), Duration::ZERO);
    }

    #[test]
    fn closing_a_file_whose_wal_is_empty_leaves_its_look_and_a_commit_changes_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a.db");
        let open = || {
            let conn = Connection::open(&path).expect("it opens");
            conn.pragma_update(None, "journal_mode", "wal").expect("a pragma");
            conn
        };
        let conn = open();
        conn.execute_batch("CREATE TABLE t(a); INSERT INTO t VALUES (1); PRAGMA wal_checkpoint(TRUNCATE)")
            .expect("it is written");
        let left = FileState::of(&path);
        drop(conn);
        assert_eq!(FileState::of(&path), left);
        let other = open();
        assert_eq!(other.query_row("SELECT a FROM t", [], |r| r.get::<_, i64>(0)), Ok(1));
        assert_eq!(FileState::of(&path), left);
        other.execute_batch("UPDATE t SET a = 2").expect("it is written");
        assert_ne!(FileState::of(&path), left);
    }
}
