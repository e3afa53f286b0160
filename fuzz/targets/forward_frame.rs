//! Fuzzes requests that are forwarded to the leader, and its answers, with coverage.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| quorate_testkit::fuzz::decode("forward-frame", bytes));
