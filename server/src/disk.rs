//! Disk: whether the data folder's file system has more free than the reserve.
//!
//! With less, nothing is taken in: SQLite never meets a full disk, and the log still has room. It goes on by itself once an
//! eighth more than the reserve is free, so that it does not waver.

use piecewise_core::link::Stop;
use std::fmt;
use std::io;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long an answer holds: what comes in meanwhile must be small against the reserve.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Tells how many bytes are free.
type Measure = dyn Fn() -> io::Result<u64> + Send + Sync;

/// The file system under the data folder.
pub struct Disk {
    reserve: u64,
    measure: Box<Measure>,
    seen: Mutex<Option<Seen>>,
}

#[derive(Clone, Copy)]
struct Seen {
    at: Instant,
    free: Option<u64>,
    stopped: bool,
}

impl fmt::Debug for Disk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Disk").field("reserve", &self.reserve).finish_non_exhaustive()
    }
}

impl Disk {
    /// That of a folder.
    pub fn of(folder: &Path, reserve: u64) -> Self {
        let folder = folder.to_owned();
        Self::measured_by(reserve, move || fs4::available_space(&folder))
    }

    /// One of which something else tells how much is free.
    pub fn measured_by(reserve: u64, measure: impl Fn() -> io::Result<u64> + Send + Sync + 'static) -> Self {
        Self { reserve, measure: Box::new(measure), seen: Mutex::new(None) }
    }

    /// Why nothing may be taken in now, if so.
    pub(crate) fn stop(&self) -> Option<Stop> {
        self.look().stopped.then_some(Stop::Disk)
    }

    /// Bytes that are free, if that can be told.
    pub(crate) fn free(&self) -> Option<u64> {
        self.look().free
    }

    /// Bytes that shall stay free.
    pub(crate) fn reserve(&self) -> u64 {
        self.reserve
    }

    fn look(&self) -> Seen {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(seen) = *seen
            && seen.at.elapsed() < LOOK_EVERY
        {
            return seen;
        }
        let was_stopped = seen.is_some_and(|seen| seen.stopped);
        // What cannot be told stops nothing: SQLite reports a full disk as well, only later.
        let free = (self.measure)().ok();
        let needed = if was_stopped { self.reserve.saturating_add(self.reserve / 8) } else { self.reserve };
        let stopped = free.is_some_and(|free| free < needed);
        *seen.insert(Seen { at: Instant::now(), free, stopped })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    #[test]
    fn intake_stops_under_the_reserve_and_goes_on_once_an_eighth_more_is_free() {
        let free = Arc::new(AtomicU64::new(800));
        let told = free.clone();
        let disk = Disk::measured_by(800, move || Ok(told.load(Ordering::Relaxed)));
        let stop_with = |bytes| {
            free.store(bytes, Ordering::Relaxed);
            if let Some(seen) = disk.seen.lock().expect("it is free").as_mut() {
                seen.at = Instant::now().checked_sub(LOOK_EVERY).expect("the clock has run for a while");
            }
            disk.stop()
        };
        assert_eq!(disk.stop(), None);
        assert_eq!(stop_with(799), Some(Stop::Disk));
        assert_eq!(stop_with(899), Some(Stop::Disk));
        assert_eq!(stop_with(900), None);
        assert_eq!(stop_with(800), None);
    }

    #[test]
    fn a_folder_s_file_system_tells_what_is_free() {
        let folder = tempfile::tempdir().expect("a folder");
        assert!(Disk::of(folder.path(), 0).free().is_some_and(|free| free > 0));
        assert_eq!(Disk::of(folder.path(), u64::MAX).stop(), Some(Stop::Disk));
        assert_eq!(Disk::of(&folder.path().join("missing"), u64::MAX).stop(), None);
    }
}
