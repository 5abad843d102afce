//! Feed: the segments of one container in the order in which this replica got them.
//!
//! Each position carries a running hash over all before it, so that a peer proves how far it has come with
//! one (seq, hash) pair; the root is a fingerprint of the set, whatever its order. This module orders and
//! counts; `segment` checks what goes in and `store` keeps it.

use crate::id::{SegmentId, Seq};
use crate::message::Cursor;
use crate::root::{Root, RootDigest};
use sha2::{Digest, Sha256};
use std::cell::OnceCell;

/// The end of a container's feed and the fingerprint of all in it.
#[derive(Debug, Clone)]
pub struct Feed {
    /// The last position.
    pub tip: Cursor,
    /// What stands for the root, once it was asked for.
    digest: OnceCell<RootDigest>,
    /// The state behind the digest; None: it is on disk, and read before something is added.
    root: Option<Root>,
}

impl Default for Feed {
    fn default() -> Self {
        Self { tip: Cursor::START, digest: OnceCell::new(), root: Some(Root::default()) }
    }
}

impl Feed {
    /// A feed as it stands on disk, its root unread.
    pub(crate) fn unread(tip: Cursor, digest: RootDigest) -> Self {
        Self { tip, digest: OnceCell::from(digest), root: None }
    }

    /// Segments in it.
    pub fn count(&self) -> u64 {
        self.tip.seq.0
    }

    /// The fingerprint of the set of its segments.
    pub fn digest(&self) -> RootDigest {
        *self
            .digest
            .get_or_init(|| self.root.as_ref().expect("a root that is not read has its digest").digest())
    }

    /// The state behind the fingerprint, if it was read.
    pub(crate) fn root(&self) -> Option<&Root> {
        self.root.as_ref()
    }

    /// Takes in the state behind the fingerprint.
    pub(crate) fn set_root(&mut self, root: Root) {
        self.root = Some(root);
    }

    /// Leaves the state behind the fingerprint on disk, where it is.
    pub(crate) fn forget_root(&mut self) {
        self.digest();
        self.root = None;
    }

    /// Adds a segment at the end; its position. The root must have been read.
    pub(crate) fn append(&mut self, id: &SegmentId) -> Cursor {
        self.tip = next(&self.tip, id);
        self.root.as_mut().expect("the root is read before something is added").add(id);
        self.digest = OnceCell::new();
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
