//! How fast disks sync, and how much room they have.

use crate::commands::doctor::finding::{Finding, Severity, Subject};
use crate::commands::doctor::seen::{Seen, Syncs};
use quorate_server::FREE_BYTES_MIN;

/// Syncs that make a judgement: one of a hundred has to be one.
const SYNCS_MIN: u64 = 100;
/// What a sync takes on a disk that is made for this, in microseconds; network disks take longer.
const FAST_US: u64 = 10_000;
/// From here on a sync takes as long as the time between two heartbeats (`raft.heartbeat_ms`), and
/// elections come of it.
const SLOW_US: u64 = 100_000;
/// Room that leaves time to make more, in bytes: several snapshots of a small state.
const FREE_BYTES_EASY: u64 = 4 * FREE_BYTES_MIN;

/// How long the newest syncs of each node's log took.
pub(super) fn syncs(seen: &Seen) -> Vec<Finding> {
    let known = seen.told().filter_map(|(node, told)| Some((node.id, told.syncs?)));
    known.map(|(id, syncs)| judge_syncs(Subject::Node(id), syncs)).collect()
}

/// What is to be said of a disk that syncs so fast.
pub(super) fn judge_syncs(subject: Subject, syncs: Syncs) -> Finding {
    let Syncs { count, p50_us, p99_us } = syncs;
    let found = format!(
        "fsync takes {} at half of {count} times, {} at 99 of 100",
        millis(p50_us),
        millis(p99_us)
    );
    let waits =
        "a write is answered once a majority of the nodes has synced it, so it takes that long";
    let fix = "use a local SSD, one that keeps what it acknowledged when power fails, and nothing else \
               that writes much beside it";
    if count < SYNCS_MIN {
        return Finding::new(Severity::Ok, subject, "FSYNC_FEW", format!("{found}: few to go by"));
    }
    if p50_us > FAST_US || p99_us > SLOW_US {
        let means =
            format!("{waits}; when it takes 100 ms, heartbeats come late and leaders change");
        return Finding::new(Severity::Warning, subject, "FSYNC_SLOW", found).means(means).fix(fix);
    }
    if p99_us > FAST_US {
        return Finding::new(Severity::Note, subject, "FSYNC_UNEVEN", found).means(waits).fix(fix);
    }
    Finding::new(Severity::Ok, subject, "FSYNC_FAST", found)
}

/// Microseconds as milliseconds, to three digits.
fn millis(us: u64) -> String {
    match us {
        0..10_000 => format!("{}.{:02} ms", us / 1_000, us % 1_000 / 10),
        10_000..100_000 => format!("{}.{} ms", us / 1_000, us % 1_000 / 100),
        _ => format!("{} ms", us / 1_000),
    }
}

/// How much room each node's disk has.
pub(super) fn room(seen: &Seen) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (node, told) in seen.told() {
        let subject = Subject::Node(node.id);
        match (told.writes_refused, told.disk_free_bytes) {
            // It may have got room since; it looks five times a second.
            (true, free) => {
                findings.push(judge_room(subject, free.unwrap_or(0).min(FREE_BYTES_MIN - 1)))
            }
            (false, Some(free)) => findings.push(judge_room(subject, free)),
            (false, None) => {}
        }
    }
    findings
}

/// What is to be said of a disk with so much room.
pub(super) fn judge_room(subject: Subject, free_bytes: u64) -> Finding {
    let found = format!("{} MiB are free on its disk", free_bytes >> 20);
    let bound = FREE_BYTES_MIN >> 20;
    let fix = "make room on that disk; quorate kv del-pattern, queue purge and cache resize free what \
               Quorate holds";
    if free_bytes < FREE_BYTES_MIN {
        return Finding::new(Severity::Problem, subject, "DISK_FULL", found)
            .means(format!(
                "below {bound} MiB a leader refuses writes that need room (DISK_FULL); reads and \
                 deletes go on"
            ))
            .fix(fix);
    }
    if free_bytes < FREE_BYTES_EASY {
        return Finding::new(Severity::Warning, subject, "DISK_LOW", found)
            .means(format!("below {bound} MiB a leader refuses writes that need room"))
            .fix(fix);
    }
    Finding::new(Severity::Ok, subject, "DISK_ROOM", found)
}

#[cfg(test)]
mod tests {
    use super::super::tests::worse;
    use super::*;
    use crate::commands::doctor::seen::healthy;

    #[test]
    fn syncs_are_judged_by_half_of_them_and_by_the_slowest() {
        let of = |count, p50_us, p99_us| {
            let finding = judge_syncs(Subject::Node(1), Syncs { count, p50_us, p99_us });
            (finding.code, finding.severity)
        };
        assert_eq!(of(100, FAST_US, FAST_US), ("FSYNC_FAST", Severity::Ok));
        assert_eq!(of(100, FAST_US, FAST_US + 1), ("FSYNC_UNEVEN", Severity::Note));
        assert_eq!(of(100, FAST_US, SLOW_US), ("FSYNC_UNEVEN", Severity::Note));
        assert_eq!(of(100, FAST_US, SLOW_US + 1), ("FSYNC_SLOW", Severity::Warning));
        assert_eq!(of(100, FAST_US + 1, SLOW_US), ("FSYNC_SLOW", Severity::Warning));
        assert_eq!(of(99, SLOW_US + 1, SLOW_US + 1), ("FSYNC_FEW", Severity::Ok));
    }

    #[test]
    fn each_node_has_its_own_disk() {
        let slow = Syncs { count: 600, p50_us: 900, p99_us: 250_000 };
        let seen = healthy(3).with(2, |told| told.syncs = Some(slow));
        let seen = seen.with(3, |told| told.syncs = None);
        let found = syncs(&seen);
        assert_eq!((found.len(), worse(&found)), (2, vec!["FSYNC_SLOW node 2".to_owned()]));
        assert!(found[1].found.contains("0.90 ms at half of 600 times, 250 ms"), "{found:?}");
    }

    #[test]
    fn milliseconds_have_three_digits() {
        assert_eq!(millis(56), "0.05 ms");
        assert_eq!(millis(9_999), "9.99 ms");
        assert_eq!(millis(10_000), "10.0 ms");
        assert_eq!(millis(123_456), "123 ms");
    }

    #[test]
    fn room_is_judged_by_what_a_leader_needs() {
        let of = |free| {
            let finding = judge_room(Subject::Node(1), free);
            (finding.code, finding.severity)
        };
        assert_eq!(of(FREE_BYTES_MIN - 1), ("DISK_FULL", Severity::Problem));
        assert_eq!(of(FREE_BYTES_MIN), ("DISK_LOW", Severity::Warning));
        assert_eq!(of(FREE_BYTES_EASY - 1), ("DISK_LOW", Severity::Warning));
        assert_eq!(of(FREE_BYTES_EASY), ("DISK_ROOM", Severity::Ok));
        let seen = healthy(3)
            .with(1, |told| told.disk_free_bytes = None)
            .with(2, |told| told.disk_free_bytes = Some(300 << 20))
            .with(3, |told| told.writes_refused = true);
        assert_eq!(worse(&room(&seen)), ["DISK_LOW node 2", "DISK_FULL node 3"]);
    }
}
