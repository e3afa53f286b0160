//! Locks, who holds them, and taking them away from who was seen to.

use super::answer::{Answer, Refusal, Told, some_text};
use super::ask::{Ask, may_administer, within_deadline};
use super::press::Press;
use crate::access::audit;
use crate::access::touches::{Touch, What};
use crate::access::{Denied, Grant};
use crate::grpc::Refused;
use axum::extract::Path;
use axum::http::StatusCode;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use quorate_proto::v1;
use quorate_proto::v1::lock_service_client::LockServiceClient;
use quorate_state::{AccessAction, AccessService, FencingToken, LeaseId};
use serde_json::{Value, json};
use tonic::Status;

/// Locks of a page: by default, and at most.
const PAGE: (u32, u32) = (100, 200);
/// Holders that can be released at once.
const RELEASED_MAX: usize = 1_000;
/// Of them, those that are under way at once.
const AT_ONCE: usize = 32;
/// How the audit log calls it.
const METHOD: &str = "quorate.v1.LockService/ForceRelease";

pub(super) async fn list(ask: Ask) -> Answer {
    let request = ask.request(v1::LockListRequest {
        namespace: ask.namespace(),
        selector: ask.asked.by_prefix(),
        cursor: ask.asked.cursor.clone().unwrap_or_default(),
        limit: ask.asked.limit(PAGE.0, PAGE.1),
        consistency: ask.consistency(),
        min_revision: 0,
    });
    let page = LockServiceClient::new(ask.services()).list(request).await?.into_inner();
    let grant = ask.grant().await?;
    let locks: Vec<Value> =
        page.locks.iter().map(|lock| told(lock, grant.as_deref(), &ask)).collect();
    let cursor = some_text(page.cursor);
    Ok(Told(json!({"locks": locks, "cursor": cursor, "revision": page.revision.to_string()})))
}

pub(super) async fn get(ask: Ask, Path(name): Path<String>) -> Answer {
    let request = ask.request(v1::LockInspectRequest {
        namespace: ask.namespace(),
        name: name.clone(),
        consistency: ask.consistency(),
        min_revision: 0,
    });
    let found = LockServiceClient::new(ask.services()).inspect(request).await?.into_inner();
    let grant = ask.grant().await?;
    let lock = found.lock.unwrap_or_else(|| v1::LockEntry { name, ..v1::LockEntry::default() });
    let lock = told(&lock, grant.as_deref(), &ask);
    Ok(Told(json!({"lock": lock, "revision": found.revision.to_string()})))
}

fn told(lock: &v1::LockEntry, grant: Option<&Grant>, ask: &Ask) -> Value {
    let may_admin = may_administer(grant, AccessService::Lock, &ask.asked.namespace, &lock.name);
    let holders: Vec<Value> = lock
        .holders
        .iter()
        .map(|holder| {
            let mode = match holder.mode() {
                v1::LockMode::Shared => "shared",
                v1::LockMode::Permit => "permit",
                v1::LockMode::Exclusive | v1::LockMode::Unspecified => "exclusive",
            };
            let lease = LeaseId::Lock(FencingToken(holder.fencing_token));
            let left = ask.dashboard.context.replica().lease_remaining_ms(lease);
            json!({
                "fencing_token": holder.fencing_token,
                "session_id": holder.session_id.to_string(),
                "mode": mode,
                "permits": holder.permits,
                "ttl_ms": holder.ttl_ms,
                "remaining_ms": left,
                "held_ms": holder.held_ms,
                "revision": holder.revision.to_string(),
            })
        })
        .collect();
    json!({"name": lock.name, "waiters": lock.waiters, "may_admin": may_admin, "holders": holders})
}

/// Which holders lose it.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Seen {
    fencing_tokens: Vec<u64>,
}

/// Releases the lock in the name of those who were seen to hold it, so that whoever got it since keeps it.
pub(super) async fn force_release(press: Press) -> Answer {
    let Seen { fencing_tokens } = press.body()?;
    if fencing_tokens.is_empty() || fencing_tokens.len() > RELEASED_MAX {
        let why = format!("fencing_tokens has to have 1 to {RELEASED_MAX} of them");
        return Err(Refusal::not_applied(StatusCode::BAD_REQUEST, "INVALID", why));
    }
    let grant = press.ask.grant().await?;
    let touch = Touch {
        service: AccessService::Lock,
        action: AccessAction::Admin,
        namespace: &press.ask.asked.namespace,
        what: What::Name(press.name.as_bytes()),
    };
    let words = audit::words(&touch);
    if let Some(grant) = &grant
        && !grant.allows(&touch)
    {
        let denied = Denied::Forbidden(format!("{} may not do this ({words})", grant.name));
        press.ask.dashboard.context.counters().denials.tell(&grant.name, METHOD, &denied);
        return Err(Refusal::of_change(&Status::from(Refused::from(denied))));
    }
    let released = release(&press, fencing_tokens).await;
    let who = grant.as_ref().map_or("somebody", |grant| &grant.name);
    let outcome = released.as_ref().map_or_else(Refusal::outcome, |_| "ok");
    audit::done(who, METHOD, &words, outcome);
    let (released, revision) = released?;
    Ok(Told(json!({"released": released, "revision": revision.to_string()})))
}

async fn release(press: &Press, tokens: Vec<u64>) -> Result<(u64, u64), Refusal> {
    let released = stream::iter(tokens).map(|fencing_token| {
        let request = within_deadline(v1::LockReleaseRequest {
            namespace: press.ask.namespace(),
            origin: press.origin_of_part(fencing_token),
            name: press.name.clone(),
            fencing_token,
        });
        let mut locks = LockServiceClient::new(press.ask.dashboard.routes.clone());
        async move { locks.release(request).await }
    });
    let (mut count, mut revision, mut begun) = (0, 0, false);
    let mut released = released.buffer_unordered(AT_ONCE);
    loop {
        match released.try_next().await {
            Ok(None) => return Ok((count, revision)),
            Ok(Some(one)) => {
                begun |= one.get_ref().released;
                count += u64::from(one.get_ref().released);
                revision = revision.max(one.get_ref().revision);
            }
            // Of those that were released, and of those under way, nothing is taken back.
            Err(status) if begun => {
                let mut status = status;
                let unknown = "unknown".parse().expect("a word may stand in metadata");
                status.metadata_mut().insert(quorate_proto::metadata::OUTCOME, unknown);
                return Err(Refusal::of_change(&status));
            }
            Err(status) => return Err(Refusal::of_change(&status)),
        }
    }
}
