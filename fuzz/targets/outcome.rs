//! Fuzzes what became of a command, as the leader answers it, with coverage.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| quorate_testkit::fuzz::decode("outcome", bytes));
