//! How the members are, by what they say or do not say.

use super::nodes;
use crate::commands::doctor::finding::{Finding, Severity, Subject};
use crate::commands::doctor::seen::Seen;
use quorate_server::ELECTIONS_MAX;
use std::collections::BTreeMap;

/// Elections in an hour that a cluster may have without being asked why: a restart of each of five
/// nodes, in the worst order.
const ELECTIONS_HOUR_MAX: u32 = 5;

/// Members that do not answer the node that was asked.
pub(super) fn silent(seen: &Seen) -> Vec<Finding> {
    let silent = seen.nodes.iter().filter_map(|node| Some((node, node.told.as_ref().err()?)));
    let (there, voters, majority) = (seen.voters_there(), seen.voters(), seen.majority());
    let asked = seen.answered_by;
    silent
        .map(|(node, why)| {
            let id = node.id;
            let found = format!("it does not answer node {asked}: {why}");
            let counted = if node.voter {
                format!("one vote less: {there} of {voters} voters answer, and {majority} must")
            } else {
                "it has no vote, so writes go on without it".to_owned()
            };
            let finding = Finding::new(Severity::Problem, Subject::Node(id), "NO_ANSWER", found);
            match &node.reached {
                Ok(()) => finding
                    .means(format!(
                        "{counted}. It answers clients at {}, so it runs: the way between the nodes \
                         is broken",
                        node.client_addr
                    ))
                    .fix(format!(
                        "see that node {asked} reaches {} (firewall, peer_advertise), and look at \
                         both logs",
                        node.peer_addr
                    )),
                Err(_) => finding.means(counted).fix(format!(
                    "start it, or look at the end of its log; if its disk is lost: quorate cluster \
                     replace {id}"
                )),
            }
        })
        .collect()
}

/// Members that answer, and say that something is wrong.
pub(super) fn unwell(seen: &Seen) -> Vec<Finding> {
    let unwell = seen.told().filter(|(_, told)| !told.problem.is_empty());
    unwell
        .map(|(node, told)| {
            let subject = Subject::Node(node.id);
            Finding::new(Severity::Problem, subject, "UNWELL", told.problem.clone())
                .means("it takes no part, or only looks on; clients that ask it wait for others")
                .fix("look at its log; if it knows no leader, see that it reaches the peer addresses")
        })
        .collect()
}

/// A majority is there, and nobody leads.
pub(super) fn no_leader(seen: &Seen) -> Vec<Finding> {
    if seen.leader.is_some() || seen.voters_there() < seen.majority() {
        return Vec::new();
    }
    let found = format!("node {} knows no leader, though a majority answers", seen.answered_by);
    vec![
        Finding::new(Severity::Problem, Subject::Cluster, "NO_LEADER", found)
            .means("writes and linearizable reads wait until one is elected, a second at most")
            .fix("ask again; if it stays so, look in the logs why elections fail"),
    ]
}

/// Members that their peers hear, and clients do not.
pub(super) fn out_of_reach(seen: &Seen) -> Vec<Finding> {
    let out = seen.told().filter_map(|(node, _)| Some((node, node.reached.as_ref().err()?)));
    out.map(|(node, why)| {
        let found = format!("it does not answer here, at {}: {why}", node.client_addr);
        Finding::new(Severity::Warning, Subject::Node(node.id), "OUT_OF_REACH", found)
            .means("its peers hear it, but clients on this machine are sent there in vain")
            .fix("see that its client_advertise is an address that clients reach, and the firewall")
    })
    .collect()
}

/// Two that applied the same and hold something else.
pub(super) fn states(seen: &Seen) -> Vec<Finding> {
    let mut at: BTreeMap<u64, (u64, u64)> = BTreeMap::new();
    let mut findings = Vec::new();
    for (node, told) in seen.told() {
        let Some(applied) = told.applied else { continue };
        let (first, digest) = *at.entry(applied).or_insert((node.id, told.digest));
        if digest != told.digest {
            let found =
                format!("nodes {first} and {} differ after the same entry, {applied}", node.id);
            findings.push(
                Finding::new(Severity::Problem, Subject::Cluster, "STATES_DIFFER", found)
                    .means("one of them has a wrong copy; reads there may be wrong")
                    .fix(
                        "keep both data directories, report it, and put new nodes in their places, \
                         one after the other: quorate cluster replace N",
                    ),
            );
        }
    }
    findings
}

/// Leaders that do not stay.
pub(super) fn elections(seen: &Seen) -> Vec<Finding> {
    let most = seen.told().map(|(_, told)| told.elections_hour).max().unwrap_or(0);
    let (before, after) = seen.terms;
    let subject = Subject::Cluster;
    let fix = "look at fsync times, the load of the machines and the network between them; if they \
               can't be better, raise raft.election_timeout_min_ms and _max_ms on all nodes";
    let costs = "each election holds up writes for about a second";
    if most > ELECTIONS_HOUR_MAX {
        let found = format!("{most} elections in the newest hour");
        let found =
            if most as usize >= ELECTIONS_MAX { format!("{found}, or more") } else { found };
        return vec![
            Finding::new(Severity::Warning, subject, "LEADER_MOVES", found).means(costs).fix(fix),
        ];
    }
    if after > before {
        let found = format!("the term went from {before} to {after} while it was looked at");
        return vec![
            Finding::new(Severity::Note, subject, "ELECTED_NOW", found)
                .means(costs)
                .fix("ask again; if it goes on, look at fsync times and at the network"),
        ];
    }
    let found = match most {
        0 => "no election in the newest hour".to_owned(),
        1 => "one election in the newest hour".to_owned(),
        most => format!("{most} elections in the newest hour"),
    };
    vec![Finding::new(Severity::Ok, subject, "LEADER_STAYS", found)]
}

/// Not all run the same version.
pub(super) fn versions(seen: &Seen) -> Vec<Finding> {
    let mut run: BTreeMap<&str, Vec<u64>> = BTreeMap::new();
    for (node, told) in seen.told() {
        run.entry(&told.version).or_default().push(node.id);
    }
    if run.len() < 2 {
        return Vec::new();
    }
    let each = run.iter().map(|(version, ids)| format!("{version} on {}", nodes(ids)));
    let found = each.collect::<Vec<_>>().join(", ");
    vec![
        Finding::new(Severity::Warning, Subject::Cluster, "VERSIONS_DIFFER", found)
            .means("fine during an upgrade, and no state to stay in")
            .fix("go on with the upgrade: one node after the other, the leader last"),
    ]
}

#[cfg(test)]
mod tests {
    use super::super::tests::worse;
    use super::*;
    use crate::commands::doctor::seen::healthy;

    #[test]
    fn who_does_not_answer_is_named_with_why() {
        assert_eq!(silent(&healthy(3)), []);
        let found = silent(&healthy(3).without(2));
        assert_eq!(worse(&found), ["NO_ANSWER node 2"]);
        assert_eq!(found[0].found, "it does not answer node 1: no answer within 500 ms");
        assert!(found[0].means.contains("2 of 3 voters answer"), "{found:?}");
        assert!(found[0].does.contains("quorate cluster replace 2"), "{found:?}");
        // It is there, but not for its peers.
        let mut cut_off = healthy(3).without(2);
        cut_off.nodes[1].reached = Ok(());
        let found = silent(&cut_off);
        assert!(found[0].means.contains("it runs"), "{found:?}");
        assert!(found[0].does.contains("10.0.0.2:8812"), "{found:?}");
        let found = silent(&healthy(4).learner(4).without(4));
        assert!(found[0].means.contains("no vote"), "{found:?}");
    }

    #[test]
    fn what_a_node_says_of_itself_is_passed_on() {
        assert_eq!(unwell(&healthy(3)), []);
        let seen = healthy(3).with(2, |told| told.problem = "it knows no leader".to_owned());
        let found = unwell(&seen);
        assert_eq!(
            (worse(&found), found[0].found.as_str()),
            (vec!["UNWELL node 2".to_owned()], "it knows no leader")
        );
    }

    #[test]
    fn a_majority_without_a_leader_is_told_from_none() {
        assert_eq!(no_leader(&healthy(3)), []);
        let mut seen = healthy(3);
        seen.leader = None;
        assert_eq!(worse(&no_leader(&seen)), ["NO_LEADER cluster"]);
        assert_eq!(no_leader(&seen.without(2).without(3)), []);
    }

    #[test]
    fn an_address_that_clients_do_not_reach_is_named() {
        let mut seen = healthy(3);
        assert_eq!(out_of_reach(&seen), []);
        seen.nodes[2].reached = Err("refused".to_owned());
        let found = out_of_reach(&seen);
        assert_eq!(worse(&found), ["OUT_OF_REACH node 3"]);
        assert!(found[0].found.contains("10.0.0.3:8811: refused"), "{found:?}");
        // Who answers nobody is not said twice.
        assert_eq!(out_of_reach(&healthy(3).without(3)), []);
    }

    #[test]
    fn copies_are_compared_at_the_same_entry_only() {
        assert_eq!(states(&healthy(3)), []);
        let elsewhere = healthy(3).with(2, |told| (told.applied, told.digest) = (Some(71), 1));
        assert_eq!(states(&elsewhere), []);
        let found = states(&healthy(3).with(3, |told| told.digest = 1));
        assert_eq!(worse(&found), ["STATES_DIFFER cluster"]);
        assert!(found[0].found.contains("nodes 1 and 3"), "{found:?}");
        let none = healthy(3).with(3, |told| (told.applied, told.digest) = (None, 0));
        assert_eq!(states(&none), []);
    }

    #[test]
    fn elections_are_judged_by_the_hour() {
        let of = |most| elections(&healthy(3).with(2, |told| told.elections_hour = most));
        assert_eq!((of(0)[0].code, of(0)[0].severity), ("LEADER_STAYS", Severity::Ok));
        assert_eq!(worse(&of(ELECTIONS_HOUR_MAX)), Vec::<String>::new());
        assert_eq!(worse(&of(ELECTIONS_HOUR_MAX + 1)), ["LEADER_MOVES cluster"]);
        assert!(of(64)[0].found.contains("or more"));
        let mut seen = healthy(3);
        seen.terms = (3, 4);
        let found = elections(&seen);
        assert_eq!((found[0].code, found[0].severity), ("ELECTED_NOW", Severity::Note));
    }

    #[test]
    fn versions_are_compared() {
        assert_eq!(versions(&healthy(3)), []);
        let found = versions(&healthy(3).with(2, |told| told.version = "0.2.0".to_owned()));
        assert_eq!(worse(&found), ["VERSIONS_DIFFER cluster"]);
        assert_eq!(found[0].found, "0.1.0 on nodes 1 and 3, 0.2.0 on node 2");
    }
}
