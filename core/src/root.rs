//! Root: a fingerprint of a set of segment ids that costs the same to extend however large the set is.
//!
//! LtHash16 with 1024 lanes (Bellare and Micciancio 1997; Lewi, Kim, Maykov and Weis 2019): each id is
//! expanded to 1024 numbers of 16 bits, and the numbers of all ids are added lane by lane, modulo 2^16.

use crate::id::SegmentId;
use std::fmt;

const LANES: usize = 1024;
/// Length of a root's state in bytes.
pub const ROOT_LEN: usize = LANES * 2;

/// The state: one sum for each lane.
#[derive(Clone, PartialEq, Eq)]
pub struct Root {
    lanes: Box<[u16; LANES]>,
}

/// What stands for a root on the wire.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RootDigest(pub [u8; 32]);

impl fmt::Debug for RootDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RootDigest({self})")
    }
}

impl fmt::Display for RootDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|b| write!(f, "{b:02x}"))
    }
}

impl Default for Root {
    fn default() -> Self {
        Self { lanes: Box::new([0; LANES]) }
    }
}

impl fmt::Debug for Root {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Root({})", self.digest())
    }
}

impl Root {
    /// Adds an id to the set. It must not be in it.
    pub fn add(&mut self, id: &SegmentId) {
        let expanded = expand(id);
        for (lane, n) in self.lanes.iter_mut().zip(&expanded) {
            *lane = lane.wrapping_add(*n);
        }
    }

    /// Takes an id out of the set. It must be in it.
    pub fn remove(&mut self, id: &SegmentId) {
        let expanded = expand(id);
        for (lane, n) in self.lanes.iter_mut().zip(&expanded) {
            *lane = lane.wrapping_sub(*n);
        }
    }

    /// The state as bytes, each lane little-endian.
    pub fn to_bytes(&self) -> [u8; ROOT_LEN] {
        let mut out = [0; ROOT_LEN];
        for (chunk, lane) in out.chunks_exact_mut(2).zip(self.lanes.iter()) {
            chunk.copy_from_slice(&lane.to_le_bytes());
        }
        out
    }

    /// The state from the bytes that `to_bytes` gave.
    pub fn from_bytes(bytes: &[u8; ROOT_LEN]) -> Self {
        Self { lanes: Box::new(lanes(bytes)) }
    }

    /// What stands for it on the wire.
    pub fn digest(&self) -> RootDigest {
        let mut hash = blake3::Hasher::new_derive_key("piecewise root digest");
        hash.update(&self.to_bytes());
        RootDigest(*hash.finalize().as_bytes())
    }
}

fn lanes(bytes: &[u8; ROOT_LEN]) -> [u16; LANES] {
    std::array::from_fn(|n| u16::from_le_bytes([bytes[2 * n], bytes[2 * n + 1]]))
}

fn expand(id: &SegmentId) -> [u16; LANES] {
    let mut bytes = [0; ROOT_LEN];
    blake3::Hasher::new_derive_key("piecewise root lanes").update(&id.0).finalize_xof().fill(&mut bytes);
    lanes(&bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn root(ids: &[[u8; 32]]) -> Root {
        let mut root = Root::default();
        ids.iter().for_each(|id| root.add(&SegmentId(*id)));
        root
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn the_order_of_additions_does_not_matter(mut ids: Vec<[u8; 32]>) {
            let forward = root(&ids);
            ids.reverse();
            prop_assert_eq!(&forward, &root(&ids));
            prop_assert_eq!(&forward, &Root::from_bytes(&forward.to_bytes()));
        }

        #[test]
        fn what_is_added_and_removed_leaves_no_trace(ids: Vec<[u8; 32]>, other: [u8; 32]) {
            let before = root(&ids);
            let mut after = before.clone();
            after.add(&SegmentId(other));
            prop_assert_ne!(before.digest(), after.digest());
            after.remove(&SegmentId(other));
            prop_assert_eq!(before.digest(), after.digest());
        }
    }
}
