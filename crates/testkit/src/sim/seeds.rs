//! Many seeds at once, on several threads.

use super::report::Report;
use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

/// Runs seeds on so many threads; `done` hears of each when it ends. Answers all reports, in the order
/// of the seeds.
///
/// # Panics
/// When `run` or `done` does.
pub fn run_seeds(
    seeds: Range<u64>,
    threads: usize,
    run: impl Fn(u64) -> Report + Sync,
    done: impl Fn(&Report) + Sync,
) -> Vec<Report> {
    let next = AtomicU64::new(seeds.start);
    let reports = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..threads.max(1) {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if !seeds.contains(&seed) {
                        return;
                    }
                    let report = run(seed);
                    done(&report);
                    reports.lock().expect("no seed panics while it holds this").push(report);
                }
            });
        }
    });
    let mut reports = reports.into_inner().expect("no seed panics while it holds this");
    reports.sort_by_key(|report| report.seed);
    reports
}
