//! A new cluster begins with what an old one had, and with nothing that was given out there.

use super::group::Group;
use super::{property, requests};
use crate::restore::{RESTORE_NUMBERS, RESTORE_REVISIONS, begin_anew, is_row_key};
use crate::testing::GROUP;
use crate::{
    AccessRolePut, AccessSubjectPut, AccessTokenCreate, AccessTokenId, Caller, Command, Event,
    HistoryPosition, JobId, JobLease, KeySelector, KvSet, LogIndex, Machine, MemberInvite,
    MemoryTables, NodeId, Outcome, Read, Revision, Txn as _, invariants, query, rows,
};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::ops::ControlFlow;

fn pages(tables: &MemoryTables, namespace: &str) -> query::KvPage {
    let all = KeySelector::Prefix(Default::default()).select().unwrap();
    let list = query::KvList {
        after: None,
        show: query::KvShow::Items,
        items_max: usize::MAX,
        bytes_max: usize::MAX,
    };
    query::kv_list(tables, GROUP, namespace, &all, &list).unwrap()
}

/// Every job with how often it was delivered, whether it died, and the lease it is under.
fn jobs(tables: &MemoryTables) -> BTreeMap<JobId, (u32, bool, Option<JobLease>)> {
    let mut all = BTreeMap::new();
    query::export(tables, GROUP, &mut |thing| {
        if let query::Exported::Job { item, .. } = thing {
            let lease = match item.standing {
                query::JobStanding::Leased { lease, .. } => Some(lease),
                _ => None,
            };
            all.insert(item.id, (item.attempts, item.death.is_some(), lease));
        }
        ControlFlow::Continue(())
    })
    .unwrap();
    all
}

/// Whatever a cluster had come to: the new one's tables are in order, nobody is connected, nothing
/// was given to anybody meanwhile, and all that owned itself is there.
#[test]
fn any_tables_can_begin_anew() {
    let drawn = (requests::entries(), 0..3_u64);
    property("any_tables_can_begin_anew", 300, &drawn, |(entries, days)| {
        let mut author = requests::Author::default();
        let mut tables = MemoryTables::default();
        let mut machine = Machine::open(GROUP, &tables).unwrap();
        let mut index = LogIndex(0);
        for entry in &entries {
            index.0 += 1;
            let batch = author.batch(entry);
            author.learn(&machine.apply(&mut tables, index, &batch).unwrap());
        }
        let before = tables.clone();
        let stamp = query::clocks(&before, GROUP).unwrap();
        let wall_ms = stamp.wall_ms + days * 86_400_000;
        let end = begin_anew(&mut tables, GROUP, index, wall_ms).unwrap();
        prop_assert!(end >= index);
        let now = query::clocks(&tables, GROUP).unwrap();
        prop_assert_eq!((now.lease_ms, now.wall_ms), (stamp.lease_ms, wall_ms));
        for node in (0..20).map(NodeId) {
            prop_assert_eq!(query::consumers_on(&tables, GROUP, node).unwrap(), []);
            prop_assert!(!query::waits_on(&tables, GROUP, node).unwrap());
        }
        let had = jobs(&before);
        let last_lease = rows::queues_meta(&before, GROUP).unwrap().lease;
        for (id, (attempts, _, lease)) in jobs(&tables) {
            // A dead letter keeps its id.
            let (attempts_before, _, _) = had[&id];
            prop_assert!(attempts <= attempts_before, "job {} was delivered to nobody", id);
            prop_assert!(lease.is_none_or(|lease| lease <= last_lease), "job {}", id);
        }

        invariants::check(&tables, GROUP).unwrap();
        let mut machine = Machine::open(GROUP, &tables).unwrap();
        prop_assert_eq!(query::sessions(&tables, GROUP).unwrap(), []);
        let (old, new) = (rows::meta(&before, GROUP).unwrap(), rows::meta(&tables, GROUP).unwrap());
        prop_assert!(new.revision.0 >= old.revision.0 + RESTORE_REVISIONS);
        prop_assert!(new.fencing_token.0 >= old.fencing_token.0 + RESTORE_NUMBERS);
        let (old, new) = (
            rows::queues_meta(&before, GROUP).unwrap(),
            rows::queues_meta(&tables, GROUP).unwrap(),
        );
        prop_assert!(new.id >= old.id + RESTORE_NUMBERS);
        prop_assert!(new.lease.0 >= old.lease.0 + RESTORE_NUMBERS);
        prop_assert_eq!(new.schedules, old.schedules);
        let (old, new) =
            (rows::cache_meta(&before, GROUP).unwrap(), rows::cache_meta(&tables, GROUP).unwrap());
        prop_assert!(new.order >= old.order + RESTORE_NUMBERS);

        // What no session owned is as it was.
        for namespace in ["", "a"] {
            let owned = |key: &[u8]| {
                let row = before.get(&crate::keys::kv(GROUP, namespace, key)).unwrap().unwrap();
                rows::KvRow::decode(&row).unwrap().owner.is_some()
            };
            let mut kept = pages(&before, namespace).items;
            kept.retain(|(key, _)| !owned(key));
            prop_assert_eq!(pages(&tables, namespace).items, kept);
        }

        // And the machine goes on from there, above all that was.
        let set = KvSet {
            key: "later".into(),
            value: "x".into(),
            ttl_ms: None,
            expect: Default::default(),
            owner: None,
        };
        let batch = crate::Batch {
            stamp: now,
            commands: vec![crate::Envelope {
                namespace: String::new(),
                caller: Caller::Anonymous,
                guard: None,
                command: Command::KvSet(set),
            }],
        };
        let meta = rows::meta(&tables, GROUP).unwrap();
        let applied = machine.apply(&mut tables, LogIndex(end.0 + 1), &batch).unwrap();
        let Some(Outcome::KvSet { revision, .. }) = applied.outcomes.first() else {
            return Err(TestCaseError::fail(format!("{:?}", applied.outcomes)));
        };
        prop_assert!(*revision > meta.revision);
        invariants::check(&tables, GROUP).unwrap();
        Ok(())
    });
}

/// What a client of the old cluster has seen is older than all that is here: it is told so.
#[test]
fn a_watch_of_the_old_cluster_does_not_go_on() {
    let mut group = Group::new();
    let set = |value: &'static str| {
        Command::KvSet(KvSet {
            key: "k".into(),
            value: value.into(),
            ttl_ms: None,
            expect: Default::default(),
            owner: None,
        })
    };
    group.own(vec![set("1"), set("2")]);
    let seen = query::revision(&group.tables, GROUP).unwrap();
    let end = begin_anew(&mut group.tables, GROUP, group.index, 0).unwrap();
    let history = rows::history_meta(&group.tables, GROUP).unwrap();
    // The other cluster may have had four billion entries since.
    let since = Revision(seen.0 + (1 << 43));
    assert!(HistoryPosition::behind(since) < history.trimmed);
    group.machine = Machine::open(GROUP, &group.tables).unwrap();
    group.index = end;
    group.own(vec![set("3")]);
    group.check();
    let item = query::kv_get(&group.tables, GROUP, "", b"k").unwrap().unwrap();
    assert_eq!((item.version, &item.value[..]), (3, &b"3"[..]));
}

#[test]
fn invitations_and_members_stay_behind() {
    let mut group = Group::new();
    let invite = MemberInvite { token_hash: vec![7; 32].into(), ttl_ms: 60_000, replaces: None };
    let join = crate::MemberJoin {
        uuid: 9,
        peer_addr: "p:1".to_owned(),
        client_addr: "c:1".to_owned(),
        token_hash: None,
        learner: false,
        known: NodeId(1),
    };
    let publish = crate::MemberPublish {
        node: NodeId(1),
        client_addr: "c:1".to_owned(),
        http_addr: "h:1".to_owned(),
    };
    let commands = vec![
        Command::MemberInvite(invite),
        Command::MemberJoin(join),
        Command::MemberPublish(publish),
    ];
    for outcome in group.own(commands).outcomes {
        assert!(!matches!(outcome, Outcome::Rejected(_)), "{outcome:?}");
    }
    begin_anew(&mut group.tables, GROUP, group.index, 77).unwrap();
    invariants::check(&group.tables, GROUP).unwrap();
    assert_eq!(query::member_plans(&group.tables, GROUP).unwrap(), []);
    assert_eq!(query::member_addresses(&group.tables, GROUP, NodeId(1)).unwrap(), None);
    assert_eq!(query::clocks(&group.tables, GROUP).unwrap().wall_ms, 77);
    let (from, to) = crate::keys::group_range(GROUP);
    let mut tables = std::collections::BTreeSet::new();
    let mut see = |key: &[u8], _: &[u8]| {
        assert!(is_row_key(GROUP, key));
        tables.insert(key[4]);
        ControlFlow::Continue(())
    };
    group.tables.scan(&from, &to, &mut see).unwrap();
    assert_eq!(tables.into_iter().collect::<Vec<_>>(), [crate::keys::table::META]);
}

/// Who may do what is as it was; what ended by the wall clock meanwhile is gone with the first entry.
#[test]
fn tokens_roles_and_subjects_come_along() {
    let mut group = Group::new();
    let roles = vec!["r".to_owned()];
    let token = |id, ttl_ms| {
        Command::AccessTokenCreate(AccessTokenCreate {
            id: AccessTokenId(id),
            hash: vec![7; 32].into(),
            name: "ci".to_owned(),
            roles: roles.clone(),
            ttl_ms,
        })
    };
    let subject = AccessSubjectPut { subject: "s".to_owned(), roles: roles.clone() };
    let commands = vec![
        Command::AccessRolePut(AccessRolePut { name: "r".to_owned(), rules: Vec::new() }),
        token(1, None),
        token(2, Some(10_000)),
        token(3, Some(20_000)),
        Command::AccessSubjectPut(subject),
    ];
    for outcome in group.own(commands).outcomes {
        assert_eq!(outcome, Outcome::Done);
    }
    let before = group.tables.clone();
    let end = begin_anew(&mut group.tables, GROUP, group.index, 10_000).unwrap();
    invariants::check(&group.tables, GROUP).unwrap();
    let roles = |tables: &MemoryTables| query::access_roles(tables, GROUP).unwrap();
    let subjects = |tables: &MemoryTables| query::access_subjects(tables, GROUP).unwrap();
    assert_eq!(roles(&group.tables), roles(&before));
    assert_eq!(subjects(&group.tables), subjects(&before));
    let left = |tables: &MemoryTables| -> Vec<u64> {
        query::access_tokens(tables, GROUP).unwrap().iter().map(|token| token.id.0).collect()
    };
    assert_eq!((left(&before), left(&group.tables)), (vec![1, 2, 3], vec![1, 3]));
    group.machine = Machine::open(GROUP, &group.tables).unwrap();
    group.index = end;
    group.stamp.wall_ms = 10_000;
    assert_eq!(group.own(vec![Command::Tick]).events, [Event::AccessChanged]);
    assert_eq!(left(&group.tables), [1, 3]);
    group.check();
}

/// Restores of restores come to an end before the numbers do, and say what to do.
#[test]
fn numbers_that_are_used_up_are_refused() {
    let mut group = Group::new();
    group.own(vec![Command::Tick]);
    let mut index = group.index;
    let mut restores = 0;
    let refused = loop {
        let mut tables = group.tables.clone();
        match begin_anew(&mut tables, GROUP, index, 0) {
            Ok(end) => (group.tables, index) = (tables, end),
            Err(error) => break error.to_string(),
        }
        restores += 1;
    };
    assert!((200..300).contains(&restores), "{restores}");
    assert!(refused.contains("export"), "{refused}");
}

#[test]
fn keys_of_other_groups_are_none_of_ours() {
    assert!(!is_row_key(GROUP, b""));
    assert!(!is_row_key(GROUP, &crate::keys::meta(crate::GroupId(7))));
    let mut key = crate::keys::meta(GROUP);
    assert!(is_row_key(GROUP, &key));
    key.push(0);
    assert!(!is_row_key(GROUP, &key));
    let mut tables = MemoryTables::default();
    tables.put(&key, b"");
    assert!(invariants::check(&tables, GROUP).is_err());
}
