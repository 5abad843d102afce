//! Runs: a column of a chunk while it is written. Equal values side by side are one run, so that the characters of a long
//! text take no more room than a few.

use crate::bytes::{put_sleb, put_uleb};

/// Values of which some are not there.
#[derive(Debug)]
pub(super) struct Runs<T>(Vec<(Option<T>, u64)>);

impl<T> Default for Runs<T> {
    fn default() -> Self {
        Self(vec![])
    }
}

impl<T: PartialEq> Runs<T> {
    pub(super) fn push(&mut self, value: Option<T>) {
        self.push_many(value, 1);
    }

    /// Appends `n` equal values.
    pub(super) fn push_many(&mut self, value: Option<T>, n: u64) {
        match self.0.last_mut() {
            _ if n == 0 => {}
            Some((last, count)) if *last == value => *count += n,
            _ => self.0.push((value, n)),
        }
    }

    /// The number of runs, which is what writing the column costs.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Runs of equal values (n, value), of different ones (-n, values), of none (0, n). All none: nothing.
    pub(super) fn encode(&self, put: impl Fn(&T, &mut Vec<u8>)) -> Vec<u8> {
        let mut out = vec![];
        if self.0.iter().all(|(value, _)| value.is_none()) {
            return out;
        }
        let is_single = |(value, count): &&(Option<T>, u64)| value.is_some() && *count == 1;
        let mut rest = self.0.as_slice();
        while let Some((value, count)) = rest.first() {
            let singles = rest.iter().take_while(is_single).count();
            match value {
                None => {
                    put_sleb(&mut out, 0);
                    put_uleb(&mut out, *count);
                }
                Some(_) if singles > 0 => {
                    put_sleb(&mut out, -(singles as i64));
                    rest[..singles]
                        .iter()
                        .filter_map(|(value, _)| value.as_ref())
                        .for_each(|v| put(v, &mut out));
                }
                Some(value) => {
                    put_sleb(&mut out, *count as i64);
                    put(value, &mut out);
                }
            }
            rest = &rest[singles.max(1)..];
        }
        out
    }
}

impl Runs<bool> {
    /// Lengths of runs, in turn false and true, beginning with false.
    pub(super) fn encode_booleans(&self) -> Vec<u8> {
        let mut out = vec![];
        if self.0.first().is_some_and(|(value, _)| *value == Some(true)) {
            put_uleb(&mut out, 0);
        }
        self.0.iter().for_each(|(_, count)| put_uleb(&mut out, *count));
        out
    }
}

/// Numbers, each kept as what it is more than the one before that is there.
#[derive(Debug, Default)]
pub(super) struct Deltas {
    runs: Runs<i64>,
    last: i64,
}

impl Deltas {
    pub(super) fn push(&mut self, value: Option<i64>) {
        self.runs.push(value.map(|value| value - self.last));
        self.last = value.unwrap_or(self.last);
    }

    /// Appends `n` numbers, each one more than that before it.
    pub(super) fn push_rising(&mut self, first: i64, n: u64) {
        if n > 0 {
            self.push(Some(first));
            self.runs.push_many(Some(1), n - 1);
            self.last = first + (n - 1) as i64;
        }
    }

    /// The number of runs, which is what writing the column costs.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.runs.len()
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        self.runs.encode(|delta, out| put_sleb(out, *delta))
    }
}
