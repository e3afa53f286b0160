//! What is planned for members, and does not come about.

use crate::commands::doctor::finding::{Finding, Severity, Subject};
use crate::commands::doctor::seen::{Aim, Plan, Seen};

/// Plans that were there all the while.
pub(super) fn open(seen: &Seen) -> Vec<Finding> {
    seen.plans.iter().map(|plan| judge(seen, plan)).collect()
}

fn judge(seen: &Seen, plan: &Plan) -> Finding {
    let id = plan.node;
    let told = seen.node(id).map(|node| node.told.as_ref());
    let what = match plan.aim {
        Aim::Voter => "it is to get a vote",
        Aim::Gone => "it is to leave",
        Aim::Other => "something is planned for it",
    };
    let finding = |severity, code, rest: String| {
        Finding::new(severity, Subject::Node(id), code, format!("{what}, {rest}"))
    };
    let does = "quorate cluster members shows the plan";
    match (plan.aim, told) {
        (Aim::Gone, _) => {
            finding(Severity::Warning, "PLAN_WAITS", "and is still a member".to_owned())
                .means("a voter leaves once those who stay and answer are a majority")
                .fix("bring back who does not answer; the leader then goes on by itself")
        }
        (_, None | Some(Err(_))) => {
            finding(Severity::Warning, "PLAN_WAITS", "and does not answer".to_owned())
                .means("the leader goes on with the plan once it does")
                .fix(format!("start the node, or give the plan up: quorate cluster remove {id}"))
        }
        (_, Some(Ok(told))) => match told.behind {
            Some((before, now)) if now > 0 && now >= before => finding(
                Severity::Warning,
                "PLAN_WAITS",
                format!("and does not catch up: {before} entries behind, then {now}"),
            )
            .means("it is given a vote once it is a second behind")
            .fix("look at its disk and the network to it, or write less for a while"),
            Some((before, now)) => finding(
                Severity::Note,
                "PLAN_GOES_ON",
                format!("and catches up: {before} entries behind, then {now}"),
            )
            .means("the leader carries it out by itself")
            .fix(does),
            None => finding(Severity::Warning, "PLAN_WAITS", "and nobody leads".to_owned())
                .means("the next leader goes on with it")
                .fix(does),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::worse;
    use super::*;
    use crate::commands::doctor::seen::healthy;

    fn planned(aim: Aim, behind: Option<(u64, u64)>) -> Finding {
        let mut seen = healthy(4).learner(4).with(4, |told| told.behind = behind);
        seen.plans.push(Plan { node: 4, aim });
        open(&seen).remove(0)
    }

    #[test]
    fn a_plan_goes_on_while_its_node_catches_up() {
        assert_eq!(open(&healthy(3)), []);
        let severity = |behind| planned(Aim::Voter, behind).severity;
        assert_eq!(severity(Some((500, 499))), Severity::Note);
        assert_eq!(severity(Some((500, 0))), Severity::Note);
        assert_eq!(severity(Some((0, 0))), Severity::Note);
        assert_eq!(severity(Some((500, 500))), Severity::Warning);
        assert_eq!(severity(Some((500, 501))), Severity::Warning);
        assert_eq!(severity(None), Severity::Warning);
        let found = planned(Aim::Voter, Some((500, 501)));
        assert!(found.found.contains("500 entries behind, then 501"), "{found:?}");
    }

    #[test]
    fn a_plan_waits_for_a_node_that_is_not_there() {
        let mut seen = healthy(4).learner(4).without(4);
        seen.plans.push(Plan { node: 4, aim: Aim::Voter });
        // Perhaps it is no member yet.
        seen.plans.push(Plan { node: 9, aim: Aim::Other });
        let found = open(&seen);
        assert_eq!(worse(&found), ["PLAN_WAITS node 4", "PLAN_WAITS node 9"]);
        assert!(found[0].does.contains("quorate cluster remove 4"), "{found:?}");
        assert_eq!(planned(Aim::Gone, Some((0, 0))).code, "PLAN_WAITS");
    }
}
