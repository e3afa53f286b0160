//! The auth handle: tokens, roles, and the names in clients' certificates.

use crate::Error;
use crate::call::{Effect, Plan};
use crate::client::{CallOptions, Inner};
use bytes::Bytes;
use quorate_proto::v1;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// Who may do what in the cluster. For those who look after it, but for [`Auth::who_am_i`]. Cheap to
/// clone.
///
/// What is changed holds on each node from the moment that it applies the change.
#[derive(Clone)]
pub struct Auth {
    inner: Arc<Inner>,
    options: CallOptions,
}

impl fmt::Debug for Auth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Auth").finish_non_exhaustive()
    }
}

/// What a rule is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Scope {
    /// Something that this client has no name for.
    Unknown,
    /// All of the others.
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

/// What a rule allows; which call needs what is in `docs/security.md`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Action {
    /// Something that this client has no name for.
    Unknown,
    /// To look.
    Read,
    /// To change.
    Write,
    /// To take jobs, or hear messages.
    Consume,
    /// To push jobs, or send messages.
    Publish,
    /// To do what those do who look after it.
    Admin,
}

/// A thing that a role may do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Of which service.
    pub scope: Scope,
    /// What, at least one.
    pub actions: Vec<Action>,
    /// A glob over namespaces: `*` is any, and empty only the default one.
    pub namespace: String,
    /// A glob over the names in them.
    pub pattern: Bytes,
}

/// A role: all that whoever has it may do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Role {
    /// Its name.
    pub name: String,
    /// At most 64.
    pub rules: Vec<Rule>,
}

/// A token that was just made.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct NewToken {
    /// What to show: [`crate::Options::token`]. The cluster does not know it.
    pub token: String,
    /// What to revoke it by.
    pub token_id: String,
}

impl fmt::Debug for NewToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NewToken").field("token_id", &self.token_id).finish_non_exhaustive()
    }
}

/// A token, without its secret.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TokenInfo {
    /// What to revoke it by.
    pub token_id: String,
    /// For people.
    pub name: String,
    /// Its roles.
    pub roles: Vec<String>,
    /// When it was made, Unix time in milliseconds.
    pub created_unix_ms: u64,
    /// When it ends by itself.
    pub expires_unix_ms: Option<u64>,
}

/// A name in clients' certificates, and its roles.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Subject {
    /// The common name.
    pub subject: String,
    /// Its roles.
    pub roles: Vec<String>,
}

/// Whom a node takes this client for.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Identity {
    /// Whether the node asks at all; if not, the rest is empty.
    pub auth_enabled: bool,
    /// The name of what was shown.
    pub name: String,
    /// Its roles.
    pub roles: Vec<String>,
    /// When what was shown ends by itself, Unix time in milliseconds.
    pub expires_unix_ms: Option<u64>,
}

impl Auth {
    pub(crate) fn new(inner: Arc<Inner>) -> Self {
        Self { inner, options: CallOptions::default() }
    }

    /// Makes a token with these roles, for so long, 1 s to 10 years of wall time, or until it is revoked.
    ///
    /// # Errors
    /// [`Error::NotFound`] when there is no such role. [`Error::Indeterminate`] when it is not known
    /// whether it was made: then nobody knows its secret; revoke it, found by its name, and make another.
    pub async fn create_token(
        &self,
        name: impl Into<String>,
        roles: impl IntoIterator<Item = String>,
        ttl: Option<Duration>,
    ) -> Result<NewToken, Error> {
        let (name, roles) = (name.into(), roles.into_iter().collect::<Vec<_>>());
        let ttl_ms = ttl.map(|ttl| u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX).max(1));
        let request =
            || v1::CreateTokenRequest { name: name.clone(), roles: roles.clone(), ttl_ms };
        let plan = self.plan("auth create-token", Effect::EachTime);
        let v1::CreateTokenResponse { token, token_id } =
            self.inner.engine.call(&plan, request).await?;
        Ok(NewToken { token, token_id })
    }

    /// Ends a token; answers whether there was one.
    ///
    /// # Errors
    /// [`Error::Indeterminate`] when it is not known whether it has ended.
    pub async fn revoke_token(&self, token_id: impl Into<String>) -> Result<bool, Error> {
        let token_id = token_id.into();
        let request = || v1::RevokeTokenRequest { token_id: token_id.clone() };
        Ok(self.inner.engine.call(&self.change("auth revoke-token"), request).await?.revoked)
    }

    /// The tokens that hold, by id.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when no node can tell.
    pub async fn tokens(&self) -> Result<Vec<TokenInfo>, Error> {
        let plan = self.plan("auth list-tokens", Effect::Read);
        let answer = self.inner.read(&plan, || v1::ListTokensRequest {}).await?;
        let token = |token: v1::AuthToken| TokenInfo {
            token_id: token.token_id,
            name: token.name,
            roles: token.roles,
            created_unix_ms: token.created_unix_ms,
            expires_unix_ms: token.expires_unix_ms,
        };
        Ok(answer.tokens.into_iter().map(token).collect())
    }

    /// Makes or replaces a role.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] when a rule can't be.
    pub async fn put_role(&self, role: Role) -> Result<(), Error> {
        let request = || v1::PutRoleRequest { role: Some(role.clone().into()) };
        let v1::PutRoleResponse {} =
            self.inner.engine.call(&self.change("auth put-role"), request).await?;
        Ok(())
    }

    /// Deletes a role; answers whether there was one.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] while somebody has it.
    pub async fn delete_role(&self, name: impl Into<String>) -> Result<bool, Error> {
        let name = name.into();
        let request = || v1::DeleteRoleRequest { name: name.clone() };
        Ok(self.inner.engine.call(&self.change("auth delete-role"), request).await?.deleted)
    }

    /// The roles, by name, without `admin`, which may do everything.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when no node can tell.
    pub async fn roles(&self) -> Result<Vec<Role>, Error> {
        let plan = self.plan("auth list-roles", Effect::Read);
        let answer = self.inner.read(&plan, || v1::ListRolesRequest {}).await?;
        Ok(answer.roles.into_iter().map(Role::from).collect())
    }

    /// Says which roles a client has whose certificate has this common name, in place of those that were
    /// said before.
    ///
    /// # Errors
    /// [`Error::NotFound`] when there is no such role.
    pub async fn put_subject(
        &self,
        subject: impl Into<String>,
        roles: impl IntoIterator<Item = String>,
    ) -> Result<(), Error> {
        let (subject, roles) = (subject.into(), roles.into_iter().collect::<Vec<_>>());
        let request = || {
            let subject = v1::AuthSubject { subject: subject.clone(), roles: roles.clone() };
            v1::PutSubjectRequest { subject: Some(subject) }
        };
        let v1::PutSubjectResponse {} =
            self.inner.engine.call(&self.change("auth put-subject"), request).await?;
        Ok(())
    }

    /// Takes a name's roles away; answers whether it had any.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when no node can.
    pub async fn delete_subject(&self, subject: impl Into<String>) -> Result<bool, Error> {
        let subject = subject.into();
        let request = || v1::DeleteSubjectRequest { subject: subject.clone() };
        Ok(self.inner.engine.call(&self.change("auth delete-subject"), request).await?.deleted)
    }

    /// The names with roles, by name.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when no node can tell.
    pub async fn subjects(&self) -> Result<Vec<Subject>, Error> {
        let plan = self.plan("auth list-subjects", Effect::Read);
        let answer = self.inner.read(&plan, || v1::ListSubjectsRequest {}).await?;
        let subject = |of: v1::AuthSubject| Subject { subject: of.subject, roles: of.roles };
        Ok(answer.subjects.into_iter().map(subject).collect())
    }

    /// Whom the node that answers takes this client for.
    ///
    /// # Errors
    /// [`Error::Denied`] when it knows nothing of what was shown.
    pub async fn who_am_i(&self) -> Result<Identity, Error> {
        let plan = self.plan("auth who-am-i", Effect::Read);
        let v1::WhoAmIResponse { auth_enabled, name, roles, expires_unix_ms } =
            self.inner.read(&plan, || v1::WhoAmIRequest {}).await?;
        Ok(Identity { auth_enabled, name, roles, expires_unix_ms })
    }

    fn plan(&self, what: &'static str, effect: Effect) -> Plan {
        self.inner.plan(what, effect, &self.options)
    }

    /// Of a change that is the same when it is made again.
    fn change(&self, what: &'static str) -> Plan {
        self.plan(what, Effect::Once)
    }
}

impl From<Role> for v1::AuthRole {
    fn from(role: Role) -> Self {
        let rules = role.rules.into_iter().map(|rule| {
            let scope = match rule.scope {
                Scope::Unknown => v1::AuthScope::Unspecified,
                Scope::Any => v1::AuthScope::Any,
                Scope::Kv => v1::AuthScope::Kv,
                Scope::Cache => v1::AuthScope::Cache,
                Scope::Queue => v1::AuthScope::Queue,
                Scope::Lock => v1::AuthScope::Lock,
                Scope::Bus => v1::AuthScope::Bus,
                Scope::Cluster => v1::AuthScope::Cluster,
            };
            let action = |action: &Action| match action {
                Action::Unknown => v1::AuthAction::Unspecified.into(),
                Action::Read => v1::AuthAction::Read.into(),
                Action::Write => v1::AuthAction::Write.into(),
                Action::Consume => v1::AuthAction::Consume.into(),
                Action::Publish => v1::AuthAction::Publish.into(),
                Action::Admin => v1::AuthAction::Admin.into(),
            };
            let actions = rule.actions.iter().map(action).collect();
            let (namespace, pattern) = (rule.namespace, rule.pattern);
            v1::AuthRule { scope: scope.into(), actions, namespace, pattern }
        });
        Self { name: role.name, rules: rules.collect() }
    }
}

impl From<v1::AuthRole> for Role {
    fn from(role: v1::AuthRole) -> Self {
        let rules = role.rules.into_iter().map(|rule| {
            let scope = match rule.scope() {
                v1::AuthScope::Unspecified => Scope::Unknown,
                v1::AuthScope::Any => Scope::Any,
                v1::AuthScope::Kv => Scope::Kv,
                v1::AuthScope::Cache => Scope::Cache,
                v1::AuthScope::Queue => Scope::Queue,
                v1::AuthScope::Lock => Scope::Lock,
                v1::AuthScope::Bus => Scope::Bus,
                v1::AuthScope::Cluster => Scope::Cluster,
            };
            let actions = rule.actions().map(|action| match action {
                v1::AuthAction::Unspecified => Action::Unknown,
                v1::AuthAction::Read => Action::Read,
                v1::AuthAction::Write => Action::Write,
                v1::AuthAction::Consume => Action::Consume,
                v1::AuthAction::Publish => Action::Publish,
                v1::AuthAction::Admin => Action::Admin,
            });
            let actions = actions.collect();
            Rule { scope, actions, namespace: rule.namespace, pattern: rule.pattern }
        });
        Self { name: role.name, rules: rules.collect() }
    }
}
