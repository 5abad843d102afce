//! Checkpoints: what stands in a database's WAL is brought into its file beside the database's thread.
//!
//! Scattered rows dirty a page each, and the thread that took them in would wait for the disk before anybody
//! hears that they have come. So the commit that makes the WAL long starts a thread with a connection of its
//! own, and goes on. A WAL begins anew only once all of it is in the file: if commits outrun that thread, one
//! of them waits for it in the end.

use piecewise_core::replica::{CHECKPOINT_PAGES, Replica, ReplicaError};
use rusqlite::hooks::Wal;
use rusqlite::{Connection, OpenFlags};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

/// Pages at which a commit does it itself.
const PAGES_MAX: i32 = 40_000;
/// With more tables a commit does it itself as well: a connection of its own would read all their triggers for it.
const TABLES_MAX: usize = 500;

/// The checkpoints of one file; the one that runs is waited for when this is dropped.
#[derive(Debug, Default)]
pub struct Checkpoints {
    running: Arc<Mutex<Option<JoinHandle<()>>>>,
    tables: Arc<AtomicUsize>,
}

impl Drop for Checkpoints {
    fn drop(&mut self) {
        self.finish();
    }
}

impl Checkpoints {
    /// From now on, the commits of a replica start them.
    pub fn beside(replica: &mut Replica) -> Result<Self, ReplicaError> {
        let checkpoints = Self::default();
        let Some(file) = replica.connection().path().map(PathBuf::from) else { return Ok(checkpoints) };
        checkpoints.look(replica);
        let (running, tables) = (checkpoints.running.clone(), checkpoints.tables.clone());
        let hook = move |wal: &mut Wal, pages: i32| {
            let beside = pages < PAGES_MAX && tables.load(Relaxed) <= TABLES_MAX;
            if pages >= CHECKPOINT_PAGES && !(beside && start(&running, &file)) {
                // If another one is at work, this one gives way.
                let _ = wal.checkpoint();
            }
            Ok(())
        };
        replica.connection_mut().wal_hook(Some(hook))?;
        Ok(checkpoints)
    }

    /// Looks how many tables there are by now.
    pub fn look(&self, replica: &Replica) {
        self.tables.store(replica.container_count(), Relaxed);
    }

    /// Waits for the one that runs.
    pub fn finish(&self) {
        let thread = self.running.lock().unwrap_or_else(PoisonError::into_inner).take();
        thread.map(JoinHandle::join);
    }
}

/// Starts one unless one runs; false if it cannot.
fn start(running: &Mutex<Option<JoinHandle<()>>>, file: &Path) -> bool {
    let mut running = running.lock().unwrap_or_else(PoisonError::into_inner);
    if running.as_ref().is_none_or(JoinHandle::is_finished) {
        let file = file.to_owned();
        let thread = std::thread::Builder::new().name("checkpoint".to_owned());
        *running = thread.spawn(move || checkpoint(&file)).ok();
    }
    running.is_some()
}

fn checkpoint(file: &Path) {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let done = Connection::open_with_flags(file, flags)
        .and_then(|conn| conn.execute_batch("PRAGMA wal_checkpoint(PASSIVE)"));
    if let Err(error) = done {
        tracing::warn!(file = %file.display(), %error, "checkpoint; a later commit tries again");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use piecewise_core::identity::Identity;

    fn wal_pages(conn: &Connection) -> (i64, i64) {
        let sql = "PRAGMA wal_checkpoint(NOOP)";
        conn.query_row(sql, [], |row| Ok((row.get(1)?, row.get(2)?))).expect("it tells")
    }

    #[test]
    fn a_commit_that_makes_the_wal_long_has_it_brought_into_the_file_by_another_thread() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("a.db");
        let identity = Identity::from_seed([7; 32]);
        let mut replica = Replica::open(&file, true, identity, [1; 32]).expect("it opens");
        let checkpoints = Checkpoints::beside(&mut replica).expect("it listens");
        let conn = replica.connection();
        conn.execute_batch("CREATE TABLE t(a)").expect("a table");
        let fill = |pages: i32| {
            conn.execute("INSERT INTO t VALUES (zeroblob(?1 * 4096))", [pages]).expect("a row");
            checkpoints.finish();
        };
        fill(CHECKPOINT_PAGES / 2);
        let (all, done) = wal_pages(conn);
        assert!(all > i64::from(CHECKPOINT_PAGES / 2) && done == 0, "{done} of {all}");
        fill(CHECKPOINT_PAGES);
        let (all, done) = wal_pages(conn);
        assert!(all > i64::from(CHECKPOINT_PAGES) && done == all, "{done} of {all}");
        fill(1);
        assert!(wal_pages(conn).0 < i64::from(CHECKPOINT_PAGES), "the WAL begins anew");
    }
}
