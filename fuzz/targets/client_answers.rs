//! Fuzzes answers of a node, as the client takes them, with coverage.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| quorate_testkit::fuzz::decode("client-answers", bytes));
