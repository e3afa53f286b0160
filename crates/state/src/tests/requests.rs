//! Random requests for the property tests: few keys, few sessions, short numbers, so that they
//! meet each other often; and repetitions of earlier ones.

use crate::{
    Applied, Attachment, Batch, Caller, Command, Condition, Envelope, Event, Expect, Float,
    HeldLock, KeySelector, KvDelete, KvDeletePattern, KvIncrement, KvIncrementFloat, KvSet,
    LeaseCheckpoint, LockAcquire, LockAttach, LockCancel, LockDetach, LockDetachNode, LockExpire,
    LockForceRelease, LockGuard, LockRelease, LockRequest, MemberPublish, NodeId, Operation,
    Outcome, Sequence, SessionClose, SessionExpire, SessionId, SessionOpen, Share, Stamp, TicketId,
    Transaction,
};
use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::*;

mod queues;

/// One entry, before sessions and repetitions are known.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    /// How much later than the newest one so far; negative for a leader whose clock lies behind.
    later_ms: i64,
    requests: Vec<Request>,
}

#[derive(Clone, Debug)]
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
    Session { which: prop::sample::Index, sequence: u64, floor: u64 },
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

pub(super) fn entries() -> impl Strategy<Value = Vec<Entry>> {
    let later_ms = prop_oneof![
        4 => Just(0),
        4 => 1..6i64,
        1 => -5..0i64,
        1 => Just(1_000),
        1 => Just(300_000),
        1 => Just(599_999),
    ];
    let entry = (later_ms, vec(request(), 0..6));
    vec(entry.prop_map(|(later_ms, requests)| Entry { later_ms, requests }), 1..60)
}

fn request() -> impl Strategy<Value = Request> {
    let again_floor = prop_oneof![3 => Just(None), 1 => (0..12u64).prop_map(Some)];
    prop_oneof![
        3 => (0..3u8, who(), prop::option::weighted(0.1, any::<prop::sample::Index>()), what())
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
        1 => any::<prop::sample::Index>().prop_map(What::Close),
        1 => any::<prop::sample::Index>().prop_map(What::Expire),
        1 => Just(What::Command(Command::Tick)),
        1 => (addr(), addr()).prop_map(|(client_addr, http_addr)| {
            let node = NodeId(1);
            What::Command(Command::MemberPublish(MemberPublish { node, client_addr, http_addr }))
        }),
    ]
}

/// Up to two conditions and three operations in each branch, on few keys, so that many fail in the middle.
fn transaction() -> impl Strategy<Value = Transaction> {
    let key = || prop_oneof![8 => Just("a"), 8 => Just("ab"), 1 => Just("")].prop_map(Bytes::from);
    let condition = prop_oneof![
        (key(), 1..3u64).prop_map(|(key, version)| Condition::KvVersion { key, version }),
        key().prop_map(|key| Condition::KvAbsent { key }),
        key().prop_map(|key| Condition::KvExists { key }),
        key().prop_map(|key| Condition::KvValue { key, value: "1".into() }),
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
    ];
    let operations = || vec(operation.clone(), 0..4);
    (vec(condition, 0..3), operations(), operations())
        .prop_map(|(conditions, then, otherwise)| Transaction { conditions, then, otherwise })
}

fn lock_name() -> impl Strategy<Value = String> {
    prop_oneof![8 => Just("l"), 8 => Just("m"), 1 => Just("")].prop_map(str::to_owned)
}

fn attachment() -> impl Strategy<Value = Attachment> {
    (1..3u64, 0..3u64).prop_map(|(node, call)| Attachment { node: NodeId(node), call })
}

fn acquire() -> impl Strategy<Value = What> {
    let share = prop_oneof![
        6 => Just(Share::Exclusive),
        3 => Just(Share::Shared),
        3 => (0..4u32).prop_map(|of| Share::Permit { of }),
    ];
    let ttl_ms = prop_oneof![8 => Just(100u64), 1 => Just(99), 1 => Just(3_600_001)];
    let wait_ms = prop_oneof![1 => Just(0), 3 => 1..8u64, 3 => Just(1_000)];
    (lock_name(), share, ttl_ms, wait_ms, attachment()).prop_map(
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
    /// All that were ever granted.
    locks: Vec<HeldLock>,
    /// All that there ever were.
    tickets: Vec<TicketId>,
    queues: queues::Known,
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
        for outcome in &applied.outcomes {
            if let Outcome::LockQueued { ticket } = outcome
                && !self.tickets.contains(ticket)
            {
                self.tickets.push(*ticket);
            }
            self.queues.learn(outcome);
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
                again
            }
            Request::Again { .. } => Envelope {
                namespace: String::new(),
                caller: Caller::Anonymous,
                guard: None,
                command: Command::Tick,
            },
            Request::New { namespace, caller, guard, what } => Envelope {
                namespace: match namespace {
                    // Jobs are acknowledged where they were pushed, now and then.
                    1 if matches!(what, What::Queue(_)) => String::new(),
                    0 => String::new(),
                    1 => "a".to_owned(),
                    _ => "n".repeat(256),
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

    fn caller(&self, who: &Who) -> Caller {
        match who {
            Who::Anonymous => Caller::Anonymous,
            Who::Session { which, sequence, floor } => Caller::Session {
                id: self.session(which),
                sequence: Sequence(*sequence),
                floor: Sequence(*floor),
            },
            Who::Idempotency(0) => Caller::Idempotency { key: Bytes::new() },
            Who::Idempotency(key) => Caller::Idempotency { key: vec![*key].into() },
        }
    }

    fn command(&self, what: &What) -> Command {
        match what {
            What::Command(Command::Transaction(asked)) => {
                // Some of its keys end with a session, which may be over by now.
                let mut asked = asked.clone();
                for operation in asked.then.iter_mut().chain(&mut asked.otherwise) {
                    if let Operation::KvSet(KvSet { key, ttl_ms: None, owner, .. }) = operation
                        && key[..] == *b"ab"
                    {
                        *owner = self.sessions.last().copied();
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
