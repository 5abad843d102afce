//! Rest: a responder that closes a database lets its links rest; either side begins anew once it has something to say.
//!
//! Nothing of a talk outlives a rest but its receipts: sessions begin from the cursors on disk, as after a lost connection.

use super::{Link, LinkError, REST, WAKE, intake};
use crate::replica::Replica;

impl Link {
    /// The frame by which a responder lets a link rest.
    pub fn rest() -> Vec<u8> {
        vec![REST]
    }

    /// The frame by which a responder wakes a link at rest.
    pub fn wake() -> Vec<u8> {
        vec![WAKE]
    }

    /// As the initiator: the responder has forgotten this talk. What was said meanwhile may be lost.
    pub(super) fn receive_rest(&mut self, replica: &mut Replica) -> Result<(), LinkError> {
        let was_level = self.is_level();
        let receipts = self.receipts(replica)?;
        self.owed.extend(receipts);
        self.sessions.clear();
        self.unlevel.clear();
        self.behind.clear();
        self.unmade.clear();
        self.ready.clear();
        self.outbox.clear();
        self.known.clear();
        self.unsure.clear();
        self.denied.clear();
        self.leases.begin(replica);
        self.names.begin();
        self.intake = intake::Intake::default();
        (self.at_rest, self.attached, self.known_to) = (true, false, 0);
        if !was_level {
            self.attach(replica);
        }
        Ok(())
    }
}
