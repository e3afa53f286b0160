//! How many tokens, roles and subjects there may be, and what one entry does when many end at once.

use crate::limits::{
    ACCESS_ROLES_MAX, ACCESS_ROLES_PER_HOLDER_MAX, ACCESS_RULES_PER_ROLE_MAX, ACCESS_SUBJECTS_MAX,
    ACCESS_TOKENS_MAX, ENTRY_COMMANDS_MAX, EXPIRE_PER_ENTRY_MAX,
};
use crate::testing::GROUP;
use crate::tests::group::Group;
use crate::{
    AccessAction, AccessRoleDelete, AccessRolePut, AccessRule, AccessService, AccessSubjectPut,
    AccessTokenCreate, AccessTokenId, Batch, Caller, Command, Envelope, Event, Outcome, Rejection,
    codec, query,
};

fn token(id: u64, roles: &[String], ttl_ms: Option<u64>) -> AccessTokenCreate {
    let (hash, name) = (vec![7; 32].into(), "ci".to_owned());
    AccessTokenCreate { id: AccessTokenId(id), hash, name, roles: roles.to_vec(), ttl_ms }
}

fn create(id: u64, roles: &[String], ttl_ms: Option<u64>) -> Command {
    Command::AccessTokenCreate(token(id, roles, ttl_ms))
}

fn role(name: String) -> Command {
    Command::AccessRolePut(AccessRolePut { name, rules: Vec::new() })
}

fn subject(number: u64) -> Command {
    let (subject, roles) = (format!("s{number}"), vec!["admin".to_owned()]);
    Command::AccessSubjectPut(AccessSubjectPut { subject, roles })
}

fn names(count: usize) -> Vec<String> {
    (0..count).map(|number| format!("r{number}")).collect()
}

impl Group {
    fn all_done(&mut self, commands: impl Iterator<Item = Command>) {
        let commands: Vec<Command> = commands.collect();
        for some in commands.chunks(ENTRY_COMMANDS_MAX) {
            for outcome in self.own(some.to_vec()).outcomes {
                assert_eq!(outcome, Outcome::Done);
            }
        }
    }

    fn tokens(&self) -> usize {
        query::access_tokens(&self.tables, GROUP).unwrap().len()
    }
}

fn limit_of(outcome: &Outcome) -> (&str, u64) {
    match outcome {
        Outcome::Rejected(Rejection::LimitExceeded { what, actual, limit }) => {
            assert_eq!(*actual, limit + 1);
            (what, *limit)
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn there_are_so_many_tokens_roles_and_subjects() {
    let mut group = Group::new();
    group.all_done((0..ACCESS_ROLES_MAX).map(|number| role(format!("r{number}"))));
    group.all_done((0..ACCESS_TOKENS_MAX).map(|number| create(number, &["r0".to_owned()], None)));
    group.all_done((0..ACCESS_SUBJECTS_MAX).map(subject));
    let commands = vec![
        role("beyond".to_owned()),
        create(ACCESS_TOKENS_MAX, &[], None),
        subject(ACCESS_SUBJECTS_MAX),
        // What is there is replaced.
        role("r1".to_owned()),
        subject(0),
    ];
    let outcomes = group.own(commands).outcomes;
    assert_eq!(limit_of(&outcomes[0]), ("roles", 1_000));
    assert_eq!(limit_of(&outcomes[1]), ("access tokens", 10_000));
    assert_eq!(limit_of(&outcomes[2]), ("subjects of certificates", 10_000));
    assert_eq!(outcomes[3..], [Outcome::Done, Outcome::Done]);
    assert_eq!(query::access_roles(&group.tables, GROUP).unwrap().len(), 1_000);
    assert_eq!(query::access_subjects(&group.tables, GROUP).unwrap().len(), 10_000);
    assert_eq!(group.tokens(), 10_000);
    group.check();
}

/// Those that are not swept yet are not there for a reader, and have their roles until they are; each
/// entry tells of its own once.
#[test]
fn one_entry_ends_so_many_tokens() {
    let mut group = Group::new();
    let roles = names(ACCESS_ROLES_PER_HOLDER_MAX);
    group.all_done(roles.iter().cloned().map(role));
    let count = EXPIRE_PER_ENTRY_MAX as u64 * 2 + 1;
    group.all_done((0..count).map(|id| create(id, &roles, Some(5_000))));
    group.stamp.wall_ms = 5_000;
    let delete = || Command::AccessRoleDelete(AccessRoleDelete { name: "r3".to_owned() });
    for _ in 0..2 {
        let applied = group.own(vec![delete()]);
        assert_eq!(applied.events, [Event::AccessChanged]);
        let refused = Outcome::Rejected(Rejection::AccessConflict(String::new()));
        let same = std::mem::discriminant(&applied.outcomes[0]) == std::mem::discriminant(&refused);
        assert!(same, "{applied:?}");
        assert_eq!(group.tokens(), 0);
        let last = query::access_token(&group.tables, GROUP, AccessTokenId(count - 1)).unwrap();
        assert_eq!(last, None);
        group.check();
    }
    let applied = group.own(vec![delete()]);
    assert!(matches!(applied.outcomes[0], Outcome::AccessDelete { deleted: true, .. }));
    group.check();
    assert_eq!(group.own(vec![Command::Tick]).events, []);
}

fn decodes(command: Command) -> bool {
    let (namespace, caller) = (String::new(), Caller::Anonymous);
    let envelope = Envelope { namespace, caller, guard: None, command };
    let batch = Batch { commands: vec![envelope], ..Batch::default() };
    codec::decode_batch(&codec::encode_batch(&batch)).is_ok()
}

/// More than there may be is refused before it is proposed, because it would not decode.
#[test]
fn lists_are_checked_where_they_would_not_decode() {
    let rule = |actions: &[AccessAction]| AccessRule {
        service: AccessService::Kv,
        actions: actions.to_vec(),
        namespace: String::new(),
        pattern: "*".into(),
    };
    let put = |rules| AccessRolePut { name: "r".to_owned(), rules };
    for (more, fine) in [(0, true), (1, false)] {
        let roles = names(ACCESS_ROLES_PER_HOLDER_MAX + more);
        let created = token(7, &roles, None);
        assert_eq!((created.check().is_ok(), decodes(create(7, &roles, None))), (fine, fine));
        let subject = AccessSubjectPut { subject: "s".to_owned(), roles };
        let checked = subject.check().is_ok();
        assert_eq!((checked, decodes(Command::AccessSubjectPut(subject))), (fine, fine));
        let role = put(vec![rule(&[AccessAction::Read]); ACCESS_RULES_PER_ROLE_MAX + more]);
        let checked = role.check().is_ok();
        assert_eq!((checked, decodes(Command::AccessRolePut(role))), (fine, fine));
    }
    let all = [
        AccessAction::Read,
        AccessAction::Write,
        AccessAction::Consume,
        AccessAction::Publish,
        AccessAction::Admin,
    ];
    assert!(put(vec![rule(&all)]).check().is_ok());
    assert!(decodes(Command::AccessRolePut(put(vec![rule(&all)]))));
    let more = put(vec![rule(&[&all[..], &all[..1]].concat())]);
    assert!(more.check().is_err() && !decodes(Command::AccessRolePut(more)));
}
