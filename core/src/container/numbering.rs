//! Numbering: segments with rows whose numbers other rows have, see `numbers`.
//!
//! A client says once, by an empty refusal, that it moves such rows. From then on the server refuses them, and takes in
//! nothing of the container behind one until the client has heard of it, since what follows may refer to the row. The
//! client answers each refusal by one of its own: of segments that it keeps all the same, which enter beside the others.

use super::{Container, Received, SyncError};
use crate::id::{SegmentId, Seq};
use crate::message::{Cursor, Message, Refusal, RefusalReason};
use crate::session::{Repair, Role, Session};
use crate::store::{numbers, segments};

/// Segments that a client keeps all the same and that have not come yet.
const BESIDE_MAX: usize = 1 << 16;

impl Container<'_> {
    /// As the client: says that rows move whose numbers are taken.
    pub(super) fn say_that_rows_move(&self, session: &mut Session) -> Option<Message> {
        let is_due = session.numbers.are_known && !session.numbers.was_told;
        if !is_due || self.replica.family(self.no).is_empty() {
            return None;
        }
        session.numbers.was_told = true;
        Some(Message::Refused(vec![]))
    }

    /// As the server: the client has heard of refusals, and keeps some segments all the same.
    pub(super) fn receive_numbering(
        &mut self,
        session: &mut Session,
        kept: &[Refusal],
    ) -> Result<Received, SyncError> {
        if kept.iter().any(|refusal| refusal.reason != RefusalReason::Taken) {
            return Err(SyncError::Protocol { what: "a client refused a segment" });
        }
        (session.numbers.refuses, session.numbers.waits) = (true, false);
        if session.numbers.beside.len() + kept.len() > BESIDE_MAX {
            session.numbers.beside.clear();
        }
        session.numbers.beside.extend(kept.iter().map(|refusal| refusal.segment));
        Ok(Received::default())
    }

    /// As the client: segments were refused, and those behind them were not taken in.
    pub(super) fn receive_taken(
        &mut self,
        session: &mut Session,
        ids: Vec<SegmentId>,
    ) -> Result<(), SyncError> {
        let common = self.common(session)?;
        let is_behind = |cursor: &Cursor| common.is_none_or(|common| common.seq < cursor.seq);
        // What was said behind a refused segment was let pass, also that a repair is over: then only a cursor that the server
        // told counts.
        let from = match session.numbers.repaired.take().filter(is_behind) {
            Some(_) => None,
            None => session.numbers.sent_from.filter(is_behind),
        };
        let is_known = from.map_or(Ok(false), |from| self.is_in_feed(&from))?;
        session.sent = if is_known { from } else { common.or(Some(Cursor::START)) };
        session.in_flight.clear();
        let wanted = std::mem::take(&mut session.numbers.wanted);
        for id in wanted.into_iter().rev().filter(|id| !ids.contains(id)) {
            session.wanted.push_front(id);
        }
        session.numbers.rounds += 1;
        session.numbers.refused.extend(ids);
        Ok(())
    }

    /// As the client: all that could move has. Answers refusals, and goes on after segments at `places` were withdrawn.
    pub(crate) fn answer_taken(&mut self, session: &mut Session, places: &[Seq]) -> Result<(), SyncError> {
        session.after_repair = self.moved_up(session.after_repair, places)?;
        if let Some(repair) = &mut session.repair {
            repair.began_at = self.moved_up(Some(repair.began_at), places)?.unwrap_or(Cursor::START);
        }
        let refused = std::mem::take(&mut session.numbers.refused);
        if refused.is_empty() {
            return Ok(());
        }
        let mut kept = vec![];
        for segment in refused {
            if segments::find(&self.replica.conn, self.no, &segment)?.is_some() {
                kept.push(Refusal { segment, reason: RefusalReason::Taken });
            }
        }
        session.outbox.push_back(Message::Refused(kept));
        Ok(())
    }

    /// As the client: notes how far the server has our feed, which decides which rows may move.
    pub(super) fn note_acknowledged(
        &mut self,
        session: &Session,
        common: Option<Cursor>,
    ) -> Result<(), SyncError> {
        let Some(common) = common.filter(|_| session.numbers.are_known) else { return Ok(()) };
        if matches!(session.role, Role::Initiator) {
            self.acknowledge(|noted| noted < common.seq, common.seq)?;
        }
        Ok(())
    }

    /// Notes that the server has our feed up to a place, if `is_news` says so of what was noted.
    pub(super) fn acknowledge(&mut self, is_news: impl Fn(Seq) -> bool, seq: Seq) -> Result<(), SyncError> {
        let no = self.no;
        if is_news(numbers::acknowledged(&self.replica.conn, no)?) {
            self.replica.transaction(|r| Ok(segments::acknowledge(&r.conn, no, seq)?))?;
        }
        Ok(())
    }

    /// As the client: the server has the own segments that it did not ask for in a repair.
    pub(super) fn note_held_by_server(&mut self, repair: &Repair) -> Result<(), SyncError> {
        let no = self.no;
        let unsent = numbers::unsent(&self.replica.conn, no)?;
        let held = unsent.iter().filter(|s| s.seq <= repair.began_at.seq && !repair.lacking.contains(&s.id));
        let held: Vec<i64> = held.map(|segment| segment.no).collect();
        if !held.is_empty() {
            self.replica.transaction(|r| {
                Ok(held.iter().try_for_each(|segment| numbers::put_returned(&r.conn, no, *segment))?)
            })?;
        }
        Ok(())
    }
}
