//! Fuzzes where an answer to a message goes, with coverage.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| quorate_testkit::fuzz::decode("reply-to", bytes));
