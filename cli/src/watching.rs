//! Watching: whether a `watch` of a file runs, told by a lock in the home folder that ends with its process.

use crate::home::Home;
use crate::report::Failure;
use piecewise_core::replica::Replica;
use std::fs::{File, TryLockError};
use std::path::PathBuf;

/// The lock of a watch that runs; it ends when this is dropped, or the process dies.
#[derive(Debug)]
pub(crate) struct Watching {
    _lock: File,
}

impl Watching {
    /// Takes the lock of a file, beside others who watch it; None if there is no place for it.
    pub(crate) fn begin(home: &Home, replica: &Replica) -> Option<Self> {
        let lock = File::create(path(home, replica)).ok()?;
        lock.lock_shared().ok()?; // whoever asks holds it for a moment only
        Some(Self { _lock: lock })
    }

    /// Whether somebody has it.
    pub(crate) fn is_on(home: &Home, replica: &Replica) -> Result<bool, Failure> {
        let path = path(home, replica);
        let Ok(lock) = File::open(&path) else { return Ok(false) };
        match lock.try_lock() {
            Ok(()) => Ok(false),
            Err(TryLockError::WouldBlock) => Ok(true),
            Err(TryLockError::Error(error)) => Err(Failure::new(format!("{}: {error}", path.display()))),
        }
    }
}

fn path(home: &Home, replica: &Replica) -> PathBuf {
    let name: String = replica.replica_id().0.iter().map(|b| format!("{b:02x}")).collect();
    home.folder().join(format!("watch-{name}.lock"))
}
