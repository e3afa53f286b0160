//! Feature levels: what this node knows, what the cluster is at, and, on the leader, what keeps it
//! there.
//!
//! The cluster's level is replicated state. The leader raises it by itself, as soon as every member
//! has said, in one round of questions, that it knows more. Until then nothing goes into the log that
//! an older member could not read, so builds of two levels run together, and each may be put back;
//! from then on no older build takes part.

use crate::bootstrap::StartError;
use crate::failure::{Failure, Reason};
use crate::replica::Replica;
use crate::status::NodeStatus;
use quorate_state::query::{self, MemberPlan, Planned};
use quorate_state::{
    Command, FeatureLevel, FeatureLevelRaise, GroupId, Membership, NodeId, Outcome,
};
use quorate_storage::state::StateReader;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// How often the members are asked what they know, while this node knows more than the cluster is at.
const EVERY: Duration = Duration::from_secs(1);
/// How long a round of questions may take: who is silent for so long keeps the level where it is.
const ANSWERS: Duration = Duration::from_millis(500);
/// How long the raise is waited for.
const RAISE: Duration = Duration::from_secs(5);

/// The levels of a node. Shared by everything that has to do with other builds.
#[derive(Debug)]
pub(crate) struct Levels {
    newest: FeatureLevel,
    /// As this node has applied it.
    cluster: AtomicU8,
    /// Why the leader does not raise it; empty when it has not looked.
    waits_for: Mutex<String>,
}

impl Levels {
    pub(crate) fn new(newest: FeatureLevel, cluster: FeatureLevel) -> Self {
        Self { newest, cluster: AtomicU8::new(cluster.0), waits_for: Mutex::default() }
    }

    /// As the node finds it in its state, which it must know.
    ///
    /// What the log has behind that is applied later: then the node stops for the same reason.
    pub(crate) fn found(
        reader: &dyn StateReader,
        group: GroupId,
        newest: FeatureLevel,
    ) -> Result<Self, StartError> {
        let cluster = query::feature_level(reader.view().tables.as_ref(), group)
            .map_err(|error| StartError::Consensus(error.to_string()))?;
        if cluster > newest {
            return Err(StartError::Refused(format!(
                "the cluster is at feature level {cluster}, and this build, {}, knows up to {newest}: \
                 upgrade this node to the version that the others run. There is no way back once all \
                 nodes were upgraded; the directory is as it was",
                env!("CARGO_PKG_VERSION")
            )));
        }
        Ok(Self::new(newest, cluster))
    }

    /// The newest that this node knows.
    pub(crate) fn newest(&self) -> FeatureLevel {
        self.newest
    }

    /// What the cluster is at, as this node has applied it: that is never too much.
    pub(crate) fn cluster(&self) -> FeatureLevel {
        FeatureLevel(self.cluster.load(Ordering::Acquire))
    }

    /// The node has applied this.
    pub(crate) fn applied(&self, cluster: FeatureLevel) {
        self.cluster.store(cluster.0, Ordering::Release);
    }

    /// Refuses what the cluster is too old for.
    pub(crate) fn admit(&self, needed: FeatureLevel) -> Result<(), Failure> {
        let cluster = self.cluster();
        if needed <= cluster {
            return Ok(());
        }
        let waits_for = self.waits_for();
        let why = match waits_for.as_str() {
            "" => "the leader has not asked the members yet; try again",
            why => why,
        };
        Err(Failure::not_applied(
            Reason::FeatureLevel,
            format!("this needs feature level {needed}, and the cluster is at {cluster}: {why}"),
        ))
    }

    /// Refuses a node that says that it knows no more than this.
    pub(crate) fn check_node(&self, node: NodeId, knows: FeatureLevel) -> Result<(), String> {
        let cluster = self.cluster();
        if knows >= cluster {
            return Ok(());
        }
        Err(format!(
            "node {node} knows feature levels up to {knows}, and the cluster is at {cluster}: upgrade \
             node {node} to {}, or later",
            env!("CARGO_PKG_VERSION")
        ))
    }

    fn waits_for(&self) -> MutexGuard<'_, String> {
        self.waits_for.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes why the level stays; whether that is news.
    fn wait(&self, why: String) -> bool {
        let mut waits_for = self.waits_for();
        let news = *waits_for != why;
        *waits_for = why;
        news
    }
}

/// What the leader does about the level, between the steps of plans for members: so nobody becomes a
/// member between the questions and the raise.
#[derive(Debug, Default)]
pub(crate) struct Raising {
    asked: Option<Instant>,
}

impl Raising {
    /// Asks the members now and then, and raises the level to what all of them know.
    pub(crate) async fn look(
        &mut self,
        replica: &Replica,
        members: &Membership,
        plans: &[MemberPlan],
    ) {
        let levels = &replica.0.levels;
        let cluster = levels.cluster();
        let asked_of_late = self.asked.is_some_and(|asked| asked.elapsed() < EVERY);
        if levels.newest() <= cluster || asked_of_late {
            return;
        }
        self.asked = Some(Instant::now());
        let asked_in = replica.leads_in();
        let heard = replica.cluster_status(ANSWERS).await.into_iter();
        let heard: Vec<_> =
            heard.map(|(node, said)| (node, said.map(|heard| heard.status))).collect();
        let level = match common(cluster, members, plans, &heard) {
            Ok(level) => level,
            Err(why) => {
                if levels.wait(why.clone()) {
                    tracing::info!("the feature level stays at {cluster}: {why}");
                }
                return;
            }
        };
        // Another leader may have admitted a member that was not asked.
        if asked_in.is_none() || replica.leads_in() != asked_in {
            return;
        }
        levels.wait(format!("it is being raised to {level}; try again"));
        // On this node only, in the term in which the members were asked.
        let raise = Command::FeatureLevelRaise(FeatureLevelRaise { level });
        let raised = replica.propose_own_here(raise, Instant::now() + RAISE).await;
        match raised.map(|done| done.outcome) {
            Ok(Outcome::Rejected(why)) => tracing::debug!(%why, "the feature level stays"),
            Ok(_) => tracing::info!("the feature level is {level} now: all members know it"),
            // They are asked again.
            Err(failure) => tracing::debug!(%failure, "the feature level is not raised yet"),
        }
    }
}

/// A level above the cluster's that all members know, and whoever is to become one; or why there is
/// none, and what to do.
fn common(
    cluster: FeatureLevel,
    members: &Membership,
    plans: &[MemberPlan],
    heard: &[(NodeId, Result<NodeStatus, String>)],
) -> Result<FeatureLevel, String> {
    let joins = |plan: &&MemberPlan| matches!(plan.what, Planned::Join { .. });
    if let Some(plan) = plans.iter().find(joins) {
        let node = plan.member.node;
        return Err(format!("node {node} is still joining: wait for it, or remove it"));
    }
    let mut known: Option<&NodeStatus> = None;
    for node in members.nodes.keys() {
        let said = heard.iter().find(|(who, _)| who == node).map(|(_, said)| said);
        let status = match said {
            Some(Ok(status)) => status,
            Some(Err(why)) => {
                return Err(format!(
                    "node {node} does not say what it knows ({why}): start it, or remove it"
                ));
            }
            None => return Err(format!("node {node} was not asked yet; try again")),
        };
        if known.is_none_or(|least| status.feature_level < least.feature_level) {
            known = Some(status);
        }
    }
    match known {
        Some(least) if least.feature_level > cluster => Ok(least.feature_level),
        Some(least) => Err(format!(
            "node {} runs {}, which knows no more: upgrade it",
            least.node, least.version
        )),
        None => Err("no members are known yet; try again".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::Role;
    use quorate_state::{Member, MemberIdentity};

    fn says(node: u64, level: u8) -> (NodeId, Result<NodeStatus, String>) {
        let status = NodeStatus {
            node: NodeId(node),
            role: Role::Follower,
            term: 1,
            leader: None,
            applied: None,
            committed: None,
            last_log: None,
            snapshot: None,
            purged: None,
            digest: 0,
            version: format!("{level}.0.0"),
            feature_level: FeatureLevel(level),
            wall_ms: None,
            syncs: None,
            disk_free_bytes: None,
            writes_refused: false,
            elections_hour: 0,
            insecure: false,
        };
        (NodeId(node), Ok(status))
    }

    /// Nodes 1 to 3, of which 3 has no vote.
    fn members() -> Membership {
        let voters = vec![[NodeId(1), NodeId(2)].into()];
        let nodes = (1..=3).map(|id| (NodeId(id), Member::default())).collect();
        Membership { voters, nodes }
    }

    fn judged(
        plans: &[MemberPlan],
        heard: &[(NodeId, Result<NodeStatus, String>)],
    ) -> Result<u8, String> {
        common(FeatureLevel(1), &members(), plans, heard).map(|level| level.0)
    }

    fn plan(what: Planned) -> MemberPlan {
        MemberPlan { member: MemberIdentity { node: NodeId(4), uuid: 44 }, what }
    }

    #[test]
    fn the_level_rises_to_what_all_know_and_not_while_one_is_silent() {
        assert_eq!(judged(&[], &[says(1, 3), says(2, 2), says(3, 3)]), Ok(2));
        let older = judged(&[], &[says(1, 2), says(2, 2), says(3, 1)]).unwrap_err();
        assert_eq!(older, "node 3 runs 1.0.0, which knows no more: upgrade it");
        let silent = (NodeId(3), Err("no answer within 500 ms".to_owned()));
        let silent = judged(&[], &[says(1, 2), says(2, 2), silent]).unwrap_err();
        assert!(silent.contains("node 3 does not say") && silent.contains("start it"), "{silent}");
        let unasked = judged(&[], &[says(1, 2), says(2, 2)]).unwrap_err();
        assert!(unasked.contains("node 3 was not asked"), "{unasked}");
        // Who is no member any more does not count.
        assert_eq!(judged(&[], &[says(1, 2), says(2, 2), says(3, 2), says(9, 1)]), Ok(2));
    }

    #[test]
    fn who_is_joining_is_waited_for_and_other_plans_are_not() {
        let all = [says(1, 2), says(2, 2), says(3, 2)];
        let joins = Planned::Join { member: Member::default(), learner: true, replaces: None };
        let joining = judged(&[plan(joins)], &all).unwrap_err();
        assert!(joining.contains("node 4 is still joining"), "{joining}");
        let others = [plan(Planned::Remove), plan(Planned::Promote { replaces: None })];
        assert_eq!(judged(&others, &all), Ok(2));
    }

    #[test]
    fn what_the_cluster_is_too_old_for_is_refused_with_a_way_out() {
        let levels = Levels::new(FeatureLevel(2), FeatureLevel(1));
        levels.admit(FeatureLevel(1)).unwrap();
        let refused = levels.admit(FeatureLevel(2)).unwrap_err();
        assert!(!refused.unknown && refused.reason == Reason::FeatureLevel, "{refused:?}");
        assert!(levels.wait("node 3 runs 0.1.0, which knows no more: upgrade it".to_owned()));
        assert!(!levels.wait("node 3 runs 0.1.0, which knows no more: upgrade it".to_owned()));
        let refused = levels.admit(FeatureLevel(2)).unwrap_err().to_string();
        assert_eq!(
            refused,
            "this needs feature level 2, and the cluster is at 1: node 3 runs 0.1.0, which knows no \
             more: upgrade it"
        );
        levels.applied(FeatureLevel(2));
        levels.admit(FeatureLevel(2)).unwrap();
    }
}
