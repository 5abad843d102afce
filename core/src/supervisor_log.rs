//! The supervisor's log: what a server accepted, delivered, refused and granted, in a form that nobody can
//! change unnoticed.
//!
//! Each event is an [`Entry`], the leaf of a Merkle tree ([`tree`], RFC 6962). A [`Note`](note::Note) signed by the
//! log's own key names the tree's size and root: a checkpoint (C2SP tlog-checkpoint). A [`Witness`] is a client's
//! side: it keeps the last checkpoint, demands proof that the next one continues it, and cosigns. [`tiles`] names the
//! files of an export (C2SP tlog-tiles), and [`verify`] checks one with nothing but the public key.
//! Where leaves and hashes are kept is left to the server.

pub mod entry;
pub mod note;
pub mod talk;
pub mod tiles;
pub mod tree;
pub mod verify;
mod witness;

pub use entry::{Entry, Event};
pub use witness::{Alarm, Verdict, Witness};
