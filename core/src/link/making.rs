//! Making: tables that others made are made here together, once their descriptions have come.
//!
//! In a file with thousands of tables each change of the schema takes SQLite milliseconds, whether one trigger is made
//! or thousands. So a container whose description comes waits until nothing more is to come from the peer, or until many wait.

use super::{Link, LinkError};
use crate::id::Timestamp;
use crate::replica::Replica;

/// Tables that are made at once, without waiting for more.
const TOGETHER: usize = 10_000;

impl Link {
    /// Takes note of a container that something came for.
    pub(super) fn note_unmade(&mut self, replica: &Replica, no: i64) {
        if replica.containers.unmade().contains(&no) {
            self.unmade.insert(no);
        }
    }

    /// Makes the tables that wait, unless more are about to come; whether it did. Call it when there is nothing else to say.
    pub(super) fn make_tables(&mut self, replica: &mut Replica, now: Timestamp) -> Result<bool, LinkError> {
        let heard = std::mem::replace(&mut self.heard, false);
        self.unmade.retain(|no| replica.containers.unmade().contains(no));
        if self.unmade.is_empty() {
            return Ok(false);
        }
        // A client may not answer of a table that it has itself and does not track.
        let quiet = self.behind.is_empty() || (self.is_responder() && !heard);
        if !quiet && self.unmade.len() < TOGETHER {
            return Ok(false);
        }
        while replica.capture(now)?.more {}
        replica.transaction_apart(|r| {
            r.capture_all(now)?;
            r.quietly(|r| {
                let rows = r.make_tables()?;
                r.settle(rows)
            })
        })?;
        Ok(true)
    }
}
