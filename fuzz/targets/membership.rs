//! Fuzzes who belongs to the cluster, as it stands in the log and in a snapshot, with coverage.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| quorate_testkit::fuzz::decode("membership", bytes));
