//! Telling: lists what moved where applications read it. A trigger on the list that fails stops nothing.

use crate::id::Timestamp;
use crate::numbers::Renumbered;
use crate::replica::{Replica, ReplicaError};
use crate::store::numbers;

impl Replica {
    /// Lists what moved where applications read it.
    pub(super) fn tell_application(
        &mut self,
        renumbered: &[(Renumbered, Timestamp)],
    ) -> Result<(), ReplicaError> {
        if !renumbered.is_empty() {
            self.set_triggers(true)?;
        }
        renumbered.iter().try_for_each(|(moved, time)| self.list_renumbered(moved, *time))
    }

    /// Lists a row that moved, for applications. What a trigger of theirs cannot do with that is theirs: the row has moved.
    fn list_renumbered(&mut self, moved: &Renumbered, time: Timestamp) -> Result<(), ReplicaError> {
        let listed = |r: &Self| numbers::put_renumbered(&r.conn, &moved.table, moved.old, moved.new, time);
        if !self.numbers.lists_quietly {
            self.conn.execute_batch("SAVEPOINT piecewise_listed")?;
            let Err(error) = listed(self) else {
                return Ok(self.conn.execute_batch("RELEASE piecewise_listed")?);
            };
            if error.is_of_file() {
                return Err(error.into());
            }
            if self.conn.is_autocommit() {
                // All of it is done again, and listed without triggers.
                self.numbers.lists_quietly = true;
                let (table, key) = ("piecewise_renumbered".to_owned(), moved.old.to_string());
                return Err(ReplicaError::TransactionEnded { table, key, cause: error.to_string() });
            }
            self.conn.execute_batch("ROLLBACK TO piecewise_listed; RELEASE piecewise_listed")?;
        }
        self.set_triggers(false)?;
        let done = listed(self);
        self.set_triggers(true)?;
        Ok(done?)
    }
}
