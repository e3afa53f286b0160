//! One value, or several, of everything that is ever stored or sent, under a name.
//!
//! When a variant is added, `name_of_*` stops compiling: add samples of it there and here.

use crate::keys::{self, Clock, DeadlineKind};
use crate::query::KvItem;
use crate::rows::{
    Answer, AnswerRow, HistoryChange, HistoryMetaRow, HistoryRow, Holder, IdempotencyRow, KvRow,
    LockRow, MemberAddrRow, MetaRow, SessionRow, TicketRow, TicketState,
};
use crate::{
    Attachment, Batch, Caller, Command, Condition, DeleteCause, Envelope, Expect, FencingToken,
    Float, GroupId, HeldLock, HistoryPosition, KeySelector, KvDelete, KvDeletePattern, KvIncrement,
    KvIncrementFloat, KvSet, LeaseCheckpoint, LockAcquire, LockAttach, LockCancel, LockDetach,
    LockDetachNode, LockExpire, LockForceRelease, LockGuard, LockRelease, LockRequest, LogIndex,
    MemberPublish, NodeId, Operated, Operation, Outcome, Rejection, Revision, Sequence,
    SessionClose, SessionExpire, SessionId, SessionOpen, Share, Stamp, TicketId, Transaction,
    TransactionStep, codec,
};
use bytes::Bytes;

mod access;
mod cache;
mod member;
mod queue;
mod rejection;

pub(super) use rejection::rejections;

pub(super) fn commands() -> Vec<(String, Command)> {
    let set = |ttl_ms: Option<u64>, expect| {
        let owner = ttl_ms.map(SessionId);
        Command::KvSet(KvSet { key: "key".into(), value: "value".into(), ttl_ms, expect, owner })
    };
    let acquire = |share, wait_ms| {
        let request = LockRequest { name: "lock".to_owned(), share, ttl_ms: 30_000, wait_ms };
        let attachment = Attachment { node: NodeId(3), call: 1 << 60 };
        Command::LockAcquire(LockAcquire { request, attachment })
    };
    let take =
        |name: &str, share| Operation::LockAcquire { name: name.to_owned(), share, ttl_ms: 30_000 };
    let held =
        HeldLock { namespace: "ns".to_owned(), name: "lock".to_owned(), token: FencingToken(33) };
    let delete = |expect| Command::KvDelete(KvDelete { key: "key".into(), expect });
    let all = [
        Command::Tick,
        set(None, Expect::Any),
        set(Some(30_000), Expect::Absent),
        set(Some(1), Expect::Version(300)),
        delete(Expect::Any),
        delete(Expect::Version(70_000)),
        Command::KvIncrement(KvIncrement { key: "key".into(), by: 1 }),
        Command::KvIncrement(KvIncrement { key: "key".into(), by: i64::MIN }),
        Command::SessionOpen(SessionOpen { ttl_ms: 30_000 }),
        Command::SessionClose(SessionClose { id: SessionId(4096) }),
        Command::SessionExpire(SessionExpire { ids: vec![SessionId(4096), SessionId(1 << 52)] }),
        Command::MemberPublish(MemberPublish {
            node: NodeId(3),
            client_addr: "10.0.0.3:8811".to_owned(),
            http_addr: String::new(),
        }),
        Command::KvDeletePattern(KvDeletePattern {
            selector: KeySelector::Prefix("user:".into()),
            after: None,
            keys_max: 10_000,
        }),
        Command::KvDeletePattern(KvDeletePattern {
            selector: KeySelector::Pattern("user:*".into()),
            after: Some("user:a".into()),
            keys_max: 1,
        }),
        Command::KvDeletePattern(KvDeletePattern {
            selector: KeySelector::Key("user:a".into()),
            after: None,
            keys_max: 1,
        }),
        Command::KvIncrementFloat(KvIncrementFloat { key: "key".into(), by: Float::new(0.5) }),
        Command::KvIncrementFloat(KvIncrementFloat { key: "key".into(), by: Float::new(-1e300) }),
        Command::Transaction(Transaction {
            conditions: vec![
                Condition::KvVersion { key: "a".into(), version: 300 },
                Condition::KvAbsent { key: "b".into() },
                Condition::KvExists { key: "c".into() },
                Condition::KvValue { key: "d".into(), value: "v".into() },
            ],
            then: vec![
                Operation::KvGet { key: "a".into() },
                Operation::KvSet(KvSet {
                    key: "b".into(),
                    value: "v".into(),
                    ttl_ms: Some(1),
                    expect: Expect::Absent,
                    owner: None,
                }),
                Operation::KvDelete(KvDelete { key: "c".into(), expect: Expect::Any }),
                Operation::KvIncrement(KvIncrement { key: "n".into(), by: -1 }),
                Operation::KvIncrementFloat(KvIncrementFloat {
                    key: "f".into(),
                    by: Float::new(0.5),
                }),
            ],
            otherwise: vec![Operation::KvGet { key: "a".into() }],
        }),
        Command::Transaction(Transaction::default()),
        Command::Transaction(Transaction {
            conditions: vec![
                Condition::LockHeld { name: "lock".to_owned(), token: FencingToken(33) },
                Condition::LockFree { name: "other".to_owned() },
            ],
            then: vec![
                take("lock", Share::Exclusive),
                take("lock", Share::Permit { of: 3 }),
                Operation::LockRelease(LockRelease {
                    name: "other".to_owned(),
                    token: FencingToken(300),
                }),
            ],
            otherwise: vec![take("other", Share::Shared)],
        }),
        acquire(Share::Exclusive, 0),
        acquire(Share::Shared, 10_000),
        acquire(Share::Permit { of: 3 }, 10_000),
        Command::LockRelease(LockRelease { name: "lock".to_owned(), token: FencingToken(33) }),
        Command::LockForceRelease(LockForceRelease { name: "lock".to_owned() }),
        Command::LockCancel(LockCancel { session: SessionId(4096), sequence: Sequence(7) }),
        Command::LockAttach(LockAttach {
            ticket: TicketId(8192),
            attachment: Attachment { node: NodeId(2), call: 7 },
        }),
        Command::LockDetach(LockDetach {
            calls: vec![(TicketId(8192), Attachment { node: NodeId(2), call: 7 })],
        }),
        Command::LockDetachNode(LockDetachNode { node: NodeId(2) }),
        Command::LockExpire(LockExpire { locks: vec![held.clone()] }),
        Command::LeaseCheckpoint(LeaseCheckpoint {
            sessions: vec![(SessionId(4096), Some(15_000)), (SessionId(8192), None)],
            locks: vec![(held, Some(500))],
        }),
    ];
    let all = all.into_iter().chain(queue::commands()).chain([queue::transaction()]);
    let all = all.chain(cache::commands()).chain([cache::transaction()]).chain(member::commands());
    let all = all.chain(access::commands());
    numbered(all, name_of_command)
}

fn name_of_command(command: &Command) -> &'static str {
    match command {
        Command::Tick => "tick",
        Command::KvSet(_) => "kv_set",
        Command::KvDelete(_) => "kv_delete",
        Command::KvIncrement(_) => "kv_increment",
        Command::SessionOpen(_) => "session_open",
        Command::SessionClose(_) => "session_close",
        Command::SessionExpire(_) => "session_expire",
        Command::MemberPublish(_) => "member_publish",
        Command::KvDeletePattern(_) => "kv_delete_pattern",
        Command::KvIncrementFloat(_) => "kv_increment_float",
        Command::Transaction(_) => "transaction",
        Command::LockAcquire(_) => "lock_acquire",
        Command::LockRelease(_) => "lock_release",
        Command::LockForceRelease(_) => "lock_force_release",
        Command::LockCancel(_) => "lock_cancel",
        Command::LockAttach(_) => "lock_attach",
        Command::LockDetach(_) => "lock_detach",
        Command::LockDetachNode(_) => "lock_detach_node",
        Command::LockExpire(_) => "lock_expire",
        Command::LeaseCheckpoint(_) => "lease_checkpoint",
        Command::QueuePush(_)
        | Command::QueuePull(_)
        | Command::ConsumerAttach(_)
        | Command::ConsumerDetach(_)
        | Command::ConsumerDetachNode(_)
        | Command::ConsumerResize(_)
        | Command::QueueAck(_)
        | Command::QueueNack(_)
        | Command::QueueExtend(_)
        | Command::QueueProgress(_)
        | Command::QueueCancel(_)
        | Command::QueueUpdate(_)
        | Command::QueuePause(_)
        | Command::QueuePurge(_)
        | Command::QueueDelete(_)
        | Command::QueueRedrive(_)
        | Command::SchedulePut(_)
        | Command::ScheduleNext(_)
        | Command::ScheduleDelete(_) => queue::name_of_command(command),
        Command::CacheSet(_)
        | Command::CacheDelete(_)
        | Command::CacheDeletePattern(_)
        | Command::CacheInvalidateTags(_)
        | Command::CacheTouch(_)
        | Command::CacheBuild(_)
        | Command::CacheFill(_)
        | Command::CacheBuildEnd(_)
        | Command::CacheEvict(_)
        | Command::CacheResize(_) => cache::name_of_command(command),
        Command::MemberInvite(_) => "member_invite",
        Command::MemberJoin(_) => "member_join",
        Command::MemberChange(_) => "member_change",
        Command::MemberSettle(_) => "member_settle",
        Command::FeatureLevelRaise(_) => "feature_level_raise",
        Command::AccessTokenCreate(_)
        | Command::AccessTokenRevoke(_)
        | Command::AccessRolePut(_)
        | Command::AccessRoleDelete(_)
        | Command::AccessSubjectPut(_)
        | Command::AccessSubjectDelete(_) => access::name_of_command(command),
    }
}

/// Whole entries, with every kind of caller.
pub(super) fn batches() -> Vec<(String, Batch)> {
    let envelope =
        |caller, command| Envelope { namespace: "ns".to_owned(), caller, guard: None, command };
    let guard = Some(LockGuard { name: "lock".to_owned(), token: FencingToken(33) });
    let guarded = Envelope { guard, ..envelope(Caller::Anonymous, Command::Tick) };
    let callers = vec![
        guarded,
        envelope(Caller::Anonymous, Command::Tick),
        envelope(
            Caller::Session { id: SessionId(4096), sequence: Sequence(7), floor: Sequence(5) },
            Command::KvIncrement(KvIncrement { key: "n".into(), by: 2 }),
        ),
        envelope(
            Caller::Idempotency { key: Bytes::from_static(b"\x00\xff") },
            Command::SessionOpen(SessionOpen { ttl_ms: 1_000 }),
        ),
    ];
    let stamp = Stamp { lease_ms: 12_345, wall_ms: 1_700_000_000_000 };
    vec![
        ("empty".to_owned(), Batch::default()),
        ("callers".to_owned(), Batch { stamp, commands: callers }),
    ]
}

pub(super) fn outcomes() -> Vec<(String, Outcome)> {
    let revision = Revision((77 << 12) | 3);
    let all = [
        Outcome::Rejected(Rejection::NotANumber),
        Outcome::Done,
        Outcome::KvSet { version: 1, revision },
        Outcome::KvDelete { deleted: true, revision },
        Outcome::KvDelete { deleted: false, revision },
        Outcome::KvIncrement { value: -5, version: 300, revision },
        Outcome::SessionOpen { id: SessionId(4096), ttl_ms: 30_000 },
        Outcome::SessionClose { closed: true },
        Outcome::AppliedResultDropped,
        Outcome::KvDeletePattern { deleted: 300, cursor: Some("user:z".into()), revision },
        Outcome::KvDeletePattern { deleted: 0, cursor: None, revision },
        Outcome::KvIncrementFloat { value: Float::new(0.5), version: 300, revision },
        Outcome::SessionExpire { settled: 2 },
        Outcome::Transaction {
            failed_condition: None,
            operated: vec![
                Operated::KvGet(None),
                Operated::KvGet(Some(KvItem {
                    value: "v".into(),
                    version: 300,
                    create_revision: Revision(77 << 12),
                    mod_revision: revision,
                    remaining_ttl_ms: Some(1),
                })),
                Operated::KvSet { version: 1 },
                Operated::KvDelete { deleted: true },
                Operated::KvIncrement { value: -5, version: 300 },
                Operated::KvIncrementFloat { value: Float::new(0.5), version: 300 },
            ],
            revision,
        },
        Outcome::TransactionFailed {
            step: TransactionStep::Condition(3),
            rejection: Rejection::Invalid("why".to_owned()),
        },
        Outcome::TransactionFailed {
            step: TransactionStep::Then(300),
            rejection: Rejection::Overflow,
        },
        Outcome::TransactionFailed {
            step: TransactionStep::Otherwise(0),
            rejection: Rejection::ConditionFailed { version: None },
        },
        Outcome::Transaction { failed_condition: Some(300), operated: Vec::new(), revision },
        Outcome::Transaction {
            failed_condition: None,
            operated: vec![
                Operated::LockAcquire { token: FencingToken(33), ttl_ms: 30_000 },
                Operated::LockRelease { released: true },
            ],
            revision,
        },
        Outcome::TransactionFailed {
            step: TransactionStep::Then(1),
            rejection: Rejection::LockHeld { name: "lock".to_owned(), token: None },
        },
        Outcome::LockAcquire { token: FencingToken(33), ttl_ms: 30_000, revision },
        Outcome::LockQueued { ticket: TicketId(8192) },
        Outcome::LockRelease { released: 1, revision },
        Outcome::LockDetachNode { more: true },
    ];
    let all = all.into_iter().chain(queue::outcomes()).chain([queue::transacted()]);
    let all = all.chain(cache::outcomes()).chain([cache::transacted()]);
    let all = all.chain([Outcome::MemberJoin { node: NodeId(4) }]).chain(access::outcomes());
    numbered(all, |outcome| match outcome {
        Outcome::Rejected(_) => "rejected",
        Outcome::Done => "done",
        Outcome::KvSet { .. } => "kv_set",
        Outcome::KvDelete { .. } => "kv_delete",
        Outcome::KvIncrement { .. } => "kv_increment",
        Outcome::SessionOpen { .. } => "session_open",
        Outcome::SessionClose { .. } => "session_close",
        Outcome::AppliedResultDropped => "applied_result_dropped",
        Outcome::KvDeletePattern { .. } => "kv_delete_pattern",
        Outcome::KvIncrementFloat { .. } => "kv_increment_float",
        Outcome::SessionExpire { .. } => "session_expire",
        Outcome::Transaction { .. } => "transaction",
        Outcome::TransactionFailed { .. } => "transaction_failed",
        Outcome::LockAcquire { .. } => "lock_acquire",
        Outcome::LockQueued { .. } => "lock_queued",
        Outcome::LockRelease { .. } => "lock_release",
        Outcome::LockDetachNode { .. } => "lock_detach_node",
        Outcome::QueuePush { .. }
        | Outcome::QueuePull { .. }
        | Outcome::QueuePullWaits { .. }
        | Outcome::ConsumerAttach { .. }
        | Outcome::ConsumerDetachNode { .. }
        | Outcome::QueueAck { .. }
        | Outcome::QueueNack { .. }
        | Outcome::QueueExtend { .. }
        | Outcome::QueueCancel { .. }
        | Outcome::QueueUpdate { .. }
        | Outcome::QueuePurge { .. }
        | Outcome::QueueRedrive { .. }
        | Outcome::SchedulePut { .. }
        | Outcome::ScheduleDelete { .. } => queue::name_of_outcome(outcome),
        Outcome::CacheSet { .. }
        | Outcome::CacheDelete { .. }
        | Outcome::CacheDeletePattern { .. }
        | Outcome::CacheInvalidateTags { .. }
        | Outcome::CacheTouch { .. }
        | Outcome::CacheBuild { .. }
        | Outcome::CacheFill { .. }
        | Outcome::CacheBuildEnd { .. }
        | Outcome::CacheEvict { .. }
        | Outcome::CacheResize { .. } => cache::name_of_outcome(outcome),
        Outcome::MemberJoin { .. } => "member_join",
        Outcome::AccessDelete { .. } => "access_delete",
    })
}

/// Keys and values of all tables, as they are stored.
pub(super) fn rows() -> Vec<(String, Vec<u8>, Vec<u8>)> {
    let group = GroupId(1);
    let (id, index) = (SessionId(4096), LogIndex(2));
    let stamp = Stamp { lease_ms: 12_345, wall_ms: 1_700_000_000_000 };
    let (revision, revision_base) = (Revision(8_195), 1 << 40);
    let meta = MetaRow {
        stamp,
        revision,
        revision_base,
        sessions: 1,
        idempotency_keys: 2,
        fencing_token: FencingToken(33),
    };
    let kv = |deadline_ms| KvRow {
        version: 2,
        create_revision: Revision(4_096),
        mod_revision: Revision(8_192),
        deadline_ms,
        owner: deadline_ms.map(|_| id),
        value: b"value",
    };
    let outcome = Outcome::KvSet { version: 2, revision: Revision(8_192) };
    let request_hash = 0x0123_4567_89ab_cdef;
    let answer = Answer { sequence: Sequence(7), request_hash, outcome: outcome.clone() };
    let idempotency = IdempotencyRow { deadline_ms: 612_345, request_hash, outcome };
    let addr = MemberAddrRow {
        client_addr: "10.0.0.3:8811".to_owned(),
        http_addr: "10.0.0.3:8813".to_owned(),
    };
    let kv_key = keys::kv(group, "ns", b"key");
    let idempotency_key = keys::idempotency(group, "", b"\x00\xff");
    let kv_deadline = keys::deadline(group, Clock::Lease, 42_345, DeadlineKind::Kv, &kv_key);
    let idempotency_deadline =
        keys::deadline(group, Clock::Lease, 612_345, DeadlineKind::Idempotency, &idempotency_key);
    let recent = vec![answer.clone()];
    let session =
        SessionRow { ttl_ms: 30_000, remaining_ms: Some(15_000), floor: Sequence(7), recent };
    let holder = |share| Holder {
        token: FencingToken(33),
        session: id,
        share,
        ttl_ms: 30_000,
        remaining_ms: Some(15_000),
        granted_ms: 12_000,
        revision,
    };
    let lock = LockRow { holders: vec![holder(Share::Exclusive)], waiters: 2 };
    let ticket = |state| TicketRow {
        session: id,
        sequence: Sequence(7),
        namespace: "ns".to_owned(),
        name: "lock".to_owned(),
        share: Share::Permit { of: 3 },
        ttl_ms: 30_000,
        deadline_ms: 42_345,
        attachment: Some(Attachment { node: NodeId(3), call: 7 }),
        state,
    };
    let ticket_id = TicketId(8_192);
    let granted = TicketState::Granted { token: FencingToken(33), revision };
    let ticket_key = keys::ticket(group, ticket_id);
    let trimmed = HistoryPosition { revision: Revision(4_096), event: 3 };
    let history_meta = HistoryMetaRow { bytes: 70_000, trimmed };
    let history_key = |event| keys::history(group, HistoryPosition { revision, event });
    let history = |change| HistoryRow { id: keys::id(&kv_key), change }.encode();
    let history_set = |ttl_ms| {
        let create_revision = Revision(4_096);
        history(HistoryChange::Set { version: 2, create_revision, ttl_ms, value: b"value" })
    };
    let history_delete = |cause| history(HistoryChange::Delete(cause));
    let all: [(&str, Vec<u8>, Vec<u8>); 22] = [
        ("history_meta", keys::history_meta(group), codec::encode(&history_meta)),
        ("history_set", history_key(0), history_set(None)),
        ("history_set_ttl", history_key(1), history_set(Some(30_000))),
        ("history_deleted", history_key(2), history_delete(DeleteCause::Deleted)),
        ("history_expired", history_key(3), history_delete(DeleteCause::Expired)),
        ("history_session_ended", history_key(4), history_delete(DeleteCause::SessionEnded)),
        ("meta", keys::meta(group), codec::encode(&meta)),
        ("digest", keys::digest(group), codec::encode(&request_hash)),
        ("kv", kv_key.clone(), kv(None).encode()),
        ("kv_ttl", kv_key.clone(), kv(Some(42_345)).encode()),
        ("deadline_kv", kv_deadline, Vec::new()),
        ("deadline_idempotency", idempotency_deadline, Vec::new()),
        ("session", keys::session(group, id), codec::encode(&session)),
        (
            "session_answer",
            keys::session_answer(group, id, index),
            codec::encode(&AnswerRow { answers: vec![answer] }),
        ),
        ("idempotency", idempotency_key, codec::encode(&idempotency)),
        ("session_key", keys::session_key(group, id, &keys::kv(group, "ns", b"key")), Vec::new()),
        ("lock", keys::lock(group, "ns", "lock"), codec::encode(&lock)),
        ("ticket", ticket_key.clone(), codec::encode(&ticket(TicketState::Waiting))),
        ("ticket_granted", ticket_key.clone(), codec::encode(&ticket(granted))),
        ("ticket_timed_out", ticket_key.clone(), codec::encode(&ticket(TicketState::TimedOut))),
        (
            "deadline_ticket",
            keys::deadline(group, Clock::Lease, 42_345, DeadlineKind::Ticket, &ticket_key),
            Vec::new(),
        ),
        ("member_addr", keys::member_addr(group, NodeId(3)), codec::encode(&addr)),
    ];
    let all = all.into_iter().chain(queue::rows(group)).chain(cache::rows(group));
    let all = all.chain(member::rows(group)).chain(access::rows(group));
    all.map(|(name, key, value)| (name.to_owned(), key, value)).collect()
}

fn numbered<T>(
    all: impl IntoIterator<Item = T>,
    name: impl Fn(&T) -> &'static str,
) -> Vec<(String, T)> {
    let mut named: Vec<(String, T)> = Vec::new();
    for value in all {
        let name = name(&value);
        let before = named.iter().filter(|(n, _)| n.split('/').next() == Some(name)).count();
        named.push((format!("{name}/{before}"), value));
    }
    named
}
