//! Who catches up by a snapshot: it is being sent one, or has just got it and lacks the log behind it.
//!
//! While somebody does, this node takes no new snapshot, because taking one purges the log. A leader
//! that fills its log sooner than it can send a snapshot would otherwise purge what comes behind each
//! before it has arrived, and the follower would be sent one after another and never count for a
//! quorum. How much log may gather meanwhile is bounded where snapshots are taken, in `maintenance`.

use quorate_state::{LogIndex, NodeId};
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// How long a node that has its snapshot may get no further before it is not waited for any more: it
/// is dead, or cut off.
const STANDS_STILL_MAX: Duration = Duration::from_secs(5);

/// Those who catch up, each with the number of the attempt to send it a snapshot.
#[derive(Default)]
pub(crate) struct CatchUp(Mutex<Inner>);

#[derive(Default)]
struct Inner {
    attempts: u64,
    /// As many as there are members, at most.
    nodes: BTreeMap<NodeId, (u64, Stage)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Receives,
    Installed,
    /// It had come to `matched` at `since`, and is to come to `target`.
    Follows {
        target: LogIndex,
        matched: Option<LogIndex>,
        since: Instant,
    },
}

/// An attempt to send a snapshot. Dropped before its end it has failed.
pub(crate) struct Attempt<'c> {
    catch_up: &'c CatchUp,
    node: NodeId,
    number: u64,
}

impl CatchUp {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A snapshot is being sent to a node from now on.
    pub(crate) fn begin(&self, node: NodeId) -> Attempt<'_> {
        let mut inner = self.lock();
        inner.attempts += 1;
        let number = inner.attempts;
        inner.nodes.insert(node, (number, Stage::Receives));
        Attempt { catch_up: self, node, number }
    }

    /// Whether anybody catches up, when this node's log ends at `last`, and has come to `matched` on
    /// the others. None: this node does not lead, and sends nobody anything.
    pub(crate) fn is_under_way(
        &self,
        last: LogIndex,
        matched: Option<&BTreeMap<NodeId, Option<LogIndex>>>,
        now: Instant,
    ) -> bool {
        let mut inner = self.lock();
        let Some(all) = matched else {
            inner.nodes.clear();
            return false;
        };
        inner.nodes.retain(|node, (_, stage)| {
            let Some(come_to) = all.get(node).copied() else { return false };
            match stage {
                Stage::Receives => true,
                Stage::Installed => {
                    *stage = Stage::Follows { target: last, matched: come_to, since: now };
                    come_to < Some(last)
                }
                Stage::Follows { target, matched, since } => {
                    if come_to > *matched {
                        (*matched, *since) = (come_to, now);
                    }
                    come_to < Some(*target) && now.duration_since(*since) < STANDS_STILL_MAX
                }
            }
        });
        !inner.nodes.is_empty()
    }
}

impl Attempt<'_> {
    /// The node has installed it.
    pub(crate) fn installed(self) {
        if let Some((number, stage)) = self.catch_up.lock().nodes.get_mut(&self.node)
            && *number == self.number
        {
            *stage = Stage::Installed;
        }
    }
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        let mut inner = self.catch_up.lock();
        // Another attempt may have begun since.
        if inner.nodes.get(&self.node) == Some(&(self.number, Stage::Receives)) {
            inner.nodes.remove(&self.node);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NODE: NodeId = NodeId(2);

    fn at(index: u64) -> Option<BTreeMap<NodeId, Option<LogIndex>>> {
        Some(BTreeMap::from([(NODE, Some(LogIndex(index)))]))
    }

    #[test]
    fn a_node_is_waited_for_until_it_has_what_there_was_when_it_was_installed() {
        let catch_up = CatchUp::default();
        let now = Instant::now();
        let asked =
            |last, matched| catch_up.is_under_way(LogIndex(last), at(matched).as_ref(), now);
        assert!(!asked(100, 0));
        let attempt = catch_up.begin(NODE);
        assert!(asked(100, 0) && asked(200, 0));
        attempt.installed();
        assert!(asked(300, 100) && asked(900, 299));
        assert!(!asked(1_000, 300) && !asked(1_000, 0));
    }

    #[test]
    fn who_stands_still_or_could_not_be_sent_it_is_not_waited_for() {
        let catch_up = CatchUp::default();
        let begun = Instant::now();
        let asked = |matched, after: Duration| {
            catch_up.is_under_way(LogIndex(100), at(matched).as_ref(), begun + after)
        };
        let (failed, again) = (catch_up.begin(NODE), catch_up.begin(NODE));
        drop(failed);
        assert!(asked(0, Duration::ZERO), "the other attempt goes on");
        drop(again);
        assert!(!asked(0, Duration::ZERO));

        catch_up.begin(NODE).installed();
        let nearly = STANDS_STILL_MAX - Duration::from_millis(1);
        assert!(asked(10, Duration::ZERO) && asked(10, nearly));
        assert!(asked(11, STANDS_STILL_MAX) && asked(11, STANDS_STILL_MAX + nearly));
        assert!(!asked(11, STANDS_STILL_MAX * 2));
        // Nor is a member that is none any more, nor anybody by a node that does not lead.
        catch_up.begin(NODE).installed();
        let nobody = BTreeMap::new();
        assert!(!catch_up.is_under_way(LogIndex(100), Some(&nobody), begun));
        catch_up.begin(NODE).installed();
        assert!(!catch_up.is_under_way(LogIndex(100), None, begun));
        assert!(!asked(0, Duration::ZERO));
    }
}
