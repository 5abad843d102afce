//! Container: one tracked table, and the two methods through which all its data passes.
//!
//! Both sides are equal. Each says what it has (`Have`); whoever knows where the other has come to sends
//! what follows in its feed (`Segments`), and the receiver's next `Have` acknowledges it. When no cursor
//! proves a common prefix, or roots differ although both are level, the sets of segment ids are
//! reconciled (`Ranges`, `Want`) and the talk goes on from there.

mod accepting;
mod judging;
mod numbering;
mod receiving;
mod repair;
mod sending;

use crate::id::{SegmentId, Seq};
use crate::message::{Accepted, Cursor, Have, Heard, Message, RefusalReason};
use crate::replica::{Replica, ReplicaError, Scan};
use crate::segment::{SegmentError, claimed_len};
use crate::session::{Role, Session};
use crate::store::StoreError;
use crate::store::segments;
use crate::supervisor_log::Event;
use crate::supervisor_log::entry::{check_receipt, sign_receipt};

/// Segments are put into one message up to about this many bytes.
const MESSAGE_BYTES: usize = 512 << 10;
/// A message that only advances the cursor is persisted the first time and then every `KEEP_EVERY` positions. Resuming from an
/// older cursor makes the peer scan up to that many feed entries, but resend none.
const KEEP_EVERY: u64 = 64;
/// Weight of a segment in a message: the larger of its size and 1/`PLAIN_PART` of its decompressed size.
const PLAIN_PART: usize = 4;

/// Why two counterparts could not go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SyncError {
    /// The file.
    #[error(transparent)]
    Replica(#[from] ReplicaError),
    /// The peer sent an invalid segment.
    #[error("the peer sent an invalid segment")]
    Segment(#[from] SegmentError),
    /// The peer sent a segment of another container.
    #[error("the peer sent segment {id} of another container")]
    WrongContainer {
        /// The segment.
        id: SegmentId,
    },
    /// The peer sent a segment that no server has accepted.
    #[error("the server sent segment {id}, which it has not accepted")]
    NotAccepted {
        /// The segment.
        id: SegmentId,
    },
    /// A message came that does not continue what came before; a new connection starts afresh.
    #[error("a message is missing between the peer's messages")]
    Gap,
    /// The peer does not follow the protocol.
    #[error("the peer does not follow the protocol: {what}")]
    Protocol {
        /// What it did.
        what: &'static str,
    },
    /// After a repair both sides are level and yet differ.
    #[error("the two sides still differ after a repair; this is a defect, please report it")]
    RepairFailed,
}

impl From<StoreError> for SyncError {
    fn from(error: StoreError) -> Self {
        Self::Replica(error.into())
    }
}

impl From<rusqlite::Error> for SyncError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Replica(error.into())
    }
}

/// What a message brought.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Received {
    /// Changes of rows that were new here.
    pub rows: u64,
    /// Segments that were new here.
    pub segments: u64,
    /// Own segments that the peer refused.
    pub refused: u64,
    /// Changes of rows that were refused here.
    pub turned_away: u64,
}

/// One tracked table of a replica.
#[derive(Debug)]
pub struct Container<'r> {
    replica: &'r mut Replica,
    no: i64,
}

impl<'r> Container<'r> {
    pub(crate) fn new(replica: &'r mut Replica, no: i64) -> Self {
        Self { replica, no }
    }

    /// The next message for this peer; None when there is nothing to say now.
    pub fn next_message(&mut self, session: &mut Session) -> Result<Option<Message>, SyncError> {
        if session.said.is_none() {
            return self.say_have(session).map(Some);
        }
        // The new root goes before the end of a repair: by the old one the peer would find that both still differ.
        if matches!(session.outbox.front(), Some(Message::Ranges(_))) && self.has_news(session) {
            return self.say_have(session).map(Some);
        }
        if let Some(message) = session.outbox.pop_front() {
            return Ok(Some(message));
        }
        if let Some(message) = self.say_that_rows_move(session) {
            return Ok(Some(message));
        }
        // What stands in the way of a refused number comes before the refusal.
        let any_taken = session.refusals.iter().any(|refusal| refusal.reason == RefusalReason::Taken);
        if any_taken && self.has_news(session) {
            return self.say_have(session).map(Some);
        }
        if !session.refusals.is_empty() {
            return Ok(Some(Message::Refused(std::mem::take(&mut session.refusals))));
        }
        if let Some(message) = self.ask_acceptances(session)? {
            return Ok(Some(message));
        }
        if let Some(message) = self.next_wanted(session)? {
            return Ok(Some(message));
        }
        if session.said.as_ref().map(|h| h.accepted) != Some(session.accepted) {
            return self.say_have(session).map(Some);
        }
        if let Some(message) = self.next_segments(session)? {
            return Ok(Some(message));
        }
        if self.has_news(session) {
            return self.say_have(session).map(Some);
        }
        self.look_around(session)?;
        Ok(session.outbox.pop_front())
    }

    /// Takes in one message from this peer.
    pub fn receive(&mut self, session: &mut Session, message: Heard) -> Result<Received, SyncError> {
        session.level = false;
        let received = match message {
            Message::Have(have) => self.receive_have(session, have)?,
            Message::Segments(segments) => self.receive_segments(session, segments)?,
            Message::Ranges(ranges) => self.receive_ranges(session, &ranges)?,
            Message::Want(ids) => {
                if let Some(repair) = &mut session.repair {
                    repair.lacking.extend(&ids);
                }
                session.wanted.extend(ids);
                Received::default()
            }
            Message::Refused(refusals) => self.receive_refusals(session, &refusals)?,
            Message::Accepted(accepted) => self.receive_acceptances(session, &accepted)?,
            Message::Unaccepted(ids) => {
                self.tell_acceptances(session, &ids)?;
                Received::default()
            }
        };
        self.look_around(session)?;
        Ok(received)
    }

    // ---- what we say

    fn have(&self, session: &Session) -> Result<Have, SyncError> {
        let state = &self.replica.containers[&self.no];
        let cursors = match session.peer_no {
            // The peer knows the older ones, and drops those that the newest goes back behind.
            Some(_) if session.said.is_some() && session.proven.is_some() => {
                session.cursors.iter().take(1).copied().collect()
            }
            Some(_) => session.cursors.clone(),
            None => self.replica.cursors_of_key(self.no, &session.peer)?,
        };
        Ok(Have {
            replica: self.replica.replica_id,
            tip: state.feed.tip,
            count: state.feed.count(),
            root: state.feed.digest(),
            cursors,
            accepted: session.accepted,
        })
    }

    fn has_news(&self, session: &Session) -> bool {
        let Some(said) = &session.said else { return true };
        let moved = session.peer_no.is_some() && said.cursors.first() != session.cursors.first();
        moved || said.tip != self.replica.containers[&self.no].feed.tip || said.accepted != session.accepted
    }

    fn say_have(&mut self, session: &mut Session) -> Result<Message, SyncError> {
        let have = self.have(session)?;
        if session.proven.is_none() {
            session.offered.extend(&have.cursors);
        }
        session.said = Some(have.clone());
        self.look_around(session)?;
        Ok(Message::Have(have))
    }

    // ---- what we hear

    fn receive_have(&mut self, session: &mut Session, have: Have) -> Result<Received, SyncError> {
        if session.peer_no.is_none() {
            let peer = session.peer;
            let no = match segments::known_peer(&self.replica.conn, &peer, &have.replica)? {
                Some(no) => no,
                None => {
                    let meet = |r: &mut Replica| Ok(segments::meet_peer(&r.conn, &peer, &have.replica)?);
                    self.replica.transaction(meet)?
                }
            };
            session.peer_no = Some(no);
            session.cursors = segments::cursors(&self.replica.conn, self.no, no)?;
            session.kept = *session.reached();
        }
        let first = session.heard.is_none();
        // Later words repeat this one, and what came since has proven more.
        if session.proven.is_none() {
            let reached = *session.reached();
            session.proven = match have.accepted {
                Accepted::NotYet => None,
                Accepted::From(cursor) => Some(cursor),
                Accepted::None => Some(Cursor::START),
            };
            if let Accepted::From(cursor) = have.accepted {
                if cursor != Cursor::START && !session.offered.contains(&cursor) {
                    // This container was taken out and begun anew while the peer went on talking with the old one.
                    return Err(SyncError::Protocol { what: "a cursor that it was not told" });
                }
                // Whatever else was noted is of another copy.
                self.take_cursor(session, cursor)?;
            }
            if let Some(proven) = session.proven {
                session.offered = vec![];
                if proven.seq < reached.seq {
                    self.disown(session, proven.seq)?;
                }
            }
        }
        let is_before_tip = |c: &&Cursor| c.seq < have.tip.seq || **c == have.tip;
        let good = session.cursors.iter().find(is_before_tip).copied().unwrap_or(Cursor::START);
        // What came after this was taken back, because it was refused.
        self.take_cursor(session, good)?;
        let repair_asked = have.accepted == Accepted::None;
        let known = session.heard.take().map_or(vec![], |before| before.cursors);
        session.heard = Some(have.with_known(known));
        let common = self.common(session)?;
        self.note_acknowledged(session, common)?;
        if first {
            self.begin(session, common);
        }
        if let Some(common) = common {
            session.in_flight.retain(|(cursor, _)| cursor.seq > common.seq);
        }
        if session.repairs == 0 && (repair_asked || session.accepted == Accepted::None) {
            self.start_repair(session)?;
        }
        Ok(Received::default())
    }

    /// What came from the peer after this place of its feed stood in one that it has no longer: it may lack that now, and other
    /// segments stand at those places.
    fn disown(&mut self, session: &Session, after: Seq) -> Result<(), SyncError> {
        let Some(peer) = session.peer_no else { return Ok(()) };
        let no = self.no;
        Ok(self.replica.transaction(|r| Ok(segments::disown(&r.conn, no, peer, after)?))?)
    }

    /// We have come this far in the peer's feed, and no further.
    fn take_cursor(&mut self, session: &mut Session, cursor: Cursor) -> Result<(), SyncError> {
        if *session.reached() == cursor {
            return Ok(());
        }
        let kept = session.kept.seq;
        let is_due = kept == Seq(0) || cursor.seq <= kept || cursor.seq.0 >= kept.0 + KEEP_EVERY;
        if let Some(peer) = session.peer_no.filter(|_| is_due) {
            let no = self.no;
            self.replica.transaction(|r| Ok(segments::set_cursor(&r.conn, no, peer, &cursor)?))?;
            session.kept = cursor;
        }
        session.note_cursor(cursor);
        Ok(())
    }

    /// Decides from the peer's first words where to go on.
    fn begin(&self, session: &mut Session, common: Option<Cursor>) {
        let Some(heard) = &session.heard else { return };
        let ours = self.replica.containers[&self.no].feed.count();
        let start = common.or((ours == 0 || heard.count == 0).then_some(Cursor::START));
        session.accepted = start.map_or(Accepted::None, Accepted::From);
        session.sent = Some(start.unwrap_or(Cursor::START));
    }

    /// The newest of the peer's cursors that our feed proves.
    fn common(&self, session: &Session) -> Result<Option<Cursor>, SyncError> {
        let Some(heard) = &session.heard else { return Ok(None) };
        for cursor in &heard.cursors {
            if cursor.seq > Seq(0) && self.is_in_feed(cursor)? {
                return Ok(Some(*cursor));
            }
        }
        Ok(None)
    }

    /// Our word that we have everything of the peer's feed up to here, if something came since the last.
    pub(crate) fn next_receipt(
        &mut self,
        session: &mut Session,
    ) -> Result<Option<(Cursor, [u8; 64])>, SyncError> {
        if std::mem::take(&mut session.received_segments) == 0 {
            return Ok(None);
        }
        let reach = session.cursors.first().copied();
        let id = self.replica.containers[&self.no].id;
        Ok(reach.map(|reach| (reach, sign_receipt(&self.replica.identity, &id, &reach))))
    }

    /// Takes a peer's word that it has everything of our feed up to a place.
    pub(crate) fn receive_receipt(
        &mut self,
        session: &mut Session,
        reach: Cursor,
        receipt: [u8; 64],
    ) -> Result<(), SyncError> {
        let (peer, container) = (session.peer, self.replica.place(self.no));
        check_receipt(&peer, &container.id, &reach, &receipt)
            .map_err(|_| SyncError::Protocol { what: "a receipt that it did not sign" })?;
        if !self.is_in_feed(&reach)? {
            return Ok(()); // of a feed that this server had before it was restored
        }
        let segments =
            session.sent_segments - std::mem::replace(&mut session.receipted, session.sent_segments);
        if segments == 0 {
            return Ok(()); // a receipt that was given before says nothing new
        }
        let event = Event::Delivered { container, peer, segments, reach, receipt: Some(receipt) };
        self.replica.note_receipt(session.now, event);
        Ok(())
    }

    /// A place in our feed, after the segments at `places` were taken out of it.
    pub(super) fn moved_up(
        &self,
        cursor: Option<Cursor>,
        places: &[Seq],
    ) -> Result<Option<Cursor>, SyncError> {
        let Some(cursor) = cursor else { return Ok(None) };
        let gone = places.iter().filter(|seq| **seq <= cursor.seq).count() as u64;
        let seq = Seq(cursor.seq.0 - gone);
        let hash = segments::hash_at(&self.replica.conn, self.no, seq)?;
        Ok(hash.map(|hash| Cursor { seq, hash }))
    }

    // ---- whether both are level

    fn look_around(&mut self, session: &mut Session) -> Result<(), SyncError> {
        let (Some(said), Some(heard)) = (&session.said, &session.heard) else { return Ok(()) };
        let state = &self.replica.containers[&self.no];
        let mine = *session.reached() == heard.tip;
        let theirs = *heard.cursors.first().unwrap_or(&Cursor::START) == state.feed.tip;
        session.behind = !mine;
        if mine && state.scan() == Scan::Meet {
            let (no, now) = (self.no, session.now);
            self.replica.transaction_apart(|r| {
                r.set_scan(no, if r.containers[&no].feed.count() > 0 { Scan::Gather } else { Scan::Join })?;
                // The description comes before all rows in the feed, so that the table is there for them.
                r.describe(no, r.corrected(now))
            })?;
            return Ok(());
        }
        let quiet = session.repair.is_none() && session.outbox.is_empty() && session.wanted.is_empty();
        let current = said.tip == state.feed.tip && said.cursors.first() == session.cursors.first();
        let done = session.after_repair.is_none() && (state.scan() == Scan::No || state.is_halted());
        if !(mine && theirs && quiet && current && done) {
            session.level = false;
            return Ok(());
        }
        if heard.root == state.feed.digest() {
            session.level = true;
            if matches!(session.role, Role::Initiator) {
                let tip = state.feed.tip.seq;
                self.acknowledge(|noted| noted != tip, tip)?;
            }
            return Ok(());
        }
        self.start_repair(session)
    }
}

/// What a segment counts in a message. Whoever hears one needs memory for what all of its segments open to.
fn weight(segment: &[u8]) -> usize {
    segment.len().max(claimed_len(segment) / PLAIN_PART)
}
