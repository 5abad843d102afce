//! Supervised: what a server's replica has to tell the supervisor's log.
//!
//! Entries go through an outbox in the transaction that they are about, so that after a crash at any point each is
//! in the log exactly once: the log knows an entry again that it has.

use super::{Replica, ReplicaError};
use crate::id::{PeerId, SegmentId, Timestamp};
use crate::segment::Segment;
use crate::store::{outbox, segments};
use crate::supervisor_log::entry::Place;
use crate::supervisor_log::{Entry, Event};

impl Replica {
    /// The next entries for the supervisor's log, in order, with their numbers.
    pub fn log_entries(&self, limit: usize) -> Result<Vec<(i64, Vec<u8>)>, ReplicaError> {
        Ok(outbox::first(&self.conn, limit)?)
    }

    /// Forgets entries up to a number, which the log has now.
    pub fn log_has(&mut self, last: i64) -> Result<(), ReplicaError> {
        Ok(outbox::clear(&self.conn, last)?)
    }

    /// The segments that hold the changes of a row, oldest first.
    pub fn segments_of_row(&mut self, table: &str, key: &str) -> Result<Vec<SegmentId>, ReplicaError> {
        Ok(self.history(table, key)?.into_iter().map(|entry| entry.segment).collect())
    }

    /// Segments that were captured in this file.
    pub fn own_segments(&self) -> Result<Vec<SegmentId>, ReplicaError> {
        Ok(segments::captured_here(&self.conn)?)
    }

    /// All segments of this file, each with its container's name.
    pub fn each_segment(&self, mut each: impl FnMut(&str, SegmentId)) -> Result<(), ReplicaError> {
        for state in self.containers.values() {
            for id in segments::ids(&self.conn, state.no)? {
                each(&state.name, SegmentId(id));
            }
        }
        Ok(())
    }

    /// A container as entries name it.
    pub(crate) fn place(&self, no: i64) -> Place {
        let state = &self.containers[&no];
        Place { id: state.id, name: state.name.clone() }
    }

    /// Tells the log of something, if this is a server. Call it in the transaction that it is about.
    pub(crate) fn tell_log(
        &self,
        time: Timestamp,
        event: impl FnOnce() -> Event,
    ) -> Result<(), ReplicaError> {
        if self.is_server {
            outbox::put(&self.conn, &Entry { time, event: event() }.encode())?;
        }
        Ok(())
    }

    /// Tells the log of a receipt, in the next [`Self::keep_receipts`].
    pub(crate) fn note_receipt(&mut self, time: Timestamp, event: Event) {
        if self.is_server {
            self.receipts.push(Entry { time, event }.encode());
        }
    }

    /// Writes down the receipts that came, for the log: one transaction for all of them.
    pub fn keep_receipts(&mut self) -> Result<(), ReplicaError> {
        if self.receipts.is_empty() {
            return Ok(());
        }
        self.transaction(|r| Ok(r.receipts.iter().try_for_each(|entry| outbox::put(&r.conn, entry))?))?;
        self.receipts.clear();
        Ok(())
    }

    /// Tells the log that a segment entered.
    pub(crate) fn tell_log_of(&self, no: i64, segment: &Segment, peer: i64) -> Result<(), ReplicaError> {
        if !self.is_server {
            return Ok(());
        }
        let from = match peer {
            0 => self.identity.peer_id(),
            peer => segments::peer_key(&self.conn, peer)?.unwrap_or(PeerId([0; 32])),
        };
        let time = segment.acceptance.map_or(segment.header.time, |a| a.time);
        self.tell_log(time, || Event::Accepted {
            container: self.place(no),
            segment: segment.id,
            author: segment.header.author,
            from,
            changes: segment.header.count,
        })
    }
}
