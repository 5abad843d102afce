//! Repair: the sets of segment ids of both sides are reconciled, where no cursor proves a common beginning or roots differ.
//!
//! The initiator leads. What either side lacks it asks for; at the end each tells up to where in its feed the other has all.

use super::{Container, MESSAGE_BYTES, Received, SyncError, weight};
use crate::message::{Cursor, Message, Segments};
use crate::ranges::{self, SortedIds};
use crate::session::{Repair, Role, Session};
use crate::store::segments;
use crate::supervisor_log::Event;
use std::collections::HashSet;

/// Rounds of one repair; more means that the peer does not play by the rules.
const ROUNDS_MAX: u32 = 64;
/// Repairs in one session.
const REPAIRS_MAX: u32 = 2;

impl Container<'_> {
    pub(super) fn start_repair(&mut self, session: &mut Session) -> Result<(), SyncError> {
        if session.repair.is_some() || !matches!(session.role, Role::Initiator) {
            return Ok(());
        }
        if session.repairs >= REPAIRS_MAX {
            return Err(SyncError::RepairFailed);
        }
        let repair = self.new_repair(session)?;
        session.outbox.push_back(Message::Ranges(ranges::open(&repair.ids)));
        session.repair = Some(repair);
        Ok(())
    }

    fn new_repair(&self, session: &mut Session) -> Result<Repair, SyncError> {
        session.repairs += 1;
        let ids = segments::ids(&self.replica.conn, self.no)?;
        let began_at = self.replica.containers[&self.no].feed.tip;
        Ok(Repair {
            ids: SortedIds::new(ids),
            began_at,
            said_done: false,
            rounds: 0,
            lacking: HashSet::new(),
        })
    }

    pub(super) fn receive_ranges(
        &mut self,
        session: &mut Session,
        received: &[ranges::Range],
    ) -> Result<Received, SyncError> {
        let mut repair = match session.repair.take() {
            Some(repair) => repair,
            // A word that came twice: the repair is over.
            None if received.is_empty() => return Ok(Received::default()),
            None if session.repairs >= REPAIRS_MAX => return Err(SyncError::RepairFailed),
            None => {
                let (container, peer, now) = (self.replica.place(self.no), session.peer, session.now);
                self.replica.transaction(|r| r.tell_log(now, || Event::Repaired { container, peer }))?;
                self.new_repair(session)?
            }
        };
        if received.is_empty() {
            if !repair.said_done {
                session.outbox.push_back(Message::Ranges(vec![]));
            }
            self.end_repair(session, &repair)?;
            return Ok(Received::default());
        }
        repair.rounds += 1;
        if repair.rounds > ROUNDS_MAX {
            return Err(SyncError::RepairFailed);
        }
        let answer = ranges::answer(&repair.ids, received)
            .map_err(|_| SyncError::Protocol { what: "ranges that make no sense" })?;
        repair.lacking.extend(&answer.ours_only);
        session.wanted.extend(answer.ours_only);
        if !answer.theirs_only.is_empty() {
            session.outbox.push_back(Message::Want(answer.theirs_only));
        }
        repair.said_done = answer.reply.is_empty();
        session.outbox.push_back(Message::Ranges(answer.reply));
        session.repair = Some(repair);
        Ok(Received::default())
    }

    /// Both know what differs, and the peer's wishes are all in: behind them, tell how far it has come.
    fn end_repair(&mut self, session: &mut Session, repair: &Repair) -> Result<(), SyncError> {
        session.in_flight.clear();
        session.after_repair = Some(repair.began_at);
        if session.numbers.are_known {
            self.note_held_by_server(repair)?;
        }
        Ok(())
    }

    /// Segments that the peer asked for in a repair; they move no cursor.
    pub(super) fn next_wanted(&mut self, session: &mut Session) -> Result<Option<Message>, SyncError> {
        if session.numbers.holds_back {
            return Ok(None);
        }
        let (mut bytes, mut parts, most) = (0, vec![], session.message_bytes(MESSAGE_BYTES));
        while let Some(id) = session.wanted.front() {
            if let Some(no) = segments::find(&self.replica.conn, self.no, id)? {
                let segment = segments::outgoing(&self.replica.conn, self.no, no, self.replica.is_server)?;
                if bytes > 0 && bytes + weight(&segment) > most {
                    break;
                }
                bytes += weight(&segment);
                parts.push(segment);
                if session.numbers.are_known {
                    session.numbers.wanted.push(*id);
                }
            }
            session.wanted.pop_front();
        }
        session.count_sent(&parts);
        let message = Segments { from: Cursor::START, reach: Cursor::START, segments: parts };
        Ok((!message.segments.is_empty()).then_some(Message::Segments(message)))
    }
}
