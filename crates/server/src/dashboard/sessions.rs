//! Sessions: who holds what for as long as it lives.

use super::answer::{Answer, Told};
use super::ask::Ask;
use quorate_proto::v1;
use quorate_proto::v1::session_service_client::SessionServiceClient;
use quorate_state::{LeaseId, SessionId};
use serde_json::{Value, json};

/// Sessions of a page: by default, and at most.
const PAGE: (u32, u32) = (100, 500);

pub(super) async fn list(ask: Ask) -> Answer {
    let request = ask.request(v1::ListSessionsRequest {
        namespace: ask.namespace(),
        after_session_id: ask.asked.after.unwrap_or_default(),
        limit: ask.asked.limit(PAGE.0, PAGE.1),
        consistency: ask.consistency(),
    });
    let page = SessionServiceClient::new(ask.services()).list_sessions(request).await?.into_inner();
    let replica = ask.dashboard.context.replica();
    let told = |session: &v1::SessionEntry| {
        json!({
            "session_id": session.session_id.to_string(),
            "ttl_ms": session.ttl_ms,
            "remaining_ms": replica.lease_remaining_ms(LeaseId::Session(SessionId(session.session_id))),
            "locks": session.locks,
            "keys": session.keys,
        })
    };
    let sessions: Vec<Value> = page.sessions.iter().map(told).collect();
    let revision = page.revision.to_string();
    Ok(Told(json!({"sessions": sessions, "more": page.more, "revision": revision})))
}
