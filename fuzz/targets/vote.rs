//! Fuzzes votes between nodes, and leadership that is handed over, with coverage.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| quorate_testkit::fuzz::decode("vote", bytes));
