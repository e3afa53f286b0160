//! A call to the API that asks for something: whose it is, what it asks of which namespace, and the
//! services that it asks, as a client of its own node.

use super::Dashboard;
use super::answer::Refusal;
use crate::access::touches::{Touch, What};
use crate::access::{Grant, Shown};
use crate::connections::ConnectionState;
use crate::grpc::{Judged, Refused};
use crate::http::Probes;
use axum::extract::{FromRequestParts, Query};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, Request, StatusCode, header};
use quorate_proto::v1;
use quorate_state::{AccessAction, AccessService};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tonic::Status;
use tonic::metadata::MetadataMap;

/// How long a call may take: whoever looks at a page asks again.
const DEADLINE: Duration = Duration::from_secs(2);

/// What stands behind the question mark.
#[derive(Default, serde::Deserialize)]
#[serde(default)]
pub(super) struct Asked {
    pub(super) namespace: String,
    pub(super) prefix: Option<String>,
    pub(super) pattern: Option<String>,
    pub(super) cursor: Option<String>,
    pub(super) limit: Option<u32>,
    pub(super) stale: bool,
    pub(super) state: Option<String>,
    pub(super) bytes_max: Option<usize>,
    pub(super) after: Option<u64>,
}

impl Asked {
    /// How many a page may have.
    pub(super) fn limit(&self, usual: u32, most: u32) -> u32 {
        self.limit.unwrap_or(usual).clamp(1, most)
    }

    /// Which names, by what they begin with.
    pub(super) fn by_prefix(&self) -> Option<v1::KeySelector> {
        let prefix = self.prefix.as_deref().filter(|prefix| !prefix.is_empty())?;
        let select = v1::key_selector::Select::Prefix(prefix.as_bytes().to_vec().into());
        Some(v1::KeySelector { select: Some(select) })
    }
}

/// A call that asks for something.
pub(super) struct Ask {
    pub(super) dashboard: Arc<Dashboard>,
    pub(super) asked: Asked,
    authorization: Option<HeaderValue>,
    connection: Option<Arc<ConnectionState>>,
}

impl FromRequestParts<Probes> for Ask {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, probes: &Probes) -> Result<Self, Refusal> {
        if !probes.is_own_host(parts.headers.get(header::HOST)) {
            return Err(Refusal::new(
                StatusCode::MISDIRECTED_REQUEST,
                "HOST_UNKNOWN",
                "this node asks nobody who they are, so its dashboard is only served under an address \
                 in numbers, localhost, or the name in http_listen or http_advertise: else another \
                 site could have a name that points here, and ask in your place",
            ));
        }
        let dashboard = probes.dashboard().ok_or_else(|| {
            let why = "the node is starting; its log says what it waits for";
            Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "STARTING", why)
        })?;
        let asked = Query::try_from_uri(&parts.uri)
            .map_err(|wrong| Refusal::new(StatusCode::BAD_REQUEST, "INVALID", wrong.to_string()))?;
        Ok(Self {
            dashboard,
            asked: asked.0,
            authorization: parts.headers.get(header::AUTHORIZATION).cloned(),
            connection: parts.extensions.get::<Arc<ConnectionState>>().cloned(),
        })
    }
}

impl Ask {
    /// A request in the caller's name, as he would send it to the port of clients.
    pub(super) fn request<T>(&self, message: T) -> tonic::Request<T> {
        let mut request = within_deadline(message);
        *request.metadata_mut() = {
            let mut headers = std::mem::take(request.metadata_mut()).into_headers();
            if let Some(shown) = &self.authorization {
                headers.insert(header::AUTHORIZATION, shown.clone());
            }
            MetadataMap::from_headers(headers)
        };
        request
    }

    /// The services, judging this caller as any other.
    pub(super) fn services(&self) -> Services {
        Services { judged: self.dashboard.judged.clone(), connection: self.connection.clone() }
    }

    /// How fresh what is read has to be.
    pub(super) fn consistency(&self) -> i32 {
        let consistency = match self.asked.stale {
            true => v1::Consistency::Stale,
            false => v1::Consistency::Unspecified,
        };
        consistency.into()
    }

    pub(super) fn namespace(&self) -> String {
        self.asked.namespace.clone()
    }

    pub(super) fn shown(&self) -> Shown {
        let mut headers = HeaderMap::new();
        if let Some(shown) = &self.authorization {
            headers.insert(header::AUTHORIZATION, shown.clone());
        }
        Shown::of(&headers, self.connection.as_deref())
    }

    /// What the caller may do; none where nobody is asked.
    pub(super) async fn grant(&self) -> Result<Option<Arc<Grant>>, Refusal> {
        let shown = self.shown();
        let admitted = self.dashboard.context.admit(self.connection.as_deref(), &shown);
        Ok(admitted.await.map_err(|denied| Status::from(Refused::from(denied)))?)
    }

    /// Whether the caller may see how the node is, as `/metrics` shows it.
    pub(super) async fn may_look(&self) -> Result<Option<Arc<Grant>>, Refusal> {
        let grant = self.grant().await?;
        match &grant {
            Some(grant) if !grant.allows(&looking()) => Err(Refusal::new(
                StatusCode::FORBIDDEN,
                "FORBIDDEN",
                format!("{} may not see this; it needs a role with read for cluster", grant.name),
            )),
            _ => Ok(grant),
        }
    }
}

/// What whoever sees how a node is touches.
pub(super) fn looking() -> Touch<'static> {
    Touch {
        service: AccessService::Cluster,
        action: AccessAction::Read,
        namespace: "",
        what: What::All,
    }
}

/// Whether somebody may do what an administrator does with this name.
pub(super) fn may_administer(
    grant: Option<&Grant>,
    service: AccessService,
    namespace: &str,
    name: &str,
) -> bool {
    let what = What::Name(name.as_bytes());
    let touch = Touch { service, action: AccessAction::Admin, namespace, what };
    grant.is_none_or(|grant| grant.allows(&touch))
}

/// A request that has the time that calls of the dashboard have.
pub(super) fn within_deadline<T>(message: T) -> tonic::Request<T> {
    let mut request = tonic::Request::new(message);
    request.set_timeout(DEADLINE);
    request
}

/// The node's own services, for one caller: a call goes the way of one that came over the network.
#[derive(Clone)]
pub(super) struct Services {
    judged: Judged,
    connection: Option<Arc<ConnectionState>>,
}

impl tower::Service<Request<tonic::body::Body>> for Services {
    type Response = <Judged as tower::Service<Request<tonic::body::Body>>>::Response;
    type Error = <Judged as tower::Service<Request<tonic::body::Body>>>::Error;
    type Future = <Judged as tower::Service<Request<tonic::body::Body>>>::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        tower::Service::<Request<tonic::body::Body>>::poll_ready(&mut self.judged, cx)
    }

    fn call(&mut self, mut request: Request<tonic::body::Body>) -> Self::Future {
        if let Some(connection) = &self.connection {
            request.extensions_mut().insert(Arc::clone(connection));
        }
        self.judged.call(request)
    }
}
