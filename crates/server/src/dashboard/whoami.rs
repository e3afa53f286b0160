//! Who the caller is, and what he may do: which buttons and pages there are.

use super::answer::{Answer, Told};
use super::ask::Ask;
use crate::access::Grant;
use crate::access::touches::{Touch, What};
use quorate_state::{AccessAction as Action, AccessService as Service};
use serde_json::{Value, json};

pub(super) async fn get(ask: Ask) -> Answer {
    let grant = ask.grant().await?;
    let namespace = ask.namespace();
    let may = |service, action| may(grant.as_deref(), service, action, &namespace);
    let reads = |service| may(service, Action::Read);
    let admins = |service| may(service, Action::Admin);
    let roles: Value = grant.as_ref().map_or_else(|| json!([]), |grant| json!(grant.roles));
    Ok(Told(json!({
        "auth_enabled": grant.is_some(),
        "name": grant.as_ref().map_or("", |grant| grant.name.as_str()),
        "roles": roles,
        "expires_unix_ms": grant.as_ref().and_then(|grant| grant.expires_unix_ms),
        "may": {
            "kv": {"read": reads(Service::Kv)},
            "cache": {"read": reads(Service::Cache)},
            "queue": {"read": reads(Service::Queue), "admin": admins(Service::Queue)},
            "lock": {"read": reads(Service::Lock), "admin": admins(Service::Lock)},
            "bus": {"read": reads(Service::Bus)},
            "cluster": {"read": reads(Service::Cluster), "admin": admins(Service::Cluster)},
            "admin": grant.as_ref().is_none_or(|grant| grant.is_everything()),
        },
    })))
}

/// Whether somebody may do this with all names there are in a namespace; the cluster is in none.
fn may(grant: Option<&Grant>, service: Service, action: Action, namespace: &str) -> bool {
    let namespace = if service == Service::Cluster { "" } else { namespace };
    let touch = Touch { service, action, namespace, what: What::All };
    grant.is_none_or(|grant| grant.allows(&touch))
}
