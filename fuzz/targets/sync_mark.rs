//! Fuzzes the file that says how far the log was synced, with coverage.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| quorate_testkit::fuzz::decode("sync-mark", bytes));
