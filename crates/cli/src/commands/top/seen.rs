//! What one look at a cluster shows, as plain data.

use crate::output::id;
use serde::{Serialize, Serializer};
use std::collections::BTreeMap;

/// What a node has counted since it started, by name.
pub(super) type Counters = BTreeMap<String, u64>;

/// The cluster, as one of its nodes tells it.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(super) struct Cluster {
    pub(super) cluster_id: String,
    pub(super) term: u64,
    #[serde(rename = "leader_id")]
    pub(super) leader: Option<u64>,
    pub(super) answered_by: u64,
    pub(super) feature_level: u32,
    pub(super) nodes: Vec<Node>,
    /// What is to become of members, a sentence each.
    pub(super) plans: Vec<String>,
}

/// A member.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(super) struct Node {
    #[serde(rename = "node_id")]
    pub(super) id: u64,
    pub(super) voter: bool,
    pub(super) role: &'static str,
    pub(super) healthy: bool,
    /// Why not.
    pub(super) problem: String,
    pub(super) client_addr: String,
    pub(super) version: String,
    pub(super) applied: Option<u64>,
    /// Entries of the leader's log that it lacks; none without a leader.
    pub(super) lag: Option<u64>,
    pub(super) fsync_p50_us: Option<u64>,
    pub(super) fsync_p99_us: Option<u64>,
    pub(super) disk_free_bytes: Option<u64>,
    pub(super) writes_refused: bool,
    pub(super) elections_hour: u32,
    /// None when it did not answer this machine, or tells them to nobody who may not read them.
    pub(super) counters: Option<Counters>,
}

/// A list of which not more than so many are asked for.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(super) struct Listed<T> {
    pub(super) items: Vec<T>,
    /// There are more.
    pub(super) more: bool,
    /// It was told without a quorum, and may be old.
    pub(super) stale: bool,
}

/// A queue.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(super) struct Queue {
    pub(super) queue: String,
    pub(super) paused: bool,
    pub(super) ready: u64,
    pub(super) delayed: u64,
    pub(super) leased: u64,
    pub(super) dead: u64,
    pub(super) oldest_ready_ms: Option<u64>,
    pub(super) body_bytes: u64,
    pub(super) pushed: u64,
    pub(super) delivered: u64,
    pub(super) acked: u64,
    pub(super) nacked: u64,
    pub(super) lapsed: u64,
    pub(super) died: u64,
}

/// A lock.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(super) struct Lock {
    pub(super) name: String,
    pub(super) waiters: u64,
    pub(super) holders: Vec<Holder>,
}

/// Who holds one.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(super) struct Holder {
    #[serde(serialize_with = "exact")]
    pub(super) token: u64,
    #[serde(serialize_with = "exact")]
    pub(super) session: u64,
    pub(super) mode: &'static str,
    pub(super) held_ms: u64,
    pub(super) ttl_ms: u64,
}

/// The cache, as one node tells it.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(super) struct Cache {
    pub(super) entries: u64,
    pub(super) bytes: u64,
    pub(super) bytes_max: u64,
    pub(super) builds: u64,
    pub(super) node_id: u64,
}

/// A channel or a pattern that is subscribed to.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(super) struct Channel {
    pub(super) pattern: String,
    pub(super) subscribers: u64,
    pub(super) nodes: u32,
    pub(super) queue_groups: u32,
    pub(super) members: u64,
    #[serde(serialize_with = "exact")]
    pub(super) last_sequence: u64,
}

/// An open session.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(super) struct Session {
    #[serde(serialize_with = "exact")]
    pub(super) session: u64,
    pub(super) ttl_ms: u64,
    pub(super) locks: u64,
    pub(super) keys: u64,
}

/// As all commands write ids.
#[allow(clippy::trivially_copy_pass_by_ref, reason = "it is called with a reference")]
fn exact<S: Serializer>(number: &u64, serializer: S) -> Result<S::Ok, S::Error> {
    id(*number).serialize(serializer)
}

/// What was seen of a small cluster, for tests: node 1 leads, node 3 does not answer.
#[cfg(test)]
pub(super) fn cluster() -> Cluster {
    let node = |id, role, calls| Node {
        id,
        voter: true,
        role,
        healthy: true,
        client_addr: format!("10.0.0.{id}:8811"),
        version: "0.1.0".to_owned(),
        applied: Some(70),
        lag: Some(0),
        fsync_p50_us: Some(900),
        fsync_p99_us: Some(4_100),
        disk_free_bytes: Some(3 << 30),
        counters: Some(Counters::from([
            ("requests_ok".to_owned(), calls),
            ("commands_proposed".to_owned(), calls / 2),
            ("cache_hits".to_owned(), calls),
            ("connections_open".to_owned(), 4),
        ])),
        ..Node::default()
    };
    let silent = Node {
        id: 3,
        voter: true,
        role: "unknown",
        problem: "no answer within 500 ms".to_owned(),
        client_addr: "10.0.0.3:8811".to_owned(),
        ..Node::default()
    };
    Cluster {
        cluster_id: "c0ffee".to_owned(),
        term: 41,
        leader: Some(1),
        answered_by: 1,
        feature_level: 7,
        nodes: vec![node(1, "leader", 1_000), node(2, "follower", 400), silent],
        plans: Vec::new(),
    }
}
