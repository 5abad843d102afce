//! Sending: the parts of the feed that a peer lacks, a window full at a time.
//!
//! Peers at the same cursor need the same slice; a server caches it between them, see `fan_out`.

use super::{Container, MESSAGE_BYTES, SyncError, weight};
use crate::message::{Cursor, Message, Segments};
use crate::segment::change_count;
use crate::session::Session;
use crate::store::segments;

/// Bytes sent and not acknowledged, for each container.
const WINDOW_BYTES: usize = 4 << 20;
/// What a message without segments counts as.
const EMPTY_BYTES: usize = 64;
/// What a message costs its receiver at most, who holds the write lock for all of it: counted in rows inserted, some 3 µs each.
const MESSAGE_WORK: u32 = 8192;
/// What a segment costs beside its rows, and a change that is no plain first insert.
const SEGMENT_WORK: u32 = 64;
const EDIT_WORK: u32 = 8;
/// Lines of the feed looked at for one message.
const LINES: usize = 256;

impl Container<'_> {
    /// The next part of the feed that the peer does not have.
    pub(super) fn next_segments(&mut self, session: &mut Session) -> Result<Option<Message>, SyncError> {
        let (Some(mut sent), Some(proven)) = (session.sent, session.proven) else { return Ok(None) };
        session.held_back = session.holds_back && session.stopped;
        if session.holds_back || session.is_in_repair() || session.in_flight_bytes() >= WINDOW_BYTES {
            return Ok(None);
        }
        if session.stopped && session.in_flight.iter().any(|(_, bytes)| *bytes > EMPTY_BYTES) {
            session.held_back = true;
            return Ok(None); // the peer may have let it pass
        }
        if let Some(reach) = session.after_repair.take() {
            session.sent = Some(reach);
            session.numbers.repaired = Some(reach);
            if session.numbers.are_known && self.common(session)? != Some(reach) {
                // What it asked for in the repair may still be refused: children wait until it says that it is there.
                session.in_flight.push_back((reach, EMPTY_BYTES));
            }
            return Ok(Some(Message::Segments(Segments { from: Cursor::START, reach, segments: vec![] })));
        }
        if sent == self.replica.containers[&self.no].feed.tip {
            return Ok(None);
        }
        if !self.is_in_feed(&sent)? {
            // Segments were taken out of the feed: go back to what the peer is known to have.
            sent = self.common(session)?.unwrap_or(Cursor::START);
        }
        if let Some(part) = self.replica.fan_out.find(self.no, &sent, session.peer_no)
            && !session.stopped
            && session.message_max.is_none()
            && self.is_in_feed(&part.reach)?
        {
            return Ok(Some(Self::sending(session, part.clone())));
        }
        let conn = &self.replica.conn;
        let (from, most) = (sent, session.message_bytes(MESSAGE_BYTES));
        let (mut bytes, mut work, mut parts, mut origins, mut all) = (0, 0_u32, vec![], vec![], true);
        'lines: loop {
            let lines = segments::after(conn, self.no, sent.seq, LINES)?;
            let count = lines.len();
            for line in lines {
                let theirs = Some(line.origin.peer) == session.peer_no && line.origin.seq <= proven.seq;
                session.held_back = !theirs && session.stopped;
                if session.held_back {
                    break 'lines;
                }
                if !theirs {
                    let segment = segments::outgoing(conn, self.no, line.no, self.replica.is_server)?;
                    let change_work = if line.is_plain { 1 } else { EDIT_WORK };
                    let changes = change_count(&segment).saturating_mul(change_work);
                    work = changes.saturating_add(SEGMENT_WORK).saturating_add(work);
                    if bytes > 0 && (bytes + weight(&segment) > most || work > MESSAGE_WORK) {
                        break 'lines;
                    }
                    bytes += weight(&segment);
                    parts.push(segment);
                    if !origins.contains(&line.origin.peer) {
                        origins.push(line.origin.peer);
                    }
                }
                all &= !theirs;
                sent = line.cursor;
            }
            if count < LINES || bytes >= most {
                break;
            }
        }
        if sent == from {
            session.sent = Some(sent);
            return Ok(None);
        }
        let part = Segments { from, reach: sent, segments: parts };
        if all && self.replica.is_server && session.message_max.is_none() {
            self.replica.fan_out.keep(self.no, part.clone(), origins);
        }
        Ok(Some(Self::sending(session, part)))
    }

    /// Takes note of a part of the feed that goes to the peer.
    fn sending(session: &mut Session, part: Segments) -> Message {
        if session.in_flight.is_empty() {
            session.numbers.sent_from = Some(part.from);
        }
        let bytes = part.segments.iter().map(|segment| segment.len()).sum::<usize>();
        session.sent = Some(part.reach);
        session.in_flight.push_back((part.reach, bytes + EMPTY_BYTES));
        session.count_sent(&part.segments);
        Message::Segments(part)
    }

    /// Whether our feed proves a cursor.
    pub(super) fn is_in_feed(&self, cursor: &Cursor) -> Result<bool, SyncError> {
        let tip = &self.replica.containers[&self.no].feed.tip;
        Ok(cursor == tip || segments::hash_at(&self.replica.conn, self.no, cursor.seq)? == Some(cursor.hash))
    }
}
