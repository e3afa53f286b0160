//! Fuzzes requests about tokens and roles, with coverage.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| quorate_testkit::fuzz::decode("auth-request", bytes));
