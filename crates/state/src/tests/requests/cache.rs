//! Random requests of the cache: few keys and tags, and a bound of eight entries.

use crate::{
    BuildLease, CacheBuild, CacheBuildAnswer, CacheBuildEnd, CacheDelete, CacheDeletePattern,
    CacheEvict, CacheFill, CacheInvalidateTags, CacheResize, CacheSet, CacheTouch, CacheVictim,
    Command, Envelope, KeySelector, Operation, Outcome, Publication, Revision, Transaction, query,
};
use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

#[derive(Clone, Debug)]
pub(super) enum What {
    Command(Command),
    /// With one of the builds so far.
    Fill(CacheSet, Index),
    GiveUp(Option<String>, Index),
    /// In the namespace of one of them.
    Invalidate(CacheInvalidateTags, Index),
    /// Of entries that were written so far.
    Evict(Vec<Index>),
}

fn key() -> impl Strategy<Value = Bytes> {
    prop_oneof![8 => Just("a"), 8 => Just("b"), 8 => Just("ab"), 1 => Just("")]
        .prop_map(Bytes::from)
}

fn tags(tags_max: usize) -> impl Strategy<Value = Vec<String>> {
    let tag = prop_oneof![16 => Just("t"), 8 => Just("u"), 4 => Just("v"), 1 => Just("")];
    vec(tag.prop_map(str::to_owned), 0..tags_max)
}

fn ttl_ms() -> impl Strategy<Value = Option<u64>> {
    prop_oneof![
        8 => Just(None),
        8 => (1..8u64).prop_map(Some),
        1 => Just(Some(0)),
        1 => Just(Some(u64::MAX)),
    ]
}

pub(super) fn set() -> impl Strategy<Value = CacheSet> {
    let value = prop_oneof![8 => Just("1"), 8 => Just("22"), 1 => Just("larger than others")];
    let stale_for_ms = prop_oneof![8 => Just(0), 8 => 1..8u64, 1 => Just(u64::MAX)];
    (key(), value, ttl_ms(), stale_for_ms, tags(4)).prop_map(
        |(key, value, ttl_ms, stale_for_ms, tags)| {
            let value = value.into();
            CacheSet { key, value, ttl_ms, stale_for_ms, tags }
        },
    )
}

fn invalidate() -> impl Strategy<Value = CacheInvalidateTags> {
    tags(4).prop_map(|tags| CacheInvalidateTags { tags })
}

/// What transactions do beside other things.
pub(super) fn operation() -> impl Strategy<Value = Operation> {
    let channel = prop_oneof![8 => Just("c"), 1 => Just("")];
    prop_oneof![
        4 => set().prop_map(Operation::CacheSet),
        2 => key().prop_map(|key| Operation::CacheDelete(CacheDelete { key })),
        3 => invalidate().prop_map(Operation::CacheInvalidateTags),
        3 => (channel, prop_oneof![Just("1"), Just("2")]).prop_map(|(channel, payload)| {
            let (channel, payload) = (channel.to_owned(), payload.into());
            Operation::BusPublish(Publication { channel, payload, ..Publication::default() })
        }),
    ]
}

/// As many entries as there is room for.
fn fill_up() -> Command {
    let set = |key: char| {
        let (key, value) = (Bytes::from(key.to_string()), "1".into());
        Operation::CacheSet(CacheSet { key, value, ttl_ms: None, stale_for_ms: 0, tags: vec![] })
    };
    let then = "cdefghab".chars().map(set).collect();
    Command::Transaction(Transaction { then, ..Transaction::default() })
}

pub(super) fn what() -> impl Strategy<Value = What> {
    let command = |command| What::Command(command);
    // Time passes in jumps: a short lease is over soon, one of ten minutes after a few of them.
    let lease_ms = prop_oneof![
        8 => Just(100u64),
        16 => Just(600_000),
        1 => Just(99),
        1 => Just(600_001),
    ];
    let selector = prop_oneof![
        4 => prop_oneof![Just("*"), Just("?"), Just("a*"), Just("*b"), Just("[^a]"), Just("a"),
            Just("a["), Just("")]
            .prop_map(|pattern| KeySelector::Pattern(pattern.into())),
        2 => prop_oneof![Just(""), Just("a"), Just("ab")]
            .prop_map(|prefix| KeySelector::Prefix(prefix.into())),
        2 => key().prop_map(KeySelector::Key),
    ];
    let after = prop_oneof![3 => Just(None), 1 => key().prop_map(Some)];
    let bytes_max = prop_oneof![2 => Just(1_u64), 2 => Just(u64::MAX), 1 => Just(1 << 20)];
    let error = prop_oneof![Just(None), Just(Some("why".to_owned()))];
    prop_oneof![
        16 => set().prop_map(move |set| command(Command::CacheSet(set))),
        16 => (key(), lease_ms).prop_map(move |(key, lease_ms)| {
            command(Command::CacheBuild(CacheBuild { key, lease_ms }))
        }),
        20 => (set(), any::<Index>()).prop_map(|(set, which)| What::Fill(set, which)),
        4 => (error, any::<Index>()).prop_map(|(error, which)| What::GiveUp(error, which)),
        18 => (invalidate(), any::<Index>())
            .prop_map(|(asked, which)| What::Invalidate(asked, which)),
        6 => key().prop_map(move |key| command(Command::CacheDelete(CacheDelete { key }))),
        6 => (key(), ttl_ms()).prop_map(move |(key, ttl_ms)| {
            command(Command::CacheTouch(CacheTouch { key, ttl_ms }))
        }),
        6 => (selector, after, prop_oneof![8 => 1..4u64, 1 => Just(0), 2 => Just(u64::MAX)])
            .prop_map(move |(selector, after, keys_max)| {
                let delete = CacheDeletePattern { selector, after, keys_max };
                command(Command::CacheDeletePattern(delete))
            }),
        5 => vec(any::<Index>(), 0..3).prop_map(What::Evict),
        1 => bytes_max.prop_map(move |bytes_max| {
            command(Command::CacheResize(CacheResize { bytes_max }))
        }),
        5 => Just(()).prop_map(move |()| command(fill_up())),
    ]
}

/// What became of the requests so far.
#[derive(Default)]
pub(super) struct Known {
    builds: Vec<(String, Bytes, BuildLease)>,
    written: Vec<CacheVictim>,
}

impl Known {
    pub(super) fn learn(&mut self, envelope: &Envelope, outcome: &Outcome) {
        let namespace = &envelope.namespace;
        let mut wrote = |key: &Bytes, mod_revision: Revision| {
            let id = query::cache_id(namespace, key).unwrap();
            self.written.push(CacheVictim { id, mod_revision });
        };
        match (&envelope.command, outcome) {
            (Command::CacheSet(set), Outcome::CacheSet { revision }) => wrote(&set.key, *revision),
            (Command::CacheFill(fill), Outcome::CacheFill { revision }) => {
                wrote(&fill.key, *revision);
            }
            (
                Command::CacheBuild(build),
                Outcome::CacheBuild { answer: CacheBuildAnswer::Granted { lease, .. } },
            ) => self.builds.push((namespace.clone(), build.key.clone(), *lease)),
            _ => {}
        }
    }

    fn build(&self, which: &Index) -> Option<&(String, Bytes, BuildLease)> {
        // The newest ones are those that may still be under way.
        match &self.builds[self.builds.len().saturating_sub(2)..] {
            [] => None,
            some => Some(which.get(some)),
        }
    }

    /// Where the request belongs, if it belongs somewhere.
    pub(super) fn namespace(&self, what: &What) -> Option<String> {
        match what {
            What::Fill(_, which) | What::GiveUp(_, which) | What::Invalidate(_, which) => {
                self.build(which).map(|(namespace, _, _)| namespace.clone())
            }
            _ => None,
        }
    }

    pub(super) fn command(&self, what: &What) -> Command {
        let nothing = ("".to_owned(), "a".into(), BuildLease(1));
        match what {
            What::Command(command) => command.clone(),
            What::Fill(set, which) => {
                let (_, key, lease) = self.build(which).unwrap_or(&nothing).clone();
                // A key of no bytes stands for a key that is not the build's.
                let key = if set.key.is_empty() { "b".into() } else { key };
                let CacheSet { value, ttl_ms, stale_for_ms, tags, .. } = set.clone();
                Command::CacheFill(CacheFill { key, lease, value, ttl_ms, stale_for_ms, tags })
            }
            What::Invalidate(asked, _) => Command::CacheInvalidateTags(asked.clone()),
            What::GiveUp(error, which) => {
                let (_, key, lease) = self.build(which).unwrap_or(&nothing).clone();
                Command::CacheBuildEnd(CacheBuildEnd { key, lease, error: error.clone() })
            }
            What::Evict(which) => {
                let newest = &self.written[self.written.len().saturating_sub(6)..];
                let victims = match newest {
                    [] => Vec::new(),
                    some => which.iter().map(|which| which.get(some).clone()).collect(),
                };
                Command::CacheEvict(CacheEvict { victims })
            }
        }
    }
}
