//! Tokens, roles and subjects against a naive model: what is there, who has what, and what is refused.

use super::group::Group;
use super::property;
use crate::testing::GROUP;
use crate::{
    ACCESS_ROLE_ADMIN, AccessAction, AccessRoleDelete, AccessRolePut, AccessRule, AccessService,
    AccessSubjectDelete, AccessSubjectPut, AccessTokenCreate, AccessTokenId, AccessTokenRevoke,
    Applied, Command, Event, Outcome, Rejection, query,
};
use proptest::collection::vec;
use proptest::prelude::*;
use std::collections::BTreeMap;

fn command() -> impl Strategy<Value = Command> {
    let role = || {
        let role = prop_oneof![6 => Just("r"), 4 => Just("s"), 1 => Just("t"), 2 => Just("admin")];
        role.prop_map(str::to_owned)
    };
    let roles = || vec(role(), 0..4);
    let id = || (0..4_u64).prop_map(AccessTokenId);
    let subject = || prop_oneof![Just("ann"), Just("bob")].prop_map(str::to_owned);
    let ttl_ms = prop_oneof![
        2 => Just(None),
        4 => (1_000..1_004_u64).prop_map(Some),
        1 => Just(Some(999)),
    ];
    let create = (id(), any::<bool>(), roles(), ttl_ms).prop_map(|(id, other, roles, ttl_ms)| {
        let (hash, name) = (vec![u8::from(other); 32].into(), "ci".to_owned());
        Command::AccessTokenCreate(AccessTokenCreate { id, hash, name, roles, ttl_ms })
    });
    let pattern = prop_oneof![Just("*"), Just("a*"), Just("a[")];
    let put = (role(), pattern).prop_map(|(name, pattern)| {
        let rule = AccessRule {
            service: AccessService::Kv,
            actions: vec![AccessAction::Read],
            namespace: String::new(),
            pattern: pattern.into(),
        };
        Command::AccessRolePut(AccessRolePut { name, rules: vec![rule] })
    });
    prop_oneof![
        4 => create,
        1 => id().prop_map(|id| Command::AccessTokenRevoke(AccessTokenRevoke { id })),
        3 => put,
        3 => role().prop_map(|name| Command::AccessRoleDelete(AccessRoleDelete { name })),
        3 => (subject(), roles()).prop_map(|(subject, roles)| {
            Command::AccessSubjectPut(AccessSubjectPut { subject, roles })
        }),
        1 => subject().prop_map(|subject| {
            Command::AccessSubjectDelete(AccessSubjectDelete { subject })
        }),
        1 => Just(Command::Tick),
    ]
}

/// For each entry how far the wall clock went before it, and what it does.
fn entries() -> impl Strategy<Value = Vec<(u64, Vec<Command>)>> {
    let later_ms = prop_oneof![3 => Just(0_u64), 3 => 1..3_u64, 2 => 998..1_004_u64];
    vec((later_ms, vec(command(), 0..4)), 1..40)
}

/// As one would keep it by hand.
#[derive(Clone, Debug, Default, PartialEq)]
struct Model {
    wall_ms: u64,
    /// Their roles, and when they end.
    tokens: BTreeMap<AccessTokenId, (Vec<String>, Option<u64>)>,
    roles: BTreeMap<String, Vec<AccessRule>>,
    subjects: BTreeMap<String, Vec<String>>,
}

/// What kind of outcome is expected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Done,
    Deleted(bool),
    Invalid,
    Unknown,
    Conflict,
}

fn kind(outcome: &Outcome) -> Kind {
    match outcome {
        Outcome::Done => Kind::Done,
        Outcome::AccessDelete { deleted, .. } => Kind::Deleted(*deleted),
        Outcome::Rejected(Rejection::Invalid(_)) => Kind::Invalid,
        Outcome::Rejected(Rejection::AccessRoleUnknown { .. }) => Kind::Unknown,
        Outcome::Rejected(Rejection::AccessConflict(_)) => Kind::Conflict,
        other => panic!("{other:?}"),
    }
}

impl Model {
    /// Whatever the clock says.
    fn says_the_same(&self, other: &Self) -> bool {
        let Self { wall_ms: _, tokens, roles, subjects } = self;
        (tokens, roles, subjects) == (&other.tokens, &other.roles, &other.subjects)
    }

    fn expire(&mut self) {
        let now_ms = self.wall_ms;
        self.tokens.retain(|_, (_, expires_ms)| expires_ms.is_none_or(|at_ms| now_ms < at_ms));
    }

    fn roles_of_all(&self) -> impl Iterator<Item = &String> {
        let tokens = self.tokens.values().map(|(roles, _)| roles);
        tokens.chain(self.subjects.values()).flatten()
    }

    /// What it says against roles that somebody is to have, if anything.
    fn against(&self, roles: &[String]) -> Option<Kind> {
        if (1..roles.len()).any(|at| roles[..at].contains(&roles[at])) {
            return Some(Kind::Invalid);
        }
        let known = |role: &String| role == ACCESS_ROLE_ADMIN || self.roles.contains_key(role);
        (!roles.iter().all(known)).then_some(Kind::Unknown)
    }

    fn execute(&mut self, command: &Command) -> Kind {
        match command {
            Command::Tick => Kind::Done,
            Command::AccessTokenCreate(AccessTokenCreate { id, roles, ttl_ms, .. }) => {
                let against = self.against(roles);
                if against == Some(Kind::Invalid) || *ttl_ms == Some(999) {
                    return Kind::Invalid;
                }
                if self.tokens.contains_key(id) {
                    return Kind::Conflict;
                }
                if let Some(against) = against {
                    return against;
                }
                let expires_ms = ttl_ms.map(|ttl_ms| self.wall_ms + ttl_ms);
                self.tokens.insert(*id, (roles.clone(), expires_ms));
                Kind::Done
            }
            Command::AccessTokenRevoke(AccessTokenRevoke { id }) => {
                Kind::Deleted(self.tokens.remove(id).is_some())
            }
            Command::AccessRolePut(AccessRolePut { name, rules }) => {
                if name == ACCESS_ROLE_ADMIN || rules.iter().any(|rule| rule.pattern == "a[") {
                    return Kind::Invalid;
                }
                self.roles.insert(name.clone(), rules.clone());
                Kind::Done
            }
            Command::AccessRoleDelete(AccessRoleDelete { name }) => {
                if name == ACCESS_ROLE_ADMIN {
                    return Kind::Invalid;
                }
                if self.roles_of_all().any(|role| role == name) {
                    return Kind::Conflict;
                }
                Kind::Deleted(self.roles.remove(name).is_some())
            }
            Command::AccessSubjectPut(AccessSubjectPut { subject, roles }) => {
                if let Some(against) = self.against(roles) {
                    return against;
                }
                self.subjects.insert(subject.clone(), roles.clone());
                Kind::Done
            }
            Command::AccessSubjectDelete(AccessSubjectDelete { subject }) => {
                Kind::Deleted(self.subjects.remove(subject).is_some())
            }
            other => panic!("{other:?}"),
        }
    }
}

/// What readers see, one by one and all together, as the model would have it.
fn seen(group: &Group) -> Model {
    let tables = &group.tables;
    let tokens = query::access_tokens(tables, GROUP).unwrap();
    let roles = query::access_roles(tables, GROUP).unwrap();
    let subjects = query::access_subjects(tables, GROUP).unwrap();
    for id in (0..4).map(AccessTokenId) {
        let listed = tokens.iter().find(|token| token.id == id);
        assert_eq!(query::access_token(tables, GROUP, id).unwrap().as_ref(), listed);
    }
    for name in ["r", "s", "t", "admin"] {
        let listed = roles.iter().find(|role| role.name == name);
        assert_eq!(query::access_role(tables, GROUP, name).unwrap().as_ref(), listed);
    }
    for name in ["ann", "bob"] {
        let listed = subjects.iter().find(|subject| subject.subject == name);
        assert_eq!(query::access_subject(tables, GROUP, name).unwrap().as_ref(), listed);
    }
    let tokens = tokens.into_iter().map(|one| (one.id, (one.roles, one.expires_wall_ms)));
    Model {
        wall_ms: query::clocks(tables, GROUP).unwrap().wall_ms,
        tokens: tokens.collect(),
        roles: roles.into_iter().map(|one| (one.name, one.rules)).collect(),
        subjects: subjects.into_iter().map(|one| (one.subject, one.roles)).collect(),
    }
}

/// Roles that somebody has are there whatever happens, tokens are gone when their time is over, and
/// whoever keeps what it read hears of each change.
#[test]
fn access_goes_as_the_model_does() {
    property("access_goes_as_the_model_does", 1_500, &entries(), |entries| {
        let mut group = Group::new();
        let mut model = Model::default();
        for (later_ms, commands) in entries {
            group.stamp.wall_ms += later_ms;
            model.wall_ms = group.stamp.wall_ms;
            let before = model.clone();
            model.expire();
            let expected: Vec<Kind> = commands.iter().map(|one| model.execute(one)).collect();
            let Applied { outcomes, events } = group.own(commands);
            prop_assert_eq!(outcomes.iter().map(kind).collect::<Vec<_>>(), expected);
            prop_assert_eq!(&seen(&group), &model);
            let dangles =
                |role: &&String| *role != ACCESS_ROLE_ADMIN && !model.roles.contains_key(*role);
            prop_assert_eq!(model.roles_of_all().find(dangles), None);
            let told = events == [Event::AccessChanged];
            prop_assert!(told || events.is_empty() && before.says_the_same(&model));
            group.check();
        }
        Ok(())
    });
}
