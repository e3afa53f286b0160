//! What a node says about itself.

use crate::health::SyncTimes;
use crate::wire;
use quorate_proto::peer as pb;
use quorate_state::{FeatureLevel, LogIndex, NodeId};
use std::time::Duration;

/// What a node is in its group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It leads.
    Leader,
    /// It follows.
    Follower,
    /// It stands for election.
    Candidate,
    /// It has no vote.
    Learner,
    /// It is stopping, or has failed.
    Shutdown,
}

impl Role {
    const ALL: [Self; 5] =
        [Self::Leader, Self::Follower, Self::Candidate, Self::Learner, Self::Shutdown];

    /// The role's name in lower case.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Leader => "leader",
            Self::Follower => "follower",
            Self::Candidate => "candidate",
            Self::Learner => "learner",
            Self::Shutdown => "shutdown",
        }
    }
}

/// One node's status.
#[derive(Clone, Debug)]
pub struct NodeStatus {
    /// Which node.
    pub node: NodeId,
    /// What it is.
    pub role: Role,
    /// Its term.
    pub term: u64,
    /// The leader it knows.
    pub leader: Option<NodeId>,
    /// The last entry applied.
    pub applied: Option<LogIndex>,
    /// The last entry known to be committed.
    pub committed: Option<LogIndex>,
    /// The last entry in the log.
    pub last_log: Option<LogIndex>,
    /// The last entry of the newest snapshot.
    pub snapshot: Option<LogIndex>,
    /// The last entry purged.
    pub purged: Option<LogIndex>,
    /// Rolling digest at `applied`.
    pub digest: u64,
    /// Version of the build.
    pub version: String,
    /// The newest feature level that it knows.
    pub feature_level: FeatureLevel,
    /// Its wall clock when it said all this; none, as where something is missing below, when its
    /// version does not say.
    pub wall_ms: Option<u64>,
    /// How long the newest syncs of its log took; none when there were none.
    pub syncs: Option<SyncTimes>,
    /// Bytes that may still be written where its log lies; none also where nothing bounds them.
    pub disk_free_bytes: Option<u64>,
    /// Whether it refuses writes that need room, because its disk is almost full.
    pub writes_refused: bool,
    /// How often a leader took office under its eyes in the newest hour, but for the first one it
    /// saw; 64 stands for more.
    pub elections_hour: u32,
    /// Whether other machines reach a port of it without TLS, or without being asked who they are.
    pub insecure: bool,
}

/// What another node heard of a node.
#[derive(Clone, Debug)]
pub struct Heard {
    /// What the node said.
    pub status: NodeStatus,
    /// How its wall clock differs from that of the node that asked, if it can be told.
    pub clock: Option<ClockOffset>,
}

/// How far a wall clock is from another one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClockOffset {
    /// How far it is ahead, in milliseconds; negative: behind.
    pub ahead_ms: i64,
    /// How far that may be off at most.
    pub uncertainty_ms: u64,
}

impl ClockOffset {
    /// What follows from an answer with a time in it, to a question that was asked at `asked_ms` of
    /// the own clock and took so long: the answer was given in the middle, give or take half of it.
    pub(crate) fn found(asked_ms: u64, took: Duration, theirs_ms: u64) -> Self {
        let half_ms = u64::try_from(took.as_millis() / 2).unwrap_or(u64::MAX);
        let signed = |ms: u64| i64::try_from(ms).unwrap_or(i64::MAX);
        let middle = signed(asked_ms.saturating_add(half_ms));
        // Both clocks count whole milliseconds, and so does this.
        let uncertainty_ms = half_ms.saturating_add(2);
        Self { ahead_ms: signed(theirs_ms).saturating_sub(middle), uncertainty_ms }
    }
}

impl NodeStatus {
    pub(crate) fn to_wire(&self) -> pb::StatusResponse {
        let index = |index: Option<LogIndex>| index.map(|index| index.0);
        pb::StatusResponse {
            node_id: self.node.0,
            term: self.term,
            leader_id: self.leader.map(|node| node.0),
            role: self.role.as_str().to_owned(),
            applied: index(self.applied),
            committed: index(self.committed),
            last_log: index(self.last_log),
            snapshot: index(self.snapshot),
            purged: index(self.purged),
            digest: self.digest,
            version: self.version.clone(),
            wall_ms: self.wall_ms,
            recent_fsyncs: self.syncs.map_or(0, |syncs| syncs.count),
            fsync_p50_us: self.syncs.map_or(0, |syncs| micros(syncs.p50)),
            fsync_p99_us: self.syncs.map_or(0, |syncs| micros(syncs.p99)),
            disk_free_bytes: self.disk_free_bytes,
            writes_refused: self.writes_refused,
            elections_hour: self.elections_hour,
            insecure: self.insecure,
            feature_level: self.feature_level.0.into(),
        }
    }

    pub(crate) fn from_wire(said: pb::StatusResponse) -> Self {
        let role = Role::ALL.into_iter().find(|role| role.as_str() == said.role);
        Self {
            node: NodeId(said.node_id),
            // A role of a newer version that this one does not know.
            role: role.unwrap_or(Role::Learner),
            term: said.term,
            leader: said.leader_id.map(NodeId),
            applied: said.applied.map(LogIndex),
            committed: said.committed.map(LogIndex),
            last_log: said.last_log.map(LogIndex),
            snapshot: said.snapshot.map(LogIndex),
            purged: said.purged.map(LogIndex),
            digest: said.digest,
            version: said.version,
            feature_level: wire::feature_level_in(said.feature_level),
            wall_ms: said.wall_ms,
            syncs: (said.recent_fsyncs > 0).then(|| SyncTimes {
                count: said.recent_fsyncs,
                p50: Duration::from_micros(said.fsync_p50_us),
                p99: Duration::from_micros(said.fsync_p99_us),
            }),
            disk_free_bytes: said.disk_free_bytes,
            writes_refused: said.writes_refused,
            elections_hour: said.elections_hour,
            insecure: said.insecure,
        }
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_is_compared_with_the_middle_of_the_question() {
        let found = |asked, took_ms, theirs| {
            let ClockOffset { ahead_ms, uncertainty_ms } =
                ClockOffset::found(asked, Duration::from_millis(took_ms), theirs);
            (ahead_ms, uncertainty_ms)
        };
        assert_eq!(found(1_000, 0, 1_000), (0, 2));
        assert_eq!(found(1_000, 40, 1_020), (0, 22));
        assert_eq!(found(1_000, 40, 1_720), (700, 22));
        assert_eq!(found(1_000, 40, 320), (-700, 22));
        // Whatever a node says, it is only a number.
        assert_eq!(found(0, 0, u64::MAX).0, i64::MAX);
        assert_eq!(found(u64::MAX, 0, 0).0, -i64::MAX);
    }

    #[test]
    fn a_node_of_an_older_version_says_nothing_of_its_disk_and_clock() {
        let status = NodeStatus::from_wire(pb::StatusResponse::default());
        assert_eq!((status.wall_ms, status.syncs, status.disk_free_bytes), (None, None, None));
        assert!(!status.writes_refused && !status.insecure);
        let (p50, p99) = (Duration::from_micros(5), Duration::from_micros(7));
        let full = NodeStatus {
            wall_ms: Some(0),
            syncs: Some(SyncTimes { count: 9, p50, p99 }),
            disk_free_bytes: Some(0),
            writes_refused: true,
            elections_hour: 3,
            insecure: true,
            ..status
        };
        let again = NodeStatus::from_wire(full.to_wire());
        assert_eq!((again.wall_ms, again.syncs), (full.wall_ms, full.syncs));
        assert_eq!(again.disk_free_bytes, Some(0));
        assert_eq!((again.writes_refused, again.elections_hour), (true, 3));
        assert!(again.insecure);
    }
}
