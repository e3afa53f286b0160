//! Fuzzes rows of the tables, and a machine that opens on them, with coverage.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| quorate_testkit::fuzz::decode("tables", bytes));
