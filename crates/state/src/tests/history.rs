//! The history: replaying it gives the keys as they are, from wherever it is begun and however it
//! is cut into pages; and it is trimmed to its bound.

use super::group::Group;
use super::{property, requests};
use crate::keys::{self, Key};
use crate::limits::{
    ENTRY_COMMANDS_MAX, EXPIRE_PER_ENTRY_MAX, HISTORY_BYTES_MAX, HISTORY_TRIM_ROWS_MAX,
    SCAN_ROW_STEPS, SCAN_STEPS_MAX, VALUE_BYTES_MAX, WATCH_SELECTORS_MAX,
};
use crate::query::{Compacted, KvChange, KvEvent, KvHistory, KvHistoryPage, KvWatched, kv_history};
use crate::rows::{self, KvRow};
use crate::testing::GROUP;
use crate::{
    Batch, Command, DeleteCause, HistoryPosition, KeySelector, KvDeletePattern, KvIncrement, KvSet,
    LogIndex, Machine, MemoryTables, Operation, Outcome, Read, Rejection, Revision, Stamp,
    Transaction, Txn, query,
};
use bytes::Bytes;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::ops::ControlFlow;

/// Version, revisions and value of each key of a namespace, expired and unswept ones too.
type Keys = BTreeMap<Vec<u8>, (u64, Revision, Revision, Vec<u8>)>;

fn stored(tables: &MemoryTables, namespace: &str) -> Keys {
    let (from, to) = keys::named_range(GROUP, keys::table::KV, namespace, b"");
    let mut found = Keys::new();
    tables
        .scan(&from, &to, &mut |key, value| {
            let Some(Key::Kv { key, .. }) = keys::parse(GROUP, key) else { panic!("{key:?}") };
            let row = KvRow::decode(value).unwrap();
            let KvRow { version, create_revision, mod_revision, value, .. } = row;
            found.insert(key.to_vec(), (version, create_revision, mod_revision, value.to_vec()));
            ControlFlow::Continue(())
        })
        .unwrap();
    found
}

fn replay(keys: &mut Keys, events: &[KvEvent]) {
    for event in events {
        match &event.change {
            KvChange::Set { value, version, create_revision, .. } => {
                let before = keys.get(&event.key[..]).map_or(0, |before| before.0);
                assert_eq!(*version, before + 1, "a change of {event:?} is missing");
                let row = (*version, *create_revision, event.position.revision, value.to_vec());
                keys.insert(event.key.to_vec(), row);
            }
            KvChange::Deleted { .. } => {
                assert!(keys.remove(&event.key[..]).is_some(), "{event:?} of no key");
            }
        }
    }
}

fn all(namespace: &str) -> KvWatched {
    KvWatched::new(namespace, &[]).unwrap()
}

fn page(
    tables: &MemoryTables,
    watched: &KvWatched,
    after: HistoryPosition,
    bytes_max: usize,
) -> Result<KvHistoryPage, Compacted> {
    let asked = KvHistory { watched: Some(watched), after, values: true, bytes_max };
    kv_history(tables, GROUP, &asked).unwrap()
}

/// All pages behind a position as one, each checked against the next.
fn pages(
    tables: &MemoryTables,
    watched: &KvWatched,
    after: HistoryPosition,
    bytes_max: usize,
) -> KvHistoryPage {
    let mut whole = page(tables, watched, after, bytes_max).unwrap();
    while whole.more {
        let next = page(tables, watched, whole.through, bytes_max).unwrap();
        assert!(whole.through < next.through);
        let ends = whole.events.last().map(|event| event.position);
        assert!(next.events.iter().all(|event| ends < Some(event.position)));
        whole.events.extend(next.events);
        (whole.through, whole.more) = (next.through, next.more);
    }
    whole
}

#[test]
fn replaying_from_anywhere_gives_the_keys() {
    let drawn = (requests::entries(), prop_oneof![Just(0), 0..1_000usize, Just(usize::MAX)]);
    let name = "replaying_from_anywhere_gives_the_keys";
    property(name, 500, &drawn, |(entries, bytes_max)| {
        let mut author = requests::Author::default();
        let mut tables = MemoryTables::default();
        let mut machine = Machine::open(GROUP, &tables).unwrap();
        let mut versions = vec![tables.clone()];
        for (index, entry) in (1..).zip(&entries) {
            let batch = author.batch(entry);
            let applied = machine.apply(&mut tables, LogIndex(index), &batch).unwrap();
            author.learn(&applied);
            versions.push(tables.clone());
        }
        for namespace in ["", "a"] {
            let newest = stored(&tables, namespace);
            for version in &versions {
                let mut keys = stored(version, namespace);
                let from = HistoryPosition::behind(query::revision(version, GROUP).unwrap());
                let rest = pages(&tables, &all(namespace), from, bytes_max);
                replay(&mut keys, &rest.events);
                prop_assert_eq!(&keys, &newest, "of {:?} from {:?}", namespace, from);
                let end = HistoryPosition::behind(query::revision(&tables, GROUP).unwrap());
                prop_assert_eq!(rest.through, end);

                // A filter leaves out others and changes nothing else.
                let selector = KeySelector::Pattern("a*".into());
                let some = KvWatched::new(namespace, &[selector]).unwrap();
                let mut expected = rest.events;
                expected.retain(|event| event.key.starts_with(b"a"));
                prop_assert!(expected.iter().all(|event| some.takes(event)));
                prop_assert!(expected.iter().all(|event| !all("b").takes(event)));
                prop_assert_eq!(pages(&tables, &some, from, bytes_max).events, expected);
            }
        }
        Ok(())
    });
}

#[test]
fn a_view_in_between_says_what_it_says_later() {
    let name = "a_view_in_between_says_what_it_says_later";
    property(name, 300, &requests::entries(), |entries| {
        let mut author = requests::Author::default();
        let mut tables = MemoryTables::default();
        let mut machine = Machine::open(GROUP, &tables).unwrap();
        // One that follows entry by entry, and one that reads all of it afterwards.
        let mut followed = Vec::new();
        let mut through = HistoryPosition::default();
        for (index, entry) in (1..).zip(&entries) {
            let batch = author.batch(entry);
            let applied = machine.apply(&mut tables, LogIndex(index), &batch).unwrap();
            author.learn(&applied);
            let page = page(&tables, &all(""), through, usize::MAX).unwrap();
            followed.extend(page.events);
            through = page.through;
        }
        let whole = pages(&tables, &all(""), HistoryPosition::default(), 100);
        prop_assert_eq!(whole.events, followed);
        Ok(())
    });
}

fn set(number: usize, value: Bytes, ttl_ms: Option<u64>) -> Command {
    Command::KvSet(kv_set(number, value, ttl_ms))
}

fn kv_set(number: usize, value: Bytes, ttl_ms: Option<u64>) -> KvSet {
    let key = format!("key-{number:08}").into();
    KvSet { key, value, ttl_ms, expect: Default::default(), owner: None }
}

fn large() -> Bytes {
    Bytes::from(vec![b'v'; usize::try_from(VALUE_BYTES_MAX).unwrap()])
}

fn history_rows(tables: &MemoryTables) -> u64 {
    let (from, to) = keys::table_range(GROUP, keys::table::HISTORY);
    let mut rows = 0;
    tables
        .scan(&from, &to, &mut |_, _| {
            rows += 1;
            ControlFlow::Continue(())
        })
        .unwrap();
    rows
}

fn accounts(group: &Group) -> (u64, HistoryPosition) {
    let row = rows::history_meta(&group.tables, GROUP).unwrap();
    (row.bytes, row.trimmed)
}

#[test]
fn what_passes_the_bound_is_trimmed() {
    let mut group = Group::new();
    let fits = HISTORY_BYTES_MAX / VALUE_BYTES_MAX - 1;
    let value = large();
    for _ in 0..fits {
        group.own(vec![set(0, value.clone(), None)]);
    }
    assert_eq!(history_rows(&group.tables), fits, "all of it fits");
    let from_start = HistoryPosition::before(Revision(1));
    let first = page(&group.tables, &all(""), from_start, 0).unwrap();
    assert_eq!(first.events[0].position, HistoryPosition { revision: Revision(1 << 12), event: 0 });

    // Each goes beyond the bound, and the oldest one goes.
    for more in 1..=3 {
        group.own(vec![set(0, value.clone(), None)]);
        assert!(accounts(&group).0 <= HISTORY_BYTES_MAX);
        assert_eq!(history_rows(&group.tables), fits);
        group.check();
        let compacted = page(&group.tables, &all(""), from_start, 0).unwrap_err();
        assert_eq!(compacted.oldest, Revision((more << 12) + 1));
        let oldest = HistoryPosition::before(compacted.oldest);
        let rest = pages(&group.tables, &all(""), oldest, 0);
        assert_eq!(rest.events.len() as u64, fits, "nothing is lost behind the bound");
        let before = HistoryPosition::before(Revision(more << 12));
        assert!(page(&group.tables, &all(""), before, 0).is_err(), "one earlier is gone");
    }
}

/// Ten thousand events of one revision: handed out in pieces, trimmed in pieces, and gone as a
/// whole when the first of them is.
#[test]
fn a_large_revision_is_paged_and_trimmed_in_pieces() {
    let mut group = Group::new();
    let count = HISTORY_TRIM_ROWS_MAX;
    for numbers in (0..count).collect::<Vec<_>>().chunks(ENTRY_COMMANDS_MAX) {
        let sets = numbers.iter().map(|number| set(*number, Bytes::new(), None)).collect();
        group.own(sets);
    }
    let selector = KeySelector::Prefix(Bytes::new());
    let delete = KvDeletePattern { selector, after: None, keys_max: u64::MAX };
    group.own(vec![Command::KvDeletePattern(delete)]);
    let step = Revision(group.index.0 << 12);
    let after = HistoryPosition::before(step);

    let first = page(&group.tables, &all(""), after, 100_000).unwrap();
    assert!(first.more && first.events.len() < count);
    assert_eq!(first.through, first.events.last().unwrap().position, "within the revision");
    let whole = pages(&group.tables, &all(""), after, 100_000);
    assert_eq!(whole.events.len(), count);
    assert!(whole.events.iter().all(|event| event.position.revision == step));
    // A page that ends with the last event of a revision ends behind it.
    let bytes: usize = whole.events.iter().map(KvEvent::counted_bytes).sum();
    group.own(vec![set(0, Bytes::new(), None)]);
    let exact = page(&group.tables, &all(""), after, bytes).unwrap();
    assert!(exact.more);
    assert_eq!(exact.through, HistoryPosition::behind(step));

    // Small events make room for large ones, at most so many per entry.
    let value = large();
    let mut oldest = HistoryPosition::default();
    loop {
        group.own(vec![set(0, value.clone(), None)]);
        let (bytes, trimmed) = accounts(&group);
        assert!(bytes < 2 * HISTORY_BYTES_MAX);
        if trimmed > oldest && bytes > HISTORY_BYTES_MAX {
            assert!(trimmed.revision <= step);
        }
        oldest = trimmed;
        if trimmed.revision == step && trimmed.event + 1 < u32::try_from(count).unwrap() {
            break;
        }
        assert!(trimmed.revision < step, "trimmed as a whole: the test has lost its point");
    }
    group.check();
    let compacted = page(&group.tables, &all(""), after, usize::MAX).unwrap_err();
    assert_eq!(compacted.oldest, Revision(step.0 + 1));
    // Who was in the middle of it is told the same, as soon as something is missing.
    assert!(page(&group.tables, &all(""), first.through, 0).is_err() == (first.through < oldest));
    let last = HistoryPosition { revision: step, event: u32::try_from(count).unwrap() - 2 };
    assert_eq!(page(&group.tables, &all(""), last, 0).unwrap().events.len(), 1);
    group.own(vec![Command::Tick]);
    group.check();
}

/// Where the rows are is known of those that a machine wrote itself; the others it has to look for. It does
/// not show whether and when it was opened, nor what a transaction wrote and took back.
#[test]
fn all_trim_alike_whenever_they_were_opened() {
    let value = Bytes::from(vec![b'v'; 200_000]);
    let fits = usize::try_from(HISTORY_BYTES_MAX).unwrap() / value.len();
    let mut kept = Group::new();
    let mut reopened = Group::new();
    let failing = Command::Transaction(Transaction {
        conditions: Vec::new(),
        then: vec![
            Operation::KvSet(kv_set(1, value.clone(), None)),
            Operation::KvIncrement(KvIncrement { key: kv_set(1, value.clone(), None).key, by: 1 }),
        ],
        otherwise: Vec::new(),
    });
    for entry in 0..2 * fits / 3 {
        let mut commands = vec![set(0, value.clone(), None); entry % 6];
        commands.push(failing.clone());
        for group in [&mut kept, &mut reopened] {
            let outcomes = group.own(commands.clone()).outcomes;
            assert!(
                matches!(outcomes.last(), Some(Outcome::TransactionFailed { .. })),
                "{outcomes:?}"
            );
        }
        // Shortly before the bound, and then again and again.
        if entry % 30 == 29 {
            reopened.machine = Machine::open(GROUP, &reopened.tables).unwrap();
        }
        if entry % 10 == 0 {
            kept.check();
            reopened.check();
        }
        let digest = |group: &Group| query::digest(&group.tables, GROUP).unwrap();
        assert_eq!(digest(&kept), digest(&reopened), "after entry {entry}");
    }
    let (bytes, trimmed) = accounts(&kept);
    assert!(bytes <= HISTORY_BYTES_MAX && trimmed > HistoryPosition::default(), "{bytes}");
}

#[test]
fn one_entry_trims_so_many_events() {
    let mut group = Group::new();
    // The accounts say that there is far too much, so every entry trims what it may.
    for numbers in (0..HISTORY_TRIM_ROWS_MAX + 1_000).collect::<Vec<_>>().chunks(500) {
        group.own(numbers.iter().map(|number| set(*number, Bytes::new(), None)).collect());
    }
    let mut row = rows::history_meta(&group.tables, GROUP).unwrap();
    row.bytes += 2 * HISTORY_BYTES_MAX;
    group.tables.put(&keys::history_meta(GROUP), &crate::codec::encode(&row));
    group.machine = Machine::open(GROUP, &group.tables).unwrap();
    group.own(vec![Command::Tick]);
    assert_eq!(history_rows(&group.tables), 1_000);
    group.own(vec![Command::Tick]);
    assert_eq!(history_rows(&group.tables), 0);
}

#[test]
fn a_page_reads_so_much() {
    let mut group = Group::new();
    let value = large();
    for _ in 0..20 {
        group.own(vec![set(1, value.clone(), None)]);
    }
    let other = KvWatched::new("", &[KeySelector::Key("other".into())]).unwrap();
    let first = page(&group.tables, &other, HistoryPosition::default(), usize::MAX).unwrap();
    assert!(first.events.is_empty() && first.more);
    let looked_at = SCAN_STEPS_MAX.div_ceil(value.len() + SCAN_ROW_STEPS) as u64;
    assert_eq!(first.through, HistoryPosition::behind(Revision(looked_at << 12)));
    let rest = pages(&group.tables, &other, HistoryPosition::default(), usize::MAX);
    assert_eq!(rest.through, HistoryPosition::behind(Revision(20 << 12)));
}

#[test]
fn a_sweep_without_commands_has_a_revision() {
    let mut group = Group::new();
    let sets = |from: usize| {
        (from..from + 500).map(|number| set(number, Bytes::new(), Some(10))).collect::<Vec<_>>()
    };
    group.own(sets(0));
    group.own(sets(500));
    group.own(sets(1_000));
    let created = query::revision(&group.tables, GROUP).unwrap();
    group.stamp = Stamp { lease_ms: 10, wall_ms: 10 };
    let apply_nothing = |group: &mut Group| {
        group.index.0 += 1;
        let batch = Batch { stamp: group.stamp, commands: Vec::new() };
        group.machine.apply(&mut group.tables, group.index, &batch).unwrap();
        group.check();
        query::revision(&group.tables, GROUP).unwrap()
    };
    assert_eq!(apply_nothing(&mut group), Revision(4 << 12));
    let swept = page(&group.tables, &all(""), HistoryPosition::behind(created), usize::MAX);
    let swept = swept.unwrap().events;
    assert_eq!(swept.len(), EXPIRE_PER_ENTRY_MAX);
    let expired = KvChange::Deleted { cause: DeleteCause::Expired };
    assert!(swept.iter().all(|event| event.change == expired));
    assert!(swept.iter().all(|event| event.position.revision == Revision(4 << 12)));

    assert_eq!(apply_nothing(&mut group), Revision(5 << 12));
    assert_eq!(apply_nothing(&mut group), Revision(5 << 12), "nothing was left to sweep");
}

#[test]
fn a_watch_has_so_many_selectors() {
    let selectors = vec![KeySelector::Key("a".into()); WATCH_SELECTORS_MAX + 1];
    let rejection = KvWatched::new("", &selectors).unwrap_err();
    assert!(matches!(rejection, Rejection::LimitExceeded { limit: 64, .. }), "{rejection}");
    KvWatched::new("", &selectors[1..]).unwrap();
    KvWatched::new(&"n".repeat(256), &[]).unwrap_err();
    let long = vec![KeySelector::Prefix(vec![b'a'; 1_024].into()); 5];
    let rejection = KvWatched::new("", &long).unwrap_err();
    assert!(matches!(rejection, Rejection::LimitExceeded { limit: 4_096, .. }), "{rejection}");
    KvWatched::new("", &long[1..]).unwrap();
}
