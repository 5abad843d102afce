//! Receiving: segments that a peer sends, judged one by one, and what becomes of those that it refuses.

use super::{Container, Received, SyncError};
use crate::apply::Arrivals;
use crate::grant::Access;
use crate::id::{PeerId, Seq, Timestamp};
use crate::message::{Cursor, Refusal, RefusalReason, Segments};
use crate::replica::{Replica, ReplicaError, Scan, StopKind};
use crate::segment::{Segment, SegmentError};
use crate::session::{Role, Session};
use crate::store::segments::{self, Origin};
use crate::supervisor_log::Event;
use crate::work::Work;

/// How far a segment's time may be ahead of the server's clock.
const AHEAD_MS_MAX: u64 = 10 * 60 * 1000;

/// A segment that may enter, with what its author may do if that has to be judged by its effect; or why it may not.
type Checked = Result<(Segment, Option<Access>), Refused>;
/// Why a segment may not enter, its author, and the number of its changes.
type Refused = (Refusal, PeerId, u32);

/// About what a change takes in a file besides its values, in bytes: its place, its hash, its row's baseline. See BENCHMARKS.
const CHANGE_COST: usize = 100;
/// About what a segment takes besides its bytes: its places in the feed and in the supervisor's log.
const SEGMENT_COST: usize = 512;

impl Container<'_> {
    pub(super) fn receive_segments(
        &mut self,
        session: &mut Session,
        message: Segments<Result<Segment, SegmentError>>,
    ) -> Result<Received, SyncError> {
        let Some(peer) = session.peer_no else {
            return Err(SyncError::Protocol { what: "segments before a first word" });
        };
        if session.numbers.waits {
            return Ok(Received::default());
        }
        let moves = message.reach != Cursor::START;
        if moves && message.from.seq > session.reached().seq {
            return Err(SyncError::Gap);
        }
        if message.segments.is_empty() {
            if moves {
                self.take_cursor(session, message.reach)?;
                session.prove(message.reach);
            }
            return Ok(Received::default());
        }
        let mut checked = Vec::with_capacity(message.segments.len());
        for segment in message.segments {
            checked.push(self.check(session, segment?)?);
        }
        session.received_segments += checked.len() as u64;
        let origin = Origin { peer, seq: if moves { message.reach.seq } else { Seq(0) } };
        let now = session.now;
        while self.replica.capture(now)?.more {}
        self.replica.numbers.gives_way = session.numbers.are_known;
        let refuses_taken = session.numbers.refuses;
        let beside = &session.numbers.beside;
        let (no, from) = (self.no, session.peer);
        let role = &session.role;
        let log_refusals = |from: &PeerId| match role {
            Role::Responder(authority) => authority.may_log_refusal(from),
            Role::Initiator => true,
        };
        let may_see = |author: &PeerId, container: &str| match role {
            Role::Responder(authority) => authority.access(author, container).is_some(),
            Role::Initiator => true,
        };
        let (mut stored, mut refusals, mut any_taken) = (vec![], vec![], false);
        let received = self.replica.transaction_apart(|r| {
            r.capture_all(now)?;
            stored.clear();
            refusals.clear();
            any_taken = false;
            let (mut received, mut arrivals) = (Received::default(), Arrivals::default());
            for checked in &checked {
                if refuses_taken {
                    r.note_arrivals(no, &mut arrivals)?; // which numbers are taken is told by what rows have
                }
                let judged = match checked {
                    Ok((segment, Some(access))) if segment.is_description() => {
                        match r.judge_description(no, *access, segment, &may_see)? {
                            Some(reason) => Err(refused(segment, reason)),
                            None => Ok(segment),
                        }
                    }
                    Ok((segment, Some(_)))
                        if refuses_taken
                            && !beside.contains(&segment.id)
                            && r.takes_number(no, segment)? =>
                    {
                        any_taken = true;
                        Err(refused(segment, RefusalReason::Taken))
                    }
                    Ok((segment, _)) => Ok(segment),
                    Err(refused) => Err(*refused),
                };
                match judged {
                    Err((refusal, author, changes)) => {
                        received.turned_away += u64::from(changes);
                        let (segment, reason) = (refusal.segment, refusal.reason as u8);
                        let container = r.place(no);
                        if log_refusals(&from) {
                            r.tell_log(now, || Event::Refused { container, segment, author, from, reason })?;
                        }
                        refusals.push(refusal);
                        if any_taken {
                            break; // what follows may refer to a row that moves
                        }
                    }
                    Ok(segment) => {
                        let before = received.segments;
                        r.apply(no, segment, origin, now, &mut arrivals, &mut received)?;
                        if received.segments > before {
                            stored.push((segment.header.author, stored_len(segment)));
                        }
                    }
                }
            }
            // A row that many of them change is looked at once.
            r.note_arrivals(no, &mut arrivals)?;
            if !arrivals.unsettled.is_empty() {
                arrivals.unsettled.sort_unstable();
                r.quietly(|r| r.settle_beside(arrivals.unsettled))?;
            }
            r.retry_held()?;
            if moves && !any_taken {
                segments::set_cursor(&r.conn, no, peer, &message.reach)?;
            }
            Ok(received)
        })?;
        session.refusals.append(&mut refusals);
        if matches!(session.role, Role::Responder(_)) {
            let accepted: Vec<_> = checked.iter().flatten().map(|(segment, _)| segment.id).collect();
            self.tell_acceptances(session, &accepted)?;
        }
        if let Role::Responder(authority) = &session.role {
            stored.iter().for_each(|(author, bytes)| authority.stored(author, *bytes));
        }
        session.numbers.waits = any_taken;
        if moves && !any_taken {
            session.note_cursor(message.reach);
            session.kept = message.reach;
            session.prove(message.reach);
        }
        Ok(received)
    }

    /// Checks whether a segment may enter here.
    fn check(&mut self, session: &Session, segment: Segment) -> Result<Checked, SyncError> {
        let state = &self.replica.containers[&self.no];
        if segment.header.container != state.id {
            return Err(SyncError::WrongContainer { id: segment.id });
        }
        let Role::Responder(authority) = &session.role else {
            // Anybody can sign an acceptance: only that of a server that this replica was told to trust counts.
            let by_server = segment.acceptance.is_some_and(|a| self.replica.trusts(&a.server, &session.peer))
                || segment.header.author == session.peer;
            return if by_server {
                Ok(Ok((segment, None)))
            } else {
                Err(SyncError::NotAccepted { id: segment.id })
            };
        };
        let own = self.replica.identity.peer_id();
        let is_here = segments::find(&self.replica.conn, self.no, &segment.id)?.is_some();
        if is_here || segment.acceptance.is_some_and(|a| a.server == own) {
            return Ok(Ok((segment, None))); // once accepted, always accepted: this server may have been restored
        }
        let access = authority.access(&segment.header.author, &state.name);
        let reason = match access {
            None | Some(Access::Read) => Some(RefusalReason::NoGrant),
            _ if segment.header.time > Timestamp(session.now.0 + AHEAD_MS_MAX) => {
                Some(RefusalReason::FromFuture)
            }
            _ if !authority.may_be_so_large(segment.header.plain_len()) => Some(RefusalReason::TooLarge),
            _ if !Work::of(&segment).map_err(SegmentError::from)?.is_allowed() => {
                Some(RefusalReason::TooLarge)
            }
            _ if !authority.may_store(&segment.header.author, stored_len(&segment)) => {
                Some(RefusalReason::Quota)
            }
            _ => None,
        };
        Ok(match reason {
            Some(reason) => Err(refused(&segment, reason)),
            None => {
                let time = self.replica.acceptance_time(self.no, session.now)?;
                Ok((segment.accept(&self.replica.identity, time), access))
            }
        })
    }

    pub(super) fn receive_refusals(
        &mut self,
        session: &mut Session,
        refusals: &[Refusal],
    ) -> Result<Received, SyncError> {
        if matches!(session.role, Role::Responder(_)) {
            return self.receive_numbering(session, refusals);
        }
        let taken = |refusal: &&Refusal| refusal.reason == RefusalReason::Taken;
        if session.numbers.are_known && refusals.iter().any(|refusal| taken(&refusal)) {
            let ids: Vec<_> = refusals.iter().filter(taken).map(|refusal| refusal.segment).collect();
            self.receive_taken(session, ids)?;
        }
        let refusals: Vec<_> = match session.numbers.are_known {
            true => refusals.iter().filter(|refusal| !taken(refusal)).copied().collect(),
            false => refusals.to_vec(),
        };
        if refusals.is_empty() {
            return Ok(Received::default());
        }
        let (no, refusals) = (self.no, &refusals[..]);
        let (refused, places) = self.replica.transaction_apart(|r| {
            r.capture_all(session.now)?;
            r.withdraw(no, refusals, session.now)
        })?;
        session.in_flight.clear();
        session.after_repair = self.moved_up(session.after_repair, &places)?;
        if let Some(repair) = &mut session.repair {
            repair.began_at = self.moved_up(Some(repair.began_at), &places)?.unwrap_or(Cursor::START);
        }
        Ok(Received { refused, ..Received::default() })
    }
}

fn refused(segment: &Segment, reason: RefusalReason) -> Refused {
    (Refusal { segment: segment.id, reason }, segment.header.author, segment.header.count)
}

/// What a segment counts against its author's quota: its changes as everyone has to hold them, not as they were sent, with
/// their places in indexes and the log.
fn stored_len(segment: &Segment) -> usize {
    let plain = segment.plain_len().max(segment.bytes().len());
    plain + CHANGE_COST * segment.header.count as usize + SEGMENT_COST
}

impl Replica {
    fn note_arrivals(&mut self, no: i64, arrivals: &mut Arrivals) -> Result<(), ReplicaError> {
        self.note_edits(no, &mut arrivals.edits).map_err(|e| e.of_table(self, no, StopKind::NotApplied))
    }

    /// Takes in a segment. What is still to be noted, and shown, joins `arrivals`. Call it in a transaction with nothing to
    /// capture.
    fn apply(
        &mut self,
        no: i64,
        segment: &Segment,
        origin: Origin,
        now: Timestamp,
        arrivals: &mut Arrivals,
        received: &mut Received,
    ) -> Result<(), ReplicaError> {
        let meets = self.containers[&no].scan() == Scan::Meet;
        // Until the description has come, nothing can go into the table: a repair may bring others first. Once something was
        // kept, all is, whatever becomes of the table.
        let keeps = meets
            && (self.containers[&no].feed.count() > 0
                || self.has_rows_to_meet(no)?
                || !self.is_described_by(no, segment)?);
        let with_triggers = self.containers.any_triggers();
        self.quietly(|r| {
            let taken = r.take_in(no, segment, origin, !keeps, &mut arrivals.edits);
            let mut taken = taken.map_err(|e| e.of_table(r, no, StopKind::NotApplied))?;
            received.rows += taken.rows;
            received.segments += u64::from(taken.is_new);
            let needs_its_table = r.needs_its_table(no, taken.rows);
            let meets_nothing = meets && !keeps && taken.is_new;
            if taken.description || needs_its_table || meets_nothing || with_triggers {
                r.note_arrivals(no, arrivals)?;
            }
            if taken.description {
                taken.unsettled.extend(r.follow_description(no)?);
            }
            if needs_its_table {
                taken.unsettled.extend(r.make_tables()?);
            }
            if meets_nothing {
                r.meet_nothing(no, now)?;
            }
            arrivals.unsettled.append(&mut taken.unsettled);
            // What triggers of the application make of rows is put back with each segment, and a new description may change
            // what the table shows of all.
            if with_triggers || taken.description {
                r.settle(std::mem::take(&mut arrivals.unsettled))?;
            }
            Ok(())
        })
    }
}
