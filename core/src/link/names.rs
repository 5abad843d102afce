//! Names: a device asks the server who wrote what it holds.
//!
//! ```text
//! names    n LEB128, then
//!   initiator   n × key 32: authors of whom it knows no name
//!   responder   n × (key 32 · name bytes): those of them whom it may name
//! ```
//! Each is asked for once in a talk. The server names devices that may take part in the database.

use super::{Link, LinkError, NAMES};
use crate::bytes::{Reader, put_bytes, put_uleb};
use crate::id::PeerId;
use crate::replica::Replica;
use crate::session::Role;
use std::collections::HashSet;

/// Authors in one frame.
const AUTHORS_MAX: usize = 256;
/// Bytes of a name.
const NAME_LEN_MAX: usize = 256;

/// What a link knows of names.
#[derive(Debug, Default)]
pub(super) struct Names {
    /// As the initiator: whether the responder tells any.
    pub(super) is_on: bool,
    asked: HashSet<PeerId>,
    /// Whether an answer is to come.
    is_waiting: bool,
}

impl Names {
    pub(super) fn are_open(&self) -> bool {
        self.is_waiting
    }

    /// A talk begins anew: what was asked may be lost.
    pub(super) fn begin(&mut self) {
        (self.asked, self.is_waiting) = Default::default();
    }
}

impl Link {
    /// Who is to be asked for, if anybody is.
    pub(super) fn next_names(&mut self, replica: &Replica) -> Option<Vec<u8>> {
        if !self.names.is_on || self.names.is_waiting || !self.unlevel.is_empty() {
            return None;
        }
        let new = replica.nameless().filter(|key| !self.names.asked.contains(key));
        let new: Vec<PeerId> = new.take(AUTHORS_MAX).copied().collect();
        if new.is_empty() {
            return None;
        }
        let mut frame = vec![NAMES];
        put_uleb(&mut frame, new.len() as u64);
        new.iter().for_each(|key| frame.extend_from_slice(&key.0));
        self.names.asked.extend(new);
        self.names.is_waiting = true;
        Some(frame)
    }

    pub(super) fn receive_names(
        &mut self,
        replica: &mut Replica,
        r: &mut Reader<'_>,
    ) -> Result<(), LinkError> {
        let count = r.uleb_max(AUTHORS_MAX as u64, "the number of authors")?;
        let authority = match &self.role {
            Role::Responder(authority) => Some(authority.clone()),
            Role::Initiator => None,
        };
        let mut names = vec![];
        for _ in 0..count {
            let key = PeerId(r.array()?);
            let name = match &authority {
                Some(authority) => authority.name_of(&self.database, &key),
                None => Some(r.text(NAME_LEN_MAX, "the name of a device")?.to_owned()),
            };
            names.extend(name.map(|name| (key, name)));
        }
        if authority.is_none() {
            self.names.is_waiting = false;
            return Ok(replica.take_names(&names)?);
        }
        let mut frame = vec![NAMES];
        put_uleb(&mut frame, names.len() as u64);
        for (key, name) in &names {
            frame.extend_from_slice(&key.0);
            put_bytes(&mut frame, &name.as_bytes()[..name.floor_char_boundary(NAME_LEN_MAX)]);
        }
        self.outbox.push_back(frame);
        Ok(())
    }
}
