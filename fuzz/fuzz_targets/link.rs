//! Bytes for the target `link` of piecewise-tests.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| piecewise_tests::fuzz::run("link", bytes));
