//! What one node may use: memory, queue lengths, the size of a snapshot.

use serde::{Deserialize, Serialize};

const MIB: usize = 1 << 20;

/// Bounds of a node's storage; the defaults suit a small machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Tuning {
    /// Bytes of one memtable of the log.
    pub log_memtable_bytes: usize,
    /// Memtables of the log: one is written while the others go to disk. At least 2.
    pub log_memtables: u16,
    /// Bytes of one memtable of the state.
    pub state_memtable_bytes: usize,
    /// Memtables of the state. At least 2.
    pub state_memtables: u16,
    /// Bytes of blocks read from disk that are kept, for log and state together.
    pub block_cache_bytes: usize,
    /// Bytes of the newest log entries kept per group, for replication and apply.
    pub tail_cache_bytes: usize,
    /// Writes that may wait for the next sync; past it an append waits. Proposals in flight are
    /// bounded long before.
    pub sync_queue_len_max: usize,
    /// Purged entries that are left on disk before one range deletion removes them: range
    /// tombstones slow reads, so they are few.
    pub purge_step_entries: u64,
    /// Bytes of a snapshot that is received.
    pub snapshot_bytes_max: u64,
}

impl Default for Tuning {
    fn default() -> Self {
        Self {
            log_memtable_bytes: 16 * MIB,
            log_memtables: 2,
            state_memtable_bytes: 16 * MIB,
            state_memtables: 2,
            block_cache_bytes: 32 * MIB,
            tail_cache_bytes: 32 * MIB,
            sync_queue_len_max: 16_384,
            purge_step_entries: 10_000,
            snapshot_bytes_max: 64 << 30,
        }
    }
}
