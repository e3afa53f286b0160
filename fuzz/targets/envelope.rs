//! Fuzzes a command as one node forwards it to another, with coverage.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| quorate_testkit::fuzz::decode("envelope", bytes));
