//! Commands about who may do what: tokens and certificates have roles, and roles have rules. What the
//! rules allow is decided where requests come in, not here.

use crate::limits::{
    ACCESS_ACTIONS_PER_RULE_MAX, ACCESS_ROLES_PER_HOLDER_MAX, ACCESS_RULES_PER_ROLE_MAX,
};
use crate::{AccessTokenId, bounded};
use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// The role that may do everything. It is built in: it needs no row, and can't be put or deleted.
pub const ACCESS_ROLE_ADMIN: &str = "admin";

/// What a rule is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum AccessService {
    /// All of them.
    Any,
    /// Keys.
    Kv,
    /// The cache.
    Cache,
    /// Queues and schedules.
    Queue,
    /// Locks.
    Lock,
    /// Messages.
    Bus,
    /// The cluster itself.
    Cluster,
}

/// What a rule allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum AccessAction {
    /// To look.
    Read,
    /// To change.
    Write,
    /// To take jobs, or hear messages.
    Consume,
    /// To send messages, or push jobs.
    Publish,
    /// To do what those do who look after it.
    Admin,
}

/// A thing that a role may do. Rules only ever allow.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccessRule {
    /// Of which service.
    pub service: AccessService,
    /// At least one, each once.
    #[serde(deserialize_with = "bounded::list::<ACCESS_ACTIONS_PER_RULE_MAX, _, _>")]
    pub actions: Vec<AccessAction>,
    /// A glob over the names of namespaces ([`crate::glob`]); `*` is any, and empty only the default
    /// one.
    pub namespace: String,
    /// A glob over the names of what is in them: keys, queues, channels and so on.
    pub pattern: Bytes,
}

/// Makes a token. A token whose id was given out already is a conflict.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccessTokenCreate {
    /// Chosen at random.
    pub id: AccessTokenId,
    /// SHA-256 of the secret: whoever reads the state can't do anything with it.
    pub hash: Bytes,
    /// For people: 1 to 128 bytes of printable text.
    pub name: String,
    /// What it may do. Each must exist, or be [`ACCESS_ROLE_ADMIN`].
    #[serde(deserialize_with = "bounded::list::<ACCESS_ROLES_PER_HOLDER_MAX, _, _>")]
    pub roles: Vec<String>,
    /// How long it holds, from a second to ten years; none: until it is revoked. In wall time, which
    /// goes on while the cluster is down.
    pub ttl_ms: Option<u64>,
}

/// Ends a token at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccessTokenRevoke {
    /// Which.
    pub id: AccessTokenId,
}

/// Makes or replaces a role.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccessRolePut {
    /// 1 to 128 bytes of printable text.
    pub name: String,
    /// All that it may do.
    #[serde(deserialize_with = "bounded::list::<ACCESS_RULES_PER_ROLE_MAX, _, _>")]
    pub rules: Vec<AccessRule>,
}

/// Deletes a role; refused while a token or a subject has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccessRoleDelete {
    /// Which.
    pub name: String,
}

/// Says which roles a client has that is known by its certificate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccessSubjectPut {
    /// The name in the certificate, 1 to 128 bytes of printable text.
    pub subject: String,
    /// All that it has from now on. Each must exist, or be [`ACCESS_ROLE_ADMIN`].
    #[serde(deserialize_with = "bounded::list::<ACCESS_ROLES_PER_HOLDER_MAX, _, _>")]
    pub roles: Vec<String>,
}

/// Takes all roles from a client that is known by its certificate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccessSubjectDelete {
    /// The name in the certificate.
    pub subject: String,
}
