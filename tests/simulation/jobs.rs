//! Jobs in the simulated cluster: many seeds with pushers and workers, and proofs that mistakes
//! would be noticed.

use super::{directory, finds_by, print, run_seeds};
use quorate_testkit::sim::{JobCounts, Planted, run_jobs};

/// Seeds that every test run goes through.
const SEEDS_DEFAULT: u64 = 24;

#[test]
fn seeds_with_jobs_keep_every_promise() {
    let run = |seed| run_jobs(seed, Planted::Nothing, directory());
    let Some((seeds, reports)) = run_seeds(SEEDS_DEFAULT, run) else { return };
    if seeds < SEEDS_DEFAULT {
        return;
    }
    // All this only counts if it came to it.
    let sum =
        |of: fn(&JobCounts) -> u64| -> u64 { reports.iter().map(|report| of(&report.jobs)).sum() };
    let added = sum(|counts| counts.added as u64);
    let unknown = sum(|counts| counts.unknown as u64);
    let done = sum(|counts| counts.done as u64);
    let twice = sum(|counts| counts.twice as u64);
    let lapsed = sum(|counts| counts.lapsed);
    let dead = sum(|counts| counts.dead as u64);
    let duplicates = sum(|counts| counts.duplicates as u64);
    let after_failover = sum(|counts| counts.duplicates_after_failover as u64);
    let handed_back = sum(|counts| counts.handed_back as u64);
    let watched = sum(|counts| counts.watched as u64);
    let group_pairs = sum(|counts| counts.group_pairs as u64);
    let delayed = sum(|counts| counts.delayed as u64);
    let pulled = sum(|counts| counts.pulled as u64);
    let purges = sum(|counts| counts.purges as u64);
    let failovers = sum(|counts| counts.failovers as u64);
    print(&format!(
        "{seeds} seeds: {added} jobs added, {unknown} pushes of unknown outcome, {done} \
         acknowledged, {twice} delivered again, {lapsed} leases lapsed, {dead} dead letters, \
         {duplicates} duplicates recognised, {after_failover} of them after a failover, \
         {handed_back} handed back, {watched} watched, {group_pairs} pairs of a group, {delayed} \
         delayed, {pulled} pulled, {purges} purges, {failovers} failovers"
    ));
    assert!(added > 50 * seeds, "{added} jobs were added");
    assert!(unknown > 0, "no push had an unknown outcome");
    assert!(done > 20 * seeds, "{done} jobs were acknowledged");
    assert!(twice > seeds, "{twice} jobs were delivered again");
    assert!(lapsed > seeds, "{lapsed} leases ran out");
    assert!(dead > seeds, "there were {dead} dead letters");
    assert!(duplicates > seeds, "{duplicates} duplicates were recognised");
    assert!(after_failover > 0, "no duplicate was recognised by another leader");
    assert!(handed_back > seeds, "{handed_back} jobs were handed back");
    assert!(watched > seeds, "of {watched} jobs it would have been seen that nobody takes them");
    assert!(group_pairs > seeds, "there were {group_pairs} pairs of jobs of a group");
    assert!(delayed > seeds, "{delayed} jobs were delayed");
    assert!(pulled > seeds, "{pulled} leases were pulled");
    assert!(purges > 0, "no queue was purged");
    assert!(failovers > seeds, "there were {failovers} failovers");
}

#[test]
fn one_seed_twice_is_the_same_run() {
    let [first, second] = [(); 2].map(|()| run_jobs(7, Planted::Nothing, directory()));
    let differs = first.journal.iter().zip(&second.journal).find(|(one, other)| one != other);
    assert_eq!(differs, None, "the seed does not repeat itself");
    assert_eq!(first.trace, second.trace, "what the nodes hold in the end");
}

#[test]
fn pushes_that_were_never_sent_are_missed() {
    finds_by(run_jobs, Planted::PushesNotSent, " is lost");
}

#[test]
fn acknowledgements_that_come_too_late_are_found() {
    finds_by(run_jobs, Planted::StaleAcks, ", and then given again under ");
}
