//! Talk: one connection with the server, from the handshake on. Frames in, frames out; the socket is JavaScript's.

use crate::fault::{Fault, fault};
use piecewise_core::channel::{LOG_CHANNEL, Opener, Sealer, on_channel, split_channel};
use piecewise_core::handshake::{AwaitingWelcome, Initiator};
use piecewise_core::id::{PeerId, SegmentId, Timestamp};
use piecewise_core::identity::Identity;
use piecewise_core::link::{Incoming, Link, LinkError, Traffic};
use piecewise_core::replica::{Binding, Replica};
use piecewise_core::supervisor_log::talk::LogMessage;
use piecewise_core::supervisor_log::{Entry, Event, Verdict, Witness};
use serde_json::{Value as Json, json};
use std::collections::VecDeque;

/// The channel of the one database.
const CHANNEL: u64 = 1;
/// Frames given out in one go, so that the page's events get their turn.
const FRAMES_AT_ONCE: usize = 4;

enum Stage {
    Hello(Box<Initiator>),
    Welcome(Box<AwaitingWelcome>),
    Open(Box<Open>),
    Over,
}

struct Open {
    sealer: Sealer,
    opener: Opener,
    /// None: the device only joined.
    link: Option<Link>,
}

/// A connection with the server.
pub(crate) struct Talk {
    server: PeerId,
    identity: Identity,
    /// What the database becomes once the server has let this device in.
    joining: Option<Binding>,
    /// Whether the database became the server's on this connection.
    is_new: bool,
    stage: Stage,
    /// Sealed frames that wait to leave.
    ready: VecDeque<Vec<u8>>,
    /// Segments to be proven, once the present checkpoint is known; and those asked for.
    to_prove: Vec<SegmentId>,
    asked: VecDeque<SegmentId>,
    /// What the page should hear of.
    pub(crate) events: Vec<Json>,
}

impl Talk {
    /// Begins a handshake with the server of an invite or of an earlier one.
    pub(crate) fn new(
        server: PeerId,
        identity: Identity,
        start: (Initiator, Vec<u8>),
        joining: Option<Binding>,
    ) -> Self {
        let (initiator, first) = start;
        Self {
            server,
            identity,
            joining,
            is_new: false,
            stage: Stage::Hello(Box::new(initiator)),
            ready: [first].into(),
            to_prove: vec![],
            asked: VecDeque::new(),
            events: vec![],
        }
    }

    pub(crate) fn is_open(&self) -> bool {
        matches!(self.stage, Stage::Open(_))
    }

    /// Whether the server has answered with the database.
    pub(crate) fn is_attached(&self) -> bool {
        matches!(&self.stage, Stage::Open(open) if open.link.as_ref().is_some_and(Link::is_attached))
    }

    pub(crate) fn is_level(&self) -> bool {
        matches!(&self.stage, Stage::Open(open) if open.link.as_ref().is_some_and(Link::is_level))
    }

    pub(crate) fn traffic(&self, replica: &Replica) -> Option<Traffic> {
        match &self.stage {
            Stage::Open(open) => open.link.as_ref().map(|link| link.traffic(replica)),
            _ => None,
        }
    }

    pub(crate) fn not_granted(&self, replica: &Replica) -> Vec<String> {
        match &self.stage {
            Stage::Open(open) => open.link.as_ref().map_or(vec![], |link| link.not_granted(replica)),
            _ => vec![],
        }
    }

    /// Takes one message of the WebSocket; how many rows came with it.
    pub(crate) fn receive(
        &mut self,
        replica: &mut Replica,
        witness: &mut Witness,
        message: &[u8],
        now: Timestamp,
    ) -> Result<u64, Fault> {
        match std::mem::replace(&mut self.stage, Stage::Over) {
            Stage::Hello(initiator) => {
                let (waiting, answer) = initiator.receive(message)?;
                replica.set_clock_offset(waiting.server_time(), now)?;
                self.ready.push_back(answer);
                self.stage = Stage::Welcome(Box::new(waiting));
                Ok(0)
            }
            Stage::Welcome(waiting) => {
                let channel = waiting.receive(message)?;
                if let Some(binding) = self.joining.take()
                    && replica.binding() != Some(&binding)
                {
                    self.is_new = replica.binding().is_none();
                    replica.bind(binding)?;
                }
                let bound = replica.binding().is_some_and(|b| b.server == self.server);
                let mut link = bound.then(|| Link::initiator(replica, self.server)).transpose()?;
                if let Some(link) = &mut link {
                    link.use_features(replica, channel.features)?;
                }
                let (sealer, opener) = (channel.sealer, channel.opener);
                self.stage = Stage::Open(Box::new(Open { sealer, opener, link }));
                self.say_of_log(&witness.ask())?;
                self.events.push(json!({ "event": "connected" }));
                Ok(0)
            }
            Stage::Open(mut open) => {
                let plain = open.opener.open(message).map_err(|e| fault("CONNECTION", e.to_string()))?;
                let (channel, frame) =
                    split_channel(&plain).map_err(|e| fault("CONNECTION", e.to_string()))?;
                let mut rows = 0;
                if channel == CHANNEL
                    && let Some(link) = &mut open.link
                {
                    let received = link.receive(replica, Incoming::read(frame).open(), now);
                    if self.is_new && matches!(received, Err(LinkError::Denied { .. })) {
                        replica.unbind()?;
                    }
                    let received = received?;
                    rows = received.rows;
                    if received.refused > 0 {
                        self.events.push(json!({ "event": "refused", "rows": received.refused }));
                    }
                }
                self.stage = Stage::Open(open);
                if channel == LOG_CHANNEL {
                    self.hear_of_log(witness, frame, now)?;
                }
                Ok(rows)
            }
            Stage::Over => Err(fault("CONNECTION", "the connection has ended")),
        }
    }

    /// The next few messages for the WebSocket.
    pub(crate) fn outgoing(&mut self, replica: &mut Replica, now: Timestamp) -> Result<Vec<Vec<u8>>, Fault> {
        let mut frames: Vec<_> = self.ready.drain(..).collect();
        if let Stage::Open(open) = &mut self.stage
            && let Some(link) = &mut open.link
        {
            while frames.len() < FRAMES_AT_ONCE {
                let Some(frame) = link.next_frame(replica, now)? else { break };
                frames.push(seal(&mut open.sealer, CHANNEL, &frame)?);
            }
        }
        for moved in replica.take_renumbered() {
            let (old, new) = (moved.old, moved.new);
            self.events.push(json!({ "event": "renumbered", "table": moved.table, "old": old, "new": new }));
        }
        Ok(frames)
    }

    /// Asks for the proof that segments are in the server's log, under its present checkpoint; answers come as events.
    pub(crate) fn prove(&mut self, witness: &Witness, segments: &[SegmentId]) -> Result<(), Fault> {
        self.say_of_log(&witness.ask())?;
        self.to_prove.extend(segments);
        Ok(())
    }

    fn ask_for_proofs(&mut self, witness: &Witness) -> Result<(), Fault> {
        for segment in std::mem::take(&mut self.to_prove) {
            self.asked.push_back(segment);
            self.say_of_log(&LogMessage::Prove { segment, size: witness.size() })?;
        }
        Ok(())
    }

    fn say_of_log(&mut self, message: &LogMessage) -> Result<(), Fault> {
        let Stage::Open(open) = &mut self.stage else {
            return Err(fault("OFFLINE", "there is no connection"));
        };
        self.ready.push_back(seal(&mut open.sealer, LOG_CHANNEL, &message.encode())?);
        Ok(())
    }

    fn hear_of_log(&mut self, witness: &mut Witness, bytes: &[u8], now: Timestamp) -> Result<(), Fault> {
        let message = LogMessage::decode(bytes)
            .map_err(|_| fault("CONNECTION", "the server's words about its log cannot be read"))?;
        match message {
            LogMessage::Told(told) => {
                let verdict = witness.receive(&self.server, told, &self.identity, now);
                self.events.push(json!({ "event": "log", "verdict": name(&verdict) }));
                if let Some(answer) = witness.answer(&verdict) {
                    self.say_of_log(&answer)?;
                }
                self.ask_for_proofs(witness)?;
            }
            LogMessage::Same => self.ask_for_proofs(witness)?,
            LogMessage::Proof(proof) => {
                let Some(segment) = self.asked.pop_front() else { return Ok(()) };
                let proven = witness.check(&segment, &proof);
                self.events.push(proof_event(&segment, proven));
            }
            LogMessage::Unknown(_) => {
                if let Some(segment) = self.asked.pop_front() {
                    self.events.push(proof_event(&segment, None));
                }
            }
            _ => {}
        }
        Ok(())
    }
}

fn proof_event(segment: &SegmentId, proven: Option<(u64, Entry)>) -> Json {
    let (index, from) = match proven {
        Some((index, Entry { event: Event::Accepted { from, .. }, .. })) => {
            (Some(index), Some(from.to_string()))
        }
        _ => (None, None),
    };
    json!({ "event": "proof", "segment": segment.to_string(), "entry": index, "from": from })
}

fn name(verdict: &Verdict) -> &'static str {
    match verdict {
        Verdict::Same | Verdict::Continues(_) => "verified",
        Verdict::NewOrigin { .. } => "new origin",
        Verdict::Silent => "silent",
        Verdict::Alarm => "alarm",
    }
}

fn seal(sealer: &mut Sealer, channel: u64, frame: &[u8]) -> Result<Vec<u8>, Fault> {
    sealer.seal(&on_channel(channel, frame)).map_err(|e| fault("CONNECTION", e.to_string()))
}
