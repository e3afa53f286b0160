//! A node that joins a cluster asks it for an id, until it is given one or refused.

use crate::config::{Config, Join};
use crate::process::Error;
use hyper_util::rt::TokioIo;
use quorate_consensus::StartError;
use quorate_consensus::io::{Connection, Dialer as _, TcpDialer};
use quorate_proto::v1;
use quorate_proto::v1::cluster_service_client::ClusterServiceClient;
use quorate_state::{FeatureLevel, NodeId};
use quorate_storage::identity::Identity;
use quorate_tls::{ClientFiles, Reloading};
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio_rustls::TlsConnector;
use tonic::transport::{Endpoint, Uri};
use tonic::{Code, Request, Status};
use tower::service_fn;

/// How long one attempt may take.
const ATTEMPT: Duration = Duration::from_secs(5);
/// How often a node asks whether it is still to be admitted.
const ASK_AGAIN: Duration = Duration::from_secs(3);
/// Between two rounds of attempts.
const PAUSE: Duration = Duration::from_millis(500);

/// What the cluster says.
pub(crate) struct Joined {
    pub(crate) node: NodeId,
    pub(crate) cluster_id: String,
}

fn request(
    join: &Join,
    identity: &Identity,
    config: &Config,
    client_addr: &str,
) -> v1::JoinRequest {
    v1::JoinRequest {
        group_id: 0,
        uuid: identity.uuid.as_u128().to_be_bytes().to_vec().into(),
        peer_addr: config.peer_advertise.to_string(),
        client_addr: client_addr.to_owned(),
        token: join.token.clone().unwrap_or_default(),
        learner: join.learner,
        feature_level: FeatureLevel::NEWEST.0.into(),
    }
}

/// Asks one node after the other. That none answers may be because they start, too.
pub(crate) async fn ask(
    join: &Join,
    tls: Option<&Arc<Reloading<ClientFiles>>>,
    identity: &Identity,
    config: &Config,
    client_addr: &str,
) -> Result<Joined, Error> {
    let request = request(join, identity, config, client_addr);
    loop {
        match round(join, tls, &request).await? {
            Some(v1::JoinResponse { node_id, cluster_id }) => {
                tracing::info!(node_id, cluster_id, "the cluster has given this node an id");
                return Ok(Joined { node: NodeId(node_id), cluster_id });
            }
            None => tokio::time::sleep(PAUSE).await,
        }
    }
}

/// Asks now and then, for a node that has its id and waits to be admitted, until the cluster says that
/// it will not be: nobody else would tell it.
pub(crate) async fn refused(
    join: &Join,
    tls: Option<&Arc<Reloading<ClientFiles>>>,
    identity: &Identity,
    config: &Config,
    client_addr: &str,
) -> Error {
    let request = request(join, identity, config, client_addr);
    loop {
        tokio::time::sleep(ASK_AGAIN).await;
        if let Err(error) = round(join, tls, &request).await {
            return error;
        }
    }
}

/// Asks each of them; none when nobody can say yet.
async fn round(
    join: &Join,
    tls: Option<&Arc<Reloading<ClientFiles>>>,
    request: &v1::JoinRequest,
) -> Result<Option<v1::JoinResponse>, Error> {
    for endpoint in &join.endpoints {
        match one(&endpoint.to_string(), tls, request.clone()).await {
            Ok(joined) => return Ok(Some(joined)),
            Err(status) if is_final(&status) => {
                return Err(Error::Start(StartError::Refused(format!(
                    "the cluster at {endpoint} does not let this node join: {}",
                    status.message()
                ))));
            }
            Err(status) => {
                let why = status.message();
                tracing::info!(%endpoint, why, "the cluster can't be asked yet; trying again");
            }
        }
    }
    Ok(None)
}

async fn one(
    endpoint: &str,
    tls: Option<&Arc<Reloading<ClientFiles>>>,
    request: v1::JoinRequest,
) -> Result<v1::JoinResponse, Status> {
    let address = Endpoint::from_shared(format!("http://{endpoint}"));
    let address = address.map_err(|error| Status::invalid_argument(error.to_string()))?;
    let connector = tls.map(|tls| TlsConnector::from(tls.current()));
    let endpoint = endpoint.to_owned();
    let connect = service_fn(move |_: Uri| {
        let (endpoint, connector) = (endpoint.clone(), connector.clone());
        async move {
            let connection = TcpDialer.dial(endpoint.clone()).await?;
            let connection = match connector {
                None => connection,
                Some(tls) => {
                    let name = quorate_tls::server_name(&endpoint)?;
                    Connection::new(tls.connect(name, connection).await?)
                }
            };
            Ok::<_, io::Error>(TokioIo::new(connection))
        }
    });
    let asking = async {
        let channel = address.connect_with_connector(connect).await;
        let channel = channel.map_err(|error| Status::unavailable(error.to_string()))?;
        let mut request = Request::new(request);
        request.set_timeout(ATTEMPT);
        ClusterServiceClient::new(channel).join(request).await
    };
    let asked = tokio::time::timeout(ATTEMPT, asking).await;
    Ok(asked.map_err(|_| Status::deadline_exceeded("no answer"))??.into_inner())
}

/// Whether asking again is of no use.
fn is_final(status: &Status) -> bool {
    matches!(
        status.code(),
        Code::InvalidArgument
            | Code::FailedPrecondition
            | Code::PermissionDenied
            | Code::Unimplemented
            | Code::OutOfRange
    )
}
