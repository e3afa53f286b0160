//! What there is about who may do what.

use crate::keys::{self, AccessHolder, Clock, DeadlineKind};
use crate::rows::{AccessMetaRow, AccessRoleRow, AccessSubjectRow, AccessTokenRow};
use crate::{
    ACCESS_ROLE_ADMIN, AccessAction, AccessRoleDelete, AccessRolePut, AccessRule, AccessService,
    AccessSubjectDelete, AccessSubjectPut, AccessTokenCreate, AccessTokenId, AccessTokenRevoke,
    Command, GroupId, Outcome, Rejection, Revision, codec,
};

const ID: AccessTokenId = AccessTokenId(0x0123_4567_89ab_cdef);
const WALL_MS: u64 = 1_700_000_000_000;

fn roles() -> Vec<String> {
    vec!["reader".to_owned(), ACCESS_ROLE_ADMIN.to_owned()]
}

/// Every service and every action once.
fn rules() -> Vec<AccessRule> {
    let rule = |service, actions: &[AccessAction], namespace: &str, pattern: &'static str| {
        let (actions, namespace) = (actions.to_vec(), namespace.to_owned());
        AccessRule { service, actions, namespace, pattern: pattern.into() }
    };
    vec![
        rule(AccessService::Any, &[AccessAction::Read], "*", "*"),
        rule(AccessService::Kv, &[AccessAction::Read, AccessAction::Write], "", "user:*"),
        rule(AccessService::Cache, &[AccessAction::Write], "shop", "[a-c]?"),
        rule(AccessService::Queue, &[AccessAction::Consume, AccessAction::Publish], "", "mail"),
        rule(AccessService::Lock, &[AccessAction::Write], "", "*"),
        rule(AccessService::Bus, &[AccessAction::Publish, AccessAction::Consume], "", "user.*"),
        rule(AccessService::Cluster, &[AccessAction::Admin], "*", "*"),
    ]
}

pub(super) fn commands() -> Vec<Command> {
    let create = |roles, ttl_ms| {
        let (hash, name) = (vec![7; 32].into(), "ci".to_owned());
        Command::AccessTokenCreate(AccessTokenCreate { id: ID, hash, name, roles, ttl_ms })
    };
    let role =
        |name: &str, rules| Command::AccessRolePut(AccessRolePut { name: name.to_owned(), rules });
    let subject =
        |roles| Command::AccessSubjectPut(AccessSubjectPut { subject: "ann".to_owned(), roles });
    vec![
        create(roles(), None),
        create(Vec::new(), Some(3_600_000)),
        Command::AccessTokenRevoke(AccessTokenRevoke { id: ID }),
        role("reader", rules()),
        role("nothing", Vec::new()),
        Command::AccessRoleDelete(AccessRoleDelete { name: "reader".to_owned() }),
        subject(roles()),
        subject(Vec::new()),
        Command::AccessSubjectDelete(AccessSubjectDelete { subject: "ann".to_owned() }),
    ]
}

pub(super) fn name_of_command(command: &Command) -> &'static str {
    match command {
        Command::AccessTokenCreate(_) => "access_token_create",
        Command::AccessTokenRevoke(_) => "access_token_revoke",
        Command::AccessRolePut(_) => "access_role_put",
        Command::AccessRoleDelete(_) => "access_role_delete",
        Command::AccessSubjectPut(_) => "access_subject_put",
        Command::AccessSubjectDelete(_) => "access_subject_delete",
        other => panic!("{other:?} is not about who may do what"),
    }
}

pub(super) fn outcomes() -> Vec<Outcome> {
    let revision = Revision((77 << 12) | 3);
    [true, false].map(|deleted| Outcome::AccessDelete { deleted, revision }).to_vec()
}

pub(super) fn rejections() -> Vec<Rejection> {
    vec![
        Rejection::AccessRoleUnknown { role: "reader".to_owned() },
        Rejection::AccessConflict("why".to_owned()),
    ]
}

pub(super) fn rows(group: GroupId) -> Vec<(&'static str, Vec<u8>, Vec<u8>)> {
    let token = |expires_wall_ms| AccessTokenRow {
        hash: vec![7; 32].into(),
        name: "ci".to_owned(),
        roles: roles(),
        created_wall_ms: WALL_MS,
        expires_wall_ms,
    };
    let expires_ms = WALL_MS + 3_600_000;
    let key = keys::access_token(group, ID);
    let kind = DeadlineKind::AccessToken;
    let deadline = keys::deadline(group, Clock::Wall, expires_ms, kind, &key);
    let holder = |holder| keys::access_holder(group, "reader", holder);
    let meta = AccessMetaRow { tokens: 1, roles: 2, subjects: 3 };
    let role = AccessRoleRow { rules: rules() };
    let subject = AccessSubjectRow { roles: roles() };
    vec![
        ("access_meta", keys::access_meta(group), codec::encode(&meta)),
        ("access_token", key.clone(), codec::encode(&token(None))),
        ("access_token_ttl", key, codec::encode(&token(Some(expires_ms)))),
        ("deadline_access_token", deadline, Vec::new()),
        ("access_role", keys::access_role(group, "reader"), codec::encode(&role)),
        ("access_subject", keys::access_subject(group, "ann"), codec::encode(&subject)),
        ("access_holder_token", holder(AccessHolder::Token(ID)), Vec::new()),
        ("access_holder_subject", holder(AccessHolder::Subject("ann")), Vec::new()),
    ]
}
