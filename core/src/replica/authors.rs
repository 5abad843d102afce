//! Authors: who wrote what is here, by the names under which the server knows them.

use super::{Replica, ReplicaError};
use crate::id::PeerId;
use crate::store::authors;

/// Characters of a name.
const NAME_CHARS_MAX: usize = 64;

/// Who wrote something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Author {
    /// The device's key.
    pub key: PeerId,
    /// The name under which the server knows it; None: it has not told it, or there is none.
    pub name: Option<String>,
}

impl Replica {
    /// Who it is that has a key, as far as is known here.
    pub fn author_with(&self, key: PeerId) -> Author {
        Author { key, name: self.name_of(&key) }
    }

    fn name_of(&self, author: &PeerId) -> Option<String> {
        if self.binding.as_ref().is_some_and(|binding| binding.server == *author) {
            return Some("the server".to_owned());
        }
        authors::name(&self.conn, author).ok().flatten()
    }

    /// Notes who wrote a segment. Call it in a transaction.
    pub(crate) fn note_author(&mut self, author: &PeerId) -> Result<(), ReplicaError> {
        if !self.is_server && !self.authors.contains_key(author) {
            authors::add(&self.conn, author)?;
            self.authors.insert(*author, None);
        }
        Ok(())
    }

    /// Authors of whom no name is known.
    pub(crate) fn nameless(&self) -> impl Iterator<Item = &PeerId> {
        let own = self.identity.peer_id();
        let server = self.binding.as_ref().map(|binding| binding.server);
        let authors = self.authors.iter().filter(|(_, name)| name.is_none());
        authors.map(|(key, _)| key).filter(move |key| **key != own && Some(**key) != server)
    }

    /// Takes names that the server told.
    pub(crate) fn take_names(&mut self, names: &[(PeerId, String)]) -> Result<(), ReplicaError> {
        if names.is_empty() || self.binding.is_none() {
            return Ok(());
        }
        self.transaction(|r| {
            for (key, name) in names {
                let name: String = name.chars().filter(|c| !c.is_control()).take(NAME_CHARS_MAX).collect();
                if r.authors.contains_key(key) && !name.is_empty() {
                    authors::set_name(&r.conn, key, &name)?;
                    r.authors.insert(*key, Some(name));
                }
            }
            Ok(())
        })
    }
}
