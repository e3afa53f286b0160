//! The checker finds each relation of the cache broken: one planted fault each.

use super::Plant;
use crate::keys::{self, Clock, DeadlineKind};
use crate::rows::{self, CacheBuildRow, CacheMetaRow, CacheRow, CacheTagRow, TagSweep};
use crate::testing::GROUP;
use crate::tests::group::Group;
use crate::{
    BuildLease, CacheBuild, CacheInvalidateTags, CacheSet, Command, MemoryTables, Read, Revision,
    Txn, codec, invariants,
};

/// An entry with a ttl and two tags, of which one was invalidated before; two that are older than
/// that and not swept; two builds; and a tag without entries.
fn sound() -> MemoryTables {
    let mut group = Group::new();
    group.stamp.lease_ms = 100;
    let set = |key: &'static str, ttl_ms: Option<u64>, tags: &[&str]| {
        let tags = tags.iter().map(|tag| (*tag).to_owned()).collect();
        let (key, value) = (key.into(), "v".into());
        Command::CacheSet(CacheSet { key, value, ttl_ms, stale_for_ms: 0, tags })
    };
    let build =
        |key: &'static str| Command::CacheBuild(CacheBuild { key: key.into(), lease_ms: 10_000 });
    let invalidate = |tag: &str| {
        Command::CacheInvalidateTags(CacheInvalidateTags { tags: vec![tag.to_owned()] })
    };
    for command in [
        build("built"),
        build("other"),
        set("old", None, &["t"]),
        set("older", None, &["t"]),
        invalidate("t"),
        set("k", Some(10_000), &["t", "u"]),
        invalidate("nobody"),
    ] {
        group.own(vec![command]);
    }
    group.check();
    group.tables
}

fn change_meta(tables: &mut MemoryTables, change: impl FnOnce(&mut CacheMetaRow)) {
    let mut row = rows::cache_meta(tables, GROUP).unwrap();
    change(&mut row);
    tables.put(&keys::cache_meta(GROUP), &codec::encode(&row));
}

fn change_entry(tables: &mut MemoryTables, change: impl FnOnce(&mut CacheRow<'_>)) {
    let key = keys::cache(GROUP, "", b"k");
    let stored = tables.get(&key).unwrap().unwrap();
    let mut row = CacheRow::decode(&stored).unwrap();
    change(&mut row);
    tables.put(&key, &row.encode());
}

fn change_tag(tables: &mut MemoryTables, tag: &str, change: impl FnOnce(&mut CacheTagRow)) {
    let key = keys::cache_tag(GROUP, "", tag);
    let stored = tables.get(&key).unwrap().unwrap();
    let mut row: CacheTagRow = rows::decode("cache tag row", &stored).unwrap();
    change(&mut row);
    tables.put(&key, &codec::encode(&row));
}

fn change_build(tables: &mut MemoryTables, change: impl FnOnce(&mut CacheBuildRow)) {
    let key = keys::cache_build(GROUP, "", b"built");
    let stored = tables.get(&key).unwrap().unwrap();
    let mut row: CacheBuildRow = rows::decode("cache build row", &stored).unwrap();
    change(&mut row);
    tables.put(&key, &codec::encode(&row));
}

#[test]
fn faults_of_the_cache_are_found() {
    let faults: [(&str, Plant); 21] = [
        ("of the cache, there are", |t| change_meta(t, |meta| meta.entries += 1)),
        ("of the cache, there are", |t| change_meta(t, |meta| meta.bytes += 1)),
        ("of the cache, there are", |t| change_meta(t, |meta| meta.builds += 1)),
        ("of the cache, there are", |t| change_meta(t, |meta| meta.tags += 1)),
        ("has the row", |t| change_meta(t, |meta| meta.order -= 2)),
        ("of the cache, there are", |t| change_entry(t, |row| row.value = b"longer")),
        ("the entry", |t| change_entry(t, |row| row.mod_revision = Revision(1 << 50))),
        ("the entry", |t| change_entry(t, |row| row.written = 0)),
        ("the entry", |t| change_entry(t, |row| row.tags = vec!["u", "t"])),
        ("the entry", |t| change_entry(t, |row| row.tags = vec!["t", "t"])),
        ("belongs to nothing", |t| change_entry(t, |row| row.stale_for_ms = 5)),
        ("entries have tags by", |t| change_entry(t, |row| row.tags = vec!["t", "v"])),
        ("entries have tags by", |t| t.delete(&keys::cache_tagged(GROUP, "", "u", b"k"))),
        ("has a value", |t| t.put(&keys::cache_tagged(GROUP, "", "u", b"k"), b"v")),
        ("has the row", |t| change_tag(t, "u", |row| row.entries = 2)),
        ("the sweep of", |t| {
            change_tag(t, "t", |row| {
                row.sweep = Some(TagSweep { at_ms: 101, after: "old".into() });
            });
        }),
        ("the sweep of", |t| {
            change_tag(t, "t", |row| row.sweep = None);
            let key = keys::cache_tag(GROUP, "", "t");
            t.delete(&keys::deadline(GROUP, Clock::Lease, 101, DeadlineKind::CacheTag, &key));
        }),
        ("belongs to nothing", |t| change_tag(t, "nobody", |row| row.kept_until_ms += 1)),
        ("the build", |t| change_build(t, |row| row.lease = BuildLease(2))),
        ("belongs to nothing", |t| change_build(t, |row| row.deadline_ms += 1)),
        ("belongs to nothing", |t| {
            let key = keys::cache(GROUP, "", b"old");
            let at = keys::deadline(GROUP, Clock::Lease, 900, DeadlineKind::Cache, &key);
            t.put(&at, b"");
        }),
    ];
    for (expected, plant) in faults {
        let mut tables = sound();
        plant(&mut tables);
        let error = invariants::check(&tables, GROUP).unwrap_err().to_string();
        assert!(error.contains(expected), "expected {expected:?}, found: {error}");
    }
}

#[test]
fn a_tag_that_nothing_needs_is_found() {
    let mut tables = sound();
    let key = keys::cache_tag(GROUP, "", "z");
    let at = keys::deadline(GROUP, Clock::Lease, 0, DeadlineKind::CacheTag, &key);
    tables.put(&key, &codec::encode(&CacheTagRow::default()));
    tables.put(&at, b"");
    change_meta(&mut tables, |meta| meta.tags += 1);
    let error = invariants::check(&tables, GROUP).unwrap_err().to_string();
    assert!(error.contains("has the row"), "{error}");
}

#[test]
fn a_machine_that_counts_otherwise_is_found() {
    let mut group = Group::new();
    group.own(vec![Command::CacheBuild(CacheBuild { key: "k".into(), lease_ms: 10_000 })]);
    change_meta(&mut group.tables, |meta| meta.order += 1);
    group.machine.check(&group.tables).unwrap_err();
}
