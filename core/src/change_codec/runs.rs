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
        match self.0.last_mut() {
            Some((last, count)) if *last == value => *count += 1,
            _ => self.0.push((value, 1)),
        }
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

    pub(super) fn encode(&self) -> Vec<u8> {
        self.runs.encode(|delta, out| put_sleb(out, *delta))
    }
}
