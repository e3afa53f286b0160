//! Fuzzes values that are numbers to be added to, with coverage.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| quorate_testkit::fuzz::decode("float", bytes));
