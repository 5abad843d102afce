//! Accepting: when a server took segments in, and how their authors learn of it.
//!
//! Of two rows that claim one UNIQUE value the one whose claim was accepted first shows, so every replica has to know the
//! order of acceptances. It travels with a segment, but its author has it already: a server tells it in a message of its
//! own. Only tables with UNIQUE constraints need it.

use super::{Container, Received, SyncError};
use crate::id::{SegmentId, Timestamp};
use crate::message::{AcceptedSegment, Message};
use crate::replica::{Replica, ReplicaError};
use crate::segment::is_accepted_by;
use crate::session::{Role, Session};
use crate::store::holds::{self, HoldKind};
use crate::store::segments;

/// Segments asked for in one message.
const ASKED_MAX: usize = 1024;

impl Container<'_> {
    /// As the client: asks when own segments were accepted that the server has, if that is not known.
    pub(super) fn ask_acceptances(&mut self, session: &mut Session) -> Result<Option<Message>, SyncError> {
        let is_due = session.asks_acceptances && session.heard.is_some() && session.tells_acceptances;
        if !is_due || !matches!(session.role, Role::Initiator) || self.replica.is_server {
            return Ok(None);
        }
        session.asks_acceptances = false;
        if !self.replica.has_claims(self.no)? {
            return Ok(None);
        }
        let Some(common) = self.common(session)? else { return Ok(None) };
        let no = self.no;
        let ids =
            self.replica.transaction(|r| Ok(segments::unaccepted(&r.conn, no, common.seq, ASKED_MAX)?))?;
        Ok((!ids.is_empty()).then_some(Message::Unaccepted(ids)))
    }

    /// As the server: says when segments were accepted.
    pub(super) fn tell_acceptances(&self, session: &mut Session, ids: &[SegmentId]) -> Result<(), SyncError> {
        if !session.tells_acceptances || !self.replica.has_claims(self.no)? {
            return Ok(());
        }
        let mut accepted = vec![];
        for segment in ids {
            let Some(no) = segments::find(&self.replica.conn, self.no, segment)? else { continue };
            if let Some((acceptance, signature)) = segments::acceptance(&self.replica.conn, self.no, no)? {
                accepted.push(AcceptedSegment { segment: *segment, acceptance, signature });
            }
        }
        if !accepted.is_empty() {
            session.outbox.push_back(Message::Accepted(accepted));
        }
        Ok(())
    }

    /// As the client: notes when own segments were accepted, and looks again at their rows that lost a UNIQUE value.
    pub(super) fn receive_acceptances(
        &mut self,
        session: &mut Session,
        accepted: &[AcceptedSegment],
    ) -> Result<Received, SyncError> {
        if matches!(session.role, Role::Responder(_)) {
            return Err(SyncError::Protocol { what: "a client accepted a segment" });
        }
        if accepted.iter().any(|a| !is_accepted_by(a.segment, &a.acceptance, &a.signature)) {
            return Err(SyncError::Protocol { what: "an acceptance that nobody signed" });
        }
        let (no, now) = (self.no, session.now);
        let any_new = self.replica.transaction_again(|r| {
            r.capture_all(now)?;
            let (mut any_new, mut rows) = (false, vec![]);
            for a in accepted {
                let Some(segment) = segments::find(&r.conn, no, &a.segment)? else { continue };
                if !segments::note_acceptance(&r.conn, no, segment, &a.acceptance, &a.signature)? {
                    continue;
                }
                any_new = true;
                if !holds::any(&r.conn, no)? {
                    continue;
                }
                for key in r.history.segment(&r.conn, segment)?.keys() {
                    if holds::find(&r.conn, no, key)? == Some(HoldKind::Unique) {
                        rows.push((no, key.clone()));
                    }
                }
            }
            if !rows.is_empty() {
                r.settle_quietly(rows)?;
            }
            Ok(any_new)
        })?;
        // There may be more of them than one message holds.
        session.asks_acceptances |= any_new && accepted.len() >= ASKED_MAX;
        Ok(Received::default())
    }
}

impl Replica {
    /// Whether the table of a container has values that only one row may have.
    fn has_claims(&self, no: i64) -> Result<bool, ReplicaError> {
        let user = self.user_table(no)?;
        Ok(user.is_some_and(|user| user.table.unique.iter().any(|u| u.partial.is_none())))
    }

    /// A time for the next segment of a container that this server accepts: later than that of any before, whatever
    /// becomes of the clock, so that no later one ever comes before it.
    pub(crate) fn acceptance_time(&mut self, no: i64, now: Timestamp) -> Result<Timestamp, ReplicaError> {
        let last = match self.last_accepted.get(&no) {
            Some(last) => Some(*last),
            None => match segments::last_of(&self.conn, no)? {
                Some(segment) => segments::acceptance(&self.conn, no, segment)?.map(|(a, _)| a.time),
                None => None,
            },
        };
        let time = last.map_or(now, |last| now.max(Timestamp(last.0.saturating_add(1)))).min(Timestamp::MAX);
        self.last_accepted.insert(no, time);
        Ok(time)
    }
}
