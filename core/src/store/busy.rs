//! Busy: how to wait for a lock that another program holds.
//!
//! SQLite's locks have no queue. Its own handler sleeps up to 100 ms between two tries, so a program that commits a hundred
//! times a second, and leaves the lock alone for a millisecond in between, can keep it away for minutes. Short sleeps of
//! differing length find such a gap.

use rusqlite::Connection;
use std::time::Duration;

/// How long to wait for a lock, in milliseconds, and where others wait meanwhile.
const WAIT_MS: u64 = 5000;
const WAIT_BRIEFLY_MS: u64 = 1000;
/// The longest sleep in microseconds: at first, and once a lock has been held for [`PATIENT_TRIES`] tries.
const SLEEP_US: u64 = 2000;
const SLEEP_PATIENT_US: u64 = 8000;
const PATIENT_TRIES: u64 = 500;

/// Lets a connection wait for the locks of other programs, five seconds or one.
pub(crate) fn wait_for_locks(conn: &mut Connection, briefly: bool) -> rusqlite::Result<()> {
    let (ms, handler): (_, fn(i32) -> bool) =
        if briefly { (WAIT_BRIEFLY_MS, wait::<WAIT_BRIEFLY_MS>) } else { (WAIT_MS, wait::<WAIT_MS>) };
    // In a browser nobody else has the file open, and nothing may sleep.
    if cfg!(target_family = "wasm") {
        return conn.busy_timeout(Duration::from_millis(ms));
    }
    conn.busy_handler(Some(handler))
}

/// Sleeps after a try that failed, the `tries`th from 0; false once about `MS` milliseconds were slept.
fn wait<const MS: u64>(tries: i32) -> bool {
    let tries = u64::from(tries.unsigned_abs());
    if slept_us(tries) >= MS * 1000 {
        return false;
    }
    std::thread::sleep(Duration::from_micros(sleep_us(tries)));
    true
}

/// The length of a sleep, between a quarter and three quarters of the longest.
fn sleep_us(tries: u64) -> u64 {
    let most = if tries < PATIENT_TRIES { SLEEP_US } else { SLEEP_PATIENT_US };
    most / 4 + scattered(tries) % (most / 2)
}

/// The length of all sleeps before the `tries`th together, on average: the core reads no clock.
fn slept_us(tries: u64) -> u64 {
    let patient = tries.saturating_sub(PATIENT_TRIES);
    ((tries - patient) * SLEEP_US + patient * SLEEP_PATIENT_US) / 2
}

/// A number that differs from try to try without a pattern that another program could keep step with.
fn scattered(n: u64) -> u64 {
    let mixed = n.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed ^ (mixed >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bound_on_all_sleeps_is_what_they_take() {
        for tries in [1, 400, 2000] {
            let slept: u64 = (0..tries).map(sleep_us).sum();
            let bound = slept_us(tries);
            assert!(slept.abs_diff(bound) <= bound / 4 + SLEEP_US, "{tries} sleeps: {slept} and {bound}");
        }
        assert!(!wait::<WAIT_BRIEFLY_MS>(1000));
        assert!(slept_us(1000) < WAIT_MS * 1000 && slept_us(3000) >= WAIT_MS * 1000);
    }

    #[test]
    fn sleeps_are_short_and_have_no_pattern() {
        let sleeps: Vec<_> = (0..100).map(sleep_us).collect();
        assert!(sleeps.iter().all(|us| *us < SLEEP_US));
        let different: std::collections::BTreeSet<_> = sleeps.iter().collect();
        assert!(different.len() > 80, "{sleeps:?}");
    }
}
