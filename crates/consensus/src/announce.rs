//! What a node says when it has started.

use crate::leader::own;
use crate::replica::Replica;
use quorate_state::{Command, LockDetachNode, MemberPublish, Outcome, query};
use std::sync::Arc;
use std::time::Duration;

/// Makes known that this node has started: where it is reached now, and that the calls that waited
/// here before are gone.
pub(crate) async fn announce(replica: Replica) {
    let shared = Arc::clone(&replica.0);
    let known = |replica: &Replica| {
        let view = replica.stale();
        query::member_addresses(view.tables.as_ref(), replica.group(), replica.node_id())
            .ok()
            .flatten()
    };
    let own_addresses = (shared.client_addr.clone(), shared.http_addr.clone());
    let mut detached = false;
    // After a restart the state may lag behind its log: look at it as it is for everybody.
    loop {
        if replica.read(Duration::from_secs(10)).await.is_ok() {
            let node = replica.node_id();
            let waits = query::waits_on(replica.stale().tables.as_ref(), replica.group(), node);
            if !detached && waits.is_ok_and(|waits| waits) {
                // Those of this process among them notice, and come back.
                let detach = own(Command::LockDetachNode(LockDetachNode { node }));
                let done = replica.propose(detach, Duration::from_secs(10)).await;
                detached = done.is_ok_and(|done| {
                    !matches!(done.outcome, Outcome::LockDetachNode { more: true })
                });
                continue;
            }
            if known(&replica).as_ref() == Some(&own_addresses) {
                return;
            }
            let command = Command::MemberPublish(MemberPublish {
                node: replica.node_id(),
                client_addr: own_addresses.0.clone(),
                http_addr: own_addresses.1.clone(),
            });
            // Publishing twice is publishing once, so any failure is simply tried again.
            let _ = replica.propose(own(command), Duration::from_secs(10)).await;
        }
        if shared.ended.borrow().is_some() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
}
