//! Verifying a whole log: entries, tiles, checkpoint and receipts, with nothing but the log's public key.
//!
//! The caller reads files or rows in order and hands them in; the first thing that does not fit ends it, with its index.

use super::entry::Entry;
use super::note::{Checkpoint, LogKey, Note, NoteError};
use super::tiles::WIDTH;
use super::tree::{Edge, Hash, Node, leaf_hash};
use crate::bytes::DecodeError;

/// What does not fit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Tampered {
    /// The note.
    #[error("the checkpoint does not hold: {0}")]
    Note(#[from] NoteError),
    /// An entry is not the one whose hash is in the tree.
    #[error("entry {index} is not the one that the tree was made of")]
    Entry {
        /// Which.
        index: u64,
    },
    /// An entry cannot be read.
    #[error("entry {index} cannot be read: {source}")]
    Unreadable {
        /// Which.
        index: u64,
        /// Why.
        source: DecodeError,
    },
    /// The receipt in an entry is not by the peer it names.
    #[error("the receipt in entry {index} is not signed by the peer it names")]
    Receipt {
        /// Which.
        index: u64,
    },
    /// A hash in a tile does not follow from those below.
    #[error("tile {level}/{index} does not follow from the entries")]
    Tile {
        /// Its level.
        level: u8,
        /// Its place.
        index: u64,
    },
    /// There are fewer or more entries than the checkpoint says.
    #[error("the checkpoint says {told} entries, and there are {found}")]
    Size {
        /// In the checkpoint.
        told: u64,
        /// Found.
        found: u64,
    },
    /// The root of the entries is another than that of a checkpoint.
    #[error("the first {size} entries do not have the root of the checkpoint of that size")]
    Root {
        /// The checkpoint's size.
        size: u64,
    },
}

/// Takes the entries of a log one after another.
#[derive(Debug)]
pub struct Verifier {
    note: Note,
    /// Older checkpoints that must hold too, largest last.
    older: Vec<Checkpoint>,
    edge: Edge,
    /// The roots of full tiles, by level, as they become known: what the next level's tiles must have.
    tiles: Vec<Vec<Hash>>,
}

impl Verifier {
    /// Begins with the last checkpoint, and older ones of the same log that it must continue.
    pub fn new(log: &LogKey, note: Note, older: &[Note]) -> Result<Self, Tampered> {
        note.verify(log)?;
        for old in older {
            old.verify(log)?;
            if old.checkpoint.size > note.checkpoint.size {
                return Err(Tampered::Size { told: old.checkpoint.size, found: note.checkpoint.size });
            }
        }
        let mut older: Vec<_> = older.iter().map(|n| n.checkpoint.clone()).collect();
        older.sort_by_key(|c| std::cmp::Reverse(c.size));
        let mut verifier = Self { note, older, edge: Edge::default(), tiles: vec![vec![]; 8] };
        verifier.check_older()?;
        Ok(verifier)
    }

    /// Entries so far.
    pub fn size(&self) -> u64 {
        self.edge.size()
    }

    /// The next entry, with the hash that the tree has for it: what it says, and the subtrees that it completes.
    pub fn entry(&mut self, bytes: &[u8], stored: &Hash) -> Result<(Entry, Vec<Node>), Tampered> {
        let index = self.edge.size();
        let leaf = leaf_hash(bytes);
        if leaf != *stored {
            return Err(Tampered::Entry { index });
        }
        let entry = Entry::decode(bytes).map_err(|source| Tampered::Unreadable { index, source })?;
        entry.event.check_receipt().map_err(|_| Tampered::Receipt { index })?;
        let nodes = self.edge.append(leaf);
        for (level, _, hash) in &nodes {
            if *level > 0 && level % 8 == 0 {
                self.tiles[usize::from(level / 8)].push(*hash);
            }
        }
        self.check_older()?;
        Ok((entry, nodes))
    }

    /// A tile of level 1 or above; call it after all entries.
    pub fn tile(&self, level: u8, index: u64, hashes: &[u8]) -> Result<(), Tampered> {
        let row = self.tiles.get(usize::from(level)).map_or(&[][..], Vec::as_slice);
        let from = (index * WIDTH) as usize;
        let to = (from + WIDTH as usize).min(row.len());
        let good = row.get(from..to).is_some_and(|wanted| wanted.concat() == hashes);
        if good { Ok(()) } else { Err(Tampered::Tile { level, index }) }
    }

    /// After the last entry.
    pub fn finish(self) -> Result<u64, Tampered> {
        let Checkpoint { size, root, .. } = &self.note.checkpoint;
        if self.edge.size() != *size {
            return Err(Tampered::Size { told: *size, found: self.edge.size() });
        }
        if self.edge.root() != *root {
            return Err(Tampered::Root { size: *size });
        }
        Ok(*size)
    }

    fn check_older(&mut self) -> Result<(), Tampered> {
        while let Some(old) = self.older.pop_if(|old| old.size == self.edge.size()) {
            if old.root != self.edge.root() {
                return Err(Tampered::Root { size: old.size });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::entry::tests::entries;
    use super::*;
    use crate::identity::Identity;
    use proptest::prelude::*;

    fn log() -> (Identity, LogKey) {
        let log = Identity::from_seed([4; 32]);
        let key = LogKey { origin: "piecewise/x/1".into(), key: log.peer_id() };
        (log, key)
    }

    fn note(leaves: &[Vec<u8>]) -> Note {
        let mut edge = Edge::default();
        leaves.iter().for_each(|leaf| drop(edge.append(leaf_hash(leaf))));
        let (log, key) = log();
        Checkpoint { origin: key.origin, size: edge.size(), root: edge.root() }.sign(&log)
    }

    fn verify(note: Note, older: &[Note], leaves: &[Vec<u8>], hashes: &[Hash]) -> Result<u64, Tampered> {
        let mut verifier = Verifier::new(&log().1, note, older)?;
        for (leaf, hash) in leaves.iter().zip(hashes) {
            verifier.entry(leaf, hash)?;
        }
        verifier.finish()
    }

    fn leaves(n: usize) -> Vec<Vec<u8>> {
        let entries = entries();
        (0..n)
            .map(|i| {
                Entry { time: crate::id::Timestamp(i as u64), ..entries[i % entries.len()].clone() }.encode()
            })
            .collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn a_sound_log_verifies_and_any_change_drop_swap_or_truncation_is_found(
            n in 2usize..60, a: usize, b: usize, byte: usize, bit in 0u8..8, hashes_follow: bool,
        ) {
            let good = leaves(n);
            let hashes = |leaves: &[Vec<u8>]| leaves.iter().map(|l| leaf_hash(l)).collect::<Vec<_>>();
            let (last, old) = (note(&good), note(&good[..n / 2]));
            let sound = hashes(&good);
            prop_assert_eq!(verify(last.clone(), std::slice::from_ref(&old), &good, &sound), Ok(n as u64));
            let (a, b) = (a % n, b % n);
            let mut changed = good.clone();
            let at = byte % changed[a].len();
            changed[a][at] ^= 1 << bit;
            let mut dropped = good.clone();
            dropped.remove(a);
            let mut swapped = good.clone();
            swapped.swap(a, b);
            let mut longer = good.clone();
            longer.push(good[a].clone());
            for (what, bad) in [("changed", changed), ("dropped", dropped), ("swapped", swapped), ("longer", longer)] {
                if bad == good {
                    continue;
                }
                // Whoever rewrites entries can rewrite the hashes of the leaves too, but not the signed root.
                let with = if hashes_follow || what == "longer" { hashes(&bad) } else { sound.clone() };
                let verdict = verify(last.clone(), &[], &bad, &with);
                prop_assert!(verdict.is_err(), "{what}");
                if what == "changed" && !hashes_follow {
                    prop_assert_eq!(verdict, Err(Tampered::Entry { index: a as u64 }));
                }
            }
            let mut other = good.clone();
            other.truncate(n / 2);
            other.extend(leaves(n + 5).split_off(n));
            let forked = note(&other);
            let fork = verify(forked, &[last], &other, &hashes(&other));
            prop_assert!(fork.is_err());
        }
    }

    #[test]
    fn a_receipt_by_another_peer_is_found_at_its_index() {
        let mut leaves = leaves(5);
        let mut forged = leaves[2].clone();
        let n = forged.len();
        forged[n - 1] ^= 1;
        leaves[2] = forged;
        let hashes: Vec<_> = leaves.iter().map(|l| leaf_hash(l)).collect();
        assert_eq!(verify(note(&leaves), &[], &leaves, &hashes), Err(Tampered::Receipt { index: 2 }));
    }
}
