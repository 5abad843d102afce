//! Container names: `database/table`, the same on every replica.
//!
//! A name is a path: its first part is the database, the rest says which rows of which table it holds
//! (today always a whole table).

use crate::id::{ContainerId, RealmId};
use sha2::{Digest, Sha256};

const PART_LEN_MAX: usize = 128;

/// A name that can be a container's.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ContainerName {
    name: String,
    slash: usize,
}

/// A text is no container's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "a container's name is `database/table`, each part 1 to {PART_LEN_MAX} bytes without control characters"
)]
pub struct BadName;

impl ContainerName {
    /// Checks a name.
    pub fn parse(name: &str) -> Result<Self, BadName> {
        let slash = name.find('/').ok_or(BadName)?;
        let (database, table) = (&name[..slash], &name[slash + 1..]);
        let good = |part: &str| {
            !part.is_empty() && part.len() <= PART_LEN_MAX && !part.chars().any(char::is_control)
        };
        let ours = table.to_ascii_lowercase();
        let reserved = ours.starts_with("piecewise_") || ours.starts_with("sqlite_");
        if !good(database) || !good(table) || table.contains('/') || reserved {
            return Err(BadName);
        }
        Ok(Self { name: name.to_owned(), slash })
    }

    /// The whole name.
    pub fn as_str(&self) -> &str {
        &self.name
    }

    /// The database.
    pub fn database(&self) -> &str {
        &self.name[..self.slash]
    }

    /// The table.
    pub fn table(&self) -> &str {
        &self.name[self.slash + 1..]
    }
}

/// The container's id: SHA-256("piecewise container\0" ‖ realm ‖ name).
pub fn container_id(realm: &RealmId, name: &ContainerName) -> ContainerId {
    let hash = Sha256::new()
        .chain_update(b"piecewise container\0")
        .chain_update(realm.0)
        .chain_update(name.as_str())
        .finalize();
    ContainerId(hash.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_a_database_and_a_table() {
        let name = ContainerName::parse("shop/order lines").unwrap();
        assert_eq!((name.database(), name.table()), ("shop", "order lines"));
        for bad in ["shop", "/x", "shop/", "a/b/c", "a/b\n", "a/sqlite_master", "a/Piecewise_log"] {
            assert_eq!(ContainerName::parse(bad), Err(BadName), "{bad}");
        }
    }

    #[test]
    fn one_name_in_two_realms_gives_two_ids() {
        let name = ContainerName::parse("shop/orders").unwrap();
        assert_ne!(container_id(&RealmId([1; 16]), &name), container_id(&RealmId([2; 16]), &name));
    }
}
