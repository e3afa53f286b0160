//! Whether the nodes' wall clocks agree.

use crate::commands::doctor::finding::{Finding, Severity, Subject};
use crate::commands::doctor::seen::{Clock, Seen};

/// How far a clock may be from the others, in milliseconds: what a person would notice of a job that
/// was to begin at a time.
const OFF_MAX_MS: u64 = 500;

const MEANS: &str = "wall time decides when jobs with not_before and schedules (cron) are due, by the \
                     leader's clock: led by a node whose clock is wrong, they come early or late. Leases, \
                     ttls, locks and reads don't depend on it";

/// Each clock against the middle one: if one is wrong, it is hardly that.
pub(super) fn offsets(seen: &Seen) -> Vec<Finding> {
    let known: Vec<(u64, Clock)> =
        seen.told().filter_map(|(node, told)| Some((node.id, told.clock?))).collect();
    let mut sorted: Vec<i64> = known.iter().map(|(_, clock)| clock.ahead_ms).collect();
    sorted.sort_unstable();
    let Some(middle) = sorted.get(sorted.len().saturating_sub(1) / 2).copied() else {
        return Vec::new();
    };
    if known.len() < 2 {
        return Vec::new();
    }
    let mut findings = Vec::new();
    let mut most_ms = 0;
    for (id, clock) in known {
        let off_ms = clock.ahead_ms.abs_diff(middle);
        most_ms = most_ms.max(off_ms);
        let way = if clock.ahead_ms > middle { "ahead of" } else { "behind" };
        let leads = if seen.leader == Some(id) { "; it leads now" } else { "" };
        let subject = Subject::Node(id);
        if off_ms > OFF_MAX_MS.saturating_add(clock.uncertainty_ms) {
            let found = format!(
                "its clock is {off_ms} ms (give or take {} ms) {way} the others{leads}",
                clock.uncertainty_ms
            );
            findings.push(
                Finding::new(Severity::Warning, subject, "CLOCK_OFF", found)
                    .means(MEANS)
                    .fix("let the machine keep time: chronyc tracking, timedatectl set-ntp true"),
            );
        } else if clock.uncertainty_ms > OFF_MAX_MS {
            let found = format!(
                "it took {} ms to ask for its clock, too long to tell how it goes",
                clock.uncertainty_ms.saturating_mul(2)
            );
            findings.push(
                Finding::new(Severity::Note, subject, "CLOCK_UNKNOWN", found)
                    .means("the node or the way to it is slow")
                    .fix("ask again"),
            );
        }
    }
    if findings.is_empty() {
        let found = format!("no clock is more than {most_ms} ms from the others");
        findings.push(Finding::new(Severity::Ok, Subject::Cluster, "CLOCKS_AGREE", found));
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::super::tests::worse;
    use super::*;
    use crate::commands::doctor::seen::healthy;

    fn of(clocks: &[(i64, u64)]) -> Vec<Finding> {
        let mut seen = healthy(clocks.len() as u64);
        for (id, (ahead_ms, uncertainty_ms)) in (1..).zip(clocks.iter().copied()) {
            seen = seen.with(id, |told| told.clock = Some(Clock { ahead_ms, uncertainty_ms }));
        }
        offsets(&seen)
    }

    #[test]
    fn a_clock_is_off_when_that_is_certain() {
        let found = of(&[(0, 0), (0, 2), (502, 2)]);
        assert_eq!((worse(&found), found[0].code), (Vec::new(), "CLOCKS_AGREE"));
        let found = of(&[(0, 0), (0, 2), (503, 2)]);
        assert_eq!(worse(&found), ["CLOCK_OFF node 3"]);
        assert!(found[0].found.contains("503 ms (give or take 2 ms) ahead of"), "{found:?}");
        assert_eq!(worse(&of(&[(0, 0), (0, 2), (-503, 2)])), ["CLOCK_OFF node 3"]);
        assert!(of(&[(0, 0), (0, 2), (-503, 2)])[0].found.contains("behind the others"));
    }

    #[test]
    fn the_one_that_is_asked_may_be_the_wrong_one() {
        let found = of(&[(0, 0), (9_000, 2), (9_001, 2)]);
        assert_eq!(worse(&found), ["CLOCK_OFF node 1"]);
        assert!(found[0].found.contains("9000 ms"), "{found:?}");
        assert!(found[0].found.contains("behind the others; it leads now"), "{found:?}");
    }

    #[test]
    fn a_slow_answer_says_nothing_of_a_clock() {
        assert_eq!(worse(&of(&[(0, 0), (0, 2), (0, 500)])), Vec::<String>::new());
        let found = of(&[(0, 0), (0, 2), (0, 501)]);
        assert_eq!(
            (worse(&found).as_slice(), found[0].severity),
            (["CLOCK_UNKNOWN node 3".to_owned()].as_slice(), Severity::Note)
        );
        // One that is off by far more than that is off.
        assert_eq!(worse(&of(&[(0, 0), (0, 2), (10_000, 501)])), ["CLOCK_OFF node 3"]);
    }

    #[test]
    fn one_clock_has_nothing_to_differ_from() {
        assert_eq!(of(&[(0, 0)]), []);
        let unknown =
            healthy(3).with(2, |told| told.clock = None).with(3, |told| told.clock = None);
        assert_eq!(offsets(&unknown), []);
        // Whatever a node says, it is only a number.
        let found = of(&[(0, 0), (i64::MAX, 2), (i64::MIN, 2)]);
        assert_eq!(worse(&found), ["CLOCK_OFF node 2", "CLOCK_OFF node 3"]);
    }
}
