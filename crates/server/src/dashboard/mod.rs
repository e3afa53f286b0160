//! The dashboard: pages that are part of the binary, and the API that they ask. `assets/ui/API.md` is the
//! contract between the two.
//!
//! The API is a client of its own node. What a caller asks goes through the same services, in the caller's
//! name and judged by the same rules, as if it came to the port of clients; nothing here reads or changes
//! the state by a way of its own. What it adds is what only this process knows: the last five minutes
//! ([`series`]), and an answer of all nodes that those who look share ([`overview`]).
//!
//! No other site reads or sends anything here: answers say so to browsers, and whatever changes something
//! has to carry a header that only a page of this node can send ([`press`]).

mod answer;
mod ask;
mod bus;
mod cache;
mod events;
mod files;
mod jobs;
mod keys;
mod locks;
mod overview;
mod press;
mod queues;
mod series;
mod sessions;
mod whoami;

use crate::access::now_unix_ms;
use crate::grpc::{Context, Judged};
use crate::http::Probes;
use answer::Refusal;
use axum::Router;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use std::sync::Arc;
use tokio::sync::Semaphore;
use tonic::service::Routes;

/// What every answer tells a browser: what a page may load, and that no other site has any part in it.
const HEADERS: [(&str, &str); 5] = [
    (
        "content-security-policy",
        "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
         object-src 'none'",
    ),
    ("x-content-type-options", "nosniff"),
    ("referrer-policy", "no-referrer"),
    ("cross-origin-opener-policy", "same-origin"),
    ("cross-origin-resource-policy", "same-origin"),
];

/// What the dashboard knows of its node.
pub(crate) struct Dashboard {
    context: Context,
    /// The services, judging who calls.
    judged: Judged,
    /// The services for calls of the node's own.
    routes: Routes,
    series: series::Series,
    overview: overview::Shared,
    /// Turns to follow what moves.
    streams: Arc<Semaphore>,
    started_unix_ms: u64,
}

impl Dashboard {
    /// Of a node with these services; it looks at what is counted from now on.
    pub(crate) fn start(context: Context, routes: Routes) -> Arc<Self> {
        let dashboard = Arc::new(Self {
            judged: Judged::new(&context, routes.clone()),
            context,
            routes,
            series: series::Series::default(),
            overview: overview::Shared::default(),
            streams: Arc::new(Semaphore::new(events::STREAMS_MAX)),
            started_unix_ms: now_unix_ms(),
        });
        let sampled = Arc::clone(&dashboard);
        tokio::spawn(async move {
            let Self { context, series, .. } = &*sampled;
            series.sample(context.replica(), context.counters(), context.stop()).await;
        });
        dashboard
    }
}

/// What is served of it.
pub(crate) fn router() -> Router<Probes> {
    let api = Router::new()
        .route("/whoami", get(whoami::get))
        .route("/overview", get(overview::get))
        .route("/series", get(series::get))
        .route("/events", get(events::get))
        .route("/queues", get(queues::list))
        .route("/queues/{name}", get(queues::get))
        .route("/queues/{name}/jobs", get(jobs::list))
        .route("/queues/{name}/pause", post(queues::pause))
        .route("/queues/{name}/resume", post(queues::resume))
        .route("/queues/{name}/purge", post(queues::purge))
        .route("/queues/{name}/redrive", post(queues::redrive))
        .route("/locks", get(locks::list))
        .route("/locks/{name}", get(locks::get))
        .route("/locks/{name}/force-release", post(locks::force_release))
        .route("/cache", get(cache::get))
        .route("/bus", get(bus::list))
        .route("/keys", get(keys::list))
        .route("/keys/{key}", get(keys::get))
        .route("/sessions", get(sessions::list))
        .fallback(async || {
            Refusal::new(StatusCode::NOT_FOUND, "NOT_FOUND", "there is no such call")
        })
        .method_not_allowed_fallback(async || {
            let why = "the call is made by another method";
            Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "METHOD_NOT_ALLOWED", why)
        })
        .layer(axum::middleware::map_response(never_kept));
    Router::new()
        .route("/", get(async || (StatusCode::FOUND, [(header::LOCATION, "ui/")])))
        .route("/ui", get(async || Redirect::permanent("ui/")))
        .route("/ui/", get(files::index))
        .route("/ui/{name}", get(files::get))
        .nest("/api/v1", api)
        .layer(axum::middleware::map_response(guarded))
}

async fn never_kept(mut response: Response) -> Response {
    let never = HeaderValue::from_static("no-store");
    response.headers_mut().insert(header::CACHE_CONTROL, never);
    response
}

async fn guarded(response: Response) -> Response {
    (HEADERS, response).into_response()
}
