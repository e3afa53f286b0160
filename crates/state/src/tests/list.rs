//! Lists against a filter over all keys, however they are cut into pages; and what bounds a page.

use super::property;
use crate::limits::{SCAN_ROW_STEPS, SCAN_STEPS_MAX};
use crate::query::{KvItem, KvList, KvPage, KvShow, kv_list};
use crate::rows::KvRow;
use crate::testing::GROUP;
use crate::{KeySelection, KeySelector, MemoryTables, Revision, Txn, codec, keys, rows::MetaRow};
use bytes::Bytes;
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;

const NOW_MS: u64 = 100;

fn put(tables: &mut MemoryTables, namespace: &str, key: &[u8], deadline_ms: Option<u64>) {
    let row = KvRow {
        version: 1,
        create_revision: Revision(1),
        mod_revision: Revision(2),
        deadline_ms,
        owner: None,
        value: key,
    };
    tables.put(&keys::kv(GROUP, namespace, key), &row.encode());
}

fn tables() -> MemoryTables {
    let mut tables = MemoryTables::default();
    let mut meta = MetaRow::default();
    meta.stamp.lease_ms = NOW_MS;
    tables.put(&keys::meta(GROUP), &codec::encode(&meta));
    tables
}

fn all() -> KeySelection {
    KeySelector::Prefix(Bytes::new()).select().unwrap()
}

fn whole() -> KvList<'static> {
    KvList { after: None, show: KvShow::Items, items_max: usize::MAX, bytes_max: usize::MAX }
}

fn page(tables: &MemoryTables, selection: &KeySelection, list: &KvList<'_>) -> KvPage {
    kv_list(tables, GROUP, "ns", selection, list).unwrap()
}

/// All pages put together, and how many there were.
fn pages(tables: &MemoryTables, selection: &KeySelection, list: KvList<'_>) -> (KvPage, usize) {
    let mut whole = KvPage::default();
    for number in 1.. {
        let after = whole.cursor.take();
        let list = KvList { after: after.as_deref().or(list.after), ..list };
        let page = page(tables, selection, &list);
        whole.items.extend(page.items);
        whole.count += page.count;
        whole.cursor = page.cursor;
        if whole.cursor.is_none() {
            return (whole, number);
        }
        assert!(whole.cursor > after, "the cursor moves on");
    }
    unreachable!("there are not that many keys")
}

/// Keys that are prefixes of each other, with both ends of the order.
fn key() -> impl Strategy<Value = Vec<u8>> {
    vec(prop_oneof![Just(0), Just(b'a'), Just(b'b'), Just(0xff)], 1..4)
}

fn selector() -> impl Strategy<Value = KeySelector> {
    let pattern = vec(
        prop_oneof![2 => Just(b'*'), 1 => Just(b'?'), 3 => Just(b'a'), 1 => Just(b'b'),
            1 => Just(0xff)],
        1..5,
    );
    let prefix = vec(prop_oneof![Just(b'a'), Just(0xff)], 0..3);
    prop_oneof![
        pattern.prop_map(|text| KeySelector::Pattern(text.into())),
        prefix.prop_map(|prefix| KeySelector::Prefix(prefix.into())),
        key().prop_map(|only| KeySelector::Key(only.into())),
    ]
}

#[test]
fn pages_fit_together() {
    let deadline_ms = prop_oneof![Just(None), Just(Some(NOW_MS)), Just(Some(NOW_MS + 7))];
    let drawn = (
        btree_map(key(), deadline_ms, 0..40),
        selector(),
        prop_oneof![Just(None), key().prop_map(Some)],
        (0..5usize, prop_oneof![0..200usize, Just(usize::MAX)]),
    );
    property("pages_fit_together", 3_000, &drawn, |(rows, selector, after, bounds)| {
        let mut tables = tables();
        for (key, deadline_ms) in &rows {
            put(&mut tables, "ns", key, *deadline_ms);
            // Neighbours that are never listed.
            put(&mut tables, "n", key, None);
            put(&mut tables, "nt", key, None);
        }
        let selection = selector.select().unwrap();
        let mut expected: Vec<(Bytes, KvItem)> = Vec::new();
        for (key, deadline_ms) in &rows {
            let selected = match &selector {
                KeySelector::Prefix(prefix) => key.starts_with(prefix),
                KeySelector::Key(only) => key == only,
                KeySelector::Pattern(text) => {
                    crate::glob::Pattern::parse(text).unwrap().matches(key)
                }
            };
            let live = deadline_ms.is_none_or(|at_ms| at_ms > NOW_MS);
            if selected && live && after.as_ref().is_none_or(|after| key > after) {
                let item = KvItem {
                    value: key.clone().into(),
                    version: 1,
                    create_revision: Revision(1),
                    mod_revision: Revision(2),
                    remaining_ttl_ms: deadline_ms.map(|_| 7),
                };
                expected.push((key.clone().into(), item));
            }
        }
        let (items_max, bytes_max) = bounds;
        let list = KvList { after: after.as_deref(), show: KvShow::Items, items_max, bytes_max };
        let (found, page_count) = pages(&tables, &selection, list);
        prop_assert_eq!(&found.items, &expected);
        prop_assert_eq!(found.count, expected.len() as u64);
        prop_assert!(page_count <= expected.len().max(1));

        let (keys, _) = pages(&tables, &selection, KvList { show: KvShow::Keys, ..list });
        let without_values: Vec<_> = expected
            .iter()
            .map(|(key, item)| (key.clone(), KvItem { value: Bytes::new(), ..item.clone() }))
            .collect();
        prop_assert_eq!(keys.items, without_values);
        // A count is never cut by what bounds items.
        let counted = page(&tables, &selection, &KvList { show: KvShow::Count, ..list });
        let count = expected.len() as u64;
        prop_assert_eq!(counted, KvPage { items: Vec::new(), count, cursor: None });
        Ok(())
    });
}

#[test]
fn a_page_is_bounded_by_items_and_bytes_and_has_at_least_one() {
    let mut tables = tables();
    for key in [b"a", b"b", b"c"] {
        put(&mut tables, "ns", key, None);
    }
    let found = |items_max, bytes_max| {
        let list = KvList { items_max, bytes_max, ..whole() };
        let page = page(&tables, &all(), &list);
        (page.items.len(), page.cursor)
    };
    let cursor = |key: &'static [u8]| Some(Bytes::from_static(key));
    assert_eq!(found(0, 0), (1, cursor(b"a")));
    assert_eq!(found(2, usize::MAX), (2, cursor(b"b")));
    assert_eq!(found(3, usize::MAX), (3, None));
    assert_eq!(found(9, 2 * 66), (2, cursor(b"b")));
    assert_eq!(found(9, 3 * 66 - 1), (2, cursor(b"b")));
    assert_eq!(found(9, 3 * 66), (3, None));
}

/// Where few keys match, a page ends by its work, and the next one goes on behind it.
#[test]
fn a_page_is_bounded_by_its_work() {
    let rows = 2 * SCAN_STEPS_MAX / SCAN_ROW_STEPS;
    let mut tables = tables();
    for number in 0..rows {
        put(&mut tables, "ns", format!("key-{number:08}").as_bytes(), None);
    }
    let nothing = KeySelector::Pattern("*x".into()).select().unwrap();
    let first = page(&tables, &nothing, &whole());
    assert_eq!(first.count, 0);
    assert!(first.cursor.is_some());
    let (found, page_count) = pages(&tables, &nothing, whole());
    assert_eq!((found.count, found.cursor), (0, None));
    assert!((3..=5).contains(&page_count), "{page_count} pages");

    let count = KvList { show: KvShow::Count, ..whole() };
    let (found, _) = pages(&tables, &all(), count);
    assert_eq!(found.count, rows as u64);

    // What lies outside of the literal beginning is not looked at.
    let last = KeySelector::Pattern(format!("key-{:08}*", rows - 1).into()).select().unwrap();
    let found = page(&tables, &last, &whole());
    assert_eq!((found.count, found.cursor), (1, None));
    let only = KeySelector::Pattern("key-00000007".into()).select().unwrap();
    let found = page(&tables, &only, &whole());
    assert_eq!((found.count, found.cursor), (1, None));
}

#[test]
fn what_can_not_exist_is_not_listed() {
    let tables = tables();
    let namespace = "n".repeat(256);
    let page = kv_list(&tables, GROUP, &namespace, &all(), &whole()).unwrap();
    assert_eq!(page, KvPage::default());
    let beyond = [0xff; 2_000];
    let list = KvList { after: Some(&beyond), ..whole() };
    assert_eq!(kv_list(&tables, GROUP, "ns", &all(), &list).unwrap(), KvPage::default());
}
