//! Keys of the tables: hand-written bytes whose order is the order scans need.
//!
//! Frozen: every key begins with `[group: u32 BE][table: u8]`, and the numbers of the tables, the
//! layouts below and the kinds of deadlines never change their meaning; new ones take new numbers.
//! Table 0xFF stays unused, so that `[group][0xFF]` is above every key of a group.
//!
//! | no. | table          | rest of the key                                | value                    |
//! |-----|----------------|------------------------------------------------|--------------------------|
//! | 1   | META           | `[item: u8]` (1 meta, 2 digest, 3 history, 4 queues, 5 cache, 6 feature level, 7 access) | `MetaRow`, `u64`, `HistoryMetaRow`, `QueuesMetaRow`, `CacheMetaRow`, `FeatureLevel`, `AccessMetaRow` |
//! | 2   | KV             | `[len: u8][namespace][key]`                    | `KvRow`                  |
//! | 3   | DEADLINE       | `[deadline_ms: u64 BE][kind: u8][id]`          | empty                    |
//! | 4   | SESSION        | `[session: u64 BE]`                            | `SessionRow`             |
//! | 5   | SESSION_ANSWER | `[session: u64 BE][log index: u64 BE]`         | `AnswerRow`              |
//! | 6   | IDEMPOTENCY    | `[len: u8][namespace][key]`                    | `IdempotencyRow`         |
//! | 7   | MEMBER_ADDR    | `[node: u64 BE]`                               | `MemberAddrRow`          |
//! | 8   | HISTORY        | `[revision: u64 BE][event: u32 BE]`            | `HistoryRow`             |
//! | 9   | SESSION_KEY    | `[session: u64 BE][rest of the key in KV]`     | empty                    |
//! | 10  | LOCK           | `[len: u8][namespace][name]`                   | `LockRow`                |
//! | 11  | TICKET         | `[ticket: u64 BE]`                             | `TicketRow`              |
//! | 12  | QUEUE          | `[len: u8][namespace][name]`                   | `QueueRow`               |
//! | 13  | QUEUE_COUNTS   | `[queue: u64 BE]`                              | `QueueCountsRow`         |
//! | 14  | JOB            | `[era: u64 BE][job: u64 BE]`                   | `JobRow`                 |
//! | 15  | JOB_BODY       | `[job: u64 BE]`                                | `JobBodyRow`             |
//! | 16  | JOB_NOTE       | `[job: u64 BE]`                                | `JobNoteRow`             |
//! | 17  | CONSUMER       | `[consumer: u64 BE]`                           | `ConsumerRow`            |
//! | 18  | DEDUPE         | `[queue: u64 BE][key]`                         | `DedupeRow`              |
//! | 19  | OLD_ERA        | `[era: u64 BE]`                                | how far it is deleted    |
//! | 20  | WALL_DEADLINE  | `[deadline_ms: u64 BE][kind: u8][id]`          | empty                    |
//! | 21  | SCHEDULE       | `[len: u8][namespace][name]`                   | `ScheduleRow`            |
//! | 22  | CACHE          | `[len: u8][namespace][key]`                    | `CacheRow`               |
//! | 23  | CACHE_TAG      | `[len: u8][namespace][tag]`                    | `CacheTagRow`            |
//! | 24  | CACHE_TAGGED   | `[len: u8][namespace][len: u8][tag][key]`      | empty                    |
//! | 25  | CACHE_BUILD    | `[len: u8][namespace][key]`                    | `CacheBuildRow`          |
//! | 26  | MEMBER         | `[node: u64 BE]`                               | `MemberRow`              |
//! | 27  | INVITATION     | `[hash of the token: 32 bytes]`                | `InvitationRow`          |
//! | 28  | ACCESS_TOKEN   | `[token: u64 BE]`                              | `AccessTokenRow`         |
//! | 29  | ACCESS_ROLE    | `[name]`                                       | `AccessRoleRow`          |
//! | 30  | ACCESS_SUBJECT | `[subject]`                                    | `AccessSubjectRow`       |
//! | 31  | ACCESS_HOLDER  | `[len: u8][role]` and `[1][token: u64 BE]` or `[2][subject]` | empty      |
//!
//! The id of a deadline is the rest of the key of the row that expires, in the table that its kind
//! names: 1 KV, 2 IDEMPOTENCY, 3 TICKET, 4 JOB, 5 CONSUMER, 6 DEDUPE, 7 QUEUE, 8 OLD_ERA,
//! 9 SCHEDULE, 10 CACHE, 11 CACHE_BUILD, 12 CACHE_TAG,
//! 13 INVITATION, 14 ACCESS_TOKEN. Deadlines in lease time are in DEADLINE, those in wall time in WALL_DEADLINE. The id in a row of HISTORY is
//! the rest of the key of the row of KV that changed. The events of one revision count from 0.

use crate::{
    AccessTokenId, ConsumerId, Era, GroupId, HistoryPosition, JobId, LogIndex, NodeId, QueueId,
    SessionId, TicketId,
};

mod access;
mod cache;
mod member;
mod parse;

pub(crate) use access::{
    AccessHolder, access_holder, access_holders, access_meta, access_role, access_subject,
    access_token,
};
pub(crate) use cache::{
    cache, cache_build, cache_meta, cache_tag, cache_tagged, cache_tagged_range,
};
pub(crate) use member::{feature_level, invitation, member, member_addr};
pub(crate) use parse::{parse, parse_id};

/// Bytes before the rest of a key: group and table.
pub(crate) const PREFIX_BYTES: usize = 5;

/// The tables' numbers.
pub(crate) mod table {
    pub(crate) const META: u8 = 1;
    pub(crate) const KV: u8 = 2;
    pub(crate) const DEADLINE: u8 = 3;
    pub(crate) const SESSION: u8 = 4;
    pub(crate) const SESSION_ANSWER: u8 = 5;
    pub(crate) const IDEMPOTENCY: u8 = 6;
    pub(crate) const MEMBER_ADDR: u8 = 7;
    pub(crate) const HISTORY: u8 = 8;
    pub(crate) const SESSION_KEY: u8 = 9;
    pub(crate) const LOCK: u8 = 10;
    pub(crate) const TICKET: u8 = 11;
    pub(crate) const QUEUE: u8 = 12;
    pub(crate) const QUEUE_COUNTS: u8 = 13;
    pub(crate) const JOB: u8 = 14;
    pub(crate) const JOB_BODY: u8 = 15;
    pub(crate) const JOB_NOTE: u8 = 16;
    pub(crate) const CONSUMER: u8 = 17;
    pub(crate) const DEDUPE: u8 = 18;
    pub(crate) const OLD_ERA: u8 = 19;
    pub(crate) const WALL_DEADLINE: u8 = 20;
    pub(crate) const SCHEDULE: u8 = 21;
    pub(crate) const CACHE: u8 = 22;
    pub(crate) const CACHE_TAG: u8 = 23;
    pub(crate) const CACHE_TAGGED: u8 = 24;
    pub(crate) const CACHE_BUILD: u8 = 25;
    pub(crate) const MEMBER: u8 = 26;
    pub(crate) const INVITATION: u8 = 27;
    pub(crate) const ACCESS_TOKEN: u8 = 28;
    pub(crate) const ACCESS_ROLE: u8 = 29;
    pub(crate) const ACCESS_SUBJECT: u8 = 30;
    pub(crate) const ACCESS_HOLDER: u8 = 31;
    pub(crate) const NONE: u8 = 0xFF;
}

const META_ROW: u8 = 1;
const META_DIGEST: u8 = 2;
const META_HISTORY: u8 = 3;
const META_QUEUES: u8 = 4;
const META_CACHE: u8 = 5;
const META_FEATURE_LEVEL: u8 = 6;
const META_ACCESS: u8 = 7;

/// What a deadline ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum DeadlineKind {
    Kv = 1,
    Idempotency = 2,
    Ticket = 3,
    Job = 4,
    Consumer = 5,
    Dedupe = 6,
    Queue = 7,
    OldEra = 8,
    Schedule = 9,
    Cache = 10,
    CacheBuild = 11,
    CacheTag = 12,
    Invitation = 13,
    AccessToken = 14,
}

/// Which of the replicated clocks a deadline goes by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Clock {
    Lease,
    Wall,
}

impl Clock {
    /// The table of its deadlines.
    pub(crate) fn table(self) -> u8 {
        match self {
            Self::Lease => table::DEADLINE,
            Self::Wall => table::WALL_DEADLINE,
        }
    }
}

impl DeadlineKind {
    /// The table of the rows it ends.
    pub(crate) fn table(self) -> u8 {
        match self {
            Self::Kv => table::KV,
            Self::Idempotency => table::IDEMPOTENCY,
            Self::Ticket => table::TICKET,
            Self::Job => table::JOB,
            Self::Consumer => table::CONSUMER,
            Self::Dedupe => table::DEDUPE,
            Self::Queue => table::QUEUE,
            Self::OldEra => table::OLD_ERA,
            Self::Schedule => table::SCHEDULE,
            Self::Cache => table::CACHE,
            Self::CacheBuild => table::CACHE_BUILD,
            Self::CacheTag => table::CACHE_TAG,
            Self::Invitation => table::INVITATION,
            Self::AccessToken => table::ACCESS_TOKEN,
        }
    }
}

/// A key, taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Key<'a> {
    Meta,
    Digest,
    Kv {
        namespace: &'a str,
        key: &'a [u8],
    },
    Deadline {
        clock: Clock,
        deadline_ms: u64,
        kind: DeadlineKind,
        id: &'a [u8],
    },
    Session(SessionId),
    SessionAnswer(SessionId, LogIndex),
    Idempotency {
        namespace: &'a str,
        key: &'a [u8],
    },
    MemberAddr(NodeId),
    HistoryMeta,
    History(HistoryPosition),
    /// The rest of the key in KV.
    Owned(SessionId, &'a [u8]),
    Lock {
        namespace: &'a str,
        name: &'a str,
    },
    Ticket(TicketId),
    QueuesMeta,
    Queue {
        namespace: &'a str,
        name: &'a str,
    },
    QueueCounts(QueueId),
    Job(Era, JobId),
    JobBody(JobId),
    JobNote(JobId),
    Consumer(ConsumerId),
    Dedupe(QueueId, &'a [u8]),
    OldEra(Era),
    Schedule {
        namespace: &'a str,
        name: &'a str,
    },
    CacheMeta,
    Cache {
        namespace: &'a str,
        key: &'a [u8],
    },
    CacheTag {
        namespace: &'a str,
        tag: &'a str,
    },
    CacheTagged {
        namespace: &'a str,
        tag: &'a str,
        key: &'a [u8],
    },
    CacheBuild {
        namespace: &'a str,
        key: &'a [u8],
    },
    Member(NodeId),
    Invitation(&'a [u8]),
    FeatureLevel,
    AccessMeta,
    AccessToken(AccessTokenId),
    AccessRole(&'a str),
    AccessSubject(&'a str),
    AccessHolder {
        role: &'a str,
        holder: AccessHolder<'a>,
    },
}

fn start(group: GroupId, table: u8, rest_bytes: usize) -> Vec<u8> {
    let mut key = Vec::with_capacity(PREFIX_BYTES + rest_bytes);
    key.extend(group.0.to_be_bytes());
    key.push(table);
    key
}

pub(crate) fn named(group: GroupId, table: u8, namespace: &str, name: &[u8]) -> Vec<u8> {
    let length = u8::try_from(namespace.len())
        .expect("namespaces are checked against NAMESPACE_BYTES_MAX before keys are made of them");
    let mut key = start(group, table, 1 + namespace.len() + name.len());
    key.push(length);
    key.extend(namespace.as_bytes());
    key.extend(name);
    key
}

/// `[from, to)` around what has a name in a table, of a namespace (within its limit), that begins
/// with `prefix`.
pub(crate) fn named_range(
    group: GroupId,
    table: u8,
    namespace: &str,
    prefix: &[u8],
) -> (Vec<u8>, Vec<u8>) {
    above(named(group, table, namespace, prefix))
}

pub(crate) fn meta(group: GroupId) -> Vec<u8> {
    let mut key = start(group, table::META, 1);
    key.push(META_ROW);
    key
}

pub(crate) fn digest(group: GroupId) -> Vec<u8> {
    let mut key = start(group, table::META, 1);
    key.push(META_DIGEST);
    key
}

pub(crate) fn history_meta(group: GroupId) -> Vec<u8> {
    let mut key = start(group, table::META, 1);
    key.push(META_HISTORY);
    key
}

/// `namespace` must be within its limit.
pub(crate) fn kv(group: GroupId, namespace: &str, key: &[u8]) -> Vec<u8> {
    named(group, table::KV, namespace, key)
}

/// `[from, to)` around everything that begins with `from`.
fn above(from: Vec<u8>) -> (Vec<u8>, Vec<u8>) {
    let mut to = from.clone();
    while to.pop_if(|last| *last == 0xFF).is_some() {}
    *to.last_mut().expect("the table's number is not 0xFF") += 1;
    (from, to)
}

/// The first key above `key`.
pub(crate) fn successor(mut key: Vec<u8>) -> Vec<u8> {
    key.push(0);
    key
}

pub(crate) fn deadline(
    group: GroupId,
    clock: Clock,
    deadline_ms: u64,
    kind: DeadlineKind,
    expiring_key: &[u8],
) -> Vec<u8> {
    let id = id(expiring_key);
    let mut key = deadlines_from(group, clock, deadline_ms);
    key.reserve_exact(1 + id.len());
    key.push(kind as u8);
    key.extend(id);
    key
}

/// Not above any deadline at `deadline_ms`, above all earlier ones.
pub(crate) fn deadlines_from(group: GroupId, clock: Clock, deadline_ms: u64) -> Vec<u8> {
    let mut key = start(group, clock.table(), 8);
    key.extend(deadline_ms.to_be_bytes());
    key
}

/// The key of the row that a deadline of `group` ends.
pub(crate) fn expiring(group: GroupId, kind: DeadlineKind, id: &[u8]) -> Vec<u8> {
    let mut key = start(group, kind.table(), id.len());
    key.extend(id);
    key
}

pub(crate) fn session(group: GroupId, id: SessionId) -> Vec<u8> {
    let mut key = start(group, table::SESSION, 8);
    key.extend(id.0.to_be_bytes());
    key
}

pub(crate) fn session_answer(group: GroupId, id: SessionId, index: LogIndex) -> Vec<u8> {
    let mut key = start(group, table::SESSION_ANSWER, 16);
    key.extend(id.0.to_be_bytes());
    key.extend(index.0.to_be_bytes());
    key
}

/// `namespace` must be within its limit.
pub(crate) fn idempotency(group: GroupId, namespace: &str, key: &[u8]) -> Vec<u8> {
    named(group, table::IDEMPOTENCY, namespace, key)
}

pub(crate) fn history(group: GroupId, position: HistoryPosition) -> Vec<u8> {
    let mut key = start(group, table::HISTORY, 12);
    key.extend(position.revision.0.to_be_bytes());
    key.extend(position.event.to_be_bytes());
    key
}

/// What a key of KV is called elsewhere: all of it but group and table.
pub(crate) fn id(key: &[u8]) -> &[u8] {
    &key[PREFIX_BYTES..]
}

/// What the ids of all keys of a namespace (within its limit) begin with.
pub(crate) fn id_prefix(namespace: &str) -> Vec<u8> {
    named(GroupId(0), table::KV, namespace, &[]).split_off(PREFIX_BYTES)
}

/// `kv_key` is the key of a row of KV.
pub(crate) fn session_key(group: GroupId, id: SessionId, kv_key: &[u8]) -> Vec<u8> {
    let rest = &kv_key[PREFIX_BYTES..];
    let mut key = start(group, table::SESSION_KEY, 8 + rest.len());
    key.extend(id.0.to_be_bytes());
    key.extend(rest);
    key
}

/// `[from, to)` around the keys that a session owns.
pub(crate) fn session_keys(group: GroupId, id: SessionId) -> (Vec<u8>, Vec<u8>) {
    let from = [&start(group, table::SESSION_KEY, 8)[..], &id.0.to_be_bytes()].concat();
    let to = match id.0.checked_add(1) {
        Some(next) => [&start(group, table::SESSION_KEY, 8)[..], &next.to_be_bytes()].concat(),
        None => table_range(group, table::SESSION_KEY).1,
    };
    (from, to)
}

/// The key of a row of KV, by what [`Key::Owned`] has of it.
pub(crate) fn kv_of_rest(group: GroupId, rest: &[u8]) -> Vec<u8> {
    let mut key = start(group, table::KV, rest.len());
    key.extend(rest);
    key
}

/// `namespace` must be within its limit.
pub(crate) fn lock(group: GroupId, namespace: &str, name: &str) -> Vec<u8> {
    named(group, table::LOCK, namespace, name.as_bytes())
}

pub(crate) fn ticket(group: GroupId, id: TicketId) -> Vec<u8> {
    let mut key = start(group, table::TICKET, 8);
    key.extend(id.0.to_be_bytes());
    key
}

pub(crate) fn queues_meta(group: GroupId) -> Vec<u8> {
    let mut key = start(group, table::META, 1);
    key.push(META_QUEUES);
    key
}

/// `namespace` must be within its limit.
pub(crate) fn queue(group: GroupId, namespace: &str, name: &str) -> Vec<u8> {
    named(group, table::QUEUE, namespace, name.as_bytes())
}

fn numbered(group: GroupId, table: u8, number: u64) -> Vec<u8> {
    let mut key = start(group, table, 8);
    key.extend(number.to_be_bytes());
    key
}

pub(crate) fn queue_counts(group: GroupId, id: QueueId) -> Vec<u8> {
    numbered(group, table::QUEUE_COUNTS, id.0)
}

pub(crate) fn job(group: GroupId, era: Era, id: JobId) -> Vec<u8> {
    let mut key = start(group, table::JOB, 16);
    key.extend(era.0.to_be_bytes());
    key.extend(id.0.to_be_bytes());
    key
}

/// `[from, to)` around the jobs of an era.
pub(crate) fn jobs_range(group: GroupId, era: Era) -> (Vec<u8>, Vec<u8>) {
    above(numbered(group, table::JOB, era.0))
}

pub(crate) fn job_body(group: GroupId, id: JobId) -> Vec<u8> {
    numbered(group, table::JOB_BODY, id.0)
}

pub(crate) fn job_note(group: GroupId, id: JobId) -> Vec<u8> {
    numbered(group, table::JOB_NOTE, id.0)
}

pub(crate) fn consumer(group: GroupId, id: ConsumerId) -> Vec<u8> {
    numbered(group, table::CONSUMER, id.0)
}

pub(crate) fn dedupe(group: GroupId, queue: QueueId, key: &[u8]) -> Vec<u8> {
    let mut row = numbered(group, table::DEDUPE, queue.0);
    row.extend(key);
    row
}

pub(crate) fn old_era(group: GroupId, era: Era) -> Vec<u8> {
    numbered(group, table::OLD_ERA, era.0)
}

/// `namespace` must be within its limit.
pub(crate) fn schedule(group: GroupId, namespace: &str, name: &str) -> Vec<u8> {
    named(group, table::SCHEDULE, namespace, name.as_bytes())
}

/// `[from, to)` around all keys of a table.
pub(crate) fn table_range(group: GroupId, table: u8) -> (Vec<u8>, Vec<u8>) {
    (start(group, table, 0), start(group, table + 1, 0))
}

/// `[from, to)` around all keys of a group.
pub(crate) fn group_range(group: GroupId) -> (Vec<u8>, Vec<u8>) {
    (group.0.to_be_bytes().to_vec(), start(group, table::NONE, 0))
}
