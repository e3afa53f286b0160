//! What nodes say of themselves, over their client port.

use anyhow::{Context as _, Result};
use quorate_proto::v1::cluster_service_client::ClusterServiceClient;
use quorate_proto::v1::{HashStateRequest, HashStateResponse, StatusRequest, StatusResponse};
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
