//! Feed: the segments of one container in the order in which this replica got them.
//!
//! Each position carries a running hash over all before it, so that a peer proves how far it has come with
//! one (seq, hash) pair; the root is a fingerprint of the set, whatever its order. This module orders and
//! counts; `segment` checks what goes in and `store` keeps it.

use crate::id::{SegmentId, Seq};
use crate::message::Cursor;
use crate::root::Root;
use sha2::{Digest, Sha256};

/// The end of a container's feed and the fingerprint of all in it.
#[derive(Debug, Clone)]
pub struct Feed {
    /// The last position.
    pub tip: Cursor,
    /// The fingerprint of the set of its segments.
    pub root: Root,
}

impl Default for Feed {
    fn default() -> Self {
        Self { tip: Cursor::START, root: Root::default() }
    }
}

impl Feed {
    /// Segments in it.
    pub fn count(&self) -> u64 {
        self.tip.seq.0
    }

    /// Adds a segment at the end; its position.
    pub fn append(&mut self, id: &SegmentId) -> Cursor {
        self.tip = next(&self.tip, id);
        self.root.add(id);
        self.tip
    }
}

/// The position after `cursor` when `id` follows there.
pub fn next(cursor: &Cursor, id: &SegmentId) -> Cursor {
    let hash = Sha256::new()
        .chain_update(b"piecewise feed\0")
        .chain_update(cursor.hash)
        .chain_update(id.0)
        .finalize();
    Cursor { seq: Seq(cursor.seq.0 + 1), hash: hash.into() }
}
