//! A Merkle tree over leaves in order (RFC 6962 section 2.1, RFC 9162 section 2.1): its root, and proofs that a leaf is in it or
//! that it continues an older one.
//!
//! Only complete subtrees of 2^level leaves are kept; everything else follows from them.

use sha2::{Digest, Sha256};

/// SHA-256 of a leaf or of two nodes.
pub type Hash = [u8; 32];

/// The root of a tree without leaves: SHA-256 of nothing.
pub const EMPTY_ROOT: Hash = [
    0xe3, 0xb0, 0xc4, 0x42, 0x98, 0xfc, 0x1c, 0x14, 0x9a, 0xfb, 0xf4, 0xc8, 0x99, 0x6f, 0xb9, 0x24, 0x27,
    0xae, 0x41, 0xe4, 0x64, 0x9b, 0x93, 0x4c, 0xa4, 0x95, 0x99, 0x1b, 0x78, 0x52, 0xb8, 0x55,
];

/// Most hashes in a proof: one for each level of a tree with 2^63 leaves, and one more.
pub const PROOF_LEN_MAX: usize = 64;

/// The hash of a leaf.
pub fn leaf_hash(entry: &[u8]) -> Hash {
    Sha256::new().chain_update([0]).chain_update(entry).finalize().into()
}

/// The hash of two nodes.
pub fn node_hash(left: &Hash, right: &Hash) -> Hash {
    Sha256::new().chain_update([1]).chain_update(left).chain_update(right).finalize().into()
}

/// Where the hashes of complete subtrees are kept.
pub trait Nodes {
    /// Why one could not be read.
    type Error;

    /// The hash of the `n`th subtree of 2^`level` leaves. It is asked only for subtrees that the tree has.
    fn node(&self, level: u8, n: u64) -> Result<Hash, Self::Error>;
}

/// The root of the first `size` leaves.
pub fn root<N: Nodes>(nodes: &N, size: u64) -> Result<Hash, N::Error> {
    if size == 0 { Ok(EMPTY_ROOT) } else { range(nodes, 0, size) }
}

/// The hashes that lead from leaf `index` to the root of the first `size` leaves; `index` is below `size`.
pub fn inclusion<N: Nodes>(nodes: &N, index: u64, size: u64) -> Result<Vec<Hash>, N::Error> {
    let (mut low, mut high, mut proof) = (0, size, vec![]);
    while high - low > 1 {
        let middle = low + split(high - low);
        if index < middle {
            proof.push(range(nodes, middle, high)?);
            high = middle;
        } else {
            proof.push(range(nodes, low, middle)?);
            low = middle;
        }
    }
    proof.reverse();
    Ok(proof)
}

/// The hashes that prove that the first `old` leaves are a beginning of the first `size`; `old` is at most `size`.
pub fn consistency<N: Nodes>(nodes: &N, old: u64, size: u64) -> Result<Vec<Hash>, N::Error> {
    let mut proof = vec![];
    if old == 0 || old == size {
        return Ok(proof);
    }
    let (mut low, mut high, mut whole) = (0, size, true);
    while old != high {
        let middle = low + split(high - low);
        if old <= middle {
            proof.push(range(nodes, middle, high)?);
            high = middle;
        } else {
            proof.push(range(nodes, low, middle)?);
            low = middle;
            whole = false;
        }
    }
    if !whole {
        proof.push(range(nodes, low, high)?);
    }
    proof.reverse();
    Ok(proof)
}

/// The greatest power of two below `n`, which is at least 2.
fn split(n: u64) -> u64 {
    1 << (63 - (n - 1).leading_zeros())
}

/// The hash over leaves `low` to `high`, where the tree over them is one that the tree over all is made of.
fn range<N: Nodes>(nodes: &N, low: u64, high: u64) -> Result<Hash, N::Error> {
    let n = high - low;
    if n.is_power_of_two() {
        return nodes.node(n.trailing_zeros() as u8, low / n);
    }
    let middle = low + split(n);
    Ok(node_hash(&range(nodes, low, middle)?, &range(nodes, middle, high)?))
}

/// Whether a proof leads from a leaf to a root (RFC 9162 section 2.1.3.2).
pub fn check_inclusion(leaf: &Hash, index: u64, size: u64, proof: &[Hash], root: &Hash) -> bool {
    if index >= size {
        return false;
    }
    let (mut at, mut last, mut hash) = (index, size - 1, *leaf);
    for step in proof {
        match climb(&mut at, &mut last) {
            Some(Side::Left) => hash = node_hash(step, &hash),
            Some(Side::Right) => hash = node_hash(&hash, step),
            None => return false,
        }
    }
    last == 0 && hash == *root
}

/// Whether a proof shows that a tree continues an older one (RFC 9162 section 2.1.4.2).
pub fn check_consistency(old: u64, old_root: &Hash, size: u64, root: &Hash, proof: &[Hash]) -> bool {
    if old == size {
        return proof.is_empty() && old_root == root;
    }
    if old == 0 {
        return proof.is_empty() && *old_root == EMPTY_ROOT;
    }
    if old > size {
        return false;
    }
    let mut steps = proof.iter();
    let first = if old.is_power_of_two() { Some(old_root) } else { steps.next() };
    let Some(first) = first else { return false };
    let (mut at, mut last) = (old - 1, size - 1);
    while at & 1 == 1 {
        at >>= 1;
        last >>= 1;
    }
    let (mut before, mut now) = (*first, *first);
    for step in steps {
        match climb(&mut at, &mut last) {
            Some(Side::Left) => (before, now) = (node_hash(step, &before), node_hash(step, &now)),
            Some(Side::Right) => now = node_hash(&now, step),
            None => return false,
        }
    }
    last == 0 && before == *old_root && now == *root
}

/// On which side of the way up the next hash of a proof stands.
enum Side {
    Left,
    Right,
}

/// One step up, from node `at` of a level whose last is `last`: where the sibling stands; None at the root.
fn climb(at: &mut u64, last: &mut u64) -> Option<Side> {
    if *last == 0 {
        return None;
    }
    let is_left = *at & 1 == 1 || at == last;
    // The last node of a level without a sibling stands on the levels above as it is.
    while is_left && *at & 1 == 0 && *at != 0 {
        *at >>= 1;
        *last >>= 1;
    }
    *at >>= 1;
    *last >>= 1;
    Some(if is_left { Side::Left } else { Side::Right })
}

/// The right edge of a tree: enough to add leaves and to know the root.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Edge {
    size: u64,
    /// The complete subtrees from the left, largest first: one for each bit of the size.
    subtrees: Vec<Hash>,
}

/// A complete subtree: its level, its place among those of its level, its hash.
pub type Node = (u8, u64, Hash);

impl Edge {
    /// The edge of the first `size` leaves.
    pub fn read<N: Nodes>(nodes: &N, size: u64) -> Result<Self, N::Error> {
        let (mut edge, mut low) = (Self { size, subtrees: vec![] }, 0);
        for level in (0..64).rev().filter(|level| size >> level & 1 == 1) {
            edge.subtrees.push(nodes.node(level, low >> level)?);
            low += 1 << level;
        }
        Ok(edge)
    }

    /// Leaves so far.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Adds a leaf; the subtrees that it completes, itself first.
    pub fn append(&mut self, leaf: Hash) -> Vec<Node> {
        let mut nodes = vec![(0, self.size, leaf)];
        let (mut hash, mut level) = (leaf, 0);
        while self.size >> level & 1 == 1 {
            let left = self.subtrees.pop().expect("one for each bit of the size");
            hash = node_hash(&left, &hash);
            level += 1;
            nodes.push((level, self.size >> level, hash));
        }
        self.subtrees.push(hash);
        self.size += 1;
        nodes
    }

    /// The root of all leaves so far.
    pub fn root(&self) -> Hash {
        let mut from_right = self.subtrees.iter().rev();
        let Some(last) = from_right.next() else { return EMPTY_ROOT };
        from_right.fold(*last, |right, left| node_hash(left, &right))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;
    use std::convert::Infallible;
    use tlog_tiles::tlog;

    #[derive(Default)]
    struct Memory {
        edge: Edge,
        nodes: HashMap<(u8, u64), Hash>,
    }

    impl Nodes for Memory {
        type Error = Infallible;

        fn node(&self, level: u8, n: u64) -> Result<Hash, Infallible> {
            Ok(self.nodes[&(level, n)])
        }
    }

    impl tlog::HashReader for Memory {
        fn read_hashes(&self, indexes: &[u64]) -> Result<Vec<tlog::Hash>, tlog::Error> {
            let node = |index: &u64| tlog::Hash(self.nodes[&tlog::split_stored_hash_index(*index)]);
            Ok(indexes.iter().map(node).collect())
        }
    }

    fn tree(leaves: u64) -> Memory {
        let mut memory = Memory::default();
        for n in 0..leaves {
            for (level, n, hash) in memory.edge.append(leaf_hash(&n.to_be_bytes())) {
                memory.nodes.insert((level, n), hash);
            }
        }
        memory
    }

    fn hex(hash: &[u8]) -> String {
        hash.iter().map(|b| format!("{b:02x}")).collect()
    }

    /// The leaves and roots that the Certificate Transparency project tests RFC 6962 trees with.
    #[test]
    fn roots_of_the_reference_leaves_are_the_known_ones() {
        let leaves: [&[u8]; 8] = [
            b"",
            b"\x00",
            b"\x10",
            b"\x20\x21",
            b"\x30\x31",
            b"\x40\x41\x42\x43",
            b"\x50\x51\x52\x53\x54\x55\x56\x57",
            b"\x60\x61\x62\x63\x64\x65\x66\x67\x68\x69\x6a\x6b\x6c\x6d\x6e\x6f",
        ];
        let roots = [
            "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
            "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
            "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
            "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
            "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
            "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
            "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
            "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
        ];
        let mut edge = Edge::default();
        assert_eq!(edge.root(), EMPTY_ROOT);
        for (leaf, root) in leaves.iter().zip(roots) {
            edge.append(leaf_hash(leaf));
            assert_eq!(hex(&edge.root()), root);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]
        #[test]
        fn roots_and_proofs_are_those_of_another_implementation(size in 1u64..600, a: u64, b: u64) {
            let memory = tree(size);
            let whole = root(&memory, size).unwrap();
            prop_assert_eq!(whole, tlog::tree_hash(size, &memory).unwrap().0);
            prop_assert_eq!(whole, memory.edge.root());
            prop_assert_eq!(&Edge::read(&memory, size).unwrap(), &memory.edge);
            let (index, old) = (a % size, 1 + b % size);
            let proof = inclusion(&memory, index, size).unwrap();
            let theirs = tlog::prove_record(size, index, &memory).unwrap();
            prop_assert_eq!(&proof, &theirs.iter().map(|h| h.0).collect::<Vec<_>>());
            prop_assert!(check_inclusion(&leaf_hash(&index.to_be_bytes()), index, size, &proof, &whole));
            let proof = consistency(&memory, old, size).unwrap();
            let theirs = tlog::prove_tree(size, old, &memory).unwrap();
            prop_assert_eq!(&proof, &theirs.iter().map(|h| h.0).collect::<Vec<_>>());
            let before = root(&memory, old).unwrap();
            prop_assert!(check_consistency(old, &before, size, &whole, &proof));
        }

        #[test]
        fn any_changed_dropped_or_added_hash_spoils_a_proof(
            size in 2u64..300, a: u64, b: u64, place: usize, bit in 0u8..8, byte in 0usize..32,
        ) {
            let memory = tree(size);
            let whole = root(&memory, size).unwrap();
            let (index, old) = (a % size, 1 + b % (size - 1));
            let before = root(&memory, old).unwrap();
            let leaf = leaf_hash(&index.to_be_bytes());
            let good = [inclusion(&memory, index, size).unwrap(), consistency(&memory, old, size).unwrap()];
            for (n, proof) in good.into_iter().enumerate() {
                let check = |proof: &[Hash]| match n {
                    0 => check_inclusion(&leaf, index, size, proof, &whole),
                    _ => check_consistency(old, &before, size, &whole, proof),
                };
                prop_assert!(check(&proof));
                let mut changed = proof.clone();
                let at = place % proof.len().max(1);
                if let Some(hash) = changed.get_mut(at) {
                    hash[byte] ^= 1 << bit;
                    prop_assert!(!check(&changed));
                    changed.remove(at);
                    prop_assert!(!check(&changed));
                }
                let mut longer = proof;
                longer.push([7; 32]);
                prop_assert!(!check(&longer));
            }
            prop_assert!(!check_inclusion(&leaf_hash(b"other"), index, size, &inclusion(&memory, index, size).unwrap(), &whole));
        }
    }
}
