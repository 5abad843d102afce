//! Ids: the fixed-size names of realms, containers, segments, changes, actors and peers, and the time.
//!
//! Each is a type of its own so that two of them cannot be mixed up. How an id is computed stands with
//! what it names; here is only what all have in common.

use std::fmt;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $len:expr) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub [u8; $len]);

        impl $name {
            /// Its length in bytes.
            pub const LEN: usize = $len;

            /// Its bytes.
            #[inline]
            pub fn as_bytes(&self) -> &[u8; $len] {
                &self.0
            }
        }

        impl TryFrom<&[u8]> for $name {
            type Error = std::array::TryFromSliceError;
            fn try_from(bytes: &[u8]) -> Result<Self, Self::Error> {
                Ok(Self(bytes.try_into()?))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.iter().try_for_each(|b| write!(f, "{b:02x}"))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}(", stringify!($name))?;
                self.0.iter().take(6).try_for_each(|b| write!(f, "{b:02x}"))?;
                write!(f, "…)")
            }
        }
    };
}

id!(
    /// The random name that a server gives to all it holds; part of every invite.
    RealmId, 16
);
id!(
    /// A container: hash of the realm and the container's name.
    ContainerId, 32
);
id!(
    /// A segment: hash of its header and body.
    SegmentId, 32
);
id!(
    /// An Automerge change: SHA-256 of its chunk.
    ChangeHash, 32
);
id!(
    /// Who wrote what, and when: 6 bytes of milliseconds (big-endian), 16 bytes of content hash.
    /// Greater means later, or by chance at the same millisecond.
    Actor, 22
);
id!(
    /// A public ed25519 key: a person's device, a server, an author.
    PeerId, 32
);
id!(
    /// The random name of one copy of a database file; a hint that keeps cursors of copies apart.
    ReplicaId, 8
);

impl Actor {
    /// The time of the write.
    pub fn time(&self) -> Timestamp {
        let mut ms = [0; 8];
        ms[2..].copy_from_slice(&self.0[..6]);
        Timestamp(u64::from_be_bytes(ms))
    }
}

/// Milliseconds since 1970-01-01 00:00 UTC; fits 48 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(pub u64);

impl Timestamp {
    /// The latest time that 48 bits hold.
    pub const MAX: Self = Self((1 << 48) - 1);

    /// Of rows from before tracking that differ from the server's: earlier than any, so that the server's show.
    pub const APART: Self = Self(0);

    /// Of rows from before tracking that the server did not have.
    pub const ADOPTED: Self = Self(1);

    /// Whether it is of rows from before tracking, whose times nobody knows.
    pub fn is_before_tracking(self) -> bool {
        self <= Self::ADOPTED
    }

    /// Milliseconds from `earlier` to here; 0 if it is later.
    pub fn ms_since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// A position in a feed: 0 is before the first segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Seq(pub u64);
