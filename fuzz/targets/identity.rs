//! Fuzzes the file that says whose a data directory is, with coverage.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| quorate_testkit::fuzz::decode("identity", bytes));
