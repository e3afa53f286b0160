//! How a node learns that it was removed: nobody sends it anything any more, so it asks.

use crate::bootstrap;
use crate::node::end;
use crate::proposer::quorum_acked;
use crate::replica::{Ended, Replica};
use crate::wire::uuid_out;
use quorate_proto::peer as pb;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// How often it looks whether a leader was heard.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// How long none was heard before it asks: some election timeouts.
const SILENCE: Duration = Duration::from_secs(2);
/// How long an answer may take.
const ANSWER: Duration = Duration::from_secs(1);

/// Ends the node once a member says that it was removed. One is enough: it says only what it has
/// applied, and who was removed does not come back under its id.
pub(crate) async fn watch(
    replica: Replica,
    ending: watch::Sender<Option<Ended>>,
    left: crate::Left,
) {
    let shared = Arc::clone(&replica.0);
    drop(replica);
    let mut every = tokio::time::interval(LOOK_EVERY);
    every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let me = &shared.me;
    loop {
        every.tick().await;
        // One that led when the others lost it takes itself for the leader for ever: they do not talk
        // to it any more, so nothing tells it of a newer term.
        if quorum_acked(&shared.raft).is_some_and(|at| at.elapsed() < SILENCE) {
            me.hears_leader();
        }
        let Some(cluster_id) = me.cluster_id().filter(|_| me.silence() >= SILENCE) else {
            continue;
        };
        let members = me.membership();
        tracing::debug!(node = %me.node, members = ?members.nodes.keys(), "no leader was heard; was this node removed?");
        let asked = members.nodes.iter().filter(|(node, _)| **node != me.node);
        let asked = asked.map(|(_, member)| async {
            let mut client = shared.peers.probe_client(&member.peer_addr);
            let (from_node, from_uuid) = (me.node.0, uuid_out(me.uuid));
            let probe = client.probe(pb::ProbeRequest { from_node, from_uuid });
            let answer = tokio::time::timeout(ANSWER, probe).await.ok()?.ok()?.into_inner();
            (answer.has_left && answer.cluster_id == cluster_id).then_some(())
        });
        if futures::future::join_all(asked).await.into_iter().flatten().next().is_none() {
            continue;
        }
        let written = shared.offload.run(left).await;
        if let Err(error) = written {
            tracing::warn!(%error, "that this node was removed can't be written down");
        }
        end(&ending, Ended::Left(bootstrap::left(me.node, cluster_id)));
        return;
    }
}
