//! Receipts: the initiator's word on what came, for the responder's log; see `supervisor_log`.
//!
//! It is given once level, not after each message, and counts from the beginning of a feed.

use super::{Link, LinkError, RECEIPT};
use crate::bytes::Reader;
use crate::id::{ContainerId, Timestamp};
use crate::message::{put_cursor, read_cursor};
use crate::replica::Replica;

/// A connection that stays gives receipts at most this often.
const RECEIPTS_EVERY_MS: u64 = 60_000;

impl Link {
    /// As the responder: delivered segments without a receipt; pass them to `expect_receipts` when the link resumes after a rest.
    pub fn unreceipted(&self) -> Vec<(i64, u64)> {
        let open = self.sessions.iter().map(|(no, s)| (*no, s.sent_segments - s.receipted));
        open.filter(|(_, segments)| *segments > 0).collect()
    }

    /// As the responder, after a rest: what was delivered before it and not receipted.
    pub fn expect_receipts(&mut self, unreceipted: Vec<(i64, u64)>, now: Timestamp) {
        for (no, segments) in unreceipted {
            self.session(no, now).sent_segments = segments;
        }
    }

    /// Once level: our word on what came, for the server's log.
    pub(super) fn next_receipt(
        &mut self,
        replica: &mut Replica,
        now: Timestamp,
    ) -> Result<Option<Vec<u8>>, LinkError> {
        let recent = self.receipts_given.is_some_and(|last| now.0 < last.0 + RECEIPTS_EVERY_MS);
        if !self.owes_receipt || recent || !self.is_level() {
            return Ok(None);
        }
        self.owes_receipt = false;
        let receipts = self.receipts(replica)?;
        if !receipts.is_empty() {
            self.receipts_given = Some(now);
        }
        self.outbox.extend(receipts);
        Ok(self.outbox.pop_front())
    }

    /// Our word on what came and is not receipted yet.
    pub(super) fn receipts(&mut self, replica: &mut Replica) -> Result<Vec<Vec<u8>>, LinkError> {
        let mut receipts = vec![];
        for (no, session) in &mut self.sessions {
            let Some(id) = replica.containers.get(no).map(|c| c.id) else { continue };
            let receipt = replica.container(&id).map(|mut c| c.next_receipt(session)).transpose();
            let receipt = receipt.map_err(|source| LinkError::Sync { container: id.to_string(), source })?;
            if let Some((reach, signature)) = receipt.flatten() {
                let mut frame = vec![RECEIPT];
                frame.extend_from_slice(&id.0);
                put_cursor(&mut frame, &reach);
                frame.extend_from_slice(&signature);
                receipts.push(frame);
            }
        }
        Ok(receipts)
    }

    pub(super) fn receive_receipt(
        &mut self,
        replica: &mut Replica,
        r: &mut Reader<'_>,
        now: Timestamp,
    ) -> Result<(), LinkError> {
        let id = ContainerId(r.array()?);
        let (reach, signature) = (read_cursor(r)?, r.array()?);
        let Some(state) = replica.containers.with_id(&id) else { return Ok(()) };
        let (no, name) = (state.no, state.name.clone());
        if self.access(&name).is_none() || !self.sessions.contains_key(&no) {
            return Ok(()); // for something that was not sent
        }
        let session = self.session(no, now);
        let done =
            replica.container(&id).map(|mut c| c.receive_receipt(session, reach, signature)).transpose();
        done.map(drop).map_err(|source| LinkError::Sync { container: name, source })
    }
}
