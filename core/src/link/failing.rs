//! Failing: a container whose session cannot go on ends its session alone; all others of the database go on.
//!
//! A responder tells the initiator why. An initiator notes it in its file and falls silent about the container, as about
//! one that it does not follow. The next attach begins anew.

use super::known::Denial;
use super::{Link, LinkError, sync_error};
use crate::container::SyncError;
use crate::replica::{Replica, ReplicaError, StopKind};

impl Link {
    /// Returns the errors of containers whose sessions ended since this was asked last.
    pub fn take_failures(&mut self) -> Vec<LinkError> {
        std::mem::take(&mut self.failures)
    }

    /// Containers of this file that are not synced over this connection, since one of the sides cannot.
    pub fn failed(&self, replica: &Replica) -> Vec<String> {
        self.denied_for(replica, Denial::Failed)
    }

    /// Whether an error concerns one container, and not the file, the connection or the manners of the peer.
    pub(super) fn is_of_container(&self, error: &SyncError) -> bool {
        match error {
            SyncError::Replica(ReplicaError::Table { .. }) | SyncError::RepairFailed => true,
            SyncError::Replica(ReplicaError::Store(error)) => !error.is_of_file(),
            // A peer that sends what is not valid is not listened to any more. But a server may hold, of one table, what an
            // earlier version let in.
            SyncError::Segment(_) | SyncError::WrongContainer { .. } | SyncError::NotAccepted { .. } => {
                !self.is_responder()
            }
            _ => false,
        }
    }

    /// Ends the session of a container.
    pub(super) fn fail(&mut self, replica: &mut Replica, no: i64, error: SyncError) -> Result<(), LinkError> {
        self.end(replica, no, &words(&error))?;
        self.failures.push(sync_error(replica, no, error));
        Ok(())
    }

    /// Ends the session of a container for a cause in words.
    pub(super) fn end(&mut self, replica: &mut Replica, no: i64, why: &str) -> Result<(), LinkError> {
        self.forget_session(no);
        self.denied.insert(no, Denial::Failed);
        if self.is_responder() {
            let id = replica.containers[&no].id;
            self.deny_failed(&id, why);
        } else {
            replica.note_session(no, Some((StopKind::NotSynced, why)))?;
        }
        Ok(())
    }

    pub(super) fn forget_session(&mut self, no: i64) {
        self.sessions.remove(&no);
        self.unlevel.remove(&no);
        self.behind.remove(&no);
        self.unmade.remove(&no);
        self.ready.retain(|(_, n)| *n != no);
    }

    /// As the initiator: what was noted of a container's session is over once both sides hold the same.
    pub(super) fn note_in_sync(&self, replica: &mut Replica, no: i64) -> Result<(), LinkError> {
        let in_sync = self.sessions.get(&no).is_some_and(|session| session.is_level());
        if in_sync && !self.is_responder() {
            replica.note_session(no, None)?;
        }
        Ok(())
    }
}

/// An error and its causes, each once.
fn words(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(&format!(": {cause_text}"));
        }
        source = cause.source();
    }
    text
}
