//! Bytes for the target `frame` of piecewise-tests.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| piecewise_tests::fuzz::run("frame", bytes));
