//! Link: one database over one connection, from one side. Frames in, frames out; no socket.
//!
//! First both sides find out which containers they share and which of them differ, by one digest; then
//! each container talks with its counterpart by itself, and the link only carries the messages.
//!
//! ```text
//! frame    kind u8, then
//!   0 attach    initiator: version · database · follow (0 all, 1 list of container ids, 2 digest of one 32) · digest 32
//!   1 attached  responder: 1 digests are equal, or 0: containers follow, or 2: it asks for the list
//!   2 containers  responder: last u8 · n LEB128 · n times (name · integer keys u8 · access u8 · root digest 32)
//!   3 message   container id 32 · message
//!   4 denied    responder: empty: the database; or container id 32 · 0 not granted, 1 quota, 2 intake stopped,
//!               3 it cannot take part with it now · why bytes
//!               · nothing, or the name bytes of the container that has this table in other capitals
//!   5 open      n LEB128 · n times as in containers: containers that the other side may not know
//!   6 ask, 7 rows   see `compare`
//!   8 receipt   initiator: container id 32 · cursor · signature 64, see `supervisor_log`
//!   9 intake    responder: 0 it takes segments in, or why it does not: 1 its disk is nearly full
//!   10 rest     responder: it forgets this talk; whoever has something to say attaches anew
//!   11 wake     responder, after a rest: there is news, attach anew
//!   12 leave    initiator: digest 32, of what it holds; the talk is over, and the connection stays
//!   13 ended    responder: it cannot go on with this talk: nothing, or 1 · why the database cannot be opened now
//!   14 follow   initiator, asked for it: n LEB128 · n container ids
//!   15 pieces   limit LEB128 · n LEB128 · n times (hash 32 · length held LEB128)
//!   16 piece    hash of a frame 32 · its length LEB128 · at LEB128 · bytes
//!   17 lease    see `leases`
//!   18 names    see `names`
//! ```
//! The digest is SHA-256 over the ascending pairs (container id, root digest).

mod attach;
mod comparing;
mod failing;
mod incoming;
mod intake;
mod known;
mod leases;
mod leaving;
mod making;
mod names;
mod numbers;
mod pieces;
mod receipts;
mod rest;
#[cfg(test)]
mod tests;
mod traffic;

pub use attach::Attach;
pub use incoming::{Incoming, Opened};
pub use intake::Stop;
pub use leaving::Leave;
pub use traffic::Traffic;

use crate::bytes::{DecodeError, Reader};
use crate::container::{Received, SyncError};
use crate::grant::{Access, access};
use crate::id::{ContainerId, PeerId, Timestamp};
use crate::message::{Cursor, Heard, Message};
use crate::replica::{Replica, ReplicaError};
use crate::session::{Authority, Role, Session};
use attach::Follow;
use comparing::Comparing;
use incoming::Content;
use known::Denial;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

const VERSION: u8 = 2;
/// The first version whose speakers understand when their segments were accepted.
const VERSION_ACCEPTANCES: u8 = 2;
const ATTACH: u8 = 0;
const ATTACHED: u8 = 1;
const CONTAINERS: u8 = 2;
const MESSAGE: u8 = 3;
const DENIED: u8 = 4;
const OPEN: u8 = 5;
const ASK: u8 = 6;
const ROWS: u8 = 7;
const RECEIPT: u8 = 8;
const INTAKE: u8 = 9;
const REST: u8 = 10;
const WAKE: u8 = 11;
const LEAVE: u8 = 12;
const ENDED: u8 = 13;
const FOLLOW: u8 = 14;
const PIECES: u8 = 15;
const PIECE: u8 = 16;
const LEASE: u8 = 17;
const NAMES: u8 = 18;

const NAME_LEN_MAX: usize = 512;
/// Containers listed in one frame.
const LIST_MAX: usize = 4096;

/// Why a link cannot go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LinkError {
    /// A container's talk failed.
    #[error("table {container} could not be synced")]
    Sync {
        /// The container's name.
        container: String,
        /// Why.
        #[source]
        source: SyncError,
    },
    /// The file.
    #[error(transparent)]
    Replica(#[from] ReplicaError),
    /// A frame could not be read.
    #[error("the peer sent a frame that cannot be read")]
    Decode(#[from] DecodeError),
    /// The peer is of another version.
    #[error("the peer speaks version {version} of the sync protocol; this program speaks {VERSION}")]
    UnknownVersion {
        /// Its version.
        version: u8,
    },
    /// The server is of a version that cannot talk with this one.
    #[error(
        "the server is older than this program, and the two do not understand each other: update the server first"
    )]
    OlderServer,
    /// The server does not have the database, or grants nothing in it.
    #[error("the server has no database {database} for this device")]
    Denied {
        /// The database.
        database: String,
    },
    /// The server cannot go on with this talk.
    #[error("the server ended the session for database {database}; its log says more")]
    Ended {
        /// The database.
        database: String,
    },
    /// The server has the database and cannot open its file now.
    #[error("the server cannot open database {database} now: {cause}")]
    CannotOpen {
        /// The database.
        database: String,
        /// Why, in the server's words.
        cause: String,
    },
    /// The peer does not follow the protocol.
    #[error("the peer does not follow the protocol: {what}")]
    Protocol {
        /// What it did.
        what: &'static str,
    },
}

/// One database over one connection.
#[derive(Debug)]
pub struct Link {
    peer: PeerId,
    role: Role,
    database: String,
    follow: Option<BTreeSet<ContainerId>>,
    /// As the responder: the digest of the containers that it asked the peer to name, and of what the peer holds.
    asked: Option<([u8; 32], [u8; 32])>,
    /// As the initiator: where those feeds ended whose digest was sent, and of which it is not known that the peer has all.
    offered: Vec<(i64, Cursor)>,
    /// Whether both sides know what they share.
    attached: bool,
    sessions: BTreeMap<i64, Session>,
    /// Those of them that are not level.
    unlevel: BTreeSet<i64>,
    /// Whether the peer understands when its segments were accepted.
    tells_acceptances: bool,
    /// Those of them whose peer has, or may have, what is not here yet.
    behind: BTreeSet<i64>,
    /// Containers whose tables are to be made together.
    unmade: BTreeSet<i64>,
    /// Whether a frame arrived since `next_frame` last returned `None`.
    heard: bool,
    /// What sessions have sent in all.
    sent: (u64, u64),
    /// Containers that the peer knows of: those up to a number, and more.
    known_to: i64,
    known: BTreeSet<i64>,
    /// Exceptions below `known_to`: containers that the peer may not know.
    unsure: BTreeSet<i64>,
    /// Containers that the peer does not open.
    denied: BTreeMap<i64, Denial>,
    /// Those of them that the peer has under names in other capitals.
    in_other_capitals: BTreeSet<i64>,
    /// Errors of containers whose sessions ended, until they are asked for.
    failures: Vec<LinkError>,
    /// Containers with something to say, perhaps: tables that others refer to come before those.
    ready: BTreeSet<(u32, i64)>,
    outbox: VecDeque<Vec<u8>>,
    seen: u64,
    /// Whether something came that no receipt covers.
    owes_receipt: bool,
    /// Receipts for what came before a rest.
    owed: Vec<Vec<u8>>,
    /// When receipts were given last.
    receipts_given: Option<Timestamp>,
    /// Tables to compare, and how far the first of them is; None: this link syncs.
    comparing: Option<Comparing>,
    intake: intake::Intake,
    /// Whether rows move whose numbers other rows have.
    moves_rows: bool,
    /// Containers whose rows cannot move over this connection.
    unmoved: BTreeSet<i64>,
    leases: leases::Leases,
    names: names::Names,
    /// Whether the responder has forgotten this talk until somebody has something to say.
    at_rest: bool,
    pieces: pieces::Pieces,
    /// How much of `sent` was told when it was asked last.
    told_sent: (u64, u64),
}

impl Link {
    /// The side that opened the connection; the replica must be bound.
    pub fn initiator(replica: &mut Replica, peer: PeerId) -> Result<Self, LinkError> {
        let binding = replica.binding().ok_or(ReplicaError::NotBound)?.clone();
        let follow = (!replica.follows_all()).then(|| replica.containers.in_order().map(|c| c.id).collect());
        let mut link = Self::new(replica, peer, Role::Initiator, binding.database.clone(), follow);
        link.attach(replica);
        Ok(link)
    }

    /// The side that accepted the connection. `attach` is the peer's first frame.
    pub fn responder(
        replica: &mut Replica,
        peer: PeerId,
        authority: Arc<dyn Authority>,
        attach: Attach,
    ) -> Result<Self, LinkError> {
        let mut link = Self::new(replica, peer, Role::Responder(authority), attach.database, None);
        link.tells_acceptances = attach.version >= VERSION_ACCEPTANCES;
        link.follow = match attach.follow {
            Follow::All => None,
            Follow::These(ids) => Some(ids),
            Follow::Digest(digest) => match link.followed(replica, &digest) {
                Some(ids) => Some(ids),
                None => {
                    link.asked = Some((digest, attach.digest));
                    link.outbox.push_back(vec![ATTACHED, 2]);
                    return Ok(link);
                }
            },
        };
        link.answer(replica, &attach.digest);
        Ok(link)
    }

    fn new(
        replica: &Replica,
        peer: PeerId,
        role: Role,
        database: String,
        follow: Option<BTreeSet<ContainerId>>,
    ) -> Self {
        Self {
            peer,
            role,
            database,
            follow,
            asked: None,
            offered: vec![],
            attached: false,
            sessions: BTreeMap::new(),
            tells_acceptances: true,
            unlevel: BTreeSet::new(),
            behind: BTreeSet::new(),
            unmade: BTreeSet::new(),
            heard: false,
            known_to: 0,
            known: BTreeSet::new(),
            unsure: BTreeSet::new(),
            denied: BTreeMap::new(),
            in_other_capitals: BTreeSet::new(),
            failures: vec![],
            ready: BTreeSet::new(),
            outbox: VecDeque::new(),
            seen: replica.changed_end(),
            owes_receipt: false,
            owed: vec![],
            receipts_given: None,
            comparing: None,
            intake: intake::Intake::default(),
            moves_rows: false,
            unmoved: BTreeSet::new(),
            leases: leases::Leases::default(),
            names: names::Names::default(),
            sent: (0, 0),
            at_rest: false,
            pieces: pieces::Pieces::default(),
            told_sent: (0, 0),
        }
    }

    /// The frame with which a responder turns an attach down.
    pub fn denied() -> Vec<u8> {
        vec![DENIED]
    }

    /// Whether both sides know which containers the other has.
    pub fn is_attached(&self) -> bool {
        self.attached
    }

    /// Whether both sides hold the same now, as far as this side knows.
    pub fn is_level(&self) -> bool {
        self.attached
            && self.outbox.is_empty()
            && !self.pieces.is_sending()
            && !self.pieces.is_asking()
            && self.ready.is_empty()
            && self.unlevel.is_empty()
            && !self.leases.are_open()
            && !self.names.are_open()
    }

    /// Takes in one frame.
    pub fn receive(
        &mut self,
        replica: &mut Replica,
        frame: Opened,
        now: Timestamp,
    ) -> Result<Received, LinkError> {
        self.heard = true;
        replica.clock = now;
        let frame = match frame.content {
            Content::Message(message) => {
                let (container, message) = message?;
                return self.receive_message(replica, container, message, now);
            }
            Content::Other(frame) => frame,
        };
        let mut r = Reader::new(&frame);
        match r.u8()? {
            ATTACHED if !self.is_responder() => self.receive_attached(replica, &mut r)?,
            CONTAINERS if !self.is_responder() => self.receive_containers(replica, &mut r)?,
            DENIED if !self.is_responder() => self.receive_denied(replica, &mut r)?,
            INTAKE if !self.is_responder() => self.receive_intake(replica, &mut r)?,
            OPEN => self.receive_open(replica, &mut r)?,
            ASK if self.is_responder() => self.receive_ask(replica, &mut r)?,
            PIECES => self.receive_pieces(replica, &mut r)?,
            PIECE => return self.receive_piece(replica, &mut r, now),
            LEASE => self.receive_lease(replica, &mut r)?,
            NAMES => self.receive_names(replica, &mut r)?,
            FOLLOW if self.is_responder() => self.receive_followed(replica, &mut r)?,
            RECEIPT if self.is_responder() => self.receive_receipt(replica, &mut r, now)?,
            ROWS if !self.is_responder() => self.receive_rows(replica, &mut r)?,
            REST if !self.is_responder() => self.receive_rest(replica)?,
            // One may come late, after this side has attached by itself.
            WAKE if !self.is_responder() && self.at_rest => self.attach(replica),
            WAKE if !self.is_responder() => {}
            ENDED if !self.is_responder() => {
                return Err(self.why_ended(&mut r));
            }
            _ => return Err(LinkError::Protocol { what: "a frame of an unknown kind" }),
        }
        Ok(Received::default())
    }

    /// The next frame for the peer; None when there is nothing to say now.
    pub fn next_frame(
        &mut self,
        replica: &mut Replica,
        now: Timestamp,
    ) -> Result<Option<Arc<[u8]>>, LinkError> {
        if let Some(piece) = self.pieces.next() {
            return Ok(Some(piece));
        }
        let frame = self.next_whole_frame(replica, now)?;
        Ok(frame.map(|frame| self.pieces.cut(frame)))
    }

    fn next_whole_frame(
        &mut self,
        replica: &mut Replica,
        now: Timestamp,
    ) -> Result<Option<Arc<[u8]>>, LinkError> {
        replica.clock = now;
        if let Some(frame) = self.outbox.pop_front() {
            return Ok(Some(frame.into()));
        }
        if self.at_rest && replica.changed_end() != self.seen {
            self.attach(replica);
            return Ok(self.outbox.pop_front().map(Arc::from));
        }
        if !self.attached || self.pieces.is_asking() {
            return Ok(None);
        }
        if let Some(comparing) = &mut self.comparing {
            return Ok(comparing.next_ask(replica)?.map(Arc::from));
        }
        self.look_for_changes(replica);
        if let Some(frame) = self.outbox.pop_front() {
            return Ok(Some(frame.into()));
        }
        self.settle_numbers(replica, now)?;
        if let Some(frame) = self.next_ready(replica, now)? {
            return Ok(Some(frame));
        }
        if self.make_tables(replica, now)? {
            self.look_for_changes(replica);
            if let Some(frame) = self.next_ready(replica, now)? {
                return Ok(Some(frame));
            }
        }
        if let Some(frame) = self.next_lease(replica) {
            return Ok(Some(frame.into()));
        }
        if let Some(frame) = self.next_names(replica) {
            return Ok(Some(frame.into()));
        }
        Ok(self.next_receipt(replica, now)?.map(Arc::from))
    }

    /// What the first of the containers that may have something to say says.
    fn next_ready(&mut self, replica: &mut Replica, now: Timestamp) -> Result<Option<Arc<[u8]>>, LinkError> {
        while let Some(place) = self.ready.first().copied() {
            let no = place.1;
            match self.next_of(replica, no, now)? {
                Some(frame) => return Ok(Some(frame)),
                None => {
                    self.ready.remove(&place);
                    // It may have ended, and its peer is to know.
                    if let Some(frame) = self.outbox.pop_front() {
                        return Ok(Some(frame.into()));
                    }
                }
            }
        }
        Ok(None)
    }

    fn is_responder(&self) -> bool {
        matches!(self.role, Role::Responder(_))
    }

    /// What the peer may do with containers now, as far as this side decides.
    fn access_now(&self) -> impl Fn(&str) -> Option<Access> + use<> {
        let grants = match &self.role {
            Role::Initiator => None,
            Role::Responder(authority) => Some(authority.grants(&self.peer)),
        };
        move |name| grants.as_ref().map_or(Some(Access::Write), |grants| access(grants, name))
    }

    fn access(&self, name: &str) -> Option<Access> {
        self.access_now()(name)
    }

    fn receive_message(
        &mut self,
        replica: &mut Replica,
        id: ContainerId,
        message: Heard,
        now: Timestamp,
    ) -> Result<Received, LinkError> {
        let Some(no) = replica.containers.with_id(&id).map(|c| c.no) else {
            return Ok(Received::default()); // we do not follow it
        };
        if self.denied.contains_key(&no) {
            return Ok(Received::default());
        }
        if !self.knows(no) {
            return Err(LinkError::Protocol { what: "a message to a container that was not opened" });
        }
        if self.access(&replica.containers[&no].name).is_none() {
            return Err(LinkError::Protocol { what: "a message to a container that is not granted" });
        }
        if self.lets_pass(id, &message) {
            return Ok(Received::default());
        }
        let session = self.session(no, now);
        let received = replica.container(&id).map(|mut c| c.receive(session, message)).transpose();
        let received = match received {
            Err(error) if self.is_of_container(&error) => {
                self.fail(replica, no, error)?;
                return Ok(Received::default());
            }
            received => received,
        };
        self.note_level(no);
        self.note_in_sync(replica, no)?;
        self.note_unmade(replica, no);
        self.owes_receipt |=
            !self.is_responder() && received.as_ref().is_ok_and(|r| r.is_some_and(|r| r.segments > 0));
        self.make_ready(replica, vec![no]);
        // Those that refer to it may have waited for it.
        let children = replica.containers.get(&no).map(|c| replica.containers.children_of(&c.table));
        self.make_ready(replica, children.into_iter().flatten().collect());
        let related = self.related(replica, &[no]);
        self.make_ready(replica, related);
        received.map(Option::unwrap_or_default).map_err(|source| sync_error(replica, no, source))
    }

    fn session(&mut self, no: i64, now: Timestamp) -> &mut Session {
        let (peer, role, tells_acceptances) = (self.peer, self.role.clone(), self.tells_acceptances);
        let moves_rows = self.moves_rows;
        let session = self.sessions.entry(no).or_insert_with(|| Session::new(peer, role));
        session.set_now(now);
        session.tells_acceptances = tells_acceptances;
        session.numbers.are_known = moves_rows;
        session
    }

    /// Takes note of where a session stands, after it spoke or heard.
    fn note_level(&mut self, no: i64) {
        let session = self.sessions.get(&no);
        let note = |set: &mut BTreeSet<i64>, is: bool| if is { set.insert(no) } else { set.remove(&no) };
        note(&mut self.unlevel, session.is_some_and(|s| !s.is_level()));
        note(&mut self.behind, session.is_some_and(|s| s.behind));
    }

    fn next_of(
        &mut self,
        replica: &mut Replica,
        no: i64,
        now: Timestamp,
    ) -> Result<Option<Arc<[u8]>>, LinkError> {
        let Some(id) = replica.containers.get(&no).map(|c| c.id) else { return Ok(None) };
        // Tables in a circle cannot all come before each other: only parents outside the circle are waited for.
        let waits = replica.containers.parents_of(no).any(|parent| {
            let tip = replica.containers.get(&parent).map(|c| c.feed.tip);
            let is_sending = |s: &Session| s.is_sending(tip) || (self.moves_rows && s.is_unsent(tip));
            self.sessions.get(&parent).is_some_and(is_sending) && !replica.is_circle(no, parent)
        });
        let waits_for_numbers = self.waits_for_numbers(replica, no);
        let stopped = self.intake.stop.is_some() && !self.is_responder();
        let message_max = self.pieces.message_max();
        let session = self.session(no, now);
        (session.holds_back, session.stopped) = (waits || waits_for_numbers, stopped);
        session.numbers.holds_back = session.numbers.are_known && session.holds_back;
        session.message_max = message_max;
        let before = (session.sent_rows, session.sent_segments);
        let message = replica.container(&id).map(|mut c| c.next_message(session)).transpose();
        let (rows, segments) = (session.sent_rows - before.0, session.sent_segments - before.1);
        self.sent = (self.sent.0 + rows, self.sent.1 + segments);
        let message = match message {
            Err(error) if self.is_of_container(&error) => {
                self.fail(replica, no, error)?;
                return Ok(None);
            }
            message => message.map_err(|source| sync_error(replica, no, source))?.flatten(),
        };
        self.note_level(no);
        self.note_in_sync(replica, no)?;
        Ok(message.map(|message| replica.fan_out.frame(&message, || encode(&id, &message))))
    }

    /// Lets containers say what they have to say, if the peer knows of them or may.
    fn make_ready(&mut self, replica: &Replica, mut numbers: Vec<i64>) {
        numbers.retain(|no| !self.denied.contains_key(no));
        self.introduce(replica, &mut numbers);
        self.ready.extend(numbers.into_iter().map(|no| (replica.depth(no), no)));
    }

    fn look_for_changes(&mut self, replica: &Replica) {
        let end = replica.changed_end();
        if end != self.seen {
            let changed: Vec<_> = replica.changed_since(self.seen).collect();
            let related = self.related(replica, &changed);
            self.leases.note_changed(replica, &changed);
            self.make_ready(replica, changed);
            self.make_ready(replica, related);
            self.seen = end;
        }
    }
}

/// The frame of a container's message.
fn encode(id: &ContainerId, message: &Message) -> Vec<u8> {
    let mut frame = vec![MESSAGE];
    frame.extend_from_slice(&id.0);
    message.encode(&mut frame);
    frame
}

fn sync_error(replica: &Replica, no: i64, source: SyncError) -> LinkError {
    let container = replica.containers.get(&no).map(|c| c.name.clone()).unwrap_or_default();
    LinkError::Sync { container, source }
}
