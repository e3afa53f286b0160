//! How far each node has the log, and what it would need to catch up or to start again.

use super::nodes;
use crate::commands::doctor::finding::{Finding, Severity, Subject};
use crate::commands::doctor::seen::Seen;

/// Entries that a node may lack: half of what is kept behind a snapshot by default
/// (`storage.log_keep_entries`). One that falls back much further needs a snapshot.
const BEHIND_MAX: u64 = 10_000;

/// Nodes that lack a good part of the leader's log.
pub(super) fn behind(seen: &Seen) -> Vec<Finding> {
    let purged = seen.leader.and_then(|leader| seen.node(leader)?.told.as_ref().ok()?.purged);
    let mut findings = Vec::new();
    let mut most = None;
    for (node, told) in seen.told() {
        let Some((before, now)) = told.behind else { continue };
        let subject = || Subject::Node(node.id);
        // Both times, because a moment's delay is no news.
        let least = before.min(now);
        most = most.max(Some(least));
        if let Some(purged) =
            purged.filter(|purged| told.last_log.is_none_or(|last| last < *purged))
        {
            let found = format!(
                "its log ends at {}, and that of the leader begins behind {purged}",
                told.last_log.map_or_else(|| "nothing".to_owned(), |last| last.to_string())
            );
            findings.push(
                Finding::new(Severity::Warning, subject(), "NEEDS_SNAPSHOT", found)
                    .means("it can only go on from a whole snapshot, which it is sent")
                    .fix("wait, and ask again; if it stays so, look at its log, disk and network"),
            );
        } else if least > BEHIND_MAX {
            let found = format!("it is {least} entries behind the leader");
            findings.push(
                Finding::new(Severity::Warning, subject(), "BEHIND", found)
                    .means(
                        "its copy counts for nothing new until it has caught up; left further \
                         behind, it needs a whole snapshot",
                    )
                    .fix("look at its fsync times, its load and the network to it"),
            );
        }
    }
    if let (true, Some(most)) = (findings.is_empty(), most) {
        let found = format!("no node is more than {most} entries behind the leader");
        findings.push(Finding::new(Severity::Ok, Subject::Cluster, "CAUGHT_UP", found));
    }
    findings
}

/// Nodes that have not taken a snapshot while others have.
pub(super) fn snapshots(seen: &Seen) -> Vec<Finding> {
    let has = |snapshot: bool| -> Vec<u64> {
        let such = seen.told().filter(|(_, told)| told.snapshot.is_some() == snapshot);
        such.map(|(node, _)| node.id).collect()
    };
    let (with, without) = (has(true), has(false));
    if with.is_empty() {
        return Vec::new();
    }
    let finding = |id: &u64| {
        let found = format!("it has no snapshot, while {} has", nodes(&with[..1]));
        Finding::new(Severity::Note, Subject::Node(*id), "NO_SNAPSHOT", found)
            .means("it keeps all of its log; it takes one after storage.snapshot_log_bytes, or storage.snapshot_every_ms")
            .fix("if it stays so for hours: look for snapshots in its log")
    };
    without.iter().map(finding).collect()
}

#[cfg(test)]
mod tests {
    use super::super::tests::worse;
    use super::*;
    use crate::commands::doctor::seen::healthy;

    #[test]
    fn a_node_is_behind_when_it_was_so_both_times() {
        let of = |lag| behind(&healthy(3).with(2, |told| told.behind = Some(lag)));
        let found = of((0, BEHIND_MAX + 9));
        assert_eq!((worse(&found), found[0].code), (Vec::new(), "CAUGHT_UP"));
        assert_eq!(worse(&of((BEHIND_MAX, BEHIND_MAX))), Vec::<String>::new());
        let found = of((BEHIND_MAX + 2, BEHIND_MAX + 1));
        assert_eq!(worse(&found), ["BEHIND node 2"]);
        assert!(found[0].found.contains("10001 entries"), "{found:?}");
        // Without a leader there is nobody to be behind.
        assert_eq!(behind(&healthy(1).with(1, |told| told.behind = None)), []);
    }

    #[test]
    fn whose_next_entry_is_gone_needs_a_snapshot() {
        // The leader has purged up to and with 40.
        let of = |last| behind(&healthy(3).with(3, |told| told.last_log = last));
        assert_eq!(worse(&of(Some(40))), Vec::<String>::new());
        assert_eq!(worse(&of(Some(39))), ["NEEDS_SNAPSHOT node 3"]);
        assert_eq!(worse(&of(None)), ["NEEDS_SNAPSHOT node 3"]);
        let mut nobody_leads = healthy(3).with(3, |told| told.last_log = None);
        nobody_leads.leader = None;
        assert_eq!(worse(&behind(&nobody_leads)), Vec::<String>::new());
    }

    #[test]
    fn a_snapshot_is_missed_only_where_others_have_one() {
        assert_eq!(snapshots(&healthy(3)), []);
        let found = snapshots(&healthy(3).with(1, |told| told.snapshot = None));
        assert_eq!(worse(&found), ["NO_SNAPSHOT node 1"]);
        assert!(found[0].found.contains("while node 2 has"), "{found:?}");
        assert_eq!(snapshots(&healthy(1).with(1, |told| told.snapshot = None)), []);
    }
}
