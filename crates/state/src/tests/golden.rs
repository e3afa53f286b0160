//! Golden scripts and the conformance suite, over tables in memory.

use crate::testing::{InMemory, conformance, golden, seed};

#[test]
fn access_scripts() {
    golden::run_area("access", InMemory::default);
}

#[test]
fn cache_scripts() {
    golden::run_area("cache", InMemory::default);
}

#[test]
fn clock_scripts() {
    golden::run_area("clock", InMemory::default);
}

#[test]
fn cluster_scripts() {
    golden::run_area("cluster", InMemory::default);
}

#[test]
fn dedupe_scripts() {
    golden::run_area("dedupe", InMemory::default);
}

#[test]
fn history_scripts() {
    golden::run_area("history", InMemory::default);
}

#[test]
fn kv_scripts() {
    golden::run_area("kv", InMemory::default);
}

#[test]
fn lock_scripts() {
    golden::run_area("lock", InMemory::default);
}

#[test]
fn queue_scripts() {
    golden::run_area("queue", InMemory::default);
}

#[test]
fn session_scripts() {
    golden::run_area("session", InMemory::default);
}

#[test]
fn no_area_is_left_out() {
    let scripts = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("testscripts");
    let mut areas: Vec<String> = std::fs::read_dir(scripts)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    areas.sort();
    assert_eq!(areas, golden::AREAS);
}

#[test]
fn memory_tables_conform() {
    let seed = seed("cargo test --release -p quorate-state memory_tables_conform");
    conformance::run(InMemory::default, seed);
}
