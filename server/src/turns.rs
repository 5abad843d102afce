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

    /// Does work that may take the write lock, after what is left of the pause that the work before it owes to others.
    pub fn take<T>(&mut self, replica: &mut Replica, work: impl FnOnce(&mut Replica) -> T) -> T {
        self.owed = self.owed.saturating_sub(self.ended.elapsed());
        if self.owed >= PAUSE_MIN {
            std::thread::sleep(std::mem::take(&mut self.owed));
        }
        let started = Instant::now();
        self.look_for_writers(replica, started);
        let done = work(replica);
        self.ended = Instant::now();
        let share = match self.writers_until {
            Some(until) if self.ended < until => SHARE_OF_WRITERS,
            _ if self.always => SHARE,
            _ => 0.0,
        };
        self.owed = (self.owed + (self.ended - started).mul_f64(share)).min(PAUSE_MAX);
        done
    }

    fn look_for_writers(&mut self, replica: &Replica, now: Instant) {
        let version = replica.data_version().ok();
        let before = std::mem::replace(&mut self.version, version);
        if before.is_some() && version != before {
            self.writers_until = Some(now + WRITERS_STAY);
        }
    }
}
