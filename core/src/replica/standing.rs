//! Standing: what a database's containers hold, in a form that outlives the open file.
//!
//! One digest over it tells whether two sides hold the same. A server keeps the standing of every database, so that it can
//! answer for thousands without opening their files.

use super::{ContainerState, Replica, Scan};
use crate::grant::Access;
use crate::id::ContainerId;
use sha2::{Digest, Sha256};
use std::cell::OnceCell;
use std::collections::BTreeMap;

/// Digest used while a table scan is unfinished; never equal to a real root, so the sides compare as different.
const LOOKING: [u8; 32] = [0xff; 32];

/// The containers of a database that have something in them.
#[derive(Debug, Clone, Default)]
pub struct Standing {
    /// Each with its name and what stands for what it holds.
    containers: BTreeMap<ContainerId, (String, [u8; 32])>,
    /// How far in the replica's record of changes this was brought up to date.
    seen: u64,
    /// Containers that the replica had then.
    count: usize,
    whole: OnceCell<Option<[u8; 32]>>,
}

impl Standing {
    /// The standing of an open file.
    pub fn of(replica: &Replica) -> Self {
        let mut standing = Self::default();
        standing.read_all(replica);
        standing
    }

    /// Brings it up to date with the file that it was taken from, at the cost of what changed there.
    pub fn keep_up(&mut self, replica: &Replica) {
        if self.count > replica.containers.len() {
            return self.read_all(replica);
        }
        for no in replica.changed_since(self.seen) {
            if let Some(state) = replica.containers.get(&no) {
                self.put(state);
            }
        }
        self.note(replica);
    }

    /// One digest over the containers that somebody has access to; None: there are none. A client's file knows its access itself,
    /// and takes `Access::Write` here.
    pub fn digest(&self, access: impl Fn(&str) -> Option<Access>) -> Option<[u8; 32]> {
        let all = self.containers.iter();
        match all.clone().all(|(_, (name, _))| access(name) > Some(Access::Read)) {
            true => *self.whole.get_or_init(|| digest(all.map(|(id, (_, held))| (id, *held)))),
            false => digest(all.filter_map(|(id, (name, held))| Some((id, held_with(*held, access(name)?))))),
        }
    }

    /// Whether no table is still being looked through.
    pub fn is_settled(&self) -> bool {
        self.containers.values().all(|(_, held)| *held != LOOKING)
    }

    fn read_all(&mut self, replica: &Replica) {
        self.containers.clear();
        replica.containers.values().for_each(|state| self.put(state));
        self.note(replica);
    }

    fn put(&mut self, state: &ContainerState) {
        match held_by_client(state) {
            Some(held) => drop(self.containers.insert(state.id, (state.name.clone(), held))),
            None => drop(self.containers.remove(&state.id)),
        }
    }

    fn note(&mut self, replica: &Replica) {
        (self.seen, self.count) = (replica.changed_end(), replica.containers.len());
        self.whole = OnceCell::new();
    }
}

/// The digest of a container's contents (its root). `None` if empty: empty containers are left out, since the peer may not know
/// them yet.
pub(crate) fn holding(container: &ContainerState) -> Option<[u8; 32]> {
    match container.scan() {
        // What is not gone through now stands in nobody's way.
        _ if container.is_halted() && container.feed.count() > 0 => Some(container.feed.digest().0),
        Scan::No if container.feed.count() == 0 => None,
        Scan::No => Some(container.feed.digest().0),
        _ => Some(LOOKING),
    }
}

/// Returns the digest of a container's contents, inverted for `Access::Read`, so that a change of rights changes it.
pub(crate) fn held_with(held: [u8; 32], access: Access) -> [u8; 32] {
    if access == Access::Read && held != LOOKING { held.map(|byte| !byte) } else { held }
}

/// Returns the digest of a container's contents as a client counts it. On a server none is read-only.
pub(crate) fn held_by_client(container: &ContainerState) -> Option<[u8; 32]> {
    let access = if container.is_read_only() { Access::Read } else { Access::Write };
    Some(held_with(holding(container)?, access))
}

/// One digest over containers in the order of their ids, each with what stands for what it holds; None: there are none.
pub(crate) fn digest<'c>(containers: impl Iterator<Item = (&'c ContainerId, [u8; 32])>) -> Option<[u8; 32]> {
    let mut containers = containers.peekable();
    containers.peek()?;
    let hash = Sha256::new().chain_update(b"piecewise containers\0");
    let add = |hash: Sha256, (id, held): (&ContainerId, [u8; 32])| hash.chain_update(id.0).chain_update(held);
    Some(containers.fold(hash, add).finalize().into())
}

/// The digest of no containers.
pub(crate) fn digest_of_none() -> [u8; 32] {
    Sha256::digest(b"piecewise containers\0").into()
}
