//! Traffic: what a link has sent, and what is still to go and to come, for people who look at it.

use super::Link;
use crate::message::Cursor;
use crate::replica::Replica;

/// How far a talk has come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Changes of rows that went to the peer.
    pub sent_rows: u64,
    /// Segments that went to the peer.
    pub sent_segments: u64,
    /// Segments still to go.
    pub segments_to_send: u64,
    /// Segments still to come, as far as the peer has told.
    pub segments_to_come: u64,
    /// Whether the peer has told of every container that differs.
    pub is_whole: bool,
}

impl Link {
    /// What has gone to the peer and what is still to go and to come.
    pub fn traffic(&self, replica: &Replica) -> Traffic {
        let (sent_rows, sent_segments) = self.sent;
        let mut traffic = Traffic { sent_rows, sent_segments, ..Traffic::default() };
        let has_told = |no| self.sessions.get(no).is_some_and(|session| session.heard.is_some());
        traffic.is_whole = self.attached && self.unlevel.iter().all(has_told);
        for no in &self.unlevel {
            self.add_waiting(replica, *no, &mut traffic);
        }
        traffic
    }

    /// The same of those containers alone whose name is `covered`.
    pub fn traffic_of(&self, replica: &Replica, covered: impl Fn(&str) -> bool) -> Traffic {
        let mut traffic = Traffic::default();
        for (no, session) in &self.sessions {
            if replica.containers.get(no).is_some_and(|c| covered(&c.name)) {
                traffic.sent_rows += session.sent_rows;
                traffic.sent_segments += session.sent_segments;
                self.add_waiting(replica, *no, &mut traffic);
            }
        }
        traffic
    }

    /// Counts the segments of a container that are still to go and to come.
    fn add_waiting(&self, replica: &Replica, no: i64, traffic: &mut Traffic) {
        if let (Some(session), Some(state)) = (self.sessions.get(&no), replica.containers.get(&no)) {
            let seq = |cursor: Option<Cursor>| cursor.map_or(0, |c| c.seq.0);
            traffic.segments_to_send += state.feed.tip.seq.0.saturating_sub(seq(session.sent));
            let tip = session.heard.as_ref().map(|h| h.tip);
            let come = session.said.as_ref().and_then(|h| h.cursors.first().copied());
            traffic.segments_to_come += seq(tip).saturating_sub(seq(come));
        }
    }

    /// Rows and segments that went to the peer since this was asked last.
    pub fn take_sent(&mut self) -> (u64, u64) {
        let before = std::mem::replace(&mut self.told_sent, self.sent);
        (self.sent.0 - before.0, self.sent.1 - before.1)
    }
}
