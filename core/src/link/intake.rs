//! Intake: a server may take nothing in for a while, such as while its disk is nearly full; it goes on sending.
//!
//! It says so, and lets segments that come all the same pass by unread. The initiator holds its own back: they stay where they
//! are, and are not refused; that it has what came from the server it still says, so a file with nothing of its own to bring
//! becomes level. Where something was let pass, the talk begins anew afterwards, from the cursors on disk.

use super::{INTAKE, Link, LinkError};
use crate::bytes::{DecodeError, Reader};
use crate::id::ContainerId;
use crate::message::{Cursor, Heard, Message};
use crate::replica::Replica;
use crate::session::Session;
use std::collections::BTreeSet;
use std::fmt;

/// Why a server takes nothing in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// Its disk has less free than is kept in reserve.
    Disk = 1,
}

impl Stop {
    /// From its code.
    pub fn from_code(code: u8) -> Option<Self> {
        (code == Self::Disk as u8).then_some(Self::Disk)
    }
}

impl fmt::Display for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Disk => "less is free on its disk than it keeps in reserve",
        })
    }
}

/// What a link knows of it.
#[derive(Debug, Default)]
pub(super) struct Intake {
    pub(super) stop: Option<Stop>,
    /// Containers of which something was let pass; until the end nothing more of theirs is taken, for a part is missing.
    passed: BTreeSet<ContainerId>,
}

impl Link {
    /// As the responder: takes nothing in from now on, or takes in again. False: the connection has to begin anew.
    pub fn set_intake(&mut self, stop: Option<Stop>) -> bool {
        if self.intake.stop != stop {
            self.intake.stop = stop;
            self.outbox.push_back(vec![INTAKE, stop.map_or(0, |stop| stop as u8)]);
        }
        stop.is_some() || self.intake.passed.is_empty()
    }

    /// As the initiator: why the server takes nothing in now.
    pub fn stopped(&self) -> Option<Stop> {
        self.intake.stop
    }

    /// Whether everything that the peer has told of is here, and own segments wait for it to take them in again.
    pub fn waits_for_intake(&self) -> bool {
        let waits = |session: &Session| session.has_received() && session.held_back;
        self.attached
            && self.outbox.is_empty()
            && self.ready.is_empty()
            && !self.is_level()
            && !self.names.are_open()
            && self.unlevel.iter().all(|no| self.sessions.get(no).is_none_or(waits))
    }

    pub(super) fn receive_intake(&mut self, replica: &Replica, r: &mut Reader<'_>) -> Result<(), LinkError> {
        self.intake.stop = match r.u8()? {
            0 => None,
            code => Some(Stop::from_code(code).ok_or(DecodeError::Invalid { what: "the reason of a stop" })?),
        };
        let waiting = self.unlevel.iter().copied().collect();
        self.make_ready(replica, waiting);
        Ok(())
    }

    /// Whether a container that there is not yet is to be let pass.
    pub(super) fn lets_pass_new(&mut self, id: ContainerId) -> bool {
        let stopped = self.is_responder() && self.intake.stop.is_some();
        if stopped {
            self.intake.passed.insert(id);
        }
        stopped
    }

    /// Whether a message is to be let pass.
    pub(super) fn lets_pass(&mut self, id: ContainerId, message: &Heard) -> bool {
        let Message::Segments(segments) = message else { return false };
        let is_part = self.intake.passed.contains(&id);
        is_part || (!segments.segments.is_empty() && self.lets_pass_new(id))
    }
}

impl Session {
    /// Whether we have come to the end of the peer's feed, as far as it has told of it.
    fn has_received(&self) -> bool {
        let (Some(said), Some(heard)) = (&self.said, &self.heard) else { return false };
        let reached = said.cursors.first().unwrap_or(&Cursor::START);
        *reached == heard.tip && self.repair.is_none()
    }
}
