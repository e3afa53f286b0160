//! Fuzzes what a follower says of entries, with coverage.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| quorate_testkit::fuzz::decode("append-response", bytes));
