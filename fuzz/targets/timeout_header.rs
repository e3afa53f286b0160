//! Fuzzes the header in which a caller says how long it waits, with coverage.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| quorate_testkit::fuzz::decode("timeout-header", bytes));
