//! Fuzzes a snapshot on its way, with coverage.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| quorate_testkit::fuzz::decode("snapshot-frame", bytes));
