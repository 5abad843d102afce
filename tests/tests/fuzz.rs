//! Every decoder, and a link with a live replica, against mutated bytes from one seed.
//!
//! `make fuzz SECONDS=60` goes on for that long; as an ordinary test each target gets a fixed number of inputs. A failure prints
//! the seed and the input in hexadecimal.

use piecewise_tests::fuzz::{TARGETS, Target, seeds};
use piecewise_tests::rng::Rng;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

/// Inputs for each target, if no time is set.
const INPUTS: u32 = 2000;
const LEN_MAX: usize = 1 << 14;

/// Changes an input in a few places, as faults and attackers do.
fn mutate(rng: &mut Rng, seeds: &[Vec<u8>]) -> Vec<u8> {
    let pick = |rng: &mut Rng| seeds[rng.below(seeds.len() as u64) as usize].clone();
    let mut bytes = pick(rng);
    for _ in 0..=rng.below(4) {
        let len = bytes.len() as u64;
        let at = rng.below(len + 1) as usize;
        match rng.below(8) {
            0 if len > 0 => bytes.truncate(at),
            1 => drop(bytes.splice(at..at, rng.bytes::<5>())),
            // Fields that claim lengths and counts are made large by this.
            2 => bytes[at..].iter_mut().take(1 + rng.number() as usize % 5).for_each(|b| *b = 0xff),
            3 => bytes[at..].iter_mut().take(4).for_each(|b| *b = 0),
            4 => {
                let other = pick(rng);
                let from = rng.below(other.len() as u64 + 1) as usize;
                let to = from + rng.below((other.len() - from) as u64 + 1) as usize;
                drop(bytes.splice(at..at, other[from..to].iter().copied()));
            }
            5 => {
                let to = (at + rng.below(16) as usize).min(bytes.len());
                drop(bytes.drain(at..to));
            }
            _ if at < bytes.len() => bytes[at] ^= 1 << rng.below(8),
            _ => bytes.push(rng.number() as u8),
        }
        bytes.truncate(LEN_MAX);
    }
    bytes
}

fn fuzz(name: &str, target: Target, seed: u64, until: Option<Instant>) {
    let (seeds, mut rng) = (seeds(name), Rng(seed));
    seeds.iter().for_each(|bytes| target(bytes));
    let mut inputs = 0;
    while until.map_or(inputs < INPUTS, |until| Instant::now() < until) {
        let bytes = mutate(&mut rng, &seeds);
        inputs += 1;
        if catch_unwind(AssertUnwindSafe(|| target(&bytes))).is_err() {
            let hex: String = bytes.iter().map(|b| format!("{b:02x}")).collect();
            panic!("target {name}, seed {seed}, input {inputs}: {hex}");
        }
    }
    if until.is_some() {
        println!("{name:<12} {inputs:>9} inputs, seed {seed}");
    }
}

#[test]
fn no_bytes_of_others_make_a_target_panic() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let (seconds, seed) = (number("FUZZ_SECONDS"), number("SEED").unwrap_or(1));
    let only = std::env::var("TARGET").unwrap_or_default();
    let share = seconds
        .map(|seconds| Duration::from_secs(seconds) / if only.is_empty() { TARGETS.len() as u32 } else { 1 });
    for (name, target) in TARGETS.into_iter().filter(|(name, _)| only.is_empty() || *name == only) {
        fuzz(name, target, seed, share.map(|share| Instant::now() + share));
    }
}
