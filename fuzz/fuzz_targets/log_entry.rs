//! Bytes for the target `log_entry` of piecewise-tests.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| piecewise_tests::fuzz::run("log_entry", bytes));
