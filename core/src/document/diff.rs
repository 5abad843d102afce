//! Diff: the edits that make one text of another.
//!
//! What both begin and end with stays. Between, the shortest script of what people see as characters; of whole lines where
//! that would be too long, so that no text makes this slow; and where those differ as well, all is replaced.

use std::ops::Range;
use unicode_segmentation::{GraphemeCursor, UnicodeSegmentation};

/// Steps of the longest script that is looked for.
const STEPS_MAX: usize = 512;

/// Bytes of the old text, and what stands there in the new one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Edit<'a> {
    pub(super) old: Range<usize>,
    pub(super) new: &'a str,
}

/// The edits from one text to another, in their order.
pub(super) fn edits<'a>(old: &str, new: &'a str) -> Vec<Edit<'a>> {
    let before = common_start(old, new);
    let behind = common_end(&old[before..], &new[before..]);
    let (old, new) = (&old[before..old.len() - behind], &new[before..new.len() - behind]);
    let all = || vec![(0..old.len(), 0..new.len())];
    let found = if old.is_empty() && new.is_empty() {
        vec![]
    } else if old.is_empty() || new.is_empty() {
        all()
    } else {
        let characters =
            script(&old.graphemes(true).collect::<Vec<_>>(), &new.graphemes(true).collect::<Vec<_>>());
        let lines = || {
            let lines = |text| str::split_inclusive(text, '\n').collect::<Vec<_>>();
            script(&lines(old), &lines(new))
        };
        characters.or_else(lines).unwrap_or_else(all)
    };
    let edit =
        |(a, b): (Range<usize>, Range<usize>)| Edit { old: before + a.start..before + a.end, new: &new[b] };
    found.into_iter().map(edit).collect()
}

/// How many bytes both begin with, up to where a character ends for people.
fn common_start(old: &str, new: &str) -> usize {
    const STEP: usize = 64;
    let blocks = old.as_bytes().chunks(STEP).zip(new.as_bytes().chunks(STEP));
    let same = blocks.take_while(|(a, b)| a == b && a.len() == STEP).count() * STEP;
    let rest = old.as_bytes()[same..].iter().zip(&new.as_bytes()[same..]);
    let mut at = same + rest.take_while(|(a, b)| a == b).count();
    while !(is_boundary(old, at) && is_boundary(new, at)) {
        at -= 1;
    }
    at
}

/// How many bytes both end with, from where a character begins for people.
fn common_end(old: &str, new: &str) -> usize {
    const STEP: usize = 64;
    let blocks = old.as_bytes().rchunks(STEP).zip(new.as_bytes().rchunks(STEP));
    let same = blocks.take_while(|(a, b)| a == b && a.len() == STEP).count() * STEP;
    let rest =
        old.as_bytes()[..old.len() - same].iter().rev().zip(new.as_bytes()[..new.len() - same].iter().rev());
    let mut len = same + rest.take_while(|(a, b)| a == b).count();
    while !(is_boundary(old, old.len() - len) && is_boundary(new, new.len() - len)) {
        len -= 1;
    }
    len
}

fn is_boundary(text: &str, at: usize) -> bool {
    // Both ends are boundaries, so that whoever steps towards one gets to it.
    at == 0
        || at == text.len()
        || text.is_char_boundary(at)
            && GraphemeCursor::new(at, text.len(), true).is_boundary(text, 0).unwrap_or(false)
}

/// What differs between two sequences, in bytes; None if that is more than is looked for (Myers, 1986).
fn script(old: &[&str], new: &[&str]) -> Option<Vec<(Range<usize>, Range<usize>)>> {
    let (n, m) = (old.len() as isize, new.len() as isize);
    let max = STEPS_MAX.min(old.len() + new.len()) as isize;
    // For each diagonal how far into the old one gets; as it was before each step.
    let mut reach = vec![0isize; 2 * max as usize + 3];
    let at = |diagonal: isize| (diagonal + max + 1) as usize;
    let mut steps: Vec<Vec<isize>> = vec![];
    for d in 0..=max {
        steps.push(reach[at(-d - 1)..=at(d + 1)].to_vec());
        for k in (-d..=d).step_by(2) {
            let down = k == -d || (k != d && reach[at(k - 1)] < reach[at(k + 1)]);
            let mut x = if down { reach[at(k + 1)] } else { reach[at(k - 1)] + 1 };
            while x < n && x - k < m && old[x as usize] == new[(x - k) as usize] {
                x += 1;
            }
            reach[at(k)] = x;
            if k == n - m && x >= n {
                return Some(differences(old, new, &steps));
            }
        }
    }
    None
}

/// Goes back through the steps to what both have in common, and gives what lies between.
fn differences(old: &[&str], new: &[&str], steps: &[Vec<isize>]) -> Vec<(Range<usize>, Range<usize>)> {
    let (mut x, mut y) = (old.len() as isize, new.len() as isize);
    let mut gone = vec![false; old.len()];
    let mut come = vec![false; new.len()];
    for (d, reach) in steps.iter().enumerate().skip(1).rev() {
        let d = d as isize;
        let reached = |k: isize| reach[(k + d + 1) as usize];
        let k = x - y;
        let down = k == -d || (k != d && reached(k - 1) < reached(k + 1));
        let from = if down { k + 1 } else { k - 1 };
        (x, y) = (reached(from), reached(from) - from);
        if down { come[y as usize] = true } else { gone[x as usize] = true }
    }
    let (mut found, mut a, mut b): (Vec<(Range<usize>, Range<usize>)>, _, _) = (vec![], 0, 0);
    let (mut i, mut j) = (0, 0);
    while i < old.len() || j < new.len() {
        let (from_a, from_b) = (a, b);
        while i < old.len() && gone[i] {
            a += old[i].len();
            i += 1;
        }
        while j < new.len() && come[j] {
            b += new[j].len();
            j += 1;
        }
        if (a, b) != (from_a, from_b) {
            found.push((from_a..a, from_b..b));
        }
        if i < old.len() && j < new.len() {
            a += old[i].len();
            b += new[j].len();
            i += 1;
            j += 1;
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn apply(old: &str, edits: &[Edit<'_>]) -> String {
        let mut text = old.to_owned();
        edits.iter().rev().for_each(|e| text.replace_range(e.old.clone(), e.new));
        text
    }

    proptest! {
        #[test]
        fn the_edits_make_the_new_text_of_the_old_one(
            old in "[ab\n\u{e9}\u{301}👨\u{200d}👩]{0,24}", new in "[ab\n\u{e9}\u{301}👨\u{200d}👩]{0,24}"
        ) {
            let edits = edits(&old, &new);
            prop_assert_eq!(apply(&old, &edits), new.as_str());
            prop_assert!(edits.windows(2).all(|w| w[0].old.end < w[1].old.start), "something stays between two edits");
        }
    }

    #[test]
    fn words_changed_in_two_places_leave_what_is_between() {
        let edits = edits("one two three", "ones two trees");
        assert_eq!(edits.first(), Some(&Edit { old: 3..3, new: "s" }));
        assert!(edits.len() > 1 && edits.iter().all(|e| e.old.start < 4 || e.old.start > 7), "{edits:?}");
    }

    #[test]
    fn what_people_see_as_one_character_is_replaced_as_one() {
        let (old, new) = ("a👨\u{200d}👩\u{200d}👧z", "a👨\u{200d}👩\u{200d}👦z");
        assert_eq!(edits(old, new), [Edit { old: 1..old.len() - 1, new: &new[1..new.len() - 1] }]);
    }

    #[test]
    fn a_long_text_of_which_every_line_changed_is_replaced() {
        let text =
            |salt: u32| -> String { (0..20_000u32).map(|n| format!("{}\n", n.wrapping_mul(salt))).collect() };
        let (old, new) = (text(2_654_435_761), text(40_503));
        assert_eq!(apply(&old, &edits(&old, &new)), new);
    }

    #[test]
    fn of_a_long_text_of_which_many_lines_changed_the_others_stay() {
        let line = |n: u32| format!("line {n} of the text\n");
        let old: String = (0..2_000).map(line).collect();
        let new: String = (0..2_000)
            .map(|n| if n % 20 == 7 { "something else altogether\n".into() } else { line(n) })
            .collect();
        let edits = edits(&old, &new);
        assert_eq!(apply(&old, &edits), new);
        assert_eq!(edits.len(), 100);
    }
}
