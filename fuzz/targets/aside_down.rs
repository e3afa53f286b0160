//! Fuzzes what the leader says to a node beside the log, with coverage.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| quorate_testkit::fuzz::decode("aside-down", bytes));
