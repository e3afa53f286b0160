//! Fuzzes what a node says to the leader beside the log, with coverage.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| quorate_testkit::fuzz::decode("aside-up", bytes));
