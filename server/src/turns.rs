//! Turns: other programs that write the same file get theirs.
//!
//! SQLite's write lock has no queue: who finds it taken looks again after a while, at most 100 ms by SQLite's own handler,
//! and gives up in the end. Whoever takes it again the moment it is free keeps all others out. So a stretch of work that
//! takes the lock is followed by a pause in proportion, and by a longer one while others do write.

use piecewise_core::replica::Replica;
use std::time::{Duration, Instant};

/// The part of the time worked that is left to others while none of them writes, and while one does.
const SHARE: f64 = 1.0 / 16.0;
const SHARE_OF_WRITERS: f64 = 1.0 / 2.0;
/// For how long after a commit of another program more are expected.
const WRITERS_STAY: Duration = Duration::from_secs(2);
/// Less is not waited for, but added to the next.
const PAUSE_MIN: Duration = Duration::from_millis(2);
const PAUSE_MAX: Duration = Duration::from_millis(50);

/// How the time with one file is shared with other programs.
#[derive(Debug)]
pub struct Turns {
    /// Whether something is left to others even while none of them is seen.
    always: bool,
    ended: Instant,
    owed: Duration,
    version: Option<i64>,
    writers_until: Option<Instant>,
}

impl Turns {
    /// For the file of an application.
    pub fn with_application() -> Self {
        Self::new(true)
    }

    /// For a file in which others seldom write.
    pub fn with_visitors() -> Self {
        Self::new(false)
    }

    fn new(always: bool) -> Self {
        Self { always, ended: Instant::now(), owed: Duration::ZERO, version: None, writers_until: None }
    }

    /// Sleeps off the pause still owed from the previous call, then runs `work`, which may take the write lock.
    pub fn take<T>(&mut self, replica: &mut Replica, work: impl FnOnce(&mut Replica) -> T) -> T {
        self.owed = self.owed.saturating_sub(self.ended.elapsed());
        if self.owed >= PAUSE_MIN {
            std::thread::sleep(std::mem::take(&mut self.owed));
        }
        let started = Instant::now();
        self.look_for_writers(replica, started);
        let done = work(replica);
        self.ended = Instant::now();
        self.owed = (self.owed + self.owes(self.ended - started)).min(PAUSE_MAX);
        done
    }

    /// Whether another program wrote lately.
    pub fn has_writers(&self) -> bool {
        self.writers_until.is_some_and(|until| self.ended < until)
    }

    /// What is owed to others for so much work.
    fn owes(&self, worked: Duration) -> Duration {
        worked.mul_f64(match self.always {
            _ if self.has_writers() => SHARE_OF_WRITERS,
            true => SHARE,
            false => 0.0,
        })
    }

    fn look_for_writers(&mut self, replica: &Replica, now: Instant) {
        let version = replica.data_version().ok();
        let before = std::mem::replace(&mut self.version, version);
        if before.is_some() && version != before {
            self.writers_until = Some(now + WRITERS_STAY);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use piecewise_core::identity::Identity;
    use rusqlite::Connection;

    const WORK: Duration = Duration::from_millis(32);

    #[test]
    fn others_are_owed_little_until_one_of_them_commits() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("a.db");
        let identity = Identity::from_seed([7; 32]);
        let mut replica = Replica::open(&file, true, identity, [1; 32]).expect("it opens");
        let other = Connection::open(&file).expect("it opens");
        let (mut here, mut server) = (Turns::with_application(), Turns::with_visitors());
        let mut look = |turns: &mut Turns| turns.take(&mut replica, |replica| drop(replica.data_version()));
        [&mut here, &mut server].into_iter().for_each(&mut look);
        assert_eq!((here.owes(WORK), server.owes(WORK)), (WORK / 16, Duration::ZERO));
        other.execute_batch("CREATE TABLE t(a)").expect("a commit");
        [&mut here, &mut server].into_iter().for_each(&mut look);
        assert_eq!((here.owes(WORK), server.owes(WORK)), (WORK / 2, WORK / 2));
    }
}
