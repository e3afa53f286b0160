//! Fuzzes the pointer to the current state, and the rows beside its tables, with coverage.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| quorate_testkit::fuzz::decode("state-pointer", bytes));
