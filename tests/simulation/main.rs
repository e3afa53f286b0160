//! Many seeds of the simulated cluster, and proofs that the simulation would notice.
//!
//! - `QUORATE_SIM_SEEDS=2000` runs that many seeds instead of 50.
//! - `QUORATE_SIM_SEED=17` runs that one alone, and prints all that happened.

mod jobs;
mod locks;
#[cfg(feature = "planted-faults")]
mod planted;
mod stories;
mod upgrade;
mod work;

use quorate_testkit::sim::{self, Planted, Report, run};
use std::ops::Range;
use std::path::Path;
use std::time::Duration;

/// Seeds that every test run goes through.
const SEEDS_DEFAULT: u64 = 50;
/// Seeds in one of which a planted fault must show. Most show in most of them.
const PLANTED_SEEDS: Range<u64> = 1_000..1_064;

fn directory() -> &'static Path {
    Path::new(concat!(env!("CARGO_TARGET_TMPDIR"), "/simulation"))
}

fn from_env(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is {text:?}, which is no number")))
}

/// Runs seeds on all processors.
fn run_all(seeds: Range<u64>, run: impl Fn(u64) -> Report + Sync) -> Vec<Report> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    sim::run_seeds(seeds, threads, run, |report| print(&report.line()))
}

#[expect(clippy::print_stderr, reason = "the table of seeds is the output of this test")]
fn print(text: &str) {
    eprintln!("{text}");
}

/// Runs the seeds that the environment asks for, or so many; none when that was a single one. Fails
/// when one of them does.
fn run_seeds(default: u64, run: impl Fn(u64) -> Report + Sync) -> Option<(u64, Vec<Report>)> {
    if let Some(seed) = from_env("QUORATE_SIM_SEED") {
        let report = run(seed);
        print(&format!("{}\n{}\n{}", report.plan, report.journal.join("\n"), report.line()));
        assert!(report.problems.is_empty(), "{report}");
        return None;
    }
    let seeds = from_env("QUORATE_SIM_SEEDS").unwrap_or(default);
    assert!(seeds > 0, "no seed shows nothing: QUORATE_SIM_SEEDS must be 1 at least");
    let reports = run_all(0..seeds, run);
    assert_eq!(reports.len() as u64, seeds, "not every seed has a report");
    let failed: Vec<_> = reports.iter().filter(|report| !report.problems.is_empty()).collect();
    if let Some(first) = failed.iter().min_by_key(|report| report.seed) {
        let commands: Vec<_> = failed.iter().map(|report| report.command()).collect();
        panic!("{first}\n{} of {seeds} seeds failed:\n{}", failed.len(), commands.join("\n"));
    }
    Some((seeds, reports))
}

#[test]
fn seeds_with_kills_and_partitions_keep_every_promise() {
    let run = |seed| run(seed, Planted::Nothing, directory());
    let Some((seeds, reports)) = run_seeds(SEEDS_DEFAULT, run) else { return };
    if seeds < SEEDS_DEFAULT {
        return;
    }
    // All this only counts if the faults happened.
    let sum = |of: fn(&Report) -> u64| reports.iter().map(of).sum::<u64>();
    let answered = sum(|report| report.calls.0 as u64);
    let unknown = sum(|report| report.calls.2 as u64);
    let killed = sum(|report| report.injected.killed.into());
    let stopped = sum(|report| report.injected.stopped.into());
    let partitions = sum(|report| report.injected.partitions.into());
    let delays = sum(|report| report.injected.delays.into());
    let caught_up = sum(|report| report.caught_up_by_snapshot as u64);
    let leaders = sum(|report| report.leaders as u64);
    print(&format!(
        "{seeds} seeds: {answered} calls answered, {unknown} unknown, {killed} processes killed, \
         {stopped} stopped, {partitions} partitions, {delays} links held or slow, {leaders} terms, \
         {caught_up} nodes caught up by snapshot"
    ));
    assert!(answered > 100 * seeds, "{answered} calls were answered");
    assert!(unknown > seeds, "{unknown} calls had an unknown outcome");
    assert!(killed > seeds, "{killed} processes were killed");
    assert!(stopped > 0, "no process was stopped");
    assert!(partitions > seeds, "the network was partitioned {partitions} times");
    assert!(delays > seeds / 2, "{delays} links were held or slow");
    assert!(leaders > 2 * seeds, "{leaders} leaders were elected");
    assert!(caught_up > 0, "no node caught up by snapshot");
}

#[test]
fn a_leader_that_is_cut_off_while_it_is_replaced_ends_by_itself() {
    // At some moment between these it has handed leadership over, and nobody has taken it: when it is
    // cut off then, no heartbeat of its own brings it news afterwards, and nobody else's comes.
    let from_ms = 4_240;
    let run =
        |step| sim::run_leader_cut_off(Duration::from_millis(from_ms + 8 * step), directory());
    for report in run_all(0..40, run) {
        assert!(report.problems.is_empty(), "{report}");
        assert_eq!(report.injected.changes, 2, "one joins, one leaves: {report}");
    }
}

#[test]
fn one_seed_twice_is_the_same_run() {
    let seed = from_env("QUORATE_SIM_SEED").unwrap_or(7);
    let (first, second) = std::thread::scope(|scope| {
        let run = || run(seed, Planted::Nothing, directory());
        let (first, second) = (scope.spawn(run), scope.spawn(run));
        (first.join().unwrap(), second.join().unwrap())
    });
    let differs = first.journal.iter().zip(&second.journal).find(|(one, other)| one != other);
    assert_eq!(differs, None, "seed {seed} does not repeat itself");
    assert_eq!(first.journal.len(), second.journal.len());
    assert_eq!(first.trace, second.trace, "what the nodes hold in the end");
    let other = run(seed + 1, Planted::Nothing, directory());
    assert_ne!(first.trace, other.trace, "the seed does not matter");
}

/// Runs seeds with a planted fault until one shows what must be noticed.
fn finds(planted: Planted, what: &str) {
    finds_by(run, planted, what);
}

fn finds_by(run: impl Fn(u64, Planted, &Path) -> Report, planted: Planted, what: &str) {
    let mut seen = Vec::new();
    for seed in PLANTED_SEEDS {
        let report = run(seed, planted, directory());
        if report.problems.iter().any(|problem| problem.contains(what)) {
            return;
        }
        seen.extend(report.problems);
    }
    panic!("{planted:?} went unnoticed in seeds {PLANTED_SEEDS:?}; other problems: {seen:#?}");
}

#[test]
fn reads_without_a_barrier_are_found() {
    finds(Planted::StaleReads, "is not linearizable");
}

#[test]
fn increments_counted_twice_are_found() {
    finds(Planted::CountTwice, "were acknowledged and the outcome of");
}
