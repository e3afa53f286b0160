//! Carries out what is planned for members, on the leader: one step at a time, each of which follows
//! from the membership it finds. So it does not matter who led when the plan was made.
//!
//! A node joins as a learner and votes once it is no more than a second behind. Who is to vote in
//! place of another takes it in one joint step (Raft thesis, section 4.3), so that no majority is ever
//! of fewer machines than before. The voters change only to such of whom a majority answers.

use crate::leader;
use crate::levels::Raising;
use crate::replica::Replica;
use crate::types::membership;
use openraft::ChangeMembers;
use openraft::async_runtime::WatchReceiver as _;
use quorate_state::query::{self, MemberPlan, Planned};
use quorate_state::{Command, LogIndex, Member, MemberIdentity, MemberSettle, Membership, NodeId};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::time::Duration;
use tokio::time::Instant;

/// How often it looks for what is to be done.
const EVERY: Duration = Duration::from_millis(200);
/// How far behind a node may be that is to vote.
const LAG_MAX: Duration = Duration::from_secs(1);
/// How long a step is waited for before the membership is looked at again.
const STEP: Duration = Duration::from_secs(10);

/// What is to be done next about one plan.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    /// It becomes a learner.
    Admit(NodeId, Member),
    /// It votes, and another leaves if one is given.
    Promote(NodeId, Option<NodeId>),
    /// It leaves.
    Exclude(NodeId),
    /// Another one leads first: this node leaves.
    HandOver,
    /// The plan is done.
    Settle(MemberSettle),
}

impl Step {
    fn changes_voters(&self) -> bool {
        matches!(self, Self::Promote(..) | Self::Exclude(_))
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Admit(node, member) => {
                write!(f, "node {node} at {} becomes a member, without a vote", member.peer_addr)
            }
            Self::Promote(node, None) => write!(f, "node {node} has caught up and gets a vote"),
            Self::Promote(node, Some(replaced)) => {
                write!(f, "node {node} has caught up and votes in place of node {replaced}")
            }
            Self::Exclude(node) => write!(f, "node {node} leaves the cluster"),
            Self::HandOver => f.write_str("this node is to leave and hands leadership over"),
            Self::Settle(MemberSettle { member, .. }) => {
                write!(f, "what was planned for node {} is done", member.node)
            }
        }
    }
}

/// Carries out plans whenever this node leads, until consensus has stopped.
pub(crate) async fn carry_out(replica: Replica) {
    let mut every = tokio::time::interval(EVERY);
    every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut ends = LogEnds::default();
    // When a change of the voters became due that is not made yet.
    let mut due: Option<Instant> = None;
    let mut raising = Raising::default();
    loop {
        every.tick().await;
        if replica.leads_in().is_none() {
            (ends, due, raising) = (LogEnds::default(), None, Raising::default());
            continue;
        }
        ends.note(replica.0.log.bounds().last.map(|last| last.index));
        let view = replica.stale();
        let plans = match query::member_plans(&*view.tables, replica.group()) {
            Ok(plans) => plans,
            Err(fatal) => {
                tracing::warn!(%fatal, "what is planned for members can't be read");
                continue;
            }
        };
        drop(view);
        let members = current(&replica);
        if members.voters.len() > 1 {
            // Whoever led before did not come to its end.
            change(&replica, ChangeMembers::AddVoterIds(BTreeSet::new())).await;
            continue;
        }
        let me = replica.node_id();
        let step = |heard_since| {
            let (members, ends, replica) = (&members, &ends, &replica);
            let seen = Seen { members, me, ends, replica, heard_since };
            plans.iter().find_map(|plan| next(plan, &seen))
        };
        let Some(now) = step(due) else {
            // Who counts as answering may be dead for a moment already; so they have to be heard again.
            due = due.filter(|_| step(None).is_some());
            if due.is_none() {
                raising.look(&replica, &members, &plans).await;
            }
            continue;
        };
        if now.changes_voters() && due.is_none() {
            due = Some(Instant::now());
            continue;
        }
        due = None;
        tracing::info!("{now}");
        take(&replica, now).await;
    }
}

/// The membership in force, from Raft itself: what others know of it may be a moment older.
fn current(replica: &Replica) -> Membership {
    let metrics = replica.0.raft.metrics();
    let seen = metrics.borrow_watched();
    membership(seen.membership_config.membership())
}

/// What steps follow from.
trait State {
    fn members(&self) -> &Membership;
    fn me(&self) -> NodeId;
    fn has_caught_up(&self, node: NodeId) -> bool;
    fn answers(&self, node: NodeId) -> bool;
}

struct Seen<'a> {
    members: &'a Membership,
    me: NodeId,
    ends: &'a LogEnds,
    replica: &'a Replica,
    /// Only who was heard since then answers.
    heard_since: Option<Instant>,
}

impl State for Seen<'_> {
    fn members(&self) -> &Membership {
        self.members
    }

    fn me(&self) -> NodeId {
        self.me
    }

    fn has_caught_up(&self, node: NodeId) -> bool {
        let metrics = self.replica.0.raft.metrics();
        let seen = metrics.borrow_watched();
        let matched = seen.replication.as_ref().and_then(|all| all.get(&node.0).cloned());
        let matched = matched.flatten().map(|id| LogIndex(id.index));
        self.ends.is_within_lag(matched)
    }

    fn answers(&self, node: NodeId) -> bool {
        node == self.me || self.replica.hears(node, self.heard_since)
    }
}

/// The next step of a plan; none while there is something to wait for.
fn next(plan: &MemberPlan, seen: &impl State) -> Option<Step> {
    let MemberPlan { member, what } = plan;
    let node = member.node;
    let is_member = seen.members().nodes.contains_key(&node);
    match what {
        Planned::Join { member: as_told, .. } if !is_member => {
            Some(Step::Admit(node, as_told.clone()))
        }
        Planned::Join { learner: true, .. } => settle(*member, false),
        Planned::Join { replaces, .. } | Planned::Promote { replaces } => {
            let replaced = replaces.map(|replaced| replaced.node);
            vote(*member, is_member, replaced, seen)
        }
        Planned::Remove if !is_member => settle(*member, true),
        Planned::Remove => leave(node, seen),
    }
}

fn settle(member: MemberIdentity, gone: bool) -> Option<Step> {
    Some(Step::Settle(MemberSettle { member, gone }))
}

fn vote(
    member: MemberIdentity,
    is_member: bool,
    replaced: Option<NodeId>,
    seen: &impl State,
) -> Option<Step> {
    let members = seen.members();
    let replaced = replaced.filter(|replaced| members.is_voter(*replaced));
    if !is_member || members.is_voter(member.node) && replaced.is_none() {
        return settle(member, false);
    }
    if !members.is_voter(member.node) && !seen.has_caught_up(member.node) {
        return None;
    }
    let others = voters(members).filter(|voter| Some(*voter) != replaced && *voter != member.node);
    if !can_decide(others.chain([member.node]), seen) || !seen.answers(member.node) {
        return None;
    }
    if replaced == Some(seen.me()) && voters(members).count() > 1 {
        return Some(Step::HandOver);
    }
    Some(Step::Promote(member.node, replaced))
}

fn leave(node: NodeId, seen: &impl State) -> Option<Step> {
    let members = seen.members();
    if !members.is_voter(node) {
        return Some(Step::Exclude(node));
    }
    if !can_decide(voters(members).filter(|voter| *voter != node), seen) {
        return None;
    }
    Some(if node == seen.me() { Step::HandOver } else { Step::Exclude(node) })
}

/// Whether those of these voters that answer are a majority of them.
fn can_decide(voters: impl Iterator<Item = NodeId>, seen: &impl State) -> bool {
    let (mut all, mut answering) = (0, 0);
    for voter in voters {
        all += 1;
        answering += usize::from(seen.answers(voter));
    }
    answering > all / 2
}

fn voters(members: &Membership) -> impl Iterator<Item = NodeId> {
    members.voters.iter().flatten().copied()
}

async fn take(replica: &Replica, step: Step) {
    match step {
        Step::Admit(node, member) => {
            change(replica, ChangeMembers::AddNodes(BTreeMap::from([(node.0, member)]))).await;
        }
        Step::Promote(node, replaced) => {
            let mut changes = vec![ChangeMembers::AddVoterIds(BTreeSet::from([node.0]))];
            changes.extend(replaced.map(|id| ChangeMembers::RemoveVoters(BTreeSet::from([id.0]))));
            change(replica, ChangeMembers::Batch(changes)).await;
        }
        Step::Exclude(node) => {
            let ids = BTreeSet::from([node.0]);
            // Without a vote it is a node like any other; with one it leaves with it.
            let voter = current(replica).is_voter(node);
            let changes = if voter {
                ChangeMembers::RemoveVoters(ids)
            } else {
                ChangeMembers::RemoveNodes(ids)
            };
            change(replica, changes).await;
        }
        Step::HandOver => {
            if let Err(failure) = replica.transfer_leader(None, STEP).await {
                tracing::warn!(%failure, "this node is to leave, and can't hand leadership over");
            }
        }
        Step::Settle(settled) => {
            let deadline = Instant::now() + STEP;
            let node = settled.member.node;
            if settled.gone && !leader::detach(&replica.0.proposer, node).await {
                return;
            }
            // On this node only: in another leader's log the change might not be before it.
            let settle = Command::MemberSettle(settled);
            // What is not settled now is in a moment.
            if let Err(failure) = replica.propose_own_here(settle, deadline).await {
                tracing::debug!(%failure, "a plan for a member is not settled yet");
            }
        }
    }
}

/// Who leaves leaves altogether: one that had no vote but was still told of everything would not
/// notice.
async fn change(replica: &Replica, changes: ChangeMembers<u64, Member>) {
    let changing = replica.0.raft.change_membership(changes, false);
    match tokio::time::timeout(STEP, changing).await {
        Ok(Ok(_)) => {}
        Ok(Err(error)) => tracing::warn!(%error, "the members could not be changed yet"),
        Err(_) => tracing::warn!("a change of members takes more than {STEP:?}"),
    }
}

/// Where the log ended, of late.
#[derive(Debug, Default)]
struct LogEnds(VecDeque<(Instant, Option<LogIndex>)>);

impl LogEnds {
    fn note(&mut self, end: Option<LogIndex>) {
        let now = Instant::now();
        // One that is old enough stays.
        while self.0.get(1).is_some_and(|(at, _)| now - *at >= LAG_MAX) {
            self.0.pop_front();
        }
        self.0.push_back((now, end));
    }

    /// Whether somebody who has this much was there no longer ago than a lag may be.
    fn is_within_lag(&self, matched: Option<LogIndex>) -> bool {
        let Some((at, end)) = self.0.front() else { return false };
        at.elapsed() >= LAG_MAX && matched.is_some() && matched >= *end
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    struct Fake {
        members: Membership,
        me: u64,
        caught_up: bool,
        silent: Vec<u64>,
    }

    impl State for Fake {
        fn members(&self) -> &Membership {
            &self.members
        }

        fn me(&self) -> NodeId {
            NodeId(self.me)
        }

        fn has_caught_up(&self, _: NodeId) -> bool {
            self.caught_up
        }

        fn answers(&self, node: NodeId) -> bool {
            !self.silent.contains(&node.0)
        }
    }

    fn fake(voters: &[u64], learners: &[u64]) -> Fake {
        let nodes = voters.iter().chain(learners).map(|id| (NodeId(*id), Member::default()));
        let set: BTreeSet<_> = voters.iter().map(|id| NodeId(*id)).collect();
        let members = Membership { voters: vec![set], nodes: nodes.collect() };
        Fake { members, me: 1, caught_up: true, silent: Vec::new() }
    }

    fn identity(node: u64) -> MemberIdentity {
        MemberIdentity { node: NodeId(node), uuid: u128::from(node) }
    }

    fn join(node: u64, learner: bool, replaces: Option<u64>) -> MemberPlan {
        let replaces = replaces.map(identity);
        let what = Planned::Join { member: Member::default(), learner, replaces };
        MemberPlan { member: identity(node), what }
    }

    fn settled(node: u64, gone: bool) -> Option<Step> {
        Some(Step::Settle(MemberSettle { member: identity(node), gone }))
    }

    #[test]
    fn a_node_joins_catches_up_and_votes() {
        let plan = join(4, false, None);
        let admit = Some(Step::Admit(NodeId(4), Member::default()));
        assert_eq!(next(&plan, &fake(&[1, 2, 3], &[])), admit);
        let behind = Fake { caught_up: false, ..fake(&[1, 2, 3], &[4]) };
        assert_eq!(next(&plan, &behind), None);
        // It has all that there is, and is dead by now.
        let dead = Fake { silent: vec![4], ..fake(&[1, 2, 3], &[4]) };
        assert_eq!(next(&plan, &dead), None);
        let few = Fake { silent: vec![2], ..fake(&[1, 2], &[4]) };
        assert_eq!(next(&plan, &few), Some(Step::Promote(NodeId(4), None)), "two of three");
        let fewer = Fake { silent: vec![2, 3], ..fake(&[1, 2, 3], &[4]) };
        assert_eq!(next(&plan, &fewer), None, "two of four");
        let promote = Some(Step::Promote(NodeId(4), None));
        assert_eq!(next(&plan, &fake(&[1, 2, 3], &[4])), promote);
        assert_eq!(next(&plan, &fake(&[1, 2, 3, 4], &[])), settled(4, false));
        assert_eq!(next(&join(4, true, None), &fake(&[1, 2, 3], &[4])), settled(4, false));
    }

    #[test]
    fn who_takes_a_place_votes_in_the_step_in_which_the_other_leaves() {
        let plan = join(4, false, Some(2));
        let promote = Some(Step::Promote(NodeId(4), Some(NodeId(2))));
        assert_eq!(next(&plan, &fake(&[1, 2, 3], &[4])), promote);
        // The step was taken, but for its second half.
        assert_eq!(next(&plan, &fake(&[1, 2, 3, 4], &[])), promote);
        assert_eq!(next(&plan, &fake(&[1, 3, 4], &[])), settled(4, false));
        let leads = Fake { me: 2, ..fake(&[1, 2, 3], &[4]) };
        assert_eq!(next(&plan, &leads), Some(Step::HandOver));
        // Whose place is taken may be dead; of the others one must not be.
        let dead = Fake { silent: vec![2], ..fake(&[1, 2, 3], &[4]) };
        assert_eq!(next(&plan, &dead), promote);
        let half = Fake { silent: vec![3], ..fake(&[1, 2, 3], &[4]) };
        assert_eq!(next(&plan, &half), promote, "two of three");
        let second_half = Fake { silent: vec![3, 4], ..fake(&[1, 2, 3, 4], &[]) };
        assert_eq!(next(&plan, &second_half), None);
        // There is nobody else to lead.
        let alone = Fake { me: 2, ..fake(&[2], &[4]) };
        assert_eq!(next(&plan, &alone), promote);
    }

    #[test]
    fn a_member_leaves_when_those_who_stay_can_decide() {
        let plan = MemberPlan { member: identity(2), what: Planned::Remove };
        assert_eq!(next(&plan, &fake(&[1, 2, 3], &[])), Some(Step::Exclude(NodeId(2))));
        let silent = Fake { silent: vec![3], ..fake(&[1, 2, 3], &[]) };
        assert_eq!(next(&plan, &silent), None, "one of two is no majority");
        let itself = Fake { silent: vec![2], ..fake(&[1, 2, 3], &[]) };
        assert_eq!(next(&plan, &itself), Some(Step::Exclude(NodeId(2))), "its own silence is none");
        let leads = Fake { me: 2, ..fake(&[1, 2, 3], &[]) };
        assert_eq!(next(&plan, &leads), Some(Step::HandOver));
        assert_eq!(next(&plan, &fake(&[1, 3], &[2])), Some(Step::Exclude(NodeId(2))));
        assert_eq!(next(&plan, &fake(&[1, 3], &[])), settled(2, true));
        assert_eq!(next(&plan, &Fake { me: 2, ..fake(&[2], &[]) }), None, "the last voter");
    }

    #[tokio::test(start_paused = true)]
    async fn who_has_what_there_was_a_second_ago_has_caught_up() {
        let mut ends = LogEnds::default();
        assert!(!ends.is_within_lag(Some(LogIndex(9))));
        for second in 0..3 {
            ends.note(Some(LogIndex(second * 10)));
            tokio::time::advance(LAG_MAX).await;
        }
        assert!(ends.is_within_lag(Some(LogIndex(20))));
        ends.note(Some(LogIndex(30)));
        assert!(ends.is_within_lag(Some(LogIndex(20))) && !ends.is_within_lag(Some(LogIndex(19))));
        assert!(!ends.is_within_lag(None));
    }
}
