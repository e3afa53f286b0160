//! Random requests for the property tests: few keys, few sessions, short numbers, so that they
//! meet each other often; and repetitions of earlier ones.

use crate::{
    Applied, Attachment, Batch, Caller, Command, Condition, Envelope, Event, Expect, FencingToken,
    Float, HeldLock, JobId, JobLease, KeySelector, KvDelete, KvDeletePattern, KvIncrement,
    KvIncrementFloat, KvSet, LeaseCheckpoint, LeasedJob, LockAcquire, LockAttach, LockCancel,
    LockDetach, LockDetachNode, LockExpire, LockForceRelease, LockGuard, LockRelease, LockRequest,
    MemberPublish, NodeId, Operation, Outcome, QueueAck, Sequence, SessionClose, SessionExpire,
    SessionId, SessionOpen, Share, Stamp, TicketId, Transaction,
};
use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::*;
use std::collections::BTreeMap;

mod cache;
mod queues;

/// One entry, before sessions and repetitions are known.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    /// How much later than the newest one so far; negative for a leader whose clock lies behind.
    later_ms: i64,
    requests: Vec<Request>,
}

#[derive(Clone, Debug)]
#[allow(clippy::large_enum_variant, reason = "most are of the large one")]
enum Request {
    New {
        namespace: u8,
        caller: Who,
        /// One of the locks that were granted so far.
        guard: Option<prop::sample::Index>,
        what: What,
    },
    /// One of the requests so far again, maybe with another floor.
    Again { which: prop::sample::Index, floor: Option<u64> },
}

#[derive(Clone, Debug)]
enum Who {
    Anonymous,
    Session {
        which: prop::sample::Index,
        sequence: u64,
        floor: u64,
    },
    /// One of the newest sessions, with the number that a client would give it.
    Next {
        which: prop::sample::Index,
    },
    Idempotency(u8),
}

#[derive(Clone, Debug)]
enum What {
    Command(Command),
    Close(prop::sample::Index),
    Expire(prop::sample::Index),
    /// A key that ends with a session.
    SetOwned(Bytes, prop::sample::Index),
    Lock(LockWhat, prop::sample::Index),
    Queue(queues::What),
    Cache(cache::What),
    /// A transaction that gives back a lock which somebody waited for, and does this after it.
    HandOver(prop::sample::Index, Vec<Operation>),
}

/// What to do with one of the locks, tickets or sessions so far.
#[derive(Clone, Debug)]
enum LockWhat {
    Release,
    ExpireTwo,
    Cancel(u64),
    Attach(Attachment),
    Detach(Attachment),
    Checkpoint(Option<u64>),
}

/// Nearly always begins with two sessions, without which most requests are refused.
pub(super) fn entries() -> impl Strategy<Value = Vec<Entry>> {
    let open = || {
        let open = Command::SessionOpen(SessionOpen { ttl_ms: 1_000 });
        let (caller, what) = (Who::Anonymous, What::Command(open));
        Request::New { namespace: 0, caller, guard: None, what }
    };
    let sessions = prop_oneof![
        1 => Just(Vec::new()),
        8 => Just(vec![Entry { later_ms: 0, requests: vec![open(), open()] }]),
    ];
    let later_ms = prop_oneof![
        4 => Just(0),
        4 => 1..6i64,
        1 => -5..0i64,
        1 => Just(1_000),
        1 => Just(300_000),
        1 => Just(599_999),
    ];
    let entry = (later_ms, vec(request(), 0..6));
    let entry = entry.prop_map(|(later_ms, requests)| Entry { later_ms, requests });
    (sessions, vec(entry, 1..60)).prop_map(|(sessions, entries)| [sessions, entries].concat())
}

fn request() -> impl Strategy<Value = Request> {
    let namespace = prop_oneof![6 => Just(0u8), 3 => Just(1), 1 => Just(2)];
    let again_floor = prop_oneof![3 => Just(None), 1 => (0..12u64).prop_map(Some)];
    prop_oneof![
        3 => (namespace, who(), prop::option::weighted(0.1, any::<prop::sample::Index>()), what())
            .prop_map(|(namespace, caller, guard, what)| {
                Request::New { namespace, caller, guard, what }
            }),
        1 => (any::<prop::sample::Index>(), again_floor)
            .prop_map(|(which, floor)| Request::Again { which, floor }),
    ]
}

fn who() -> impl Strategy<Value = Who> {
    let sequence = prop_oneof![8 => 0..12u64, 1 => 1_020..1_030u64, 1 => Just(u64::MAX)];
    let floor = prop_oneof![6 => 0..4u64, 3 => 0..12u64, 1 => 1_000..1_010u64];
    let session = (any::<prop::sample::Index>(), sequence, floor);
    prop_oneof![
        3 => Just(Who::Anonymous),
        5 => session.prop_map(|(which, sequence, floor)| Who::Session { which, sequence, floor }),
        8 => any::<prop::sample::Index>().prop_map(|which| Who::Next { which }),
        2 => (0..3u8).prop_map(Who::Idempotency),
    ]
}

fn what() -> impl Strategy<Value = What> {
    let key = || prop_oneof![Just("a"), Just("b"), Just("ab"), Just("")].prop_map(Bytes::from);
    let value = prop_oneof![
        Just("1"),
        Just("-3"),
        Just("x"),
        Just("9223372036854775807"),
        Just("0.1"),
        Just("1e308"),
    ];
    let ttl_ms = prop_oneof![
        4 => Just(None),
        4 => (1..8u64).prop_map(Some),
        1 => Just(Some(0)),
        1 => Just(Some(u64::MAX)),
    ];
    let expect = || {
        prop_oneof![
            4 => Just(Expect::Any),
            1 => Just(Expect::Absent),
            2 => (0..4u64).prop_map(Expect::Version),
        ]
    };
    let by = prop_oneof![-2..3i64, Just(i64::MAX), Just(i64::MIN)];
    let by_float = prop_oneof![
        3 => Just(Float::new(0.2)),
        3 => Just(Float::new(-0.1)),
        1 => Just(Float::new(1e308)),
        1 => Just(Float::new("-0".parse().unwrap())),
        1 => Just(Float::new("nan".parse().unwrap())),
    ];
    let selector = prop_oneof![
        4 => prop_oneof![Just("*"), Just("?"), Just("a*"), Just("*b"), Just("[^a]"), Just("a"),
            Just("a["), Just("")]
            .prop_map(|pattern| KeySelector::Pattern(pattern.into())),
        2 => prop_oneof![Just(""), Just("a"), Just("ab")]
            .prop_map(|prefix| KeySelector::Prefix(prefix.into())),
        2 => key().prop_map(KeySelector::Key),
    ];
    let after = prop_oneof![
        3 => Just(None),
        2 => key().prop_map(Some),
        1 => Just(Some(vec![b'a'; 1_025].into())),
    ];
    let session_ttl_ms = prop_oneof![4 => Just(1_000u64), 1 => Just(999), 1 => Just(3_600_001)];
    let addr = || prop_oneof![Just(String::new()), Just("host:1".to_owned())];
    prop_oneof![
        6 => (key(), value, ttl_ms, expect()).prop_map(|(key, value, ttl_ms, expect)| {
            let (value, owner) = (value.into(), None);
            What::Command(Command::KvSet(KvSet { key, value, ttl_ms, expect, owner }))
        }),
        2 => (key(), any::<prop::sample::Index>())
            .prop_map(|(key, session)| What::SetOwned(key, session)),
        7 => acquire(),
        7 => (lock(), any::<prop::sample::Index>())
            .prop_map(|(what, which)| What::Lock(what, which)),
        20 => queues::what().prop_map(What::Queue),
        18 => cache::what().prop_map(What::Cache),
        1 => lock_name().prop_map(|name| {
            What::Command(Command::LockForceRelease(LockForceRelease { name }))
        }),
        1 => (1..3u64).prop_map(|node| {
            What::Command(Command::LockDetachNode(LockDetachNode { node: NodeId(node) }))
        }),
        3 => (key(), expect())
            .prop_map(|(key, expect)| What::Command(Command::KvDelete(KvDelete { key, expect }))),
        5 => (key(), by)
            .prop_map(|(key, by)| What::Command(Command::KvIncrement(KvIncrement { key, by }))),
        3 => (key(), by_float).prop_map(|(key, by)| {
            What::Command(Command::KvIncrementFloat(KvIncrementFloat { key, by }))
        }),
        2 => (selector, after, prop_oneof![0..4u64, Just(u64::MAX)]).prop_map(
            |(selector, after, keys_max)| {
                let delete = KvDeletePattern { selector, after, keys_max };
                What::Command(Command::KvDeletePattern(delete))
            }
        ),
        2 => session_ttl_ms
            .prop_map(|ttl_ms| What::Command(Command::SessionOpen(SessionOpen { ttl_ms }))),
        4 => transaction().prop_map(|asked| What::Command(Command::Transaction(asked))),
        3 => hand_over(),
        1 => any::<prop::sample::Index>().prop_map(What::Close),
        1 => any::<prop::sample::Index>().prop_map(What::Expire),
        1 => Just(What::Command(Command::Tick)),
        1 => (addr(), addr()).prop_map(|(client_addr, http_addr)| {
            let node = NodeId(1);
            What::Command(Command::MemberPublish(MemberPublish { node, client_addr, http_addr }))
        }),
    ]
}

/// Up to two conditions and four operations in each branch, on few keys and locks, so that many fail
/// in the middle. What names a lock by its token is given one of those that were granted.
fn transaction() -> impl Strategy<Value = Transaction> {
    let key = || prop_oneof![8 => Just("a"), 8 => Just("ab"), 1 => Just("")].prop_map(Bytes::from);
    let condition = prop_oneof![
        (key(), 1..3u64).prop_map(|(key, version)| Condition::KvVersion { key, version }),
        key().prop_map(|key| Condition::KvAbsent { key }),
        key().prop_map(|key| Condition::KvExists { key }),
        key().prop_map(|key| Condition::KvValue { key, value: "1".into() }),
        (lock_name(), token()).prop_map(|(name, token)| Condition::LockHeld { name, token }),
        lock_name().prop_map(|name| Condition::LockFree { name }),
        (queues::name(), 0..4u64)
            .prop_map(|(queue, at_most)| Condition::QueueJobs { queue, at_most }),
    ];
    let operation = prop_oneof![
        key().prop_map(|key| Operation::KvGet { key }),
        (key(), prop_oneof![Just("1"), Just("x")], prop_oneof![Just(None), Just(Some(3))])
            .prop_map(|(key, value, ttl_ms)| {
                let (value, expect) = (value.into(), Expect::Any);
                Operation::KvSet(KvSet { key, value, ttl_ms, expect, owner: None })
            }),
        (key(), prop_oneof![Just(Expect::Any), Just(Expect::Version(1))])
            .prop_map(|(key, expect)| Operation::KvDelete(KvDelete { key, expect })),
        (key(), 1..3i64).prop_map(|(key, by)| Operation::KvIncrement(KvIncrement { key, by })),
        key().prop_map(|key| {
            Operation::KvIncrementFloat(KvIncrementFloat { key, by: Float::new(0.5) })
        }),
        (lock_name(), share(), prop_oneof![16 => Just(100), 1 => Just(99)])
            .prop_map(|(name, share, ttl_ms)| Operation::LockAcquire { name, share, ttl_ms }),
        (lock_name(), token())
            .prop_map(|(name, token)| Operation::LockRelease(LockRelease { name, token })),
        queues::push().prop_map(Operation::QueuePush),
        queues::push().prop_map(Operation::QueuePush),
        cache::operation(),
        cache::operation(),
        queues::name().prop_map(|queue| {
            let job = LeasedJob { queue, id: JobId(0), lease: JobLease(0) };
            Operation::QueueAck(QueueAck { job })
        }),
    ];
    let operations = || vec(operation.clone(), 0..5);
    (vec(condition, 0..3), operations(), operations())
        .prop_map(|(conditions, then, otherwise)| Transaction { conditions, then, otherwise })
}

/// Gives back a lock that somebody waits for, and takes some.
fn hand_over() -> impl Strategy<Value = What> {
    let acquire = (lock_name(), share()).prop_map(|(name, share)| Operation::LockAcquire {
        name,
        share,
        ttl_ms: 100,
    });
    (any::<prop::sample::Index>(), vec(acquire, 0..3))
        .prop_map(|(which, acquires)| What::HandOver(which, acquires))
}

fn lock_name() -> impl Strategy<Value = String> {
    prop_oneof![8 => Just("l"), 8 => Just("m"), 1 => Just("")].prop_map(str::to_owned)
}

/// Stands for one of the locks that were granted, counted from the newest; 0 for none of them.
fn token() -> impl Strategy<Value = FencingToken> {
    prop_oneof![1 => Just(0), 4 => 1..3u64, 4 => 3..8u64].prop_map(FencingToken)
}

fn share() -> impl Strategy<Value = Share> {
    prop_oneof![
        6 => Just(Share::Exclusive),
        3 => Just(Share::Shared),
        3 => (0..4u32).prop_map(|of| Share::Permit { of }),
    ]
}

fn attachment() -> impl Strategy<Value = Attachment> {
    (1..3u64, 0..3u64).prop_map(|(node, call)| Attachment { node: NodeId(node), call })
}

fn acquire() -> impl Strategy<Value = What> {
    let ttl_ms = prop_oneof![8 => Just(100u64), 1 => Just(99), 1 => Just(3_600_001)];
    let wait_ms = prop_oneof![1 => Just(0), 3 => 1..8u64, 3 => Just(1_000)];
    (lock_name(), share(), ttl_ms, wait_ms, attachment()).prop_map(
        |(name, share, ttl_ms, wait_ms, attachment)| {
            let request = LockRequest { name, share, ttl_ms, wait_ms };
            What::Command(Command::LockAcquire(LockAcquire { request, attachment }))
        },
    )
}

fn lock() -> impl Strategy<Value = LockWhat> {
    prop_oneof![
        4 => Just(LockWhat::Release),
        2 => Just(LockWhat::ExpireTwo),
        2 => (0..12u64).prop_map(LockWhat::Cancel),
        2 => attachment().prop_map(LockWhat::Attach),
        3 => attachment().prop_map(LockWhat::Detach),
        1 => prop::option::of(1..50u64).prop_map(LockWhat::Checkpoint),
    ]
}

/// Makes entries of what was drawn, given what became of those before.
#[derive(Default)]
pub(super) struct Author {
    newest_ms: u64,
    sent: Vec<Envelope>,
    /// All that were ever opened, ended ones too.
    sessions: Vec<SessionId>,
    /// The numbers that their next requests have.
    next: BTreeMap<SessionId, u64>,
    /// All that were ever granted.
    locks: Vec<HeldLock>,
    /// Namespaces and names of those that were ever waited for, as often as they were.
    waited_for: Vec<(String, String)>,
    /// All that there ever were.
    tickets: Vec<TicketId>,
    queues: queues::Known,
    cache: cache::Known,
}

impl Author {
    pub(super) fn batch(&mut self, entry: &Entry) -> Batch {
        let lease_ms = self.newest_ms.saturating_add_signed(entry.later_ms);
        self.newest_ms = self.newest_ms.max(lease_ms);
        let commands = entry.requests.iter().map(|request| self.envelope(request)).collect();
        Batch { stamp: Stamp { lease_ms, wall_ms: lease_ms / 2 }, commands }
    }

    pub(super) fn learn(&mut self, applied: &Applied) {
        for event in &applied.events {
            match event {
                Event::SessionOpened { id, .. } => self.sessions.push(*id),
                Event::LockGranted { namespace, name, token, .. } => self.locks.push(HeldLock {
                    namespace: namespace.clone(),
                    name: name.clone(),
                    token: *token,
                }),
                other => self.queues.learn_event(other),
            }
        }
        let batch = &self.sent[self.sent.len() - applied.outcomes.len()..];
        for (envelope, outcome) in batch.iter().zip(&applied.outcomes) {
            if let (Command::LockAcquire(acquire), Outcome::LockQueued { ticket }) =
                (&envelope.command, outcome)
                && !self.tickets.contains(ticket)
            {
                self.tickets.push(*ticket);
                self.waited_for.push((envelope.namespace.clone(), acquire.request.name.clone()));
            }
            self.queues.learn(outcome);
            self.cache.learn(envelope, outcome);
        }
    }

    pub(super) fn tickets(&self) -> &[TicketId] {
        &self.tickets
    }

    fn envelope(&mut self, request: &Request) -> Envelope {
        let envelope = match request {
            Request::Again { which, floor } if !self.sent.is_empty() => {
                let mut again = which.get(&self.sent).clone();
                if let (Caller::Session { floor: old, .. }, Some(new)) = (&mut again.caller, floor)
                {
                    *old = Sequence(*new);
                }
                if let Caller::Session { id, floor, .. } = again.caller {
                    self.note_floor(id, floor);
                }
                again
            }
            Request::Again { .. } => Envelope {
                namespace: String::new(),
                caller: Caller::Anonymous,
                guard: None,
                command: Command::Tick,
            },
            Request::New { namespace, caller, guard, what } => Envelope {
                namespace: match (self.belongs_to(what), namespace) {
                    (Some(namespace), _) => namespace,
                    // Jobs are acknowledged where they were pushed, now and then.
                    (None, 1) if matches!(what, What::Queue(_)) => String::new(),
                    (None, 0) => String::new(),
                    (None, 1) => "a".to_owned(),
                    (None, _) => "n".repeat(256),
                },
                caller: self.caller(caller),
                guard: guard
                    .as_ref()
                    .and_then(|which| self.lock(which))
                    .map(|lock| LockGuard { name: lock.name, token: lock.token }),
                command: self.command(what),
            },
        };
        self.sent.push(envelope.clone());
        envelope
    }

    fn caller(&mut self, who: &Who) -> Caller {
        match who {
            Who::Anonymous => Caller::Anonymous,
            Who::Session { which, sequence, floor } => {
                let (id, sequence, floor) =
                    (self.session(which), Sequence(*sequence), Sequence(*floor));
                self.note_floor(id, floor);
                Caller::Session { id, sequence, floor }
            }
            Who::Next { which } => {
                let newest = &self.sessions[self.sessions.len().saturating_sub(2)..];
                let id = match newest.len() {
                    0 => SessionId(1),
                    count => newest[which.index(count)],
                };
                let next = self.next.entry(id).or_insert(1);
                let sequence = Sequence(*next);
                *next += 1;
                Caller::Session { id, sequence, floor: Sequence(0) }
            }
            Who::Idempotency(0) => Caller::Idempotency { key: Bytes::new() },
            Who::Idempotency(key) => Caller::Idempotency { key: vec![*key].into() },
        }
    }

    fn note_floor(&mut self, id: SessionId, floor: Sequence) {
        let next = self.next.entry(id).or_insert(1);
        *next = floor.0.max(*next);
    }

    fn command(&self, what: &What) -> Command {
        match what {
            What::Command(Command::Transaction(asked)) => {
                let mut asked = asked.clone();
                for condition in &mut asked.conditions {
                    if let Condition::LockHeld { name, token } = condition {
                        self.name_granted(name, token);
                    }
                }
                for operation in asked.then.iter_mut().chain(&mut asked.otherwise) {
                    match operation {
                        // Some of its keys end with a session, which may be over by now.
                        Operation::KvSet(KvSet { key, ttl_ms: None, owner, .. })
                            if key[..] == *b"ab" =>
                        {
                            *owner = self.sessions.last().copied();
                        }
                        Operation::LockRelease(LockRelease { name, token }) => {
                            self.name_granted(name, token);
                        }
                        Operation::QueueAck(QueueAck { job }) => self.queues.name_delivered(job),
                        _ => {}
                    }
                }
                Command::Transaction(asked)
            }
            What::Command(command) => command.clone(),
            What::Close(which) => Command::SessionClose(SessionClose { id: self.session(which) }),
            What::Expire(which) => {
                let ids = vec![self.session(which), SessionId(1), self.session(which)];
                Command::SessionExpire(SessionExpire { ids })
            }
            What::SetOwned(key, which) => Command::KvSet(KvSet {
                key: key.clone(),
                value: "1".into(),
                ttl_ms: None,
                expect: Expect::Any,
                owner: Some(self.session(which)),
            }),
            What::Lock(what, which) => self.lock_command(what, which),
            What::Queue(what) => self.queues.command(what, &self.sessions),
            What::Cache(what) => self.cache.command(what),
            What::HandOver(_, operations) => {
                let release = self.handed_over(what).map(|HeldLock { name, token, .. }| {
                    Operation::LockRelease(LockRelease { name, token })
                });
                let then = release.into_iter().chain(operations.iter().cloned()).collect();
                Command::Transaction(Transaction { then, ..Transaction::default() })
            }
        }
    }

    fn lock_command(&self, what: &LockWhat, which: &prop::sample::Index) -> Command {
        let ticket = match self.tickets.len() {
            0 => TicketId(1),
            count => self.tickets[which.index(count)],
        };
        match what {
            LockWhat::Release => match self.lock(which) {
                Some(HeldLock { name, token, .. }) => {
                    Command::LockRelease(LockRelease { name, token })
                }
                None => Command::Tick,
            },
            LockWhat::ExpireTwo => {
                let locks = self.lock(which).into_iter().chain(self.locks.first().cloned());
                Command::LockExpire(LockExpire { locks: locks.collect() })
            }
            LockWhat::Cancel(sequence) => Command::LockCancel(LockCancel {
                session: self.session(which),
                sequence: Sequence(*sequence),
            }),
            LockWhat::Attach(attachment) => {
                Command::LockAttach(LockAttach { ticket, attachment: *attachment })
            }
            LockWhat::Detach(attachment) => {
                Command::LockDetach(LockDetach { calls: vec![(ticket, *attachment)] })
            }
            LockWhat::Checkpoint(remaining_ms) => Command::LeaseCheckpoint(LeaseCheckpoint {
                sessions: vec![(self.session(which), *remaining_ms)],
                locks: self.lock(which).into_iter().map(|held| (held, *remaining_ms)).collect(),
            }),
        }
    }

    /// The namespace that the request needs, if it needs one.
    fn belongs_to(&self, what: &What) -> Option<String> {
        match what {
            What::Cache(what) => self.cache.namespace(what),
            what => self.handed_over(what).map(|held| held.namespace),
        }
    }

    /// The newest grant of a lock that was waited for lately, when that is asked for.
    fn handed_over(&self, what: &What) -> Option<HeldLock> {
        let What::HandOver(which, _) = what else { return None };
        let lately = &self.waited_for[self.waited_for.len().saturating_sub(3)..];
        let (namespace, name) = match lately.len() {
            0 => return None,
            count => &lately[which.index(count)],
        };
        let mut newest = self.locks.iter().rev();
        newest.find(|held| (&held.namespace, &held.name) == (namespace, name)).cloned()
    }

    /// Puts a lock that was granted in the place of what [`token`] drew.
    fn name_granted(&self, name: &mut String, token: &mut FencingToken) {
        let from_newest = usize::try_from(token.0).unwrap();
        if let Some(at) = self.locks.len().checked_sub(from_newest)
            && let Some(held) = self.locks.get(at)
        {
            (*name, *token) = (held.name.clone(), held.token);
        }
    }

    fn lock(&self, which: &prop::sample::Index) -> Option<HeldLock> {
        match self.locks.len() {
            0 => None,
            count => Some(self.locks[which.index(count)].clone()),
        }
    }

    fn session(&self, which: &prop::sample::Index) -> SessionId {
        match self.sessions.len() {
            0 => SessionId(1),
            count => self.sessions[which.index(count)],
        }
    }
}
