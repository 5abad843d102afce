//! Ranges: two sets of ids find out how they differ, at a cost that grows with the difference.
//!
//! Range-based set reconciliation (Aljoscha Meyer, 2023). A message covers all ids in ascending ranges.
//! For each range it has a fingerprint; where the other side's differs, it answers with the range cut
//! into smaller ones, or with the ids themselves once they are few. Whoever receives a list of ids knows
//! both differences: it asks for what it lacks and sends what the other lacks.
//!
//! ```text
//! message  n LEB128 · n ranges
//! range    upper bound (length u8 · that many first bytes of an id, exclusive; length 255: no bound)
//!          · 0 skip | 1 fingerprint 16 | 2 n LEB128 · n ids of 32, ascending
//! ```

use crate::bytes::{DecodeError, Reader, put_uleb};
use crate::id::SegmentId;
use sha2::{Digest, Sha256};

/// Into how many parts a range is cut.
const PARTS: usize = 16;
/// Ranges with at most so many ids are sent as ids.
const IDS_MAX: usize = 32;
/// A message stops cutting ranges beyond this many bytes; the rest stays whole until the next round.
const MESSAGE_BYTES: usize = 256 << 10;
const RANGES_MAX: u64 = 1 << 16;
/// Ids between two sums that are kept.
const SUM_EVERY: usize = 16;

/// Part of the id space, up to `upper`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Range {
    /// The first id that is not in it; None: it reaches to the end.
    pub upper: Option<Vec<u8>>,
    /// What is said of it.
    pub kind: RangeKind,
}

/// What is said of a range.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RangeKind {
    /// Nothing: it is dealt with.
    Skip,
    /// The fingerprint of the speaker's ids in it.
    Fingerprint([u8; 16]),
    /// The speaker's ids in it, ascending.
    Ids(Vec<SegmentId>),
}

/// What a received message leads to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Answer {
    /// The reply; empty: both sides know all now.
    pub reply: Vec<Range>,
    /// Ids that only the other side has.
    pub theirs_only: Vec<SegmentId>,
    /// Ids that only this side has.
    pub ours_only: Vec<SegmentId>,
}

/// A set of ids, ascending, that gives the fingerprint of any range at once.
#[derive(Debug, Clone, Default)]
pub struct SortedIds {
    ids: Vec<[u8; 32]>,
    /// Sums of the first n times `SUM_EVERY` ids, modulo 2^256, as four words from the least.
    sums: Vec<[u64; 4]>,
}

impl SortedIds {
    /// From ids in any order.
    pub fn new(mut ids: Vec<[u8; 32]>) -> Self {
        ids.sort_unstable();
        ids.dedup();
        let mut sum = [0u64; 4];
        let mut next = |ids: &[[u8; 32]]| {
            let before = sum;
            sum = ids.iter().fold(sum, |sum, id| add(sum, words(id)));
            before
        };
        let sums = ids.chunks(SUM_EVERY).map(&mut next).collect();
        Self { ids, sums }
    }

    /// How many they are.
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    fn place(&self, bound: &Option<Vec<u8>>) -> usize {
        match bound {
            None => self.ids.len(),
            Some(bound) => self.ids.partition_point(|id| id[..] < bound[..]),
        }
    }

    fn fingerprint(&self, from: usize, to: usize) -> [u8; 16] {
        let sum = subtract(self.sum(to), self.sum(from));
        let mut hash = Sha256::new().chain_update(b"piecewise range\0");
        for word in sum {
            hash = hash.chain_update(word.to_le_bytes());
        }
        let hash = hash.chain_update(((to - from) as u64).to_le_bytes()).finalize();
        std::array::from_fn(|n| hash[n])
    }

    /// The sum of the first ids.
    fn sum(&self, count: usize) -> [u64; 4] {
        let Some(before) = count.checked_sub(1).map(|last| last / SUM_EVERY) else { return [0; 4] };
        let rest = &self.ids[before * SUM_EVERY..count];
        rest.iter().fold(self.sums[before], |sum, id| add(sum, words(id)))
    }

    fn list(&self, from: usize, to: usize) -> Vec<SegmentId> {
        self.ids[from..to].iter().map(|id| SegmentId(*id)).collect()
    }

    /// The shortest bound that lies after the id before `place` and not after the one there.
    fn bound(&self, place: usize) -> Vec<u8> {
        let (before, at) = (&self.ids[place - 1], &self.ids[place]);
        let same = before.iter().zip(at).take_while(|(a, b)| a == b).count();
        at[..=same].to_vec()
    }
}

fn words(id: &[u8; 32]) -> [u64; 4] {
    std::array::from_fn(|n| u64::from_le_bytes(std::array::from_fn(|k| id[8 * n + k])))
}

fn add(a: [u64; 4], b: [u64; 4]) -> [u64; 4] {
    let mut carry = false;
    std::array::from_fn(|n| {
        let (sum, first) = a[n].overflowing_add(b[n]);
        let (sum, second) = sum.overflowing_add(u64::from(carry));
        carry = first || second;
        sum
    })
}

fn subtract(a: [u64; 4], b: [u64; 4]) -> [u64; 4] {
    let mut borrow = false;
    std::array::from_fn(|n| {
        let (rest, first) = a[n].overflowing_sub(b[n]);
        let (rest, second) = rest.overflowing_sub(u64::from(borrow));
        borrow = first || second;
        rest
    })
}

/// The first message.
pub fn open(set: &SortedIds) -> Vec<Range> {
    let mut out = vec![];
    cut(set, 0, set.len(), &None, &mut out);
    out
}

/// Takes in a message: what differs as far as is known now, and the reply.
///
/// The caller bounds the rounds; with honest peers they are logarithmic in the size of the sets.
pub fn answer(set: &SortedIds, received: &[Range]) -> Result<Answer, DecodeError> {
    let mut answer = Answer::default();
    let (mut from, mut lower): (usize, Option<&[u8]>) = (0, None);
    let mut bytes = 0;
    let mut ended = false;
    for range in received {
        let ascending = !ended && range.upper.as_deref().is_none_or(|upper| lower.is_none_or(|l| l < upper));
        if !ascending {
            return Err(DecodeError::Invalid { what: "the order of ranges" });
        }
        ended = range.upper.is_none();
        let to = set.place(&range.upper);
        let before = answer.reply.len();
        match &range.kind {
            RangeKind::Skip => push_skip(&mut answer.reply, &range.upper),
            RangeKind::Ids(ids) => {
                compare(set.list(from, to), ids, &mut answer)?;
                push_skip(&mut answer.reply, &range.upper);
            }
            RangeKind::Fingerprint(theirs) => {
                let ours = set.fingerprint(from, to);
                if ours == *theirs {
                    push_skip(&mut answer.reply, &range.upper);
                } else if bytes > MESSAGE_BYTES {
                    let kind = RangeKind::Fingerprint(ours);
                    answer.reply.push(Range { upper: range.upper.clone(), kind });
                } else {
                    cut(set, from, to, &range.upper, &mut answer.reply);
                }
            }
        }
        bytes += answer.reply[before.min(answer.reply.len())..].iter().map(byte_len).sum::<usize>();
        (from, lower) = (to, range.upper.as_deref());
    }
    if answer.reply.iter().all(|r| r.kind == RangeKind::Skip) {
        answer.reply.clear();
    }
    Ok(answer)
}

fn byte_len(range: &Range) -> usize {
    match &range.kind {
        RangeKind::Skip => 8,
        RangeKind::Fingerprint(_) => 26,
        RangeKind::Ids(ids) => 10 + 32 * ids.len(),
    }
}

fn push_skip(out: &mut Vec<Range>, upper: &Option<Vec<u8>>) {
    match out.last_mut() {
        Some(last) if last.kind == RangeKind::Skip => last.upper.clone_from(upper),
        _ => out.push(Range { upper: upper.clone(), kind: RangeKind::Skip }),
    }
}

fn cut(set: &SortedIds, from: usize, to: usize, upper: &Option<Vec<u8>>, out: &mut Vec<Range>) {
    if to - from <= IDS_MAX {
        out.push(Range { upper: upper.clone(), kind: RangeKind::Ids(set.list(from, to)) });
        return;
    }
    let mut start = from;
    for part in 1..=PARTS {
        let end = from + (to - from) * part / PARTS;
        let bound = if part == PARTS { upper.clone() } else { Some(set.bound(end)) };
        out.push(Range { upper: bound, kind: RangeKind::Fingerprint(set.fingerprint(start, end)) });
        start = end;
    }
}

fn compare(ours: Vec<SegmentId>, theirs: &[SegmentId], answer: &mut Answer) -> Result<(), DecodeError> {
    if !theirs.is_sorted_by(|a, b| a < b) {
        return Err(DecodeError::Invalid { what: "the order of ids" });
    }
    answer.theirs_only.extend(theirs.iter().filter(|id| ours.binary_search(id).is_err()));
    answer.ours_only.extend(ours.into_iter().filter(|id| theirs.binary_search(id).is_err()));
    Ok(())
}

/// Appends a message's bytes.
pub fn encode(ranges: &[Range], out: &mut Vec<u8>) {
    put_uleb(out, ranges.len() as u64);
    for range in ranges {
        match &range.upper {
            None => out.push(255),
            Some(upper) => {
                out.push(upper.len() as u8);
                out.extend_from_slice(upper);
            }
        }
        match &range.kind {
            RangeKind::Skip => out.push(0),
            RangeKind::Fingerprint(print) => {
                out.push(1);
                out.extend_from_slice(print);
            }
            RangeKind::Ids(ids) => {
                out.push(2);
                put_uleb(out, ids.len() as u64);
                ids.iter().for_each(|id| out.extend_from_slice(&id.0));
            }
        }
    }
}

/// Reads a message.
pub fn decode(r: &mut Reader<'_>) -> Result<Vec<Range>, DecodeError> {
    let n = r.uleb_max(RANGES_MAX, "the number of ranges")?;
    (0..n).map(|_| decode_range(r)).collect()
}

fn decode_range(r: &mut Reader<'_>) -> Result<Range, DecodeError> {
    let upper = match r.u8()? {
        255 => None,
        n @ 1..=32 => Some(r.take(usize::from(n))?.to_vec()),
        _ => return Err(DecodeError::Invalid { what: "the bound of a range" }),
    };
    let kind = match r.u8()? {
        0 => RangeKind::Skip,
        1 => RangeKind::Fingerprint(r.array()?),
        2 => {
            let n = r.uleb_max(RANGES_MAX, "the number of ids")?;
            RangeKind::Ids((0..n).map(|_| r.array().map(SegmentId)).collect::<Result<_, _>>()?)
        }
        _ => return Err(DecodeError::Invalid { what: "the kind of a range" }),
    };
    Ok(Range { upper, kind })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use sha2::{Digest, Sha256};
    use std::collections::BTreeSet;

    type Set = BTreeSet<[u8; 32]>;

    fn id(n: u32) -> [u8; 32] {
        Sha256::digest(n.to_be_bytes()).into()
    }

    /// Lets both talk to the end: what each would then hold, and the rounds and bytes it took.
    fn reconcile(a: &Set, b: &Set) -> (Set, Set, usize, usize) {
        let sets = [a, b].map(|s| SortedIds::new(s.iter().copied().collect()));
        let mut held = [a.clone(), b.clone()];
        let mut message = open(&sets[0]);
        let (mut rounds, mut bytes) = (0, 0);
        while !message.is_empty() {
            let mut encoded = vec![];
            encode(&message, &mut encoded);
            bytes += encoded.len();
            let side = 1 - rounds % 2;
            let mut r = Reader::new(&encoded);
            let answer = answer(&sets[side], &decode(&mut r).unwrap()).unwrap();
            held[side].extend(answer.theirs_only.iter().map(|id| id.0));
            held[1 - side].extend(answer.ours_only.iter().map(|id| id.0));
            message = answer.reply;
            rounds += 1;
            assert!(rounds < 40, "it does not end");
        }
        let [a, b] = held;
        (a, b, rounds, bytes)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn both_sides_end_with_the_union(
            shared in 0u32..3000, left in 0u32..200, right in 0u32..200, seed: u16
        ) {
            let at = |n: u32| id(n.wrapping_add(u32::from(seed).wrapping_mul(100_000)));
            let a: Set = (0..shared + left).map(at).collect();
            let b: Set = (0..shared).chain(50_000..50_000 + right).map(at).collect();
            let union: Set = a.union(&b).copied().collect();
            let (a, b, _, _) = reconcile(&a, &b);
            prop_assert_eq!(&a, &union);
            prop_assert_eq!(&b, &union);
        }

        #[test]
        fn no_bytes_make_decode_or_answer_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(ranges) = decode(&mut Reader::new(&bytes)) {
                let _ = answer(&SortedIds::new((0..100).map(id).collect()), &ranges);
            }
        }
    }

    #[test]
    fn one_difference_among_a_hundred_thousand_costs_a_few_kilobytes() {
        let a: Set = (0..100_000).map(id).collect();
        let mut b = a.clone();
        b.insert(id(1_000_000));
        let (a, b, rounds, bytes) = reconcile(&a, &b);
        assert_eq!(a, b);
        assert!(rounds <= 6 && bytes < 8_000, "{rounds} rounds, {bytes} bytes");
    }

    #[test]
    fn ranges_out_of_order_are_refused() {
        let range = |b: u8| Range { upper: Some(vec![b]), kind: RangeKind::Skip };
        assert!(answer(&SortedIds::default(), &[range(9), range(3)]).is_err());
    }
}
