//! Fuzzes the header in which a caller shows a token, with coverage.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| quorate_testkit::fuzz::decode("authorization", bytes));
