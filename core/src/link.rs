//! Link: one database over one connection, from one side. Frames in, frames out; no socket.
//!
//! First both sides find out which containers they share and which of them differ, by one digest; then
//! each container talks with its counterpart by itself, and the link only carries the messages.
//!
//! ```text
//! frame    kind u8, then
//!   0 attach    initiator: version · database · follow (0 all, 1 list of container ids) · count · digest
//!   1 attached  responder: 1 digests are equal, or 0: containers follow
//!   2 containers  last u8 · n LEB128 · n times (name · integer keys u8 · access u8 · root digest 32)
//!   3 message   container id 32 · message
//!   4 denied    (empty: the database; or a container id: that container)
//!   5 open      like one of them: a container that the other side may not know
//!   6 ask, 7 rows   see `compare`
//!   8 receipt   initiator: container id 32 · cursor · signature 64, see `supervisor_log`
//! ```
//! The digest is SHA-256 over the ascending pairs (container id, root digest).

use crate::bytes::{DecodeError, Reader, put_bytes, put_uleb};
use crate::compare::{Ask, Comparison, Rows};
use crate::container::{Received, SyncError};
use crate::container_name::{ContainerName, container_id};
use crate::grant::Access;
use crate::id::{ContainerId, PeerId, Timestamp};
use crate::key::RowKey;
use crate::message::{Cursor, Message, put_cursor, read_cursor};
use crate::replica::{ContainerState, Replica, ReplicaError, Scan};
use crate::root::RootDigest;
use crate::session::{Authority, Role, Session};
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

const VERSION: u8 = 1;
const ATTACH: u8 = 0;
const ATTACHED: u8 = 1;
const CONTAINERS: u8 = 2;
const MESSAGE: u8 = 3;
const DENIED: u8 = 4;
const OPEN: u8 = 5;
const ASK: u8 = 6;
const ROWS: u8 = 7;
const RECEIPT: u8 = 8;

const NAME_LEN_MAX: usize = 512;
const CONTAINERS_MAX: u64 = 1 << 20;
/// A connection that stays gives receipts at most this often.
const RECEIPTS_EVERY_MS: u64 = 60_000;
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
    /// The server does not have the database, or grants nothing in it.
    #[error("the server has no database {database} for this device")]
    Denied {
        /// The database.
        database: String,
    },
    /// The peer does not follow the protocol.
    #[error("the peer does not follow the protocol: {what}")]
    Protocol {
        /// What it did.
        what: &'static str,
    },
}

/// What an initiator's first frame asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attach {
    /// The database.
    pub database: String,
    follow: Option<Vec<ContainerId>>,
    digest: [u8; 32],
}

impl Attach {
    /// Reads an initiator's first frame.
    pub fn decode(frame: &[u8]) -> Result<Self, LinkError> {
        let mut r = Reader::new(frame);
        if r.u8()? != ATTACH {
            return Err(LinkError::Protocol { what: "the first frame is no attach" });
        }
        let version = r.u8()?;
        if version != VERSION {
            return Err(LinkError::UnknownVersion { version });
        }
        let database = r.text(NAME_LEN_MAX, "a database's name")?.to_owned();
        let follow = match r.u8()? {
            0 => None,
            1 => {
                let n = r.uleb_max(CONTAINERS_MAX, "the number of containers")?;
                Some((0..n).map(|_| r.array().map(ContainerId)).collect::<Result<_, _>>()?)
            }
            _ => return Err(DecodeError::Invalid { what: "what to follow" }.into()),
        };
        let digest = r.array()?;
        r.finish()?;
        Ok(Self { database, follow, digest })
    }

    fn encode(&self) -> Vec<u8> {
        let mut out = vec![ATTACH, VERSION];
        put_bytes(&mut out, self.database.as_bytes());
        match &self.follow {
            None => out.push(0),
            Some(ids) => {
                out.push(1);
                put_uleb(&mut out, ids.len() as u64);
                ids.iter().for_each(|id| out.extend_from_slice(&id.0));
            }
        }
        out.extend_from_slice(&self.digest);
        out
    }
}

/// A container as one side tells the other of it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Told {
    name: String,
    integer_keys: bool,
    access: Access,
    root: RootDigest,
}

impl Told {
    fn encode(&self, out: &mut Vec<u8>) {
        put_bytes(out, self.name.as_bytes());
        out.push(u8::from(self.integer_keys));
        out.push(match self.access {
            Access::Read => 0,
            Access::Write => 1,
            Access::Admin => 2,
        });
        out.extend_from_slice(&self.root.0);
    }

    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let name = r.text(NAME_LEN_MAX, "a container's name")?.to_owned();
        let integer_keys = r.u8()? == 1;
        let access = match r.u8()? {
            0 => Access::Read,
            1 => Access::Write,
            2 => Access::Admin,
            _ => return Err(DecodeError::Invalid { what: "an access" }),
        };
        Ok(Self { name, integer_keys, access, root: RootDigest(r.array()?) })
    }
}

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
}

/// One database over one connection.
#[derive(Debug)]
pub struct Link {
    peer: PeerId,
    role: Role,
    database: String,
    follow: Option<BTreeSet<ContainerId>>,
    /// Whether both sides know what they share.
    attached: bool,
    sessions: BTreeMap<i64, Session>,
    /// Containers that the peer knows of.
    known: BTreeSet<i64>,
    /// Containers that the peer does not grant.
    denied: BTreeSet<i64>,
    /// Containers with something to say, perhaps: tables that others refer to come before those.
    ready: BTreeSet<(u32, i64)>,
    outbox: VecDeque<Vec<u8>>,
    seen: u64,
    /// Whether something came that no receipt covers.
    owes_receipt: bool,
    /// When receipts were given last.
    receipts_given: Option<Timestamp>,
    /// Tables to compare, and how far the first of them is; None: this link syncs.
    comparing: Option<Comparing>,
}

#[derive(Debug, Default)]
struct Comparing {
    tables: VecDeque<i64>,
    asked: bool,
    after: Option<RowKey>,
    found: Vec<Comparison>,
}

impl Link {
    /// The side that opened the connection; the replica must be bound.
    pub fn initiator(replica: &mut Replica, peer: PeerId) -> Result<Self, LinkError> {
        let binding = replica.binding().ok_or(ReplicaError::NotBound)?.clone();
        let follow = (!replica.follows_all()).then(|| replica.containers.values().map(|c| c.id).collect());
        let mut link = Self::new(replica, peer, Role::Initiator, binding.database.clone(), follow);
        let digest = link.digest(replica);
        let follow = link.follow.as_ref().map(|ids| ids.iter().copied().collect());
        link.outbox.push_back(Attach { database: binding.database, follow, digest }.encode());
        Ok(link)
    }

    /// An initiator that compares tables (none named: all) with those of the server, and changes nothing.
    pub fn comparer(replica: &mut Replica, peer: PeerId, tables: &[String]) -> Result<Self, LinkError> {
        let mut link = Self::initiator(replica, peer)?;
        let tables = match tables {
            [] => replica.containers.keys().copied().collect(),
            names => names.iter().map(|t| replica.number(t)).collect::<Result<_, _>>()?,
        };
        link.comparing = Some(Comparing { tables, ..Comparing::default() });
        Ok(link)
    }

    /// What a comparer has found, once it is done.
    pub fn comparison(&self) -> Option<&[Comparison]> {
        self.comparing.as_ref().filter(|c| self.attached && c.tables.is_empty()).map(|c| &c.found[..])
    }

    /// The side that accepted the connection. `attach` is the peer's first frame.
    pub fn responder(
        replica: &mut Replica,
        peer: PeerId,
        authority: Arc<dyn Authority>,
        attach: Attach,
    ) -> Result<Self, LinkError> {
        let follow = attach.follow.map(|ids| ids.into_iter().collect());
        let mut link = Self::new(replica, peer, Role::Responder(authority), attach.database, follow);
        link.attached = true;
        let shared = link.shared(replica);
        if link.digest(replica) == attach.digest {
            // The others the peer may never have heard of.
            link.known.extend(shared.into_iter().filter(|no| has_news(&replica.containers[no])));
            link.outbox.push_back(vec![ATTACHED, 1]);
            return Ok(link);
        }
        let told: Vec<_> = shared.iter().map(|no| link.tell(replica, *no)).collect();
        link.known.extend(shared);
        link.outbox.push_back(vec![ATTACHED, 0]);
        let mut lists = told.chunks(LIST_MAX).peekable();
        if lists.peek().is_none() {
            link.outbox.push_back(encode_list(&[], true));
        }
        while let Some(list) = lists.next() {
            link.outbox.push_back(encode_list(list, lists.peek().is_none()));
        }
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
            attached: false,
            sessions: BTreeMap::new(),
            known: BTreeSet::new(),
            denied: BTreeSet::new(),
            ready: BTreeSet::new(),
            outbox: VecDeque::new(),
            seen: replica.changed_end(),
            owes_receipt: false,
            receipts_given: None,
            comparing: None,
        }
    }

    /// The frame with which a responder turns an attach down.
    pub fn denied() -> Vec<u8> {
        vec![DENIED]
    }

    /// Whether both sides hold the same now, as far as this side knows.
    pub fn is_level(&self) -> bool {
        self.attached
            && self.outbox.is_empty()
            && self.ready.is_empty()
            && self.sessions.values().all(Session::is_level)
    }

    /// What has gone to the peer and what is still to go and to come.
    pub fn traffic(&self, replica: &Replica) -> Traffic {
        let mut traffic = Traffic::default();
        for (no, session) in &self.sessions {
            traffic.sent_rows += session.sent_rows;
            traffic.sent_segments += session.sent_segments;
            let Some(state) = replica.containers.get(no) else { continue };
            let seq = |cursor: Option<Cursor>| cursor.map_or(0, |c| c.seq.0);
            traffic.segments_to_send += state.feed.tip.seq.0.saturating_sub(seq(session.sent));
            let tip = session.heard.as_ref().map(|h| h.tip);
            let come = session.said.as_ref().and_then(|h| h.cursors.first().copied());
            traffic.segments_to_come += seq(tip).saturating_sub(seq(come));
        }
        traffic
    }

    /// Containers of this file that the server does not grant to this device.
    pub fn not_granted(&self, replica: &Replica) -> Vec<String> {
        self.denied.iter().filter_map(|no| Some(replica.containers.get(no)?.name.clone())).collect()
    }

    /// Takes in one frame.
    pub fn receive(
        &mut self,
        replica: &mut Replica,
        frame: &[u8],
        now: Timestamp,
    ) -> Result<Received, LinkError> {
        let mut r = Reader::new(frame);
        match r.u8()? {
            ATTACHED if !self.is_responder() => self.receive_attached(replica, &mut r)?,
            CONTAINERS if !self.is_responder() => self.receive_containers(replica, &mut r)?,
            MESSAGE => return self.receive_message(replica, &mut r, now),
            DENIED if !self.is_responder() => self.receive_denied(replica, &mut r)?,
            OPEN => self.receive_open(replica, &mut r)?,
            ASK if self.is_responder() => self.receive_ask(replica, &mut r)?,
            RECEIPT if self.is_responder() => self.receive_receipt(replica, &mut r, now)?,
            ROWS if !self.is_responder() => self.receive_rows(replica, &mut r)?,
            _ => return Err(LinkError::Protocol { what: "a frame of an unknown kind" }),
        }
        Ok(Received::default())
    }

    /// The next frame for the peer; None when there is nothing to say now.
    pub fn next_frame(
        &mut self,
        replica: &mut Replica,
        now: Timestamp,
    ) -> Result<Option<Vec<u8>>, LinkError> {
        if let Some(frame) = self.outbox.pop_front() {
            return Ok(Some(frame));
        }
        if !self.attached {
            return Ok(None);
        }
        if let Some(comparing) = &mut self.comparing {
            return Ok(comparing.next_ask(replica));
        }
        self.look_for_changes(replica);
        while let Some(place) = self.ready.first().copied() {
            let no = place.1;
            if !self.known.contains(&no) && !self.introduce(replica, no) {
                self.ready.remove(&place);
                continue;
            }
            if let Some(frame) = self.outbox.pop_front() {
                return Ok(Some(frame));
            }
            match self.next_of(replica, no, now)? {
                Some(frame) => return Ok(Some(frame)),
                None => {
                    self.ready.remove(&place);
                }
            }
        }
        self.next_receipt(replica, now)
    }

    /// Once level: our word on what came, for the server's log.
    fn next_receipt(&mut self, replica: &mut Replica, now: Timestamp) -> Result<Option<Vec<u8>>, LinkError> {
        let recent = self.receipts_given.is_some_and(|last| now.0 < last.0 + RECEIPTS_EVERY_MS);
        if !self.owes_receipt || recent || !self.is_level() {
            return Ok(None);
        }
        self.owes_receipt = false;
        for (no, session) in &mut self.sessions {
            let Some(id) = replica.containers.get(no).map(|c| c.id) else { continue };
            let receipt = replica.container(&id).map(|mut c| c.next_receipt(session)).transpose();
            let receipt = receipt.map_err(|source| LinkError::Sync { container: id.to_string(), source })?;
            if let Some((reach, signature)) = receipt.flatten() {
                let mut frame = vec![RECEIPT];
                frame.extend_from_slice(&id.0);
                put_cursor(&mut frame, &reach);
                frame.extend_from_slice(&signature);
                self.outbox.push_back(frame);
            }
        }
        if !self.outbox.is_empty() {
            self.receipts_given = Some(now);
        }
        Ok(self.outbox.pop_front())
    }

    fn receive_receipt(
        &mut self,
        replica: &mut Replica,
        r: &mut Reader<'_>,
        now: Timestamp,
    ) -> Result<(), LinkError> {
        let id = ContainerId(r.array()?);
        let (reach, signature) = (read_cursor(r)?, r.array()?);
        let Some(state) = replica.containers.values().find(|c| c.id == id) else { return Ok(()) };
        let (no, name) = (state.no, state.name.clone());
        if self.access(&name).is_none() || !self.sessions.contains_key(&no) {
            return Ok(());
        }
        let session = self.session(no, now);
        let done =
            replica.container(&id).map(|mut c| c.receive_receipt(session, reach, signature)).transpose();
        done.map(drop).map_err(|source| LinkError::Sync { container: name, source })
    }

    fn is_responder(&self) -> bool {
        matches!(self.role, Role::Responder(_))
    }

    /// What the peer may do with a container, as far as this side decides.
    fn access(&self, name: &str) -> Option<Access> {
        match &self.role {
            Role::Initiator => Some(Access::Write),
            Role::Responder(authority) => authority.access(&self.peer, name),
        }
    }

    /// The containers that both sides may talk of.
    fn shared(&self, replica: &Replica) -> Vec<i64> {
        let followed = |id: &ContainerId| self.follow.as_ref().is_none_or(|ids| ids.contains(id));
        replica
            .containers
            .values()
            .filter(|c| followed(&c.id) && self.access(&c.name).is_some())
            .map(|c| c.no)
            .collect()
    }

    fn digest(&self, replica: &Replica) -> [u8; 32] {
        let mut pairs: Vec<_> = self
            .shared(replica)
            .into_iter()
            .map(|no| &replica.containers[&no])
            .filter(|c| has_news(c))
            .map(|c| (c.id, if c.scan == Scan::No { c.feed.root.digest().0 } else { [0xff; 32] }))
            .collect();
        pairs.sort();
        let mut hash = Sha256::new().chain_update(b"piecewise containers\0");
        for (id, root) in pairs {
            hash = hash.chain_update(id.0).chain_update(root);
        }
        hash.finalize().into()
    }

    fn tell(&self, replica: &Replica, no: i64) -> Told {
        let state = &replica.containers[&no];
        Told {
            name: state.name.clone(),
            integer_keys: state.integer_keys,
            access: self.access(&state.name).unwrap_or(Access::Read),
            root: state.feed.root.digest(),
        }
    }

    fn receive_attached(&mut self, replica: &mut Replica, r: &mut Reader<'_>) -> Result<(), LinkError> {
        if r.u8()? == 1 {
            self.attached = true;
            let counted = replica.containers.values().filter(|c| has_news(c));
            self.known.extend(counted.map(|c| c.no));
        }
        Ok(())
    }

    fn receive_containers(&mut self, replica: &mut Replica, r: &mut Reader<'_>) -> Result<(), LinkError> {
        let last = r.u8()? == 1;
        let n = r.uleb_max(LIST_MAX as u64, "the number of containers")?;
        for _ in 0..n {
            let told = Told::decode(r)?;
            self.hear_of(replica, &told)?;
        }
        if last {
            self.attached = true;
            // What the server did not list, it is told of.
            let new: Vec<_> =
                replica.containers.keys().filter(|no| !self.known.contains(no)).copied().collect();
            self.make_ready(replica, new);
        }
        Ok(())
    }

    fn hear_of(&mut self, replica: &mut Replica, told: &Told) -> Result<(), LinkError> {
        let Some(no) = replica.follow_container(&told.name, told.integer_keys)? else { return Ok(()) };
        self.known.insert(no);
        if replica.containers[&no].read_only != (told.access == Access::Read) {
            replica.transaction(|r| r.set_read_only(no, told.access == Access::Read))?;
        }
        let state = &replica.containers[&no];
        if state.scan != Scan::No || state.feed.root.digest() != told.root {
            self.make_ready(replica, [no]);
        }
        Ok(())
    }

    fn receive_denied(&mut self, replica: &Replica, r: &mut Reader<'_>) -> Result<(), LinkError> {
        if r.is_empty() {
            return Err(LinkError::Denied { database: self.database.clone() });
        }
        let id = ContainerId(r.array()?);
        if let Some(state) = replica.containers.values().find(|c| c.id == id) {
            self.sessions.remove(&state.no);
            let no = state.no;
            self.ready.retain(|(_, n)| *n != no);
            self.known.remove(&state.no);
            self.denied.insert(state.no);
        }
        Ok(())
    }

    fn receive_open(&mut self, replica: &mut Replica, r: &mut Reader<'_>) -> Result<(), LinkError> {
        let told = Told::decode(r)?;
        if !self.is_responder() {
            return self.hear_of(replica, &told);
        }
        let name = ContainerName::parse(&told.name)
            .map_err(|_| ReplicaError::BadName { name: told.name.clone() })?;
        let binding = replica.binding().ok_or(ReplicaError::NotBound)?;
        let id = container_id(&binding.realm, &name);
        let may_make = self.access(&told.name).is_some_and(|a| a >= Access::Write);
        let exists = replica.containers.values().any(|c| c.id == id);
        let granted = self.access(&told.name).is_some() && (exists || may_make);
        if let Some(no) =
            granted.then(|| replica.follow_container(&told.name, told.integer_keys)).transpose()?.flatten()
        {
            self.known.insert(no);
            self.make_ready(replica, [no]);
            if let Some(ids) = &mut self.follow {
                ids.insert(id);
            }
            replica.note_changed(no);
        } else {
            let mut frame = vec![DENIED];
            frame.extend_from_slice(&id.0);
            self.outbox.push_back(frame);
        }
        Ok(())
    }

    fn receive_ask(&mut self, replica: &Replica, r: &mut Reader<'_>) -> Result<(), LinkError> {
        let ask = Ask::decode(r)?;
        let container = ask.container;
        let state = replica.containers.values().find(|c| c.id == container);
        let granted = state.is_some_and(|c| self.access(&c.name).is_some());
        let rows = match granted {
            true => replica.answer(&ask)?,
            false => Rows { container, last: true, rows: vec![] },
        };
        let mut frame = vec![ROWS];
        rows.encode(&mut frame);
        self.outbox.push_back(frame);
        Ok(())
    }

    fn receive_rows(&mut self, replica: &Replica, r: &mut Reader<'_>) -> Result<(), LinkError> {
        let rows = Rows::decode(r)?;
        let unasked = LinkError::Protocol { what: "rows that nobody asked for" };
        let Some(comparing) = self.comparing.as_mut().filter(|c| c.asked) else { return Err(unasked) };
        let Some(no) = comparing.tables.front().copied() else { return Err(unasked) };
        if comparing.after.is_none() {
            let table = replica.containers[&no].table.clone();
            comparing.found.push(Comparison { table, ..Comparison::default() });
        }
        let Some(found) = comparing.found.last_mut() else { return Err(unasked) };
        let after = comparing.after.take();
        comparing.after = replica.compare(no, after, rows, found)?;
        comparing.asked = false;
        if comparing.after.is_none() {
            comparing.tables.pop_front();
        }
        Ok(())
    }

    /// Tells the peer of a container it may not know; false if it must not hear of it.
    fn introduce(&mut self, replica: &Replica, no: i64) -> bool {
        let Some(state) = replica.containers.get(&no) else { return false };
        let followed = self.follow.as_ref().is_none_or(|ids| ids.contains(&state.id));
        if self.denied.contains(&no)
            || self.access(&state.name).is_none()
            || (self.is_responder() && !followed)
        {
            return false;
        }
        self.known.insert(no);
        let mut frame = vec![OPEN];
        self.tell(replica, no).encode(&mut frame);
        self.outbox.push_back(frame);
        true
    }

    fn receive_message(
        &mut self,
        replica: &mut Replica,
        r: &mut Reader<'_>,
        now: Timestamp,
    ) -> Result<Received, LinkError> {
        let id = ContainerId(r.array()?);
        let message = Message::decode(r.rest())?;
        let Some(no) = replica.containers.values().find(|c| c.id == id).map(|c| c.no) else {
            return Ok(Received::default()); // we do not follow it
        };
        if !self.known.contains(&no) {
            return Err(LinkError::Protocol { what: "a message to a container that was not opened" });
        }
        if self.access(&replica.containers[&no].name).is_none() {
            return Err(LinkError::Protocol { what: "a message to a container that is not granted" });
        }
        let session = self.session(no, now);
        let received = replica.container(&id).map(|mut c| c.receive(session, message)).transpose();
        self.owes_receipt |=
            !self.is_responder() && received.as_ref().is_ok_and(|r| r.is_some_and(|r| r.segments > 0));
        self.make_ready(replica, [no]);
        // Those that refer to it may have waited for it.
        let children = replica.containers.get(&no).map(|c| replica.children_of(&c.table)).unwrap_or_default();
        self.make_ready(replica, children);
        received.map(Option::unwrap_or_default).map_err(|source| LinkError::Sync {
            container: replica.containers.get(&no).map(|c| c.name.clone()).unwrap_or_default(),
            source,
        })
    }

    fn session(&mut self, no: i64, now: Timestamp) -> &mut Session {
        let (peer, role) = (self.peer, self.role.clone());
        let session = self.sessions.entry(no).or_insert_with(|| Session::new(peer, role));
        session.set_now(now);
        session
    }

    fn next_of(
        &mut self,
        replica: &mut Replica,
        no: i64,
        now: Timestamp,
    ) -> Result<Option<Vec<u8>>, LinkError> {
        let Some((id, name)) = replica.containers.get(&no).map(|c| (c.id, c.name.clone())) else {
            return Ok(None);
        };
        let waits = replica.parents_of(no).iter().any(|parent| {
            let tip = replica.containers.get(parent).map(|c| c.feed.tip);
            self.sessions.get(parent).is_some_and(|s| s.is_sending(tip))
        });
        let session = self.session(no, now);
        session.holds_back = waits;
        let message = replica.container(&id).map(|mut c| c.next_message(session)).transpose();
        let message = message.map_err(|source| LinkError::Sync { container: name, source })?.flatten();
        Ok(message.map(|message| {
            let mut frame = vec![MESSAGE];
            frame.extend_from_slice(&id.0);
            message.encode(&mut frame);
            frame
        }))
    }

    fn make_ready(&mut self, replica: &Replica, numbers: impl IntoIterator<Item = i64>) {
        self.ready.extend(numbers.into_iter().map(|no| (replica.depth(no), no)));
    }

    fn look_for_changes(&mut self, replica: &Replica) {
        let end = replica.changed_end();
        if end == self.seen {
            return;
        }
        match replica.changed_since(self.seen) {
            Some(changed) => self.make_ready(replica, changed),
            None => self.make_ready(replica, replica.containers.keys().copied()),
        }
        self.seen = end;
    }
}

impl Comparing {
    fn next_ask(&mut self, replica: &Replica) -> Option<Vec<u8>> {
        while !self.asked {
            let no = *self.tables.front()?;
            let Some(ask) = replica.ask(no, self.after.clone()) else {
                self.tables.pop_front();
                continue;
            };
            self.asked = true;
            let mut frame = vec![ASK];
            ask.encode(&mut frame);
            return Some(frame);
        }
        None
    }
}

/// Whether a container counts in the digest: one side may know of another that has nothing in it yet.
fn has_news(container: &ContainerState) -> bool {
    container.feed.count() > 0 || container.scan != Scan::No
}

fn encode_list(list: &[Told], last: bool) -> Vec<u8> {
    let mut out = vec![CONTAINERS, u8::from(last)];
    put_uleb(&mut out, list.len() as u64);
    list.iter().for_each(|told| told.encode(&mut out));
    out
}
