//! Fuzzes messages of a pipeline, with coverage.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| quorate_testkit::fuzz::decode("pipeline-frame", bytes));
