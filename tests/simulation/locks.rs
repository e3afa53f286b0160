//! Locks and sessions in the simulated cluster: many seeds with clients that contend, single
//! stories, and proofs that each kind of mistake would be noticed.

use super::{directory, finds_by, print, run_seeds};
use quorate_testkit::sim::{
    Counts, Dead, Failovers, Planted, run_failovers, run_locks, run_queue, run_wall_jumps,
};
use std::time::Duration;

/// Seeds that every test run goes through.
const SEEDS_DEFAULT: u64 = 24;

#[test]
fn seeds_with_contenders_keep_every_promise() {
    let run = |seed| run_locks(seed, Planted::Nothing, directory());
    let Some((seeds, reports)) = run_seeds(SEEDS_DEFAULT, run) else { return };
    if seeds < SEEDS_DEFAULT {
        return;
    }
    // All this only counts if it came to it.
    let sum = |of: fn(&Counts) -> usize| -> u64 {
        reports.iter().map(|report| of(&report.locks) as u64).sum()
    };
    let granted = sum(|counts| counts.granted);
    let lost = sum(|counts| counts.lost);
    let late = sum(|counts| counts.late_renewals);
    let written = sum(|counts| counts.written);
    let refused = sum(|counts| counts.refused);
    let deposed = sum(|counts| counts.deposed_asked);
    print(&format!(
        "{seeds} seeds: {granted} locks granted, {lost} lost, {late} late renewals, {written} \
         guarded writes, {refused} refused, {deposed} asked of deposed leaders"
    ));
    assert!(granted > 20 * seeds, "{granted} locks were granted");
    assert!(lost > seeds / 2, "{lost} locks were lost");
    assert!(late > seeds, "{late} renewals came late");
    assert!(written > 10 * seeds, "{written} guarded writes were acknowledged");
    assert!(refused > seeds / 2, "{refused} guarded writes were refused");
    assert!(deposed > seeds / 2, "{deposed} renewals and reads were asked of deposed leaders");
}

#[test]
fn one_seed_twice_is_the_same_run() {
    let [first, second] = [(); 2].map(|()| run_locks(7, Planted::Nothing, directory()));
    let differs = first.journal.iter().zip(&second.journal).find(|(one, other)| one != other);
    assert_eq!(differs, None, "the seed does not repeat itself");
    assert_eq!(first.trace, second.trace, "what the nodes hold in the end");
}

#[test]
fn wall_clocks_that_jump_touch_no_lease() {
    for seed in 0..3 {
        let report = run_wall_jumps(seed, directory());
        assert!(report.problems.is_empty(), "{report}");
        assert!(report.locks.freed > 0 && report.locks.lost == 0, "{:?}", report.locks);
    }
}

#[test]
fn a_queue_through_all_nodes_is_served_in_order_and_costs_an_entry_for_each() {
    let problems = run_queue(1);
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

/// How long an election may take when a leader was killed, and the new one's first steps.
const ELECTION: Duration = Duration::from_secs(2);
/// How late a lease may be ended.
const LATE: Duration = Duration::from_secs(2);
/// Of the sessions in most stories.
const TTL: Duration = Duration::from_secs(30);

/// What is always promised: a lock and a session that are kept alive outlive all leaders; a session
/// that nobody keeps alive lives for its ttl at least, and each failover adds half a ttl at most,
/// beside the time without a leader.
fn failovers(story: Failovers) -> Dead {
    let dead = run_failovers(story);
    print(&format!("{story:?}: {dead:?}"));
    assert!(dead.problems.is_empty(), "{dead:?}");
    let lived = dead.lived.expect("the session has ended");
    assert!(lived >= story.ttl, "ended before its time: {dead:?}");
    let seen = u32::try_from(dead.failovers.len()).expect("no more than there were");
    let added = (story.ttl / 2 + ELECTION) * seen;
    assert!(lived <= story.ttl + added + LATE, "lived too long: {dead:?}");
    dead
}

#[test]
fn an_hour_idle_followed_by_a_failover_loses_nothing_that_is_kept_alive() {
    let (idle, every) = (Duration::from_secs(3_600), Duration::from_secs(5));
    let dead = failovers(Failovers { ttl: TTL, idle, every, count: 1 });
    assert_eq!(dead.failovers.len(), 1, "{dead:?}");
    // Nothing was recorded yet, so the new leader began anew.
    assert!(dead.lived.unwrap() <= dead.failovers[0] + TTL + LATE, "{dead:?}");
}

#[test]
fn what_is_left_of_a_session_that_nobody_keeps_alive_is_recorded_for_the_next_leader() {
    let every = TTL * 9 / 10;
    let dead = failovers(Failovers { ttl: TTL, idle: Duration::ZERO, every, count: 1 });
    assert_eq!(dead.failovers.len(), 1, "{dead:?}");
    assert!(dead.lived.unwrap() <= dead.failovers[0] + TTL / 2 + LATE, "{dead:?}");
}

/// A leader that leads for half a ttl records what is left, and the next such leader ends it. What
/// is kept alive is renewed by each of them.
#[test]
fn failovers_that_are_more_than_half_a_ttl_apart_do_not_keep_a_dead_session_alive() {
    for (ttl, count) in [(TTL, 5), (Duration::from_secs(6), 30)] {
        let every = ttl * 6 / 10;
        let dead = failovers(Failovers { ttl, idle: Duration::ZERO, every, count });
        assert_eq!(dead.failovers.len(), 1, "the second leader ended it: {dead:?}");
    }
}

/// Closer than that they do, as long as they go on: none of these leaders has anything to record.
#[test]
fn failovers_that_are_less_than_half_a_ttl_apart_keep_a_session_alive_no_longer_than_they_last() {
    let every = TTL / 4;
    let dead = failovers(Failovers { ttl: TTL, idle: Duration::ZERO, every, count: 6 });
    let last = *dead.failovers.last().unwrap();
    assert!(dead.lived.unwrap() <= last + TTL + LATE, "{dead:?}");
}

#[test]
fn writes_that_skip_their_guards_are_found() {
    finds_by(run_locks, Planted::SkippedGuards, "a write guarded by");
}
