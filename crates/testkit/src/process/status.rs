//! What nodes say of themselves, over their client port, and what follows from it for all of them.

use super::NodeId;
use anyhow::{Context as _, Result, bail};
use quorate_proto::v1::cluster_service_client::ClusterServiceClient;
use quorate_proto::v1::{HashStateRequest, HashStateResponse, StatusRequest, StatusResponse};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;
use tonic::transport::{Channel, Endpoint};

/// A node asks the others for at most 500 ms; the rest is for a loaded machine.
const STATUS_DEADLINE: Duration = Duration::from_secs(3);
/// It reads the whole state.
const HASH_DEADLINE: Duration = Duration::from_secs(30);

async fn connect(addr: SocketAddr, deadline: Duration) -> Result<ClusterServiceClient<Channel>> {
    let endpoint = Endpoint::from_shared(format!("http://{addr}"))
        .with_context(|| format!("{addr} makes no uri"))?
        .connect_timeout(deadline)
        .timeout(deadline);
    let channel = endpoint.connect().await;
    Ok(ClusterServiceClient::new(channel.with_context(|| format!("could not connect to {addr}"))?))
}

/// Asks one node for the status of the cluster. Ends within a few seconds also when the node is
/// paused.
pub(super) async fn status(addr: SocketAddr) -> Result<StatusResponse> {
    let ask = async {
        let mut client = connect(addr, STATUS_DEADLINE).await?;
        let answer = client.status(StatusRequest { group_id: 0 }).await;
        Ok(answer.with_context(|| format!("{addr} did not answer Status"))?.into_inner())
    };
    tokio::time::timeout(STATUS_DEADLINE, ask).await.unwrap_or_else(|_| {
        Err(anyhow::anyhow!("{addr} did not answer Status in {STATUS_DEADLINE:?}"))
    })
}

/// Asks one node for the checksum of its state.
pub(super) async fn hash_state(addr: SocketAddr) -> Result<HashStateResponse> {
    let ask = async {
        let mut client = connect(addr, HASH_DEADLINE).await?;
        let answer = client.hash_state(HashStateRequest { group_id: 0 }).await;
        Ok(answer.with_context(|| format!("{addr} did not answer HashState"))?.into_inner())
    };
    tokio::time::timeout(HASH_DEADLINE, ask).await.unwrap_or_else(|_| {
        Err(anyhow::anyhow!("{addr} did not answer HashState in {HASH_DEADLINE:?}"))
    })
}

/// One live node that all live nodes name.
pub(super) fn agreed_leader(statuses: &BTreeMap<NodeId, Result<StatusResponse>>) -> Option<NodeId> {
    let leaders: Option<Vec<NodeId>> =
        statuses.values().map(|status| status.as_ref().ok()?.leader_id).collect();
    let leaders = leaders?;
    let leader = *leaders.first()?;
    let agreed = leaders.iter().all(|other| *other == leader) && statuses.contains_key(&leader);
    agreed.then_some(leader)
}

/// Of the nodes that name themselves, that of the highest term: an old leader that was cut off may
/// still think that it leads.
pub(super) fn self_named_leader(
    statuses: &BTreeMap<NodeId, Result<StatusResponse>>,
) -> Option<NodeId> {
    let claims = statuses.iter().filter_map(|(id, status)| {
        let status = status.as_ref().ok()?;
        (status.leader_id == Some(*id)).then_some((status.term, *id))
    });
    claims.max().map(|(_, id)| id)
}

pub(super) fn told(id: NodeId, status: &Result<StatusResponse>) -> String {
    match status {
        Err(error) => format!("node {id}: {error:#}"),
        Ok(StatusResponse { term, leader_id: Some(leader), .. }) => {
            format!("node {id}: node {leader} leads in term {term}")
        }
        Ok(StatusResponse { term, .. }) => format!("node {id}: nobody leads in term {term}"),
    }
}

/// The state that all nodes are in, or `None` while they are at different indexes.
pub(super) fn same_state(
    states: &BTreeMap<NodeId, Result<HashStateResponse>>,
) -> Result<Option<HashStateResponse>> {
    let mut at_index = BTreeMap::new();
    for (id, state) in states {
        let Ok(state) = state else { continue };
        let (first_id, first) = at_index.entry(state.applied).or_insert((id, state));
        if (first.checksum, first.digest) != (state.checksum, state.digest) {
            bail!("nodes {first_id} and {id} differ at the same index: {first:?} and {state:?}");
        }
    }
    let all_answered = states.values().all(Result::is_ok);
    let only = at_index.into_values().next().filter(|_| all_answered);
    let same = only
        .filter(|(_, first)| states.values().flatten().all(|state| state.applied == first.applied));
    Ok(same.map(|(_, state)| *state))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn says(term: u64, leader_id: Option<NodeId>) -> Result<StatusResponse> {
        Ok(StatusResponse { term, leader_id, ..StatusResponse::default() })
    }

    #[test]
    fn a_leader_is_agreed_when_all_name_it_and_it_lives() {
        let agreed = |statuses: [_; 2]| agreed_leader(&(1..).zip(statuses).collect());
        assert_eq!(agreed([says(3, Some(2)), says(3, Some(2))]), Some(2));
        assert_eq!(agreed([says(3, Some(2)), says(3, Some(1))]), None);
        assert_eq!(agreed([says(3, Some(2)), says(3, None)]), None);
        assert_eq!(agreed([says(3, Some(3)), says(3, Some(3))]), None);
        assert_eq!(agreed([says(3, Some(1)), Err(anyhow::anyhow!("down"))]), None);
        assert_eq!(agreed_leader(&BTreeMap::new()), None);
    }

    #[test]
    fn of_two_that_think_they_lead_the_later_does() {
        let leader = |statuses: [_; 3]| self_named_leader(&(1..).zip(statuses).collect());
        assert_eq!(leader([says(3, Some(1)), says(4, Some(2)), says(9, None)]), Some(2));
        assert_eq!(leader([says(3, Some(2)), says(2, Some(3)), says(2, Some(1))]), None);
    }

    #[test]
    fn states_are_the_same_at_one_index_only() {
        let state = |applied, checksum| {
            Ok(HashStateResponse { applied: Some(applied), checksum, digest: 7 })
        };
        let same = |states: [_; 3]| same_state(&(1..).zip(states).collect());
        assert!(same([state(5, 1), state(5, 1), state(5, 1)]).unwrap().is_some());
        assert!(same([state(5, 1), state(5, 1), state(6, 2)]).unwrap().is_none());
        assert!(same([state(5, 1), state(5, 1), Err(anyhow::anyhow!("down"))]).unwrap().is_none());
        let differ = same([state(5, 1), state(6, 2), state(5, 3)]).unwrap_err().to_string();
        assert!(differ.contains("nodes 1 and 3 differ"), "{differ}");
        assert!(same_state(&BTreeMap::new()).unwrap().is_none());
    }
}
