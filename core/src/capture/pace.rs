//! Pace: how many rows one call looks at, so that the write lock is not held for long.
//!
//! Other programs wait for the lock, some of them without patience. What a row costs depends on what it is: a new one is
//! read and written down, one that is known is compared with its document, and bytes are compressed and hashed. There is
//! no clock here; so each call adds up what its rows cost on an ordinary machine, and the next one takes as many as fit.

/// What a call should cost at most, in microseconds.
const CALL: usize = 20_000;
/// Rows that a call looks at, at least and at most.
const ROWS_MIN: usize = 256;
const ROWS_MAX: usize = 4096;
/// What a row costs that nothing is known of, and one that is compared with its document.
const NEW: usize = 1;
const KNOWN: usize = 10;
/// What a change of a known row costs beside that.
const CHANGE: usize = 10;
/// Bytes of a frame that cost one microsecond.
const BYTES: usize = 128;

/// What the rows of this call cost so far, and how many the next one takes.
#[derive(Debug)]
pub(crate) struct Pace {
    rows: usize,
    looked_at: usize,
    cost: usize,
}

impl Default for Pace {
    fn default() -> Self {
        Self { rows: ROWS_MAX, looked_at: 0, cost: 0 }
    }
}

impl Pace {
    /// The row budget for the next call, derived from what the last call's rows cost.
    pub(crate) fn next(&mut self) -> usize {
        if self.looked_at > 0 {
            self.rows = (self.looked_at * CALL / self.cost.max(1)).clamp(ROWS_MIN, ROWS_MAX);
        }
        (self.looked_at, self.cost) = (0, 0);
        self.rows
    }

    pub(crate) fn new_rows(&mut self, count: usize) {
        self.looked_at += count;
        self.cost += count * NEW;
    }

    pub(crate) fn known_rows(&mut self, count: usize) {
        self.looked_at += count;
        self.cost += count * KNOWN;
    }

    pub(crate) fn change(&mut self) {
        self.cost += CHANGE;
    }

    pub(crate) fn frame(&mut self, bytes: usize) {
        self.cost += bytes / BYTES;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_takes_fewer_rows_after_large_or_known_ones_and_more_after_small_ones() {
        let mut pace = Pace::default();
        assert_eq!(pace.next(), ROWS_MAX);
        pace.new_rows(4096);
        pace.frame(4 << 20);
        let large = pace.next();
        assert!(large < 3000, "{large}");
        pace.known_rows(large);
        (0..large).for_each(|_| pace.change());
        assert_eq!(pace.next(), CALL / (KNOWN + CHANGE));
        pace.new_rows(1000);
        pace.frame(100_000);
        assert_eq!(pace.next(), ROWS_MAX);
        assert_eq!(pace.next(), ROWS_MAX, "a call that looked at nothing tells nothing");
        pace.new_rows(1);
        pace.frame(100 << 20);
        assert_eq!(pace.next(), ROWS_MIN);
    }
}
