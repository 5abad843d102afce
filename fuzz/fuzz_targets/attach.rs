//! Bytes for the target `attach` of piecewise-tests.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| piecewise_tests::fuzz::run("attach", bytes));
