//! The rule of the near cache against a reference: whatever is read, invalidated, told and lost in
//! whichever order, a copy that is used is not older than anything that was told of, or seen.

use super::*;
use proptest::prelude::*;
use proptest::test_runner::{Config, RngSeed, TestRunner};
use std::cell::Cell;

const KEYS: u8 = 3;
const TAGS: u8 = 2;

#[derive(Clone, Copy, Debug)]
enum Step {
    /// The cluster: a key is set, with a tag or without.
    Set(u8, Option<u8>),
    InvalidateTag(u8),
    /// The node can't say what it was.
    Everything,
    /// A read is answered by a node that is so far behind; the answer is on its way.
    Read(u8, u64),
    /// One of the answers comes.
    Come(usize),
    /// The stream tells of so many changes.
    Told(u8),
    /// It tells of a change before it says that it has come so far.
    Ahead,
    /// An own change was answered: this process forgets its copy.
    Own(u8),
    Lost,
    /// A stream begins at a node that is so far behind.
    Begin(u64),
    /// A copy is looked for, by who has seen up to so far behind the newest.
    Get(u8, u64),
}

fn step() -> impl Strategy<Value = Step> {
    let (key, tag) = (0..KEYS, 0..TAGS);
    prop_oneof![
        3 => (key.clone(), prop::option::of(tag.clone())).prop_map(|(key, tag)| Step::Set(key, tag)),
        1 => tag.prop_map(Step::InvalidateTag),
        1 => Just(Step::Everything),
        6 => (key.clone(), 0..6_u64).prop_map(|(key, behind)| Step::Read(key, behind)),
        8 => any::<usize>().prop_map(Step::Come),
        3 => (0..4_u8).prop_map(Step::Told),
        5 => Just(Step::Told(u8::MAX)),
        2 => Just(Step::Ahead),
        2 => key.clone().prop_map(Step::Own),
        1 => Just(Step::Lost),
        2 => (0..3_u64).prop_map(Step::Begin),
        20 => (key, 0..8_u64).prop_map(|(key, behind)| Step::Get(key, behind)),
    ]
}

/// What the cluster did: one change for each revision, from 1.
struct Cluster {
    changes: Vec<Step>,
}

impl Cluster {
    fn newest(&self) -> u64 {
        self.changes.len() as u64
    }

    /// The value of a key at a revision: which revision set it, and its tag.
    fn value(&self, key: u8, at: u64) -> Option<(u64, Option<u8>)> {
        let mut value = None;
        for (revision, change) in (1..=at).zip(&self.changes) {
            match change {
                Step::Set(set, tag) if *set == key => value = Some((revision, *tag)),
                Step::InvalidateTag(tag) if value.is_some_and(|(_, of)| of == Some(*tag)) => {
                    value = None;
                }
                _ => {}
            }
        }
        value
    }

    fn told(&self, revision: u64) -> CacheInvalidation {
        let index = usize::try_from(revision - 1).expect("it is small");
        let what = match self.changes[index] {
            Step::Set(key, _) => Invalidated::Key(vec![key].into()),
            Step::InvalidateTag(tag) => Invalidated::Tag(tag.to_string()),
            _ => Invalidated::Everything(true),
        };
        CacheInvalidation { revision, what: Some(what) }
    }
}

/// Answers how often a copy was used.
fn check(steps: Vec<Step>) -> Result<u32, TestCaseError> {
    let now = Instant::now();
    let entries = Entries::new(1 << 20, Duration::from_secs(60));
    // Every key is there, so that most reads find something.
    let changes = (0..KEYS).map(|key| Step::Set(key, Some(key % TAGS))).collect();
    let mut cluster = Cluster { changes };
    let mut coming = Vec::new();
    // How far the stream has said it is; none without one. And what it has told of beyond that.
    let mut position = Some(0);
    entries.begin(0, 0);
    let mut told = 0;
    let mut hits = 0;
    for step in steps {
        match step {
            Step::Set(..) | Step::InvalidateTag(_) | Step::Everything => cluster.changes.push(step),
            Step::Read(key, behind) => {
                let at = cluster.newest().saturating_sub(behind);
                if let Some((mod_revision, tag)) = cluster.value(key, at) {
                    let entry = CacheEntry {
                        value: Bytes::new(),
                        mod_revision,
                        remaining_ttl: None,
                        stale: false,
                        tags: tag.iter().map(u8::to_string).collect(),
                        revision: at,
                    };
                    coming.push((key, entry));
                }
            }
            Step::Come(nth) if !coming.is_empty() => {
                // The youngest ones mostly: what is very late is hardly ever kept.
                let late = nth % coming.len().min(4);
                let (key, entry) = coming.remove(coming.len() - 1 - late);
                entries.offer(&vec![key].into(), &entry, 0, now, now);
            }
            Step::Told(many) => {
                let Some(at) = position else { continue };
                let to = (told.max(at) + u64::from(many)).min(cluster.newest());
                let new: Vec<_> = (told.max(at) + 1..=to).map(|at| cluster.told(at)).collect();
                prop_assert_eq!(entries.take_in(&new, 0, to), Ok(()));
                position = Some(to);
                told = to;
            }
            Step::Ahead => {
                let Some(at) = position else { continue };
                let next = told.max(at) + 1;
                if next <= cluster.newest() {
                    prop_assert_eq!(entries.take_in(&[cluster.told(next)], 0, at), Ok(()));
                    told = next;
                }
            }
            Step::Own(key) => entries.forget(&[key]),
            Step::Lost => {
                entries.lost();
                position = None;
            }
            Step::Begin(behind) => {
                let at = cluster.newest().saturating_sub(behind);
                entries.begin(0, at);
                (position, told) = (Some(at), at);
            }
            Step::Get(key, behind) => {
                let seen = cluster.newest().saturating_sub(behind);
                let Some(copy) = entries.get(&[key], seen, now) else { continue };
                hits += 1;
                prop_assert!(position.is_some_and(|at| at >= seen), "{:?} < {}", position, seen);
                // It is what the key had at some moment that is not before anything that was told
                // of or seen.
                let from = copy.revision.max(seen).max(told);
                let right = (from..=cluster.newest())
                    .any(|at| cluster.value(key, at).map(|(at, _)| at) == Some(copy.mod_revision));
                prop_assert!(right, "key {} is {:?} where {} was seen", key, copy, from);
            }
            Step::Come(_) => {}
        }
    }
    let state = entries.state();
    let tagged: usize = state.tags.values().map(HashMap::len).sum();
    prop_assert!(tagged <= usize::from(KEYS) * usize::from(TAGS));
    Ok(hits)
}

#[test]
fn no_copy_is_older_than_what_was_told_or_seen() {
    let seed = match std::env::var("QUORATE_TEST_SEED") {
        Ok(seed) => seed.parse().expect("QUORATE_TEST_SEED is a number"),
        Err(_) => rand::random(),
    };
    let config = Config {
        cases: 2_000,
        rng_seed: RngSeed::Fixed(seed),
        failure_persistence: None,
        ..Config::default()
    };
    // The test is worth something only if copies are really used.
    let hits = Cell::new(0);
    let steps = prop::collection::vec(step(), 1..200);
    let result = TestRunner::new(config).run(&steps, |steps| {
        hits.set(hits.get() + check(steps)?);
        Ok(())
    });
    if let Err(failure) = result {
        panic!(
            "seed {seed}: {failure}\nrepeat it with: QUORATE_TEST_SEED={seed} cargo test --release -p \
             quorate-client no_copy_is_older_than_what_was_told_or_seen"
        );
    }
    assert!(hits.get() > 1_000, "seed {seed}: only {} copies were used", hits.get());
}

#[test]
fn the_index_of_tags_is_bounded_with_the_copies() {
    let now = Instant::now();
    let entries = Entries::new(10 << 10, Duration::from_secs(60));
    entries.begin(0, 0);
    for number in 0..5_000_u32 {
        let entry = CacheEntry {
            value: Bytes::from_static(&[0; 100]),
            mod_revision: 1,
            remaining_ttl: None,
            stale: false,
            tags: vec![format!("{number}"), "all".to_owned()],
            revision: 1,
        };
        entries.offer(&number.to_be_bytes().to_vec().into(), &entry, 0, now, now);
    }
    let state = entries.state();
    let tagged: usize = state.tags.values().map(HashMap::len).sum();
    assert!(tagged <= 2 * (10 << 10) / 100, "{tagged} places for at most 10 KiB of copies");
    assert_eq!(tagged as u64, 2 * entries.kept.entry_count());
}
