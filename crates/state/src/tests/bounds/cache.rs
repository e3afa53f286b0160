//! What the cache may hold, and what one entry of the log may do in it.

use crate::limits::{
    CACHE_BUILDS_MAX, CACHE_BYTES_PER_ENTRY_MAX, CACHE_ENTRY_TAGS_MAX, CACHE_EVICT_PER_ENTRY_MAX,
    CACHE_INVALIDATE_TAGS_MAX, CACHE_ROWS_PER_ENTRY_MAX, DELETE_PATTERN_KEYS_MAX,
    ENTRY_COMMANDS_MAX, VALUE_BYTES_MAX,
};
use crate::query::{self, CacheUsage};
use crate::testing::GROUP;
use crate::tests::group::Group;
use crate::{
    BuildEnd, CacheBuild, CacheBuildAnswer, CacheDeletePattern, CacheEvict, CacheInvalidateTags,
    CacheSet, CacheVictim, Command, Event, KeySelector, Outcome, Rejection,
};
use bytes::Bytes;

fn set(number: usize, ttl_ms: Option<u64>, tags: &[String]) -> Command {
    let (key, value) = (format!("key-{number:08}").into(), "v".into());
    Command::CacheSet(CacheSet { key, value, ttl_ms, stale_for_ms: 0, tags: tags.to_vec() })
}

fn numbered(count: usize) -> Vec<String> {
    (0..count).map(|number| format!("tag-{number:02}")).collect()
}

impl Group {
    fn cached(&mut self, commands: impl Iterator<Item = Command>) {
        let commands: Vec<Command> = commands.collect();
        for some in commands.chunks(ENTRY_COMMANDS_MAX) {
            for outcome in self.own(some.to_vec()).outcomes {
                assert!(!matches!(outcome, Outcome::Rejected(_)), "{outcome:?}");
            }
        }
    }

    fn usage(&self) -> CacheUsage {
        query::cache_usage(&self.tables, GROUP).unwrap()
    }

    fn entries(&self) -> usize {
        usize::try_from(self.usage().entries).unwrap()
    }

    /// Lets time pass until nothing is due; answers how many entries went with each tick.
    fn sweep_all(&mut self) -> Vec<usize> {
        let mut went = Vec::new();
        loop {
            self.stamp.lease_ms += 1;
            let before = self.entries();
            self.own(vec![Command::Tick]);
            went.push(before - self.entries());
            let due = query::next_deadline_ms(&self.tables, GROUP, 0..=u64::MAX).unwrap();
            if due.is_none_or(|at_ms| at_ms > self.stamp.lease_ms + 1) {
                return went;
            }
        }
    }
}

#[test]
fn tags_of_many_entries_are_swept_little_by_little() {
    let mut group = Group::new();
    let tags = numbered(CACHE_INVALIDATE_TAGS_MAX);
    let count = 6_000;
    // Each has the last tag, and another one.
    let both = |number: usize| [tags[number % 8].clone(), tags[63].clone()];
    group.cached((0..count).map(|number| set(number, None, &both(number))));
    let invalidate = Command::CacheInvalidateTags(CacheInvalidateTags { tags: tags.clone() });
    // One number for each tag, however many entries have it.
    group.own(vec![invalidate]);
    assert_eq!(group.entries(), count, "their rows are still there");
    for number in [0, 1, count - 1] {
        let key = format!("key-{number:08}");
        assert_eq!(query::cache_get(&group.tables, GROUP, "", key.as_bytes()).unwrap(), None);
    }
    group.check();
    // What is written meanwhile stays.
    group.cached([0, 3_000].into_iter().map(|number| set(number, None, &both(number))));
    let went = group.sweep_all();
    let most = CACHE_ROWS_PER_ENTRY_MAX.div_ceil(3);
    assert!(went.iter().all(|went| *went <= most), "{went:?}");
    assert!(went[..3].iter().all(|went| *went >= most - 2), "{went:?}");
    assert_eq!(went.iter().sum::<usize>(), count - 2);
    assert_eq!(group.usage().tags, 2, "of those that stayed");
    group.check();
}

#[test]
fn a_sweep_is_not_held_up_by_newer_entries() {
    let mut group = Group::new();
    let tag = numbered(1);
    let count = CACHE_ROWS_PER_ENTRY_MAX + 100;
    group.cached((0..=count).map(|number| set(number, None, &tag)));
    group.own(vec![Command::CacheInvalidateTags(CacheInvalidateTags { tags: tag.clone() })]);
    // All but the last are written anew, before the sweep or, after a restart, during it.
    group.cached((0..count).map(|number| set(number, None, &tag)));
    assert_eq!(group.sweep_all().iter().sum::<usize>(), 1);
    assert_eq!(group.entries(), count);
    group.check();
    // An invalidation begins its sweep anew.
    group.own(vec![Command::CacheInvalidateTags(CacheInvalidateTags { tags: tag.clone() })]);
    group.stamp.lease_ms += 1;
    group.own(vec![Command::Tick]);
    group.cached((0..10).map(|number| set(number, None, &tag)));
    group.own(vec![Command::CacheInvalidateTags(CacheInvalidateTags { tags: tag })]);
    group.check();
    group.sweep_all();
    assert_eq!(group.entries(), 0);
    assert_eq!(group.usage().tags, 0);
    group.check();
}

#[test]
fn expired_entries_with_many_tags_are_swept_little_by_little() {
    let mut group = Group::new();
    let tags = numbered(CACHE_ENTRY_TAGS_MAX);
    let count = 800;
    group.cached((0..count).map(|number| set(number, Some(10), &tags)));
    // What else is due is not held up.
    group.own(vec![Command::CacheBuild(CacheBuild { key: "k".into(), lease_ms: 100 })]);
    group.stamp.lease_ms = 100;
    let before = group.entries();
    group.own(vec![Command::Tick]);
    let mut went = vec![before - group.entries()];
    assert_eq!(group.usage().builds, 0);
    group.check();
    went.extend(group.sweep_all());
    let most = CACHE_ROWS_PER_ENTRY_MAX.div_ceil(1 + CACHE_ENTRY_TAGS_MAX);
    assert_eq!(went[..3], [most, most, count - 2 * most], "{went:?}");
    assert_eq!(group.usage().tags, 0);
    group.check();
}

#[test]
fn one_entry_reads_so_many_bytes_to_sweep() {
    let mut group = Group::new();
    let value = Bytes::from(vec![b'v'; usize::try_from(VALUE_BYTES_MAX).unwrap()]);
    let large = |number: usize| {
        let (key, value) = (format!("key-{number:08}").into(), value.clone());
        let (ttl_ms, tags) = (Some(10), numbered(1));
        Command::CacheSet(CacheSet { key, value, ttl_ms, stale_for_ms: 0, tags })
    };
    let most = CACHE_BYTES_PER_ENTRY_MAX / value.len();
    group.cached((0..40).map(large));
    group.own(vec![Command::CacheInvalidateTags(CacheInvalidateTags { tags: numbered(1) })]);
    group.stamp.lease_ms = 5;
    group.own(vec![Command::Tick]);
    assert_eq!(group.entries(), 40 - most, "by the tag");
    group.stamp.lease_ms = 10;
    group.own(vec![Command::Tick]);
    assert_eq!(group.entries(), 40 - 2 * most, "by their time");
    group.check();
    group.sweep_all();
    assert_eq!(group.entries(), 0);
    group.check();
}

#[test]
fn one_entry_deletes_so_many_rows_by_a_pattern() {
    let mut group = Group::new();
    let tags = numbered(CACHE_ENTRY_TAGS_MAX);
    let per_key = 1 + CACHE_ENTRY_TAGS_MAX;
    let count = 1_000;
    group.cached((0..count).map(|number| set(number, Some(60_000), &tags)));
    let delete = |after: Option<Bytes>, keys_max| {
        let selector = KeySelector::Prefix("key-".into());
        Command::CacheDeletePattern(CacheDeletePattern { selector, after, keys_max })
    };
    let first = delete(None, u64::MAX);
    let outcomes = group.own(vec![first.clone(), first.clone(), first]).outcomes;
    let of = |outcome: &Outcome| match outcome {
        Outcome::CacheDeletePattern { deleted, cursor, .. } => {
            (usize::try_from(*deleted).unwrap(), cursor.clone())
        }
        other => panic!("{other:?}"),
    };
    assert_eq!(of(&outcomes[0]).0, DELETE_PATTERN_KEYS_MAX / per_key);
    // What is left is too little for one, and each command gets somewhere.
    assert_eq!(of(&outcomes[1]).0, 1);
    assert_eq!(of(&outcomes[2]).0, 1);
    group.check();
    let (mut deleted, mut cursor) = (group.entries(), of(&outcomes[2]).1);
    deleted = count - deleted;
    while cursor.is_some() {
        let outcome = group.own(vec![delete(cursor, u64::MAX)]).outcomes.remove(0);
        deleted += of(&outcome).0;
        cursor = of(&outcome).1;
    }
    assert_eq!((deleted, group.entries()), (count, 0));
    assert_eq!(
        group.usage(),
        CacheUsage { entries: 0, bytes: 0, builds: 0, tags: 0, ..group.usage() }
    );
    group.check();
}

#[test]
fn builds_are_revoked_by_patterns_in_steps() {
    let mut group = Group::new();
    let count = DELETE_PATTERN_KEYS_MAX + 10;
    let build = |number: usize| {
        let key = format!("key-{number:08}").into();
        Command::CacheBuild(CacheBuild { key, lease_ms: 10_000 })
    };
    group.cached((0..count).map(build));
    group.cached([5, count - 1].into_iter().map(|number| set(number, None, &[])));
    // The two that were set are no builds any more.
    assert_eq!(group.usage().builds, count as u64 - 2);
    let delete = |after| {
        let selector = KeySelector::Pattern("key-*".into());
        Command::CacheDeletePattern(CacheDeletePattern { selector, after, keys_max: u64::MAX })
    };
    let applied = group.own(vec![delete(None)]);
    let Outcome::CacheDeletePattern { deleted, cursor, .. } = &applied.outcomes[0] else {
        panic!("{:?}", applied.outcomes)
    };
    let revoked =
        |event: &&Event| matches!(event, Event::CacheBuildEnded { end: BuildEnd::Revoked, .. });
    assert_eq!(*deleted, 1, "the other one lies behind the last build that was looked at");
    assert_eq!(applied.events.iter().filter(revoked).count(), DELETE_PATTERN_KEYS_MAX);
    let applied = group.own(vec![delete(cursor.clone())]);
    let Outcome::CacheDeletePattern { deleted: 1, cursor: None, .. } = &applied.outcomes[0] else {
        panic!("{:?}", applied.outcomes)
    };
    assert_eq!((group.usage().builds, group.entries()), (0, 0));
    group.check();
}

#[test]
fn one_entry_evicts_so_many_rows() {
    let mut group = Group::new();
    let tags = numbered(CACHE_ENTRY_TAGS_MAX);
    group.cached((0..1_000).map(|number| set(number, None, &tags)));
    let victims = |group: &Group| -> Vec<CacheVictim> {
        let all = query::cache_candidates(&group.tables, GROUP, None, usize::MAX).unwrap();
        let all = all.candidates.into_iter();
        all.map(|one| CacheVictim { id: one.id, mod_revision: one.mod_revision }).collect()
    };
    let evict = |victims| Command::CacheEvict(CacheEvict { victims });
    let outcomes = group.own(vec![evict(victims(&group)), evict(victims(&group))]).outcomes;
    let most = CACHE_ROWS_PER_ENTRY_MAX.div_ceil(1 + CACHE_ENTRY_TAGS_MAX) as u64;
    // The second one finds nothing left, passes over those that are gone, and evicts one.
    assert_eq!(
        outcomes,
        [Outcome::CacheEvict { evicted: most }, Outcome::CacheEvict { evicted: 1 }]
    );
    group.check();

    let mut many = victims(&group);
    many.resize(CACHE_EVICT_PER_ENTRY_MAX + 1, many[0].clone());
    let outcomes = group.own(vec![evict(many)]).outcomes;
    assert!(
        matches!(outcomes[0], Outcome::Rejected(Rejection::LimitExceeded { limit: 1_000, .. })),
        "{outcomes:?}"
    );
}

#[test]
fn builds_are_bounded() {
    let mut group = Group::new();
    let build = |number: u64| {
        let key = format!("key-{number:08}").into();
        Command::CacheBuild(CacheBuild { key, lease_ms: 10_000 })
    };
    group.cached((0..CACHE_BUILDS_MAX).map(build));
    let outcomes = group.own(vec![build(CACHE_BUILDS_MAX), build(7)]).outcomes;
    assert!(
        matches!(&outcomes[0], Outcome::Rejected(Rejection::LimitExceeded { what, .. })
            if what == "builds of cache entries"),
        "{outcomes:?}"
    );
    assert!(
        matches!(outcomes[1], Outcome::CacheBuild { answer: CacheBuildAnswer::Busy { .. } }),
        "{outcomes:?}"
    );
    // Those whose time ran out, and that are not swept yet, are nobody's.
    group.stamp.lease_ms = 10_000;
    let outcomes = group.own(vec![build(CACHE_BUILDS_MAX - 1)]).outcomes;
    assert!(
        matches!(outcomes[0], Outcome::CacheBuild { answer: CacheBuildAnswer::Granted { .. } }),
        "{outcomes:?}"
    );
    assert_eq!(
        query::cache_build(&group.tables, GROUP, "", b"key-00050000").unwrap(),
        None,
        "its time ran out"
    );
    group.check();
}
