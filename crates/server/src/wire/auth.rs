//! Between protobuf and the domain: tokens, roles and subjects.

use super::{Invalid, invalid, unexpected};
use crate::access::parse_token_id;
use crate::grpc::Refused;
use bytes::Bytes;
use quorate_proto::v1;
use quorate_state::query::{AccessRole, AccessSubject, AccessToken};
use quorate_state::{
    AccessAction, AccessRoleDelete, AccessRolePut, AccessRule, AccessService, AccessSubjectDelete,
    AccessSubjectPut, AccessTokenCreate, AccessTokenId, AccessTokenRevoke, Command, Outcome,
    Rejection,
};

/// What would be rejected must not come into the log: lists beyond their bounds do not decode.
fn checked(check: Result<(), Rejection>) -> Result<(), Refused> {
    check.map_err(Refused::Rejected)
}

pub(crate) fn create_token(
    request: v1::CreateTokenRequest,
    id: AccessTokenId,
    hash: Bytes,
) -> Result<Command, Refused> {
    let v1::CreateTokenRequest { name, roles, ttl_ms } = request;
    let create = AccessTokenCreate { id, hash, name, roles, ttl_ms };
    checked(create.check())?;
    Ok(Command::AccessTokenCreate(create))
}

/// The id of a token.
fn token_id(text: &str) -> Result<AccessTokenId, Invalid> {
    parse_token_id(text).ok_or_else(|| {
        invalid("TOKEN_ID", "a token's id has 16 hexadecimal digits; see quorate auth token list")
    })
}

pub(crate) fn revoke_token(request: &v1::RevokeTokenRequest) -> Result<Command, Refused> {
    let id = token_id(&request.token_id)?;
    Ok(Command::AccessTokenRevoke(AccessTokenRevoke { id }))
}

pub(crate) fn put_role(request: v1::PutRoleRequest) -> Result<Command, Refused> {
    let missing =
        || invalid("ROLE_MISSING", "the request has no role; give its name and its rules");
    let v1::AuthRole { name, rules } = request.role.ok_or_else(missing)?;
    let rules: Result<_, Invalid> = rules.into_iter().map(rule).collect();
    let put = AccessRolePut { name, rules: rules? };
    checked(put.check())?;
    Ok(Command::AccessRolePut(put))
}

pub(crate) fn delete_role(request: v1::DeleteRoleRequest) -> Command {
    Command::AccessRoleDelete(AccessRoleDelete { name: request.name })
}

pub(crate) fn put_subject(request: v1::PutSubjectRequest) -> Result<Command, Refused> {
    let missing =
        || invalid("SUBJECT_MISSING", "the request has no subject; give its name and its roles");
    let v1::AuthSubject { subject, roles } = request.subject.ok_or_else(missing)?;
    let put = AccessSubjectPut { subject, roles };
    checked(put.check())?;
    Ok(Command::AccessSubjectPut(put))
}

pub(crate) fn delete_subject(request: v1::DeleteSubjectRequest) -> Command {
    Command::AccessSubjectDelete(AccessSubjectDelete { subject: request.subject })
}

fn rule(rule: v1::AuthRule) -> Result<AccessRule, Invalid> {
    let wrong = |what| invalid("RULE_INVALID", format!("a rule has {what}"));
    let service = match rule.scope() {
        v1::AuthScope::Unspecified => return Err(wrong("no scope that this version knows")),
        v1::AuthScope::Any => AccessService::Any,
        v1::AuthScope::Kv => AccessService::Kv,
        v1::AuthScope::Cache => AccessService::Cache,
        v1::AuthScope::Queue => AccessService::Queue,
        v1::AuthScope::Lock => AccessService::Lock,
        v1::AuthScope::Bus => AccessService::Bus,
        v1::AuthScope::Cluster => AccessService::Cluster,
    };
    let actions: Result<_, _> = rule
        .actions
        .iter()
        .map(|action| match v1::AuthAction::try_from(*action) {
            Ok(v1::AuthAction::Read) => Ok(AccessAction::Read),
            Ok(v1::AuthAction::Write) => Ok(AccessAction::Write),
            Ok(v1::AuthAction::Consume) => Ok(AccessAction::Consume),
            Ok(v1::AuthAction::Publish) => Ok(AccessAction::Publish),
            Ok(v1::AuthAction::Admin) => Ok(AccessAction::Admin),
            Ok(v1::AuthAction::Unspecified) | Err(_) => {
                Err(wrong("an action that this version does not know"))
            }
        })
        .collect();
    let v1::AuthRule { namespace, pattern, .. } = rule;
    Ok(AccessRule { service, actions: actions?, namespace, pattern })
}

pub(crate) fn token(token: AccessToken) -> v1::AuthToken {
    v1::AuthToken {
        token_id: token.id.to_string(),
        name: token.name,
        roles: token.roles,
        created_unix_ms: token.created_wall_ms,
        expires_unix_ms: token.expires_wall_ms,
    }
}

pub(crate) fn role(role: AccessRole) -> v1::AuthRole {
    let rules = role.rules.into_iter().map(|rule| {
        let scope = match rule.service {
            AccessService::Any => v1::AuthScope::Any,
            AccessService::Kv => v1::AuthScope::Kv,
            AccessService::Cache => v1::AuthScope::Cache,
            AccessService::Queue => v1::AuthScope::Queue,
            AccessService::Lock => v1::AuthScope::Lock,
            AccessService::Bus => v1::AuthScope::Bus,
            AccessService::Cluster => v1::AuthScope::Cluster,
        };
        let action = |action: &AccessAction| match action {
            AccessAction::Read => v1::AuthAction::Read.into(),
            AccessAction::Write => v1::AuthAction::Write.into(),
            AccessAction::Consume => v1::AuthAction::Consume.into(),
            AccessAction::Publish => v1::AuthAction::Publish.into(),
            AccessAction::Admin => v1::AuthAction::Admin.into(),
        };
        let actions = rule.actions.iter().map(action).collect();
        let (namespace, pattern) = (rule.namespace, rule.pattern);
        v1::AuthRule { scope: scope.into(), actions, namespace, pattern }
    });
    v1::AuthRole { name: role.name, rules: rules.collect() }
}

pub(crate) fn subject(subject: AccessSubject) -> v1::AuthSubject {
    v1::AuthSubject { subject: subject.subject, roles: subject.roles }
}

/// That something was done.
pub(crate) fn done(outcome: Outcome) -> Result<(), Refused> {
    match outcome {
        Outcome::Done => Ok(()),
        other => Err(unexpected(other)),
    }
}

/// Whether there was what was to go.
pub(crate) fn gone(outcome: Outcome) -> Result<bool, Refused> {
    match outcome {
        Outcome::AccessDelete { deleted, .. } => Ok(deleted),
        other => Err(unexpected(other)),
    }
}
