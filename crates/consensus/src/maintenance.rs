//! What a node looks after by itself: snapshots when the log has grown, and room on the disk.

use crate::catch_up::CatchUp;
use crate::pace::SnapshotRule;
use crate::replica::{Replica, Shared};
use crate::types::LogId;
use openraft::async_runtime::WatchReceiver as _;
use quorate_state::{LogIndex, NodeId};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::time::Instant;

/// How often the log's size and the room on the disk are looked at.
const EVERY: Duration = Duration::from_millis(200);
/// Bytes that must be free on the disk for a write to be taken: room for what is under way (32 MiB),
/// memtables, write-ahead logs and a compaction, so that no append ever fails for want of it.
pub const FREE_BYTES_MIN: u64 = 256 << 20;
/// Bytes of log that may gather while somebody catches up by a snapshot, if a snapshot is due more often
/// than that.
const HELD_BYTES_MIN: u64 = 64 << 20;
/// How many times as much log as between two snapshots may gather then.
const HELD_TIMES: u64 = 4;
/// No log is held for anybody when less is free.
const HELD_FREE_BYTES: u64 = 4 * FREE_BYTES_MIN;

/// Looks after the node until consensus has ended.
pub(crate) async fn run(replica: Replica, rule: SnapshotRule, catch_up: Arc<CatchUp>) {
    let shared = Arc::clone(&replica.0);
    drop(replica);
    let mut growth = Growth::found(&shared).await;
    let mut old = OldLog::default();
    let mut every = tokio::time::interval(EVERY);
    every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        every.tick().await;
        look_at_room(&shared).await;
        shared.health.synced(&shared.log.counters().sync_times);
        let awaited = is_awaited(&shared, &catch_up);
        if growth.is_due(&shared, rule, awaited) && shared.raft.trigger().snapshot().await.is_err()
        {
            return;
        }
        let snapshot = index(shared.raft.metrics().borrow_watched().snapshot.as_ref());
        if let Some(LogIndex(through)) = old.purge_through(snapshot, awaited)
            && shared.raft.trigger().purge_log(through).await.is_err()
        {
            return;
        }
    }
}

/// Whether somebody catches up, to whom this node has sent a snapshot or is sending one.
fn is_awaited(shared: &Shared, catch_up: &CatchUp) -> bool {
    let metrics = shared.raft.metrics();
    let matched = metrics.borrow_watched().replication.as_ref().map(|all| {
        let matched = all.iter().map(|(node, matched)| (NodeId(*node), index(matched.as_ref())));
        matched.collect::<BTreeMap<_, _>>()
    });
    let last = shared.log.bounds().last.map_or(LogIndex(0), |last| last.index);
    catch_up.is_under_way(last, matched.as_ref(), Instant::now())
}

/// How much log may gather before a snapshot is taken although somebody catches up: so much that it
/// costs that node less to be sent a snapshot again.
fn held_bytes_max(shared: &Shared, rule: SnapshotRule) -> u64 {
    if shared.proposer.free_bytes.load(Ordering::Relaxed) < HELD_FREE_BYTES {
        return 0;
    }
    let snapshot = shared.snapshots.current();
    let sent = snapshot.map_or(0, |snapshot| snapshot.files().iter().map(|file| file.len).sum());
    rule.log_bytes.saturating_mul(HELD_TIMES).max(HELD_BYTES_MIN).max(sent)
}

/// Refuses writes while the disk is almost full.
async fn look_at_room(shared: &Shared) {
    let log = Arc::clone(&shared.log);
    match shared.offload.run(move || log.free_bytes()).await {
        Ok(free) => {
            let full = free < FREE_BYTES_MIN;
            let before = shared.proposer.free_bytes.swap(free, Ordering::Relaxed);
            if (before < FREE_BYTES_MIN) != full {
                let what = if full { "almost full: writes are refused" } else { "has room again" };
                tracing::warn!(free, full, "the disk is {what}");
            }
        }
        Err(error) => tracing::warn!(%error, "can't tell how much room the disk has"),
    }
}

/// What bounds the log in bytes: of what lies before the newest snapshot no more is kept than came since
/// the one before. openraft purges what is more than so many entries, and an entry may have a megabyte.
#[derive(Default)]
struct OldLog {
    newest: Option<LogIndex>,
    /// The snapshot before that, if the log up to it was not purged yet.
    before: Option<LogIndex>,
}

impl OldLog {
    /// Through where to purge, if it is time to.
    fn purge_through(&mut self, snapshot: Option<LogIndex>, awaited: bool) -> Option<LogIndex> {
        if snapshot > self.newest {
            self.before = self.newest;
            self.newest = snapshot;
        }
        if awaited { None } else { self.before.take() }
    }
}

/// How much log there is behind the newest snapshot.
struct Growth {
    /// Bytes behind the snapshot that were there when the process began. A node that is restarted
    /// often appends little each time and would otherwise keep all of its log.
    found_bytes: u64,
    /// Where the log ended then. Before the state has come there, a snapshot would hold less than
    /// is counted.
    found_to: Option<LogIndex>,
    /// What the log's counter of appended bytes, which begins with the process, showed at the
    /// newest snapshot.
    counted_bytes: u64,
    /// When that was taken, or the process began.
    taken_at: Instant,
}

fn index(id: Option<&LogId>) -> Option<LogIndex> {
    id.map(|id| LogIndex(id.index))
}

impl Growth {
    async fn found(shared: &Shared) -> Self {
        let log = Arc::clone(&shared.log);
        let found_to = log.bounds().last.map(|last| last.index);
        let snapshot = shared.snapshots.current();
        let from = snapshot.and_then(|snapshot| snapshot.meta().applied);
        let from = from.map_or(LogIndex(0), |applied| LogIndex(applied.index.0.saturating_add(1)));
        let found_bytes = shared.offload.run(move || log.stored_bytes(from)).await;
        Self { found_bytes, found_to, counted_bytes: 0, taken_at: Instant::now() }
    }

    /// Whether it is time for a snapshot, which is then counted as taken. It can wait while the log
    /// behind the last one is awaited somewhere.
    fn is_due(&mut self, shared: &Shared, rule: SnapshotRule, awaited: bool) -> bool {
        let (applied, snapshot) = {
            let metrics = shared.raft.metrics();
            let seen = metrics.borrow_watched();
            (index(seen.last_applied.as_ref()), index(seen.snapshot.as_ref()))
        };
        let counted_bytes = shared.log.counters().bytes;
        let grown = self.found_bytes.saturating_add(counted_bytes - self.counted_bytes);
        let old = self.taken_at.elapsed() >= rule.every;
        let due = (grown >= rule.log_bytes || old)
            && applied >= self.found_to
            && applied > snapshot
            && !(awaited && grown < held_bytes_max(shared, rule));
        if due {
            *self = Self {
                found_bytes: 0,
                found_to: self.found_to,
                counted_bytes,
                taken_at: Instant::now(),
            };
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn log_before_the_last_snapshot_but_one_is_purged_once_and_not_while_it_is_awaited() {
        let mut old = OldLog::default();
        assert_eq!(old.purge_through(None, false), None);
        assert_eq!(old.purge_through(Some(LogIndex(10)), false), None);
        assert_eq!(old.purge_through(Some(LogIndex(20)), false), Some(LogIndex(10)));
        assert_eq!(old.purge_through(Some(LogIndex(20)), false), None);
        assert_eq!(old.purge_through(Some(LogIndex(30)), true), None);
        assert_eq!(old.purge_through(Some(LogIndex(30)), false), Some(LogIndex(20)));
    }
}
