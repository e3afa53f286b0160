//! The cluster handle: how the nodes are, who they are, who leads.

use crate::call::{Effect, Plan};
use crate::client::{CallOptions, Inner};
use crate::{BackupFormat, BackupPiece, Error, nodes};
use futures::Stream;
use quorate_proto::v1;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// The only group so far.
const GROUP: u32 = 0;

/// Questions and orders to the cluster itself. Cheap to clone.
#[derive(Clone)]
pub struct Cluster {
    inner: Arc<Inner>,
    only: Option<String>,
    options: CallOptions,
}

impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cluster").field("only", &self.only).finish_non_exhaustive()
    }
}

/// What a node is in its group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Role {
    /// Unknown: it did not answer, or is something this client has no name for.
    Unknown,
    /// It leads.
    Leader,
    /// It follows, and votes.
    Follower,
    /// It stands for election.
    Candidate,
    /// It receives the log without a vote.
    Learner,
    /// It is stopping.
    Shutdown,
}

/// One node, as it says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct NodeStatus {
    /// Its id.
    pub node_id: u64,
    /// What it is.
    pub role: Role,
    /// Its term.
    pub term: u64,
    /// Index of the last entry it applied.
    pub applied: Option<u64>,
    /// Index of the last entry it knows to be committed.
    pub committed: Option<u64>,
    /// Index of the last entry in its log.
    pub last_log: Option<u64>,
    /// Index of the last entry in its newest snapshot.
    pub snapshot: Option<u64>,
    /// Index of the last entry purged from its log.
    pub purged: Option<u64>,
    /// Rolling digest of the effects of all it applied: equal on nodes with equal `applied`.
    pub digest: u64,
    /// Its version.
    pub version: String,
    /// Whether it answered and knows a leader.
    pub healthy: bool,
    /// Why it is not healthy; empty when it is.
    pub problem: String,
    /// How its wall clock differs from that of the node that answered; none when unknown.
    pub clock: Option<ClockOffset>,
    /// How long the newest syncs of its log took; none when there were none, or unknown.
    pub fsync: Option<FsyncTimes>,
    /// Bytes that it may still write on the disk of its log; none when unknown.
    pub disk_free_bytes: Option<u64>,
    /// Whether it refuses writes that need room, because its disk is almost full.
    pub writes_refused: bool,
    /// How often a leader took office under its eyes in the newest hour, but for the first one it saw
    /// after its start; 64 stands for more.
    pub elections_hour: u32,
    /// Whether other machines reach a port of it without TLS, or without being asked who they are.
    pub insecure: bool,
    /// The newest feature level that it knows; 0 when unknown.
    pub feature_level: u32,
}

/// How far a node's wall clock is from another's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ClockOffset {
    /// How far it is ahead, in milliseconds; negative: behind.
    pub ahead_ms: i64,
    /// How far that may be off at most, in milliseconds.
    pub uncertainty_ms: u64,
}

/// How long syncs of a log took.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct FsyncTimes {
    /// How many there were: the newest ones, at least 512 where the node made as many since it
    /// started.
    pub count: u64,
    /// What half of them took at most, in microseconds, as near as buckets that double tell.
    pub p50_us: u64,
    /// What 99 of 100 of them took at most, in microseconds.
    pub p99_us: u64,
}

/// How the group and its nodes are.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Status {
    /// The cluster's id.
    pub cluster_id: String,
    /// The term as the answering node knows it.
    pub term: u64,
    /// The leader as the answering node knows it.
    pub leader_id: Option<u64>,
    /// All members, by id.
    pub nodes: Vec<NodeStatus>,
    /// The node that answered.
    pub answered_by: u64,
    /// The limits in force: names, with the unit at the end, and values.
    pub limits: Vec<(String, u64)>,
    /// The feature level that the cluster is at, as the answering node has applied it.
    pub feature_level: u32,
}

/// One member.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Member {
    /// Its id.
    pub node_id: u64,
    /// Random id of its data directory.
    pub uuid: String,
    /// Where other nodes reach it.
    pub peer_addr: String,
    /// Where clients reach it.
    pub client_addr: String,
    /// Whether it votes.
    pub voter: bool,
}

/// Who belongs to the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Members {
    /// The cluster's id.
    pub cluster_id: String,
    /// The leader as the answering node knows it.
    pub leader_id: Option<u64>,
    /// All, by id.
    pub members: Vec<Member>,
    /// What is still planned, by node.
    pub plans: Vec<MemberPlan>,
}

/// What is to become of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum MemberAim {
    /// Something that this client has no name for.
    Unknown,
    /// It receives the log without a vote.
    Learner,
    /// It votes.
    Voter,
    /// It belongs to the cluster no more.
    Gone,
}

/// What is planned for a node and not carried out yet.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct MemberPlan {
    /// Which node; perhaps it is no member yet.
    pub node_id: u64,
    /// What is to become of it.
    pub aim: MemberAim,
    /// The member that leaves in the same step.
    pub replaces: Option<u64>,
    /// Where other nodes reach it.
    pub peer_addr: String,
}

/// A checksum over everything a node has applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct StateHash {
    /// The index the checksum is of.
    pub applied: Option<u64>,
    /// Over all tables, keys and values: equal on nodes with equal `applied`.
    pub checksum: u64,
    /// Rolling digest of effects at that index.
    pub digest: u64,
}

impl Cluster {
    pub(crate) fn new(inner: Arc<Inner>) -> Self {
        Self { inner, only: None, options: CallOptions::default() }
    }

    /// The same, but only this node, `host:port`, is asked; one that fails is asked again.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] when it is no address.
    pub fn at(&self, addr: impl Into<String>) -> Result<Self, Error> {
        let addr = addr.into();
        if !nodes::is_address(&addr) {
            return Err(Error::bad_option(format!("{addr:?} is not host:port")));
        }
        Ok(Self { only: Some(addr), ..self.clone() })
    }

    /// The same, with this time for each call instead of the client's.
    #[must_use]
    pub fn timeout(&self, timeout: Duration) -> Self {
        let options = CallOptions { timeout: Some(timeout), ..self.options.clone() };
        Self { options, ..self.clone() }
    }

    /// How the nodes are. Any live node answers, without a quorum, after at most half a second for
    /// those that do not.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when no node answers.
    pub async fn status(&self) -> Result<Status, Error> {
        let plan = self.plan("cluster status", Effect::Read);
        let request = || v1::StatusRequest { group_id: GROUP };
        Ok(self.inner.read(&plan, request).await?.into())
    }

    /// Who belongs to the cluster. Any live node answers, without a quorum.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when no node answers.
    pub async fn members(&self) -> Result<Members, Error> {
        let plan = self.plan("cluster members", Effect::Read);
        let request = || v1::MembersRequest { group_id: GROUP };
        Ok(self.inner.read(&plan, request).await?.into())
    }

    /// A checksum over all that a node has applied; which node, [`Cluster::at`] says. Reads
    /// everything: for checks, not for polling.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when no node answers.
    pub async fn hash_state(&self) -> Result<StateHash, Error> {
        let plan = whole(self.plan("cluster hash", Effect::Read));
        let request = || v1::HashStateRequest { group_id: GROUP };
        let v1::HashStateResponse { applied, checksum, digest } =
            self.inner.read(&plan, request).await?;
        Ok(StateHash { applied, checksum, digest })
    }

    /// What a node has counted since it started, by name; which node, [`Cluster::at`] says.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when no node answers.
    pub async fn counters(&self) -> Result<BTreeMap<String, u64>, Error> {
        let plan = self.plan("cluster counters", Effect::Read);
        let answer = self.inner.read(&plan, || v1::CountersRequest { group_id: GROUP }).await?;
        Ok(answer.counters.into_iter().map(|counter| (counter.name, counter.value)).collect())
    }

    /// Hands leadership to a voter, or to the most up-to-date one; answers who leads then.
    ///
    /// # Errors
    /// [`Error::Indeterminate`] when it is not known whether it was handed over: it is not
    /// repeated by itself, since that could move it twice.
    pub async fn transfer_leader(&self, to: Option<u64>) -> Result<u64, Error> {
        let plan = whole(self.plan("cluster transfer-leader", Effect::EachTime));
        let node_id = to.unwrap_or(0);
        let request = || v1::TransferLeaderRequest { group_id: GROUP, node_id };
        let answer = self.inner.engine.call(&plan, request).await?;
        if answer.leader_id == 0 {
            return Err(Error::bad_answer("a transfer was answered without a leader".to_owned()));
        }
        Ok(answer.leader_id)
    }

    /// Makes a token with which one node may join within `ttl`, 1 s to 7 days; with `replaces`, it
    /// takes the place of that member once it has caught up. The token is stored nowhere.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] when the ttl is out of range or there is no such member.
    /// [`Error::Indeterminate`] when it is not known whether it was made: make another.
    pub async fn invite(&self, ttl: Duration, replaces: Option<u64>) -> Result<String, Error> {
        let plan = self.plan("cluster invite", Effect::EachTime);
        let ttl_ms = u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX).max(1);
        let replaces_node_id = replaces.unwrap_or(0);
        let request = || v1::InviteRequest { group_id: GROUP, ttl_ms, replaces_node_id };
        Ok(self.inner.engine.call(&plan, request).await?.token)
    }

    /// Plans that a member without a vote gets one, with `replaces` in place of that member. The
    /// leader carries it out; [`Cluster::members`] shows what is still planned.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] when something else is planned for it, or it votes already.
    /// [`Error::Indeterminate`] when it is not known whether it is planned.
    pub async fn promote(&self, node_id: u64, replaces: Option<u64>) -> Result<(), Error> {
        self.change("cluster promote", node_id, v1::MemberAim::Voter, replaces).await
    }

    /// Plans that a member leaves, for good: it stops, and its id and data directory are not used
    /// again. The leader carries it out; [`Cluster::members`] shows what is still planned.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] when it is no member, or the only one that votes.
    /// [`Error::Indeterminate`] when it is not known whether it is planned.
    pub async fn remove(&self, node_id: u64) -> Result<(), Error> {
        self.change("cluster remove", node_id, v1::MemberAim::Gone, None).await
    }

    /// A backup of everything, consistent at one revision, from whichever node answers, or from the
    /// one that [`Cluster::at`] says. With `stale`, of what that node has applied, also without a
    /// quorum; otherwise all that was acknowledged before is in it.
    ///
    /// It is a file in pieces; when the stream ends without an error all of it has come. Whoever
    /// stores it syncs it, and has it verified (`quorate backup verify`). The node keeps a view of its
    /// state until the stream is read or dropped, and drops one that is not read for 30 s.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when no node opens the stream before the call's time is up; afterwards
    /// as an item, and it has to be made anew.
    pub async fn backup(
        &self,
        format: BackupFormat,
        stale: bool,
    ) -> Result<impl Stream<Item = Result<BackupPiece, Error>> + use<>, Error> {
        let plan = self.plan("cluster backup", Effect::Read);
        crate::backup::open(Arc::clone(&self.inner), &plan, format, stale).await
    }

    async fn change(
        &self,
        what: &'static str,
        node_id: u64,
        aim: v1::MemberAim,
        replaces: Option<u64>,
    ) -> Result<(), Error> {
        let plan = self.plan(what, Effect::EachTime);
        let (aim, replaces_node_id) = (aim.into(), replaces.unwrap_or(0));
        let request =
            || v1::ChangeMemberRequest { group_id: GROUP, node_id, aim, replaces_node_id };
        let v1::ChangeMemberResponse {} = self.inner.engine.call(&plan, request).await?;
        Ok(())
    }

    fn plan(&self, what: &'static str, effect: Effect) -> Plan {
        Plan { only: self.only.clone(), ..self.inner.plan(what, effect, &self.options) }
    }
}

/// For calls that take long by nature: a silent node gets the whole time.
fn whole(plan: Plan) -> Plan {
    Plan { attempt_timeout: crate::options::REQUEST_TIMEOUT_MAX, ..plan }
}

impl From<v1::Role> for Role {
    fn from(role: v1::Role) -> Self {
        match role {
            v1::Role::Unspecified => Self::Unknown,
            v1::Role::Leader => Self::Leader,
            v1::Role::Follower => Self::Follower,
            v1::Role::Candidate => Self::Candidate,
            v1::Role::Learner => Self::Learner,
            v1::Role::Shutdown => Self::Shutdown,
        }
    }
}

impl From<v1::NodeStatus> for NodeStatus {
    fn from(node: v1::NodeStatus) -> Self {
        Self {
            node_id: node.node_id,
            role: node.role().into(),
            term: node.term,
            applied: node.applied,
            committed: node.committed,
            last_log: node.last_log,
            snapshot: node.snapshot,
            purged: node.purged,
            digest: node.digest,
            version: node.version,
            healthy: node.healthy,
            problem: node.problem,
            clock: node.clock_offset_ms.map(|ahead_ms| ClockOffset {
                ahead_ms,
                uncertainty_ms: node.clock_uncertainty_ms,
            }),
            fsync: (node.recent_fsyncs > 0).then_some(FsyncTimes {
                count: node.recent_fsyncs,
                p50_us: node.fsync_p50_us,
                p99_us: node.fsync_p99_us,
            }),
            disk_free_bytes: node.disk_free_bytes,
            writes_refused: node.writes_refused,
            elections_hour: node.elections_hour,
            insecure: node.insecure,
            feature_level: node.feature_level,
        }
    }
}

impl From<v1::StatusResponse> for Status {
    fn from(status: v1::StatusResponse) -> Self {
        Self {
            cluster_id: status.cluster_id,
            term: status.term,
            leader_id: status.leader_id,
            nodes: status.nodes.into_iter().map(NodeStatus::from).collect(),
            answered_by: status.answered_by,
            limits: status.limits.into_iter().map(|limit| (limit.name, limit.value)).collect(),
            feature_level: status.feature_level,
        }
    }
}

impl From<v1::MemberPlan> for MemberPlan {
    fn from(plan: v1::MemberPlan) -> Self {
        Self {
            node_id: plan.node_id,
            aim: match plan.aim() {
                v1::MemberAim::Unspecified => MemberAim::Unknown,
                v1::MemberAim::Learner => MemberAim::Learner,
                v1::MemberAim::Voter => MemberAim::Voter,
                v1::MemberAim::Gone => MemberAim::Gone,
            },
            replaces: Some(plan.replaces_node_id).filter(|node| *node != 0),
            peer_addr: plan.peer_addr,
        }
    }
}

impl From<v1::MembersResponse> for Members {
    fn from(answer: v1::MembersResponse) -> Self {
        let member = |member: v1::Member| Member {
            node_id: member.node_id,
            uuid: member.uuid,
            peer_addr: member.peer_addr,
            client_addr: member.client_addr,
            voter: member.voter,
        };
        Self {
            cluster_id: answer.cluster_id,
            leader_id: answer.leader_id,
            members: answer.members.into_iter().map(member).collect(),
            plans: answer.plans.into_iter().map(MemberPlan::from).collect(),
        }
    }
}
