//! Who may do what: who a caller is, what his roles allow, and what a request touches.
//!
//! ```text
//!  layer ──► Access::admit(header, certificate) ──► Grant        who it is, and all that he may do
//!    │                                               │
//!    └─► the codec decodes the request ──► touches ──┴─► allowed, or PERMISSION_DENIED
//! ```
//!
//! Tokens, roles and subjects are replicated ([`quorate_state::query::access_token`]), so each node judges
//! by its own tables, by what it has applied so far. Whatever changes them moves the generation on, and
//! what was found out before is found out again: for the next request of a connection, and for each stream
//! that is open ([`guard`]).

mod admin_token;
pub(crate) mod audit;
mod grant;
pub(crate) mod guard;
mod shown;
pub(crate) mod touches;

pub(crate) use admin_token::AdminTokenFile;
pub(crate) use grant::Grant;
pub(crate) use shown::{Shown, new_token, parse_token, parse_token_id};

use crate::grpc::Refused;
use quorate_consensus::{Applied, Replica};
use quorate_state::query::AccessRole;
use quorate_state::{ACCESS_ROLE_ADMIN, Event, Fatal, query};
use quorate_tls::Reloading;
use sha2::{Digest as _, Sha256};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{broadcast, watch};
use tokio_util::sync::CancellationToken;

/// How often it is looked whether the file with the admin's token has changed.
const FILE_EVERY: Duration = Duration::from_millis(500);

/// Why somebody is not let in, or not let do something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Denied {
    /// It is not known who it is.
    Unknown(String),
    /// It is, and he may not do this.
    Forbidden(String),
    /// This node can't tell.
    Unable(String),
}

impl From<Denied> for Refused {
    fn from(denied: Denied) -> Self {
        Self::Denied(denied)
    }
}

impl From<Fatal> for Denied {
    fn from(fatal: Fatal) -> Self {
        Self::Unable(format!("this node can't read who may do what: {fatal}"))
    }
}

/// Judges callers, on a node that asks who they are.
#[derive(Clone)]
pub(crate) struct Access(Arc<Inner>);

struct Inner {
    replica: Replica,
    /// The token that may do everything, whatever the tables say: the first one is needed to make others.
    admin_token: Option<Arc<Reloading<AdminTokenFile>>>,
    /// Moved on by whatever changes who may do what.
    generation: watch::Sender<u64>,
}

impl Access {
    pub(crate) fn new(
        replica: Replica,
        admin_token: Option<Arc<Reloading<AdminTokenFile>>>,
    ) -> Self {
        Self(Arc::new(Inner { replica, admin_token, generation: watch::Sender::new(0) }))
    }

    /// Follows what changes who may do what, until the node stops.
    pub(crate) async fn follow(
        self,
        mut applied: broadcast::Receiver<Applied>,
        stop: CancellationToken,
    ) {
        let mut file = self.0.admin_token.as_ref().map(|file| file.current());
        let mut looks = tokio::time::interval(FILE_EVERY);
        loop {
            let changed = tokio::select! {
                () = stop.cancelled() => return,
                _ = looks.tick(), if file.is_some() => {
                    let now = self.0.admin_token.as_ref().map(|file| file.current());
                    let same = match (&file, &now) {
                        (Some(before), Some(now)) => Arc::ptr_eq(before, now),
                        _ => true,
                    };
                    file = now;
                    !same
                }
                heard = applied.recv() => match heard {
                    Ok(Applied::Events(events)) => {
                        events.iter().any(|event| matches!(event, Event::AccessChanged))
                    }
                    Ok(Applied::Resync) | Err(RecvError::Lagged(_)) => true,
                    Err(RecvError::Closed) => return,
                },
            };
            if changed {
                self.0.generation.send_modify(|generation| *generation += 1);
            }
        }
    }

    /// Changes whenever who may do what does.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.0.generation.subscribe()
    }

    /// Who shows this, and what he may do.
    pub(crate) fn admit(&self, shown: &Shown) -> Result<Arc<Grant>, Denied> {
        // Before the tables are looked at: what changes meanwhile makes this a grant of the past.
        let generation = *self.0.generation.borrow();
        let grant = match shown {
            Shown::Nothing => {
                return Err(Denied::Unknown(
                    "this node serves only those that it knows: show a token (authorization: Bearer …) \
                     or a certificate that it trusts"
                        .to_owned(),
                ));
            }
            Shown::Malformed => {
                return Err(Denied::Unknown(
                    "the authorization is no token of this cluster; it reads Bearer, a space, and the \
                     token as quorate auth token create printed it"
                        .to_owned(),
                ));
            }
            Shown::Token(token) => self.of_token(token, generation)?,
            Shown::Certificate(subject) => self.of_certificate(subject, generation)?,
        };
        Ok(Arc::new(grant))
    }

    /// Whether what was found out is what would be found out now.
    pub(crate) fn holds(&self, grant: &Grant) -> bool {
        grant.generation == *self.0.generation.borrow()
            && grant.expires_unix_ms.is_none_or(|end| now_unix_ms() < end)
            && match (&grant.file, &self.0.admin_token) {
                (Some(of), Some(file)) => Arc::ptr_eq(of, &file.current()),
                _ => true,
            }
    }

    fn of_token(&self, token: &str, generation: u64) -> Result<Grant, Denied> {
        if let Some(file) = &self.0.admin_token {
            let current = file.current();
            if current.is(token) {
                let mut grant =
                    Grant::everything("admin token of this node".to_owned(), generation);
                grant.file = Some(current);
                return Ok(grant);
            }
        }
        let unknown = || {
            Denied::Unknown(
                "the token is not known here: it was revoked, its time is over, or it is of another \
                 cluster"
                    .to_owned(),
            )
        };
        let (id, secret) = parse_token(token).ok_or_else(unknown)?;
        let view = self.0.replica.stale();
        let group = self.0.replica.group();
        let found = query::access_token(&*view.tables, group, id)?.ok_or_else(unknown)?;
        let hash = Sha256::digest(secret.as_bytes());
        if !same(&hash, &found.hash) {
            return Err(unknown());
        }
        // The cluster ends it by its own clock; a node that is cut off goes by the one it has.
        if found.expires_wall_ms.is_some_and(|end| end <= now_unix_ms()) {
            return Err(unknown());
        }
        let name = format!("token {} ({id})", found.name);
        let mut grant = self.with_roles(name, &found.roles, generation)?;
        grant.expires_unix_ms = found.expires_wall_ms;
        Ok(grant)
    }

    fn of_certificate(&self, subject: &str, generation: u64) -> Result<Grant, Denied> {
        let view = self.0.replica.stale();
        let found = query::access_subject(&*view.tables, self.0.replica.group(), subject)?;
        let roles = found.map(|found| found.roles).unwrap_or_default();
        self.with_roles(format!("certificate {subject}"), &roles, generation)
    }

    fn with_roles(&self, name: String, roles: &[String], generation: u64) -> Result<Grant, Denied> {
        if roles.iter().any(|role| role == ACCESS_ROLE_ADMIN) {
            let mut grant = Grant::everything(name, generation);
            grant.roles = roles.to_vec();
            return Ok(grant);
        }
        let view = self.0.replica.stale();
        let mut rules = Vec::new();
        for role in roles {
            // One that is gone meanwhile allows nothing.
            let found = query::access_role(&*view.tables, self.0.replica.group(), role)?;
            rules.extend(found.map(|AccessRole { rules, .. }| rules).unwrap_or_default());
        }
        Grant::of_rules(name, roles.to_vec(), &rules, generation)
            .map_err(|why| Denied::Unable(format!("a rule can't be read: {why}")))
    }
}

/// Compares without telling by its time where the first difference is.
fn same(one: &[u8], other: &[u8]) -> bool {
    one.len() == other.len() && one.iter().zip(other).fold(0, |sum, (a, b)| sum | (a ^ b)) == 0
}

/// What this machine's clock says.
pub(crate) fn now_unix_ms() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_millis()).unwrap_or(u64::MAX)
}
