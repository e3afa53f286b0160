//! Keys come back as they were made, and lie in the order that scans rely on.

use super::property;
use crate::keys::{self, AccessHolder, Clock, DeadlineKind, Key};
use crate::{
    AccessTokenId, ConsumerId, Era, GroupId, HistoryPosition, JobId, LogIndex, MemoryTables,
    NodeId, QueueId, Read, Revision, SessionId, TicketId, Txn,
};
use proptest::collection::vec;
use proptest::prelude::*;
use std::ops::ControlFlow;

/// A key before it is bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Made {
    Meta,
    Digest,
    Kv(String, Vec<u8>),
    KvDeadline(u64, String, Vec<u8>),
    Session(u64),
    SessionAnswer(u64, u64),
    Idempotency(String, Vec<u8>),
    IdempotencyDeadline(u64, String, Vec<u8>),
    MemberAddr(u64),
    SessionKey(u64, String, Vec<u8>),
    Lock(String, String),
    Ticket(u64),
    TicketDeadline(u64, u64),
    HistoryMeta,
    History(u64, u32),
    QueuesMeta,
    Queue(String, String),
    QueueCounts(u64),
    Job(u64, u64),
    JobBody(u64),
    JobNote(u64),
    Consumer(u64),
    Dedupe(u64, Vec<u8>),
    OldEra(u64),
    Schedule(String, String),
    CacheMeta,
    FeatureLevel,
    Cache(String, Vec<u8>),
    CacheTag(String, String),
    CacheTagged(String, String, Vec<u8>),
    CacheBuild(String, Vec<u8>),
    Member(u64),
    Invitation([u8; 32]),
    AccessMeta,
    AccessToken(u64),
    AccessRole(String),
    AccessSubject(String),
    TokenHolder(String, u64),
    SubjectHolder(String, String),
    /// Of a queue, or of what belongs to one, or of the cache; by the wall clock or not.
    QueueDeadline(bool, u64, Box<Made>),
}

fn position(revision: u64, event: u32) -> HistoryPosition {
    HistoryPosition { revision: Revision(revision), event }
}

impl Made {
    fn bytes(&self, group: GroupId) -> Vec<u8> {
        match self {
            Self::Meta => keys::meta(group),
            Self::Digest => keys::digest(group),
            Self::Kv(namespace, key) => keys::kv(group, namespace, key),
            Self::KvDeadline(at_ms, namespace, key) => keys::deadline(
                group,
                Clock::Lease,
                *at_ms,
                DeadlineKind::Kv,
                &keys::kv(group, namespace, key),
            ),
            Self::Session(id) => keys::session(group, SessionId(*id)),
            Self::SessionAnswer(id, index) => {
                keys::session_answer(group, SessionId(*id), LogIndex(*index))
            }
            Self::Idempotency(namespace, key) => keys::idempotency(group, namespace, key),
            Self::IdempotencyDeadline(at_ms, namespace, key) => {
                let expiring = keys::idempotency(group, namespace, key);
                keys::deadline(group, Clock::Lease, *at_ms, DeadlineKind::Idempotency, &expiring)
            }
            Self::MemberAddr(node) => keys::member_addr(group, NodeId(*node)),
            Self::HistoryMeta => keys::history_meta(group),
            Self::History(revision, event) => keys::history(group, position(*revision, *event)),
            Self::SessionKey(id, namespace, key) => {
                keys::session_key(group, SessionId(*id), &keys::kv(group, namespace, key))
            }
            Self::Lock(namespace, name) => keys::lock(group, namespace, name),
            Self::Ticket(id) => keys::ticket(group, TicketId(*id)),
            Self::TicketDeadline(at_ms, id) => {
                let expiring = keys::ticket(group, TicketId(*id));
                keys::deadline(group, Clock::Lease, *at_ms, DeadlineKind::Ticket, &expiring)
            }
            Self::QueuesMeta => keys::queues_meta(group),
            Self::Queue(namespace, name) => keys::queue(group, namespace, name),
            Self::QueueCounts(id) => keys::queue_counts(group, QueueId(*id)),
            Self::Job(era, id) => keys::job(group, Era(*era), JobId(*id)),
            Self::JobBody(id) => keys::job_body(group, JobId(*id)),
            Self::JobNote(id) => keys::job_note(group, JobId(*id)),
            Self::Consumer(id) => keys::consumer(group, ConsumerId(*id)),
            Self::Dedupe(queue, key) => keys::dedupe(group, QueueId(*queue), key),
            Self::OldEra(era) => keys::old_era(group, Era(*era)),
            Self::Schedule(namespace, name) => keys::schedule(group, namespace, name),
            Self::CacheMeta => keys::cache_meta(group),
            Self::FeatureLevel => keys::feature_level(group),
            Self::Cache(namespace, key) => keys::cache(group, namespace, key),
            Self::CacheTag(namespace, tag) => keys::cache_tag(group, namespace, tag),
            Self::CacheTagged(namespace, tag, key) => {
                keys::cache_tagged(group, namespace, tag, key)
            }
            Self::CacheBuild(namespace, key) => keys::cache_build(group, namespace, key),
            Self::Member(node) => keys::member(group, NodeId(*node)),
            Self::Invitation(hash) => keys::invitation(group, hash),
            Self::AccessMeta => keys::access_meta(group),
            Self::AccessToken(id) => keys::access_token(group, AccessTokenId(*id)),
            Self::AccessRole(name) => keys::access_role(group, name),
            Self::AccessSubject(subject) => keys::access_subject(group, subject),
            Self::TokenHolder(role, id) => {
                keys::access_holder(group, role, AccessHolder::Token(AccessTokenId(*id)))
            }
            Self::SubjectHolder(role, subject) => {
                keys::access_holder(group, role, AccessHolder::Subject(subject))
            }
            Self::QueueDeadline(wall, at_ms, of) => {
                let clock = if *wall { Clock::Wall } else { Clock::Lease };
                let kind = match **of {
                    Self::Job(..) => DeadlineKind::Job,
                    Self::Consumer(_) => DeadlineKind::Consumer,
                    Self::Dedupe(..) => DeadlineKind::Dedupe,
                    Self::Queue(..) => DeadlineKind::Queue,
                    Self::OldEra(_) => DeadlineKind::OldEra,
                    Self::Schedule(..) => DeadlineKind::Schedule,
                    Self::Cache(..) => DeadlineKind::Cache,
                    Self::CacheTag(..) => DeadlineKind::CacheTag,
                    Self::CacheBuild(..) => DeadlineKind::CacheBuild,
                    Self::Invitation(_) => DeadlineKind::Invitation,
                    Self::AccessToken(_) => DeadlineKind::AccessToken,
                    _ => panic!("{of:?} has no deadline of these"),
                };
                keys::deadline(group, clock, *at_ms, kind, &of.bytes(group))
            }
        }
    }

    fn parsed(group: GroupId, bytes: &[u8]) -> Option<Self> {
        Some(match keys::parse(group, bytes)? {
            Key::Meta => Self::Meta,
            Key::Digest => Self::Digest,
            Key::Kv { namespace, key } => Self::Kv(namespace.to_owned(), key.to_vec()),
            Key::Deadline { clock, deadline_ms, kind, id } => {
                let wall = clock == Clock::Wall;
                match Self::parsed(group, &keys::expiring(group, kind, id))? {
                    of @ (Self::Job(..)
                    | Self::Consumer(_)
                    | Self::Dedupe(..)
                    | Self::Queue(..)
                    | Self::OldEra(_)
                    | Self::Schedule(..)
                    | Self::Cache(..)
                    | Self::CacheTag(..)
                    | Self::CacheBuild(..)
                    | Self::Invitation(_)
                    | Self::AccessToken(_)) => Self::QueueDeadline(wall, deadline_ms, Box::new(of)),
                    _ if wall => return None,
                    Self::Kv(namespace, key) => Self::KvDeadline(deadline_ms, namespace, key),
                    Self::Idempotency(namespace, key) => {
                        Self::IdempotencyDeadline(deadline_ms, namespace, key)
                    }
                    Self::Ticket(id) => Self::TicketDeadline(deadline_ms, id),
                    _ => return None,
                }
            }
            Key::Session(id) => Self::Session(id.0),
            Key::SessionAnswer(id, index) => Self::SessionAnswer(id.0, index.0),
            Key::Idempotency { namespace, key } => {
                Self::Idempotency(namespace.to_owned(), key.to_vec())
            }
            Key::MemberAddr(node) => Self::MemberAddr(node.0),
            Key::HistoryMeta => Self::HistoryMeta,
            Key::History(at) => Self::History(at.revision.0, at.event),
            Key::Owned(id, rest) => match Self::parsed(group, &keys::kv_of_rest(group, rest))? {
                Self::Kv(namespace, key) => Self::SessionKey(id.0, namespace, key),
                _ => return None,
            },
            Key::Lock { namespace, name } => Self::Lock(namespace.to_owned(), name.to_owned()),
            Key::Ticket(id) => Self::Ticket(id.0),
            Key::QueuesMeta => Self::QueuesMeta,
            Key::Queue { namespace, name } => Self::Queue(namespace.to_owned(), name.to_owned()),
            Key::QueueCounts(id) => Self::QueueCounts(id.0),
            Key::Job(era, id) => Self::Job(era.0, id.0),
            Key::JobBody(id) => Self::JobBody(id.0),
            Key::JobNote(id) => Self::JobNote(id.0),
            Key::Consumer(id) => Self::Consumer(id.0),
            Key::Dedupe(queue, key) => Self::Dedupe(queue.0, key.to_vec()),
            Key::OldEra(era) => Self::OldEra(era.0),
            Key::Schedule { namespace, name } => {
                Self::Schedule(namespace.to_owned(), name.to_owned())
            }
            Key::CacheMeta => Self::CacheMeta,
            Key::FeatureLevel => Self::FeatureLevel,
            Key::Cache { namespace, key } => Self::Cache(namespace.to_owned(), key.to_vec()),
            Key::CacheTag { namespace, tag } => {
                Self::CacheTag(namespace.to_owned(), tag.to_owned())
            }
            Key::CacheTagged { namespace, tag, key } => {
                Self::CacheTagged(namespace.to_owned(), tag.to_owned(), key.to_vec())
            }
            Key::CacheBuild { namespace, key } => {
                Self::CacheBuild(namespace.to_owned(), key.to_vec())
            }
            Key::Member(node) => Self::Member(node.0),
            Key::Invitation(hash) => Self::Invitation(hash.try_into().ok()?),
            Key::AccessMeta => Self::AccessMeta,
            Key::AccessToken(id) => Self::AccessToken(id.0),
            Key::AccessRole(name) => Self::AccessRole(name.to_owned()),
            Key::AccessSubject(subject) => Self::AccessSubject(subject.to_owned()),
            Key::AccessHolder { role, holder } => match holder {
                AccessHolder::Token(id) => Self::TokenHolder(role.to_owned(), id.0),
                AccessHolder::Subject(subject) => {
                    Self::SubjectHolder(role.to_owned(), subject.to_owned())
                }
            },
        })
    }

    fn table(&self) -> u8 {
        match self {
            Self::Meta | Self::Digest | Self::HistoryMeta | Self::QueuesMeta => keys::table::META,
            Self::CacheMeta | Self::FeatureLevel | Self::AccessMeta => keys::table::META,
            Self::Kv(..) => keys::table::KV,
            Self::KvDeadline(..) | Self::IdempotencyDeadline(..) | Self::TicketDeadline(..) => {
                keys::table::DEADLINE
            }
            Self::Session(_) => keys::table::SESSION,
            Self::SessionAnswer(..) => keys::table::SESSION_ANSWER,
            Self::Idempotency(..) => keys::table::IDEMPOTENCY,
            Self::MemberAddr(_) => keys::table::MEMBER_ADDR,
            Self::History(..) => keys::table::HISTORY,
            Self::SessionKey(..) => keys::table::SESSION_KEY,
            Self::Lock(..) => keys::table::LOCK,
            Self::Ticket(_) => keys::table::TICKET,
            Self::Queue(..) => keys::table::QUEUE,
            Self::QueueCounts(_) => keys::table::QUEUE_COUNTS,
            Self::Job(..) => keys::table::JOB,
            Self::JobBody(_) => keys::table::JOB_BODY,
            Self::JobNote(_) => keys::table::JOB_NOTE,
            Self::Consumer(_) => keys::table::CONSUMER,
            Self::Dedupe(..) => keys::table::DEDUPE,
            Self::OldEra(_) => keys::table::OLD_ERA,
            Self::Schedule(..) => keys::table::SCHEDULE,
            Self::Cache(..) => keys::table::CACHE,
            Self::CacheTag(..) => keys::table::CACHE_TAG,
            Self::CacheTagged(..) => keys::table::CACHE_TAGGED,
            Self::CacheBuild(..) => keys::table::CACHE_BUILD,
            Self::Member(_) => keys::table::MEMBER,
            Self::Invitation(_) => keys::table::INVITATION,
            Self::AccessToken(_) => keys::table::ACCESS_TOKEN,
            Self::AccessRole(_) => keys::table::ACCESS_ROLE,
            Self::AccessSubject(_) => keys::table::ACCESS_SUBJECT,
            Self::TokenHolder(..) | Self::SubjectHolder(..) => keys::table::ACCESS_HOLDER,
            Self::QueueDeadline(false, ..) => keys::table::DEADLINE,
            Self::QueueDeadline(true, ..) => keys::table::WALL_DEADLINE,
        }
    }
}

/// Numbers whose bytes differ in all places, and neighbours.
fn number() -> impl Strategy<Value = u64> {
    prop_oneof![0..4u64, 254..258u64, Just(u64::MAX - 1), Just(u64::MAX), any::<u64>()]
}

fn event() -> impl Strategy<Value = u32> {
    prop_oneof![0..4u32, 254..258u32, Just(u32::MAX - 1), Just(u32::MAX)]
}

fn group() -> impl Strategy<Value = GroupId> {
    prop_oneof![0..3u32, 255..258u32, Just(u32::MAX - 1), Just(u32::MAX)].prop_map(GroupId)
}

/// Names that are prefixes of each other, with the bytes at both ends of the order.
fn name() -> impl Strategy<Value = Vec<u8>> {
    vec(prop_oneof![Just(0), Just(1), Just(b'a'), Just(0xff)], 0..4)
}

fn made() -> impl Strategy<Value = Made> {
    prop_oneof![
        Just(Made::Meta),
        Just(Made::Digest),
        ("[ab\u{e9}]{0,3}", name()).prop_map(|(n, k)| Made::Kv(n, k)),
        (number(), "[ab]{0,3}", name()).prop_map(|(d, n, k)| Made::KvDeadline(d, n, k)),
        number().prop_map(Made::Session),
        (number(), number()).prop_map(|(s, i)| Made::SessionAnswer(s, i)),
        ("[ab]{0,3}", name()).prop_map(|(n, k)| Made::Idempotency(n, k)),
        (number(), "[ab]{0,3}", name()).prop_map(|(d, n, k)| Made::IdempotencyDeadline(d, n, k)),
        number().prop_map(Made::MemberAddr),
        number().prop_map(Made::Member),
        Just(Made::HistoryMeta),
        (number(), event()).prop_map(|(revision, event)| Made::History(revision, event)),
        (number(), "[ab]{0,3}", name()).prop_map(|(s, n, k)| Made::SessionKey(s, n, k)),
        ("[ab]{0,3}", "[ab\u{e9}]{0,3}").prop_map(|(n, l)| Made::Lock(n, l)),
        number().prop_map(Made::Ticket),
        (number(), number()).prop_map(|(d, t)| Made::TicketDeadline(d, t)),
        Just(Made::QueuesMeta),
        number().prop_map(Made::QueueCounts),
        number().prop_map(Made::JobBody),
        number().prop_map(Made::JobNote),
        Just(Made::CacheMeta),
        Just(Made::FeatureLevel),
        has_access(),
        ("[ab]{0,3}", "[ab\u{e9}]{0,3}", name()).prop_map(|(n, t, k)| Made::CacheTagged(n, t, k)),
        has_queue_deadline(),
        (any::<bool>(), number(), has_queue_deadline())
            .prop_map(|(wall, at_ms, of)| Made::QueueDeadline(wall, at_ms, Box::new(of))),
    ]
}

fn has_queue_deadline() -> impl Strategy<Value = Made> {
    prop_oneof![
        ("[ab]{0,3}", "[ab\u{e9}]{0,3}").prop_map(|(n, q)| Made::Queue(n, q)),
        (number(), number()).prop_map(|(era, id)| Made::Job(era, id)),
        number().prop_map(Made::Consumer),
        (number(), name()).prop_map(|(queue, key)| Made::Dedupe(queue, key)),
        number().prop_map(Made::OldEra),
        ("[ab]{0,3}", "[ab\u{e9}]{0,3}").prop_map(|(n, s)| Made::Schedule(n, s)),
        ("[ab]{0,3}", name()).prop_map(|(n, k)| Made::Cache(n, k)),
        ("[ab]{0,3}", "[ab\u{e9}]{0,3}").prop_map(|(n, t)| Made::CacheTag(n, t)),
        ("[ab]{0,3}", name()).prop_map(|(n, k)| Made::CacheBuild(n, k)),
        any::<[u8; 32]>().prop_map(Made::Invitation),
        number().prop_map(Made::AccessToken),
    ]
}

fn has_access() -> impl Strategy<Value = Made> {
    let name = || "[ab\u{e9}]{0,3}";
    prop_oneof![
        Just(Made::AccessMeta),
        name().prop_map(Made::AccessRole),
        name().prop_map(Made::AccessSubject),
        (name(), number()).prop_map(|(role, id)| Made::TokenHolder(role, id)),
        (name(), name()).prop_map(|(role, subject)| Made::SubjectHolder(role, subject)),
    ]
}

#[test]
fn keys_parse_to_what_they_were_made_of() {
    property("keys_parse_to_what_they_were_made_of", 2_000, &(group(), made()), |(group, made)| {
        let bytes = made.bytes(group);
        prop_assert_eq!(Made::parsed(group, &bytes), Some(made));
        prop_assert_eq!(keys::parse(GroupId(group.0 ^ 1), &bytes), None, "another group's");
        Ok(())
    });
}

#[test]
fn any_bytes_parse_or_do_not() {
    let bytes = (0..34u8, vec(any::<u8>(), 0..40));
    property("any_bytes_parse_or_do_not", 2_000, &bytes, |(table, rest)| {
        let key: Vec<u8> = [0, 0, 0, 1, table].into_iter().chain(rest).collect();
        // What parses is made of what it parses to: no two keys mean the same.
        if let Some(made) = Made::parsed(GroupId(1), &key) {
            prop_assert_eq!(made.bytes(GroupId(1)), key);
        }
        Ok(())
    });
}

#[test]
fn order_of_keys_is_order_of_their_parts() {
    let numbers = (number(), number(), name(), event());
    let two = (numbers, (number(), number(), name(), event()));
    property(
        "order_of_keys_is_order_of_their_parts",
        2_000,
        &two,
        |((a, b, n, x), (c, d, m, y))| {
            let group = GroupId(7);
            let answer = |s, i| keys::session_answer(group, SessionId(s), LogIndex(i));
            prop_assert_eq!(answer(a, b).cmp(&answer(c, d)), (a, b).cmp(&(c, d)));
            let history = |revision, event| keys::history(group, position(revision, event));
            prop_assert_eq!(history(a, x).cmp(&history(c, y)), (a, x).cmp(&(c, y)));
            let session = |s| keys::session(group, SessionId(s));
            prop_assert_eq!(session(a).cmp(&session(c)), a.cmp(&c));
            let kv = |name: &[u8]| keys::kv(group, "ns", name);
            prop_assert_eq!(kv(&n).cmp(&kv(&m)), n.cmp(&m));
            let deadline = |at_ms, name: &[u8]| {
                keys::deadline(group, Clock::Lease, at_ms, DeadlineKind::Kv, &kv(name))
            };
            prop_assert_eq!(deadline(a, &n).cmp(&deadline(c, &m)), (a, &n).cmp(&(c, &m)));
            prop_assert_eq!(
                keys::deadlines_from(group, Clock::Lease, a) <= deadline(c, &m),
                a <= c
            );
            Ok(())
        },
    );
}

#[test]
fn ids_name_what_keys_do() {
    let drawn = ("[ab\u{e9}]{0,3}", name(), "[ab\u{e9}]{0,3}");
    property("ids_name_what_keys_do", 2_000, &drawn, |(namespace, key, other)| {
        let made = keys::kv(GroupId(7), &namespace, &key);
        let id = keys::id(&made);
        prop_assert_eq!(keys::parse_id(id), Some((&namespace[..], &key[..])));
        let of_other = id.strip_prefix(&keys::id_prefix(&other)[..]);
        prop_assert_eq!(of_other, (other == namespace).then_some(&key[..]));
        Ok(())
    });
}

#[test]
fn ranges_of_keys_hold_one_namespace_and_prefix() {
    let drawn = (group(), "[ab]{0,2}", name(), "[ab]{0,2}", name());
    let name = "ranges_of_keys_hold_one_namespace_and_prefix";
    property(name, 2_000, &drawn, |(group, namespace, prefix, other, key)| {
        let (from, to) = keys::named_range(group, keys::table::KV, &namespace, &prefix);
        let made = keys::kv(group, &other, &key);
        let within = from <= made && made < to;
        prop_assert_eq!(within, namespace == other && key.starts_with(&prefix));
        let next = keys::successor(made.clone());
        prop_assert!(made < next);
        prop_assert_eq!(from < next, from <= made, "nothing lies between");
        Ok(())
    });
}

/// Those who have a role lie together, apart from those of roles whose names begin alike.
#[test]
fn ranges_of_holders_hold_those_of_one_role() {
    let drawn = (group(), "[ab]{0,2}", "[ab]{0,2}", "[ab]{0,2}", number());
    let name = "ranges_of_holders_hold_those_of_one_role";
    property(name, 2_000, &drawn, |(group, role, other, subject, id)| {
        let (from, to) = keys::access_holders(group, &role);
        for holder in [AccessHolder::Subject(&subject), AccessHolder::Token(AccessTokenId(id))] {
            let made = keys::access_holder(group, &other, holder);
            prop_assert_eq!(from <= made && made < to, role == other);
        }
        Ok(())
    });
}

/// The entries of a tag lie in the order of their keys, apart from those of other tags.
#[test]
fn ranges_of_tags_hold_the_entries_behind_one() {
    let drawn = (group(), "[ab]{0,2}", "[ab]{0,2}", name(), ("[ab]{0,2}", "[ab]{0,2}", name()));
    let name = "ranges_of_tags_hold_the_entries_behind_one";
    property(name, 2_000, &drawn, |(group, namespace, tag, behind, (other, other_tag, key))| {
        let (from, to) = keys::cache_tagged_range(group, &namespace, &tag, &behind);
        let made = keys::cache_tagged(group, &other, &other_tag, &key);
        let within = from <= made && made < to;
        prop_assert_eq!(within, namespace == other && tag == other_tag && key > behind);
        Ok(())
    });
}

#[test]
fn ranges_hold_their_table_and_nothing_else() {
    let many = vec((group(), made()), 0..60);
    property("ranges_hold_their_table_and_nothing_else", 300, &many, |many| {
        let mut tables = MemoryTables::default();
        for (group, made) in &many {
            tables.put(&made.bytes(*group), b"");
        }
        for (group, made) in &many {
            let (from, to) = keys::table_range(*group, made.table());
            let expected = sorted(&many, |(g, m)| g == group && m.table() == made.table());
            prop_assert_eq!(scan(&tables, &from, &to), expected);
            let (from, to) = keys::group_range(*group);
            prop_assert_eq!(scan(&tables, &from, &to), sorted(&many, |(g, _)| g == group));
        }
        Ok(())
    });
}

fn sorted(many: &[(GroupId, Made)], keep: impl Fn(&(GroupId, Made)) -> bool) -> Vec<Vec<u8>> {
    let kept = many.iter().filter(|pair| keep(pair));
    let mut keys: Vec<Vec<u8>> = kept.map(|(group, made)| made.bytes(*group)).collect();
    keys.sort();
    keys.dedup();
    keys
}

fn scan(tables: &MemoryTables, from: &[u8], to: &[u8]) -> Vec<Vec<u8>> {
    let mut keys = Vec::new();
    tables
        .scan(from, to, &mut |key, _| {
            keys.push(key.to_vec());
            ControlFlow::Continue(())
        })
        .unwrap();
    keys
}
