//! Fuzzes the list of the files of a snapshot, with coverage.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| quorate_testkit::fuzz::decode("snapshot-manifest", bytes));
