//! Attach: how a talk begins. Both sides find out, by one digest, which containers they share and whether they differ.

use super::known::{Told, encode_list, read_list};
use super::{ATTACH, ATTACHED, FOLLOW, LIST_MAX, Link, LinkError, NAME_LEN_MAX, VERSION};
use crate::bytes::{DecodeError, Reader, put_bytes, put_uleb};
use crate::grant::Access;
use crate::id::ContainerId;
use crate::replica::standing::{self, held_by_client, held_with, holding};
use crate::replica::{ContainerState, Replica};
use sha2::{Digest, Sha256};
use std::collections::BTreeSet;

/// An attach names so many containers; of more it gives the digest.
const IDS_AT_ONCE: usize = 32;
/// Ids in an attach or a list.
const IDS_MAX: u64 = 1 << 17;
/// Ids that a responder remembers, of all the lists it was told: 4 MiB.
const IDS_KEPT: usize = 1 << 17;

/// What an initiator's first frame asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attach {
    /// The database.
    pub database: String,
    /// The version of the protocol that the initiator speaks.
    pub(super) version: u8,
    pub(super) follow: Follow,
    pub(super) digest: [u8; 32],
}

/// Which containers an initiator wants to talk of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Follow {
    All,
    These(BTreeSet<ContainerId>),
    /// Many, of which this is the digest.
    Digest([u8; 32]),
}

impl Attach {
    /// Whether a frame is an initiator's first.
    pub fn begins(frame: &[u8]) -> bool {
        frame.first() == Some(&ATTACH)
    }

    /// Reads an initiator's first frame.
    pub fn decode(frame: &[u8]) -> Result<Self, LinkError> {
        let mut r = Reader::new(frame);
        if r.u8()? != ATTACH {
            return Err(LinkError::Protocol { what: "the first frame is no attach" });
        }
        let version = r.u8()?;
        if version == 0 || version > VERSION {
            return Err(LinkError::UnknownVersion { version });
        }
        let database = r.text(NAME_LEN_MAX, "a database's name")?.to_owned();
        let follow = match r.u8()? {
            0 => Follow::All,
            1 => Follow::These(read_ids(&mut r)?),
            2 => Follow::Digest(r.array()?),
            _ => return Err(DecodeError::Invalid { what: "what to follow" }.into()),
        };
        let digest = r.array()?;
        r.finish()?;
        Ok(Self { database, version, follow, digest })
    }

    /// Bytes of container ids that a frame makes the responder hold while the talk lasts.
    pub fn listed_len(frame: &[u8]) -> usize {
        if matches!(frame.first(), Some(&ATTACH | &FOLLOW)) { frame.len() } else { 0 }
    }

    fn encode(&self) -> Vec<u8> {
        let mut out = vec![ATTACH, self.version];
        put_bytes(&mut out, self.database.as_bytes());
        match &self.follow {
            Follow::All => out.push(0),
            Follow::These(ids) => {
                out.push(1);
                put_ids(ids, &mut out);
            }
            Follow::Digest(digest) => {
                out.push(2);
                out.extend_from_slice(digest);
            }
        }
        out.extend_from_slice(&self.digest);
        out
    }
}

impl Link {
    /// Begins to talk: which containers both sides share, and which of them differ.
    pub(super) fn attach(&mut self, replica: &Replica) {
        // After a rest there may be tables that were tracked meanwhile.
        if let Some(follow) = &mut self.follow {
            follow.extend(replica.containers.in_order().map(|c| c.id));
        }
        let follow = match &self.follow {
            None => Follow::All,
            Some(ids) if ids.len() <= IDS_AT_ONCE => Follow::These(ids.clone()),
            Some(ids) => Follow::Digest(digest_of_ids(ids)),
        };
        let (database, digest) = (self.database.clone(), self.digest(replica));
        // Should this not be readable, the next word of each container says so.
        self.offered = replica.unacknowledged().unwrap_or_default();
        self.outbox.push_back(Attach { database, version: VERSION, follow, digest }.encode());
        self.outbox.extend(self.owed.drain(..));
        (self.at_rest, self.attached, self.seen) = (false, false, replica.changed_end());
    }

    /// As the responder: which containers the peer follows, by the digest of their ids; None: it has to tell.
    ///
    /// Most often they are all that it may see, or those that it told of before.
    pub(super) fn followed(&self, replica: &Replica, digest: &[u8; 32]) -> Option<BTreeSet<ContainerId>> {
        if let Some((_, ids)) = replica.followed.iter().find(|(known, _)| known == digest) {
            return Some(ids.clone());
        }
        let ids: BTreeSet<_> = self.shared(replica, &self.access_now()).map(|c| c.id).collect();
        (digest_of_ids(&ids) == *digest).then_some(ids)
    }

    /// As the initiator: tells which containers these are that it follows.
    pub(super) fn tell_followed(&mut self) {
        let mut frame = vec![FOLLOW];
        put_ids(self.follow.as_ref().unwrap_or(&BTreeSet::new()), &mut frame);
        self.outbox.push_back(frame);
    }

    /// As the responder: hears it, and begins to talk.
    pub(super) fn receive_followed(
        &mut self,
        replica: &mut Replica,
        r: &mut Reader<'_>,
    ) -> Result<(), LinkError> {
        let ids = read_ids(r)?;
        let Some((wanted, digest)) = self.asked.take().filter(|(wanted, _)| *wanted == digest_of_ids(&ids))
        else {
            return Err(LinkError::Protocol { what: "containers that were not asked for" });
        };
        replica.followed.push_front((wanted, ids.clone()));
        let mut total = 0;
        replica.followed.retain(|(_, ids)| {
            total += ids.len();
            total <= IDS_KEPT
        });
        self.follow = Some(ids);
        self.answer(replica, &digest);
        Ok(())
    }

    /// As the responder: whether both sides hold the same, or else what there is here.
    pub(super) fn answer(&mut self, replica: &mut Replica, digest: &[u8; 32]) {
        self.attached = true;
        if self.digest(replica) == *digest {
            self.know_equal(replica);
            self.outbox.push_back(vec![ATTACHED, 1]);
            return;
        }
        self.know_shared(replica, |_| true);
        let access = self.access_now();
        let told: Vec<_> = self
            .shared(replica, &access)
            .map(|c| Told::of(c, access(&c.name).unwrap_or(Access::Read)))
            .collect();
        self.outbox.push_back(vec![ATTACHED, 0]);
        let mut lists = told.chunks(LIST_MAX).peekable();
        if lists.peek().is_none() {
            self.outbox.push_back(encode_list(&[], true));
        }
        while let Some(list) = lists.next() {
            self.outbox.push_back(encode_list(list, lists.peek().is_none()));
        }
    }

    /// The containers that both sides may talk of, in the order of their ids.
    pub(super) fn shared<'r>(
        &self,
        replica: &'r Replica,
        access: &impl Fn(&str) -> Option<Access>,
    ) -> impl Iterator<Item = &'r ContainerState> {
        let followed = |id: &ContainerId| self.follow.as_ref().is_none_or(|ids| ids.contains(id));
        replica.containers.in_order().filter(move |c| followed(&c.id) && access(&c.name).is_some())
    }

    pub(super) fn digest(&self, replica: &Replica) -> [u8; 32] {
        let access = self.access_now();
        let held = |state| match self.is_responder() {
            true => Some(held_with(holding(state)?, access(&state.name)?)),
            false => held_by_client(state),
        };
        let shared = self.shared(replica, &access).filter_map(|state| Some((&state.id, held(state)?)));
        standing::digest(shared).unwrap_or_else(standing::digest_of_none)
    }

    pub(super) fn receive_attached(
        &mut self,
        replica: &mut Replica,
        r: &mut Reader<'_>,
    ) -> Result<(), LinkError> {
        match r.u8()? {
            1 => {
                self.attached = true;
                self.know_equal(replica);
                // A connection may have broken between the server's commit and its word.
                replica.acknowledge(&std::mem::take(&mut self.offered))?;
                replica.note_all_sessions()?;
            }
            2 => self.tell_followed(),
            _ => {}
        }
        Ok(())
    }

    pub(super) fn receive_containers(
        &mut self,
        replica: &mut Replica,
        r: &mut Reader<'_>,
    ) -> Result<(), LinkError> {
        let last = r.u8()? == 1;
        let told = read_list(r)?;
        self.hear_of(replica, &told)?;
        if last {
            self.attached = true;
            // What the server did not list, it is told of.
            let new: Vec<_> = replica.containers.numbers().filter(|no| !self.knows(*no)).collect();
            self.make_ready(replica, new);
        }
        Ok(())
    }
}

/// Whether a container counts in the digest: one side may know of another that has nothing in it yet.
pub(super) fn has_news(container: &ContainerState) -> bool {
    holding(container).is_some()
}

fn put_ids(ids: &BTreeSet<ContainerId>, out: &mut Vec<u8>) {
    put_uleb(out, ids.len() as u64);
    ids.iter().for_each(|id| out.extend_from_slice(&id.0));
}

fn read_ids(r: &mut Reader<'_>) -> Result<BTreeSet<ContainerId>, DecodeError> {
    let n = r.uleb_max(IDS_MAX, "the number of containers")?;
    (0..n).map(|_| r.array().map(ContainerId)).collect()
}

fn digest_of_ids(ids: &BTreeSet<ContainerId>) -> [u8; 32] {
    let hash = Sha256::new().chain_update(b"piecewise followed\0");
    ids.iter().fold(hash, |hash, id| hash.chain_update(id.0)).finalize().into()
}
