//! Random requests for the property tests: few keys, few sessions, short numbers, so that they
//! meet each other often; and repetitions of earlier ones.

use crate::{
    Batch, Caller, Command, Envelope, Event, Expect, Float, KeySelector, KvDelete, KvDeletePattern,
    KvIncrement, KvIncrementFloat, KvSet, MemberPublish, NodeId, Sequence, SessionClose,
    SessionExpire, SessionId, SessionOpen, Stamp,
};
use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::*;

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
        what: What,
    },
    /// One of the requests so far again, maybe with another floor.
    Again {
        which: prop::sample::Index,
        floor: Option<u64>,
    },
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
}

pub(super) fn entries() -> impl Strategy<Value = Vec<Entry>> {
    let later_ms = prop_oneof![
        4 => Just(0),
        4 => 1..6i64,
        1 => -5..0i64,
        1 => Just(300_000),
        1 => Just(599_999),
    ];
    let entry = (later_ms, vec(request(), 0..6));
    vec(entry.prop_map(|(later_ms, requests)| Entry { later_ms, requests }), 1..60)
}

fn request() -> impl Strategy<Value = Request> {
    let again_floor = prop_oneof![3 => Just(None), 1 => (0..12u64).prop_map(Some)];
    prop_oneof![
        3 => (0..3u8, who(), what())
            .prop_map(|(namespace, caller, what)| Request::New { namespace, caller, what }),
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
            What::Command(Command::KvSet(KvSet { key, value: value.into(), ttl_ms, expect }))
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
        1 => any::<prop::sample::Index>().prop_map(What::Close),
        1 => any::<prop::sample::Index>().prop_map(What::Expire),
        1 => Just(What::Command(Command::Tick)),
        1 => (addr(), addr()).prop_map(|(client_addr, http_addr)| {
            let node = NodeId(1);
            What::Command(Command::MemberPublish(MemberPublish { node, client_addr, http_addr }))
        }),
    ]
}

/// Makes entries of what was drawn, given what became of those before.
#[derive(Default)]
pub(super) struct Author {
    newest_ms: u64,
    sent: Vec<Envelope>,
    /// All that were ever opened, ended ones too.
    sessions: Vec<SessionId>,
}

impl Author {
    pub(super) fn batch(&mut self, entry: &Entry) -> Batch {
        let lease_ms = self.newest_ms.saturating_add_signed(entry.later_ms);
        self.newest_ms = self.newest_ms.max(lease_ms);
        let commands = entry.requests.iter().map(|request| self.envelope(request)).collect();
        Batch { stamp: Stamp { lease_ms, wall_ms: lease_ms / 2 }, commands }
    }

    pub(super) fn learn(&mut self, events: &[Event]) {
        for event in events {
            if let Event::SessionOpened { id, .. } = event {
                self.sessions.push(*id);
            }
        }
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
                command: Command::Tick,
            },
            Request::New { namespace, caller, what } => Envelope {
                namespace: match namespace {
                    0 => String::new(),
                    1 => "a".to_owned(),
                    _ => "n".repeat(256),
                },
                caller: self.caller(caller),
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
            What::Command(command) => command.clone(),
            What::Close(which) => Command::SessionClose(SessionClose { id: self.session(which) }),
            What::Expire(which) => {
                let ids = vec![self.session(which), SessionId(1), self.session(which)];
                Command::SessionExpire(SessionExpire { ids })
            }
        }
    }

    fn session(&self, which: &prop::sample::Index) -> SessionId {
        match self.sessions.len() {
            0 => SessionId(1),
            count => self.sessions[which.index(count)],
        }
    }
}
