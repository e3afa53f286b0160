//! How fast things go by themselves: heartbeats and elections, and snapshots.

use std::time::Duration;

/// Raft's times, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// Between two heartbeats of the leader.
    pub heartbeat_ms: u64,
    /// The shortest election timeout.
    pub election_timeout_min_ms: u64,
    /// The longest; also how long a follower refuses votes after it heard from a leader.
    pub election_timeout_max_ms: u64,
}

impl Default for Timing {
    fn default() -> Self {
        Self { heartbeat_ms: 100, election_timeout_min_ms: 300, election_timeout_max_ms: 500 }
    }
}

/// When snapshots are taken and how much log is kept behind them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SnapshotRule {
    /// Taken when about this many bytes were appended since the last one, by this process or by
    /// those before it.
    pub log_bytes: u64,
    /// Taken after this long if anything was appended since the last one: a node that grows
    /// slowly gets rid of its old log, too.
    pub every: Duration,
    /// Entries kept behind a snapshot, so that a node that was away shortly needs no snapshot; but none
    /// from before the snapshot before.
    pub keep_entries: u64,
    /// How fast a node that was away is sent a snapshot, or log beyond twice what is written meanwhile, at
    /// most, so that there is room for what the clients do. None: as fast as the network takes it.
    pub send_bytes_per_second: Option<u64>,
}

impl Default for SnapshotRule {
    fn default() -> Self {
        Self {
            log_bytes: 256 << 20,
            every: Duration::from_secs(3_600),
            keep_entries: 20_000,
            send_bytes_per_second: Some(32 << 20),
        }
    }
}
