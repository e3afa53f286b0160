//! The rules: each looks at one thing that was seen, and says what it finds. Nothing here asks
//! anybody or measures anything.

pub(super) mod addresses;
mod clocks;
pub(super) mod disks;
pub(super) mod host;
mod log;
mod members;
mod plans;
mod quorum;

use super::finding::Finding;
use super::seen::Seen;

/// All that is to be said of a cluster.
pub(super) fn of_cluster(seen: &Seen) -> Vec<Finding> {
    let rules: [fn(&Seen) -> Vec<Finding>; 19] = [
        quorum::lost,
        members::silent,
        members::unwell,
        members::no_leader,
        members::out_of_reach,
        members::states,
        members::elections,
        members::versions,
        quorum::one_voter,
        quorum::losses,
        quorum::even,
        quorum::learners,
        plans::open,
        log::behind,
        log::snapshots,
        clocks::offsets,
        disks::syncs,
        disks::room,
        addresses::of_members,
    ];
    rules.iter().flat_map(|rule| rule(seen)).collect()
}

/// Ids in a sentence: `node 1`, `nodes 1 and 2`, `nodes 1, 2 and 3`.
fn nodes(ids: &[u64]) -> String {
    match ids {
        [] => "no node".to_owned(),
        [only] => format!("node {only}"),
        [before @ .., last] => {
            let before: Vec<String> = before.iter().map(u64::to_string).collect();
            format!("nodes {} and {last}", before.join(", "))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::doctor::finding::Severity;
    use crate::commands::doctor::seen::healthy;

    /// The codes of what is worse than fine, with whom it is about.
    pub(super) fn worse(findings: &[Finding]) -> Vec<String> {
        let worse = findings.iter().filter(|finding| finding.severity > Severity::Ok);
        worse.map(|finding| format!("{} {}", finding.code, finding.subject)).collect()
    }

    #[test]
    fn of_a_healthy_cluster_all_is_fine() {
        for count in [3, 5] {
            let findings = of_cluster(&healthy(count));
            assert_eq!(worse(&findings), Vec::<String>::new());
            assert!(findings.len() > 3, "it says what is fine: {findings:?}");
        }
    }

    #[test]
    fn whatever_is_not_fine_says_what_to_do() {
        let mut seen = healthy(4).without(2).learner(4).with(3, |told| {
            told.problem = "it knows no leader".to_owned();
            told.writes_refused = true;
            told.version = "0.2.0".to_owned();
            told.digest = 1;
            told.elections_hour = 64;
            told.behind = Some((1 << 40, 1 << 40));
        });
        seen.encrypted = false;
        for finding in of_cluster(&seen) {
            let says = !finding.means.is_empty() || finding.severity == Severity::Ok;
            assert!(says, "{finding:?}");
            let does = !finding.does.is_empty() || finding.severity <= Severity::Note;
            assert!(does, "{finding:?}");
        }
    }

    #[test]
    fn ids_make_a_sentence() {
        assert_eq!(nodes(&[7]), "node 7");
        assert_eq!(nodes(&[1, 2, 3]), "nodes 1, 2 and 3");
    }
}
