//! Attach: how a talk begins. Both sides find out, by one digest, which containers they share and whether they differ.

use super::known::read_list;
use super::{ATTACH, CONTAINERS_MAX, Link, LinkError, NAME_LEN_MAX, VERSION};
use crate::bytes::{DecodeError, Reader, put_bytes, put_uleb};
use crate::grant::Access;
use crate::id::ContainerId;
use crate::replica::standing::{self, holding};
use crate::replica::{ContainerState, Replica};

/// What an initiator's first frame asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attach {
    /// The database.
    pub database: String,
    pub(super) follow: Option<Vec<ContainerId>>,
    pub(super) digest: [u8; 32],
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

impl Link {
    /// Begins to talk: which containers both sides share, and which of them differ.
    pub(super) fn attach(&mut self, replica: &Replica) {
        // After a rest there may be tables that were tracked meanwhile.
        if let Some(follow) = &mut self.follow {
            follow.extend(replica.containers.in_order().map(|c| c.id));
        }
        let follow = self.follow.as_ref().map(|ids| ids.iter().copied().collect());
        let (database, digest) = (self.database.clone(), self.digest(replica));
        self.outbox.push_back(Attach { database, follow, digest }.encode());
        self.outbox.extend(self.owed.drain(..));
        (self.at_rest, self.attached, self.seen) = (false, false, replica.changed_end());
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
        let shared = self.shared(replica, &access).filter_map(|state| Some((&state.id, holding(state)?)));
        standing::digest(shared).unwrap_or_else(standing::digest_of_none)
    }

    pub(super) fn receive_attached(
        &mut self,
        replica: &mut Replica,
        r: &mut Reader<'_>,
    ) -> Result<(), LinkError> {
        if r.u8()? == 1 {
            self.attached = true;
            self.know_all(replica);
            // A connection may have broken between the server's commit and its word.
            replica.acknowledge_all()?;
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
