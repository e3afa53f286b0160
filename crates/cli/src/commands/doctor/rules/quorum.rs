//! Who must be there for writes to go on: what is lost when one more node dies.

use super::nodes;
use crate::commands::doctor::finding::{Finding, Severity, Subject};
use crate::commands::doctor::seen::Seen;

/// No majority answers.
pub(super) fn lost(seen: &Seen) -> Vec<Finding> {
    let (there, voters, majority) = (seen.voters_there(), seen.voters(), seen.majority());
    if there >= majority {
        return Vec::new();
    }
    let silent: Vec<u64> = silent_voters(seen).collect();
    let found = format!("{there} of {voters} voters answer, and {majority} must");
    vec![
        Finding::new(Severity::Problem, Subject::Cluster, "NO_QUORUM", found)
            .means(
                "writes and linearizable reads are refused; stale reads (kv get --stale) go on, and \
                 nothing that was acknowledged is lost as long as those disks are not",
            )
            .fix(format!(
                "start {} again with the same data directories; never empty one to get on",
                nodes(&silent)
            )),
    ]
}

fn silent_voters(seen: &Seen) -> impl Iterator<Item = u64> {
    let silent = seen.nodes.iter().filter(|node| node.voter && node.told.is_err());
    silent.map(|node| node.id)
}

/// Everything hangs on one disk.
pub(super) fn one_voter(seen: &Seen) -> Vec<Finding> {
    if seen.voters() != 1 {
        return Vec::new();
    }
    let voter = seen.nodes.iter().find(|node| node.voter);
    let subject = voter.map_or(Subject::Cluster, |node| Subject::Node(node.id));
    let found = "it is the only voter: if it dies, the cluster stops";
    vec![
        Finding::new(Severity::Warning, subject, "ONE_VOTER", found)
            .means("there is no second copy that counts: with its disk, everything is lost")
            .fix("add two more nodes: quorate cluster add, then quorate serve --join"),
    ]
}

/// What happens when a node dies that is there now.
pub(super) fn losses(seen: &Seen) -> Vec<Finding> {
    let (there, voters, majority) = (seen.voters_there(), seen.voters(), seen.majority());
    if there < majority || voters == 1 {
        return Vec::new();
    }
    let loss = |id: u64, voter: bool| {
        let subject = Subject::Node(id);
        if !voter {
            let found = format!("if node {id} dies, writes go on: it has no vote");
            return Finding::new(Severity::Ok, subject, "LOSS_SURVIVED", found);
        }
        let left = there - 1;
        if left >= majority {
            let again = if seen.leader == Some(id) { " under another leader" } else { "" };
            let found = format!(
                "if node {id} dies, writes go on{again}: {left} of {voters} voters are left, and \
                 {majority} must be there"
            );
            return Finding::new(Severity::Ok, subject, "LOSS_SURVIVED", found);
        }
        let silent: Vec<u64> = silent_voters(seen).collect();
        let fix = if silent.is_empty() {
            "add a third voter: quorate cluster add, then quorate serve --join".to_owned()
        } else {
            format!("bring {} back first, and stop no other node until then", nodes(&silent))
        };
        let found = format!(
            "if node {id} dies, the cluster stops: {left} of {voters} voters would be left, and \
             {majority} must be there"
        );
        Finding::new(Severity::Warning, subject, "LOSS_STOPS", found)
            .means("writes and linearizable reads would be refused until a majority is back")
            .fix(fix)
    };
    seen.told().map(|(node, _)| loss(node.id, node.voter)).collect()
}

/// One voter that costs, and saves nobody.
pub(super) fn even(seen: &Seen) -> Vec<Finding> {
    let voters = seen.voters();
    if voters == 0 || !voters.is_multiple_of(2) {
        return Vec::new();
    }
    let survived = voters - seen.majority();
    let found = format!("{voters} voters, an even number");
    vec![
        Finding::new(Severity::Note, Subject::Cluster, "EVEN_VOTERS", found)
            .means(format!(
                "it survives the loss of {survived}, as {} would, and each write waits for one more",
                voters - 1
            ))
            .fix("add one (quorate cluster add) or remove one (quorate cluster remove N)"),
    ]
}

/// Members that receive everything, and count for nothing.
pub(super) fn learners(seen: &Seen) -> Vec<Finding> {
    let planned = |id| seen.plans.iter().any(|plan| plan.node == id);
    let learners = seen.nodes.iter().filter(|node| !node.voter && !planned(node.id));
    learners
        .map(|node| {
            Finding::new(Severity::Note, Subject::Node(node.id), "NO_VOTE", "it has no vote")
                .means("it holds a copy, and does not help the others when they lack a majority")
                .fix(format!("if that is not meant: quorate cluster promote {}", node.id))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::tests::worse;
    use super::*;
    use crate::commands::doctor::seen::{Aim, Plan, healthy};

    #[test]
    fn a_majority_is_there_or_not() {
        assert_eq!(lost(&healthy(3).without(2)), []);
        let found = lost(&healthy(3).without(2).without(3));
        assert_eq!(worse(&found), ["NO_QUORUM cluster"]);
        assert_eq!(found[0].found, "1 of 3 voters answer, and 2 must");
        assert!(found[0].does.contains("nodes 2 and 3"), "{found:?}");
        // Half is no majority.
        assert_eq!(worse(&lost(&healthy(4).without(1).without(2))), ["NO_QUORUM cluster"]);
        assert_eq!(lost(&healthy(4).without(1)), []);
        // A node without a vote does not count.
        let found = lost(&healthy(4).learner(4).without(2).without(3));
        assert_eq!(worse(&found), ["NO_QUORUM cluster"]);
    }

    #[test]
    fn what_the_next_loss_does_follows_from_who_is_there() {
        let found = losses(&healthy(3));
        assert_eq!(worse(&found), Vec::<String>::new());
        assert_eq!(found.len(), 3);
        assert!(found[0].found.starts_with("if node 1 dies, writes go on under another leader"));
        assert!(found[1].found.starts_with("if node 2 dies, writes go on: 2 of 3 voters"));

        let found = losses(&healthy(3).without(2));
        assert_eq!(worse(&found), ["LOSS_STOPS node 1", "LOSS_STOPS node 3"]);
        assert!(found[0].found.starts_with("if node 1 dies, the cluster stops: 1 of 3 voters"));
        assert!(found[0].does.contains("bring node 2 back"), "{found:?}");

        // Of two each is needed; of four one may go, and of five two.
        let found = losses(&healthy(2));
        assert_eq!(worse(&found), ["LOSS_STOPS node 1", "LOSS_STOPS node 2"]);
        assert!(found[0].does.contains("third voter"), "{found:?}");
        assert_eq!(worse(&losses(&healthy(4))), Vec::<String>::new());
        assert_eq!(worse(&losses(&healthy(4).without(4))).len(), 3);
        assert_eq!(worse(&losses(&healthy(5).without(4))), Vec::<String>::new());
        assert_eq!(worse(&losses(&healthy(5).without(4).without(5))).len(), 3);
        // Who has no vote is missed by nobody; and what is lost already is said elsewhere.
        let found = losses(&healthy(4).learner(4).without(3));
        assert_eq!(worse(&found), ["LOSS_STOPS node 1", "LOSS_STOPS node 2"]);
        assert!(found[2].found.contains("no vote"), "{found:?}");
        assert_eq!(losses(&healthy(3).without(2).without(3)), []);
    }

    #[test]
    fn one_voter_is_said_once() {
        let found = one_voter(&healthy(1));
        assert_eq!(worse(&found), ["ONE_VOTER node 1"]);
        assert!(found[0].found.contains("if it dies, the cluster stops"), "{found:?}");
        assert_eq!(losses(&healthy(1)), []);
        assert_eq!(worse(&one_voter(&healthy(2).learner(1))), ["ONE_VOTER node 2"]);
        assert_eq!(one_voter(&healthy(2)), []);
    }

    #[test]
    fn even_numbers_of_voters_are_noted() {
        for (count, even_) in [(1, false), (2, true), (3, false), (4, true), (5, false)] {
            assert_eq!(even(&healthy(count)).len(), usize::from(even_), "{count}");
        }
        assert_eq!(even(&healthy(4).learner(4)), []);
        assert!(even(&healthy(4))[0].means.contains("the loss of 1, as 3 would"));
    }

    #[test]
    fn learners_are_noted_unless_something_is_planned_for_them() {
        let mut seen = healthy(5).learner(4).learner(5);
        assert_eq!(worse(&learners(&seen)), ["NO_VOTE node 4", "NO_VOTE node 5"]);
        seen.plans.push(Plan { node: 4, aim: Aim::Voter });
        assert_eq!(worse(&learners(&seen)), ["NO_VOTE node 5"]);
    }
}
