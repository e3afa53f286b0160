//! A naive cache: every question is answered by looking through all entries, tags and builds there
//! are.

use super::{key_fits, selects, too_much};
use crate::query::{
    self, CacheBuildItem, CacheCandidate, CacheCandidates, CacheFreshness, CacheItem, CacheUsage,
};
use crate::testing::GROUP;
use crate::{
    BuildEnd, BuildLease, CacheBuildAnswer, CacheDeletePattern, Command, Event, KeySelector,
    MemoryTables, Outcome, Rejection, Revision,
};
use bytes::Bytes;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

/// Namespace and key, or namespace and tag.
type Name = (String, Vec<u8>);

/// What the cache may have in the tests: eight entries.
pub(super) const BYTES_MAX: u64 = 1_100;

#[derive(Clone)]
pub(super) struct Cache {
    order: u64,
    bytes_max: u64,
    entries: BTreeMap<Name, Entry>,
    builds: BTreeMap<Name, Build>,
    tags: BTreeMap<Name, Tag>,
    pub(super) events: Vec<Event>,
}

#[derive(Clone)]
struct Entry {
    value: Vec<u8>,
    order: u64,
    modified: Revision,
    deadline_ms: Option<u64>,
    stale_for_ms: u64,
    tags: BTreeSet<String>,
}

#[derive(Clone)]
struct Build {
    lease: u64,
    granted: Revision,
    until_ms: u64,
}

#[derive(Clone, Default)]
struct Tag {
    invalidated: u64,
    kept_until_ms: u64,
    swept_ms: Option<u64>,
}

/// Now, and the command.
type When = (u64, Revision);

impl Entry {
    fn gone_ms(&self) -> Option<u64> {
        self.deadline_ms.map(|at_ms| at_ms + self.stale_for_ms)
    }

    fn bytes(&self, name: &Name) -> u64 {
        let tags: usize = self.tags.iter().map(String::len).sum();
        128 + (name.1.len() + self.value.len() + tags) as u64
    }
}

impl Default for Cache {
    fn default() -> Self {
        Self {
            order: 0,
            bytes_max: BYTES_MAX,
            entries: BTreeMap::new(),
            builds: BTreeMap::new(),
            tags: BTreeMap::new(),
            events: Vec::new(),
        }
    }
}

fn texts(tags: &BTreeSet<String>) -> Vec<String> {
    tags.iter().cloned().collect()
}

fn checked_tags(tags: &[String]) -> Result<BTreeSet<String>, Rejection> {
    if tags.iter().any(String::is_empty) {
        let why = "a tag is empty; name one of 1 byte or more, or none";
        return Err(Rejection::Invalid(why.to_owned()));
    }
    Ok(tags.iter().cloned().collect())
}

fn checked_ttl(now_ms: u64, ttl_ms: Option<u64>) -> Result<Option<u64>, Rejection> {
    match ttl_ms {
        None => Ok(None),
        Some(0) => {
            let why = "the ttl is 0 ms; give 1 ms or more, or none to keep the entry fresh";
            Err(Rejection::Invalid(why.to_owned()))
        }
        Some(ttl_ms) if ttl_ms > 315_360_000_000 => {
            Err(too_much("ttl in milliseconds", ttl_ms, 315_360_000_000))
        }
        Some(ttl_ms) => Ok(Some(now_ms + ttl_ms)),
    }
}

impl Cache {
    fn next(&mut self) -> u64 {
        self.order += 1;
        self.order
    }

    fn bytes(&self) -> u64 {
        self.entries.iter().map(|(name, entry)| entry.bytes(name)).sum()
    }

    fn has(&self, tag: &Name) -> bool {
        self.entries.iter().any(|(name, entry)| {
            name.0 == tag.0 && entry.tags.iter().any(|of| of.as_bytes() == tag.1)
        })
    }

    /// Whether one of the tags was invalidated after something of this order.
    fn outlived(&self, namespace: &str, tags: &BTreeSet<String>, order: u64) -> bool {
        tags.iter().any(|tag| {
            let tag = (namespace.to_owned(), tag.clone().into_bytes());
            self.tags.get(&tag).is_some_and(|tag| tag.invalidated > order)
        })
    }

    fn live(&self, name: &Name) -> Option<&Entry> {
        let entry = self.entries.get(name)?;
        (!self.outlived(&name.0, &entry.tags, entry.order)).then_some(entry)
    }

    fn fresh(&self, now_ms: u64, name: &Name) -> Option<&Entry> {
        self.live(name).filter(|entry| entry.deadline_ms.is_none_or(|at_ms| at_ms > now_ms))
    }

    /// Forgets the tags that nothing needs.
    fn tidy(&mut self, now_ms: u64) {
        let mut tags = std::mem::take(&mut self.tags);
        tags.retain(|name, tag| {
            let had = self.has(name);
            if !had {
                tag.swept_ms = None;
            }
            had || tag.kept_until_ms > now_ms
        });
        self.tags = tags;
    }

    pub(super) fn pass_time(&mut self, now_ms: u64) {
        self.entries.retain(|_, entry| entry.gone_ms().is_none_or(|at_ms| at_ms > now_ms));
        let due = |tag: &Tag| tag.swept_ms.is_some_and(|at_ms| at_ms <= now_ms);
        let swept: BTreeMap<Name, Tag> = self
            .tags
            .iter()
            .filter(|(_, tag)| due(tag))
            .map(|(n, t)| (n.clone(), t.clone()))
            .collect();
        for (name, tag) in swept {
            self.entries.retain(|of, entry| {
                let has = entry.tags.iter().any(|one| one.as_bytes() == name.1);
                of.0 != name.0 || !has || entry.order > tag.invalidated
            });
            self.tags.get_mut(&name).unwrap().swept_ms = None;
        }
        self.tidy(now_ms);
        let lapsed = self.builds.iter().filter(|(_, build)| build.until_ms <= now_ms);
        let mut lapsed: Vec<(u64, Name)> =
            lapsed.map(|(name, build)| (build.until_ms, name.clone())).collect();
        lapsed.sort();
        for (_, name) in lapsed {
            self.end(&name, BuildEnd::Lapsed);
        }
    }

    fn end(&mut self, name: &Name, end: BuildEnd) {
        if let Some(build) = self.builds.remove(name) {
            let (namespace, key) = (name.0.clone(), name.1.clone().into());
            let lease = BuildLease(build.lease);
            self.events.push(Event::CacheBuildEnded { namespace, key, lease, end });
        }
    }

    fn changed(&mut self, at: Revision, name: &Name) {
        let (namespace, key) = (name.0.clone(), name.1.clone().into());
        self.events.push(Event::CacheChanged { namespace, key, revision: at });
    }

    #[expect(clippy::too_many_arguments, reason = "what two commands have in common")]
    fn store(
        &mut self,
        (now_ms, at): When,
        name: &Name,
        lease: Option<u64>,
        value: &Bytes,
        ttl_ms: Option<u64>,
        stale_for_ms: u64,
        tags: &[String],
    ) -> Result<(), Rejection> {
        key_fits(&name.1)?;
        let deadline_ms = checked_ttl(now_ms, ttl_ms)?;
        if stale_for_ms > 315_360_000_000 {
            let what = "time to be stale in milliseconds";
            return Err(too_much(what, stale_for_ms, 315_360_000_000));
        }
        let tags = checked_tags(tags)?;
        if let Some(lease) = lease {
            let key = String::from_utf8(name.1.clone()).unwrap();
            let lost = Rejection::BuildLeaseLost { key, lease: BuildLease(lease) };
            if self.builds.get(name).is_none_or(|build| build.lease != lease) {
                return Err(lost);
            }
            if self.outlived(&name.0, &tags, lease) {
                self.end(name, BuildEnd::Revoked);
                return Err(lost);
            }
        }
        let value = value.to_vec();
        let mut entry = Entry { value, order: 0, modified: at, deadline_ms, stale_for_ms, tags };
        let (bytes, most) = (entry.bytes(name), self.bytes_max / 8);
        if bytes > most {
            return Err(too_much("bytes of a cache entry", bytes, most));
        }
        let replaced = self.entries.get(name).map_or(0, |entry| entry.bytes(name));
        if self.bytes() - replaced + bytes > self.bytes_max {
            return Err(Rejection::CacheFull { bytes: self.bytes(), limit: self.bytes_max });
        }
        entry.order = self.next();
        for tag in &entry.tags {
            self.tags.entry((name.0.clone(), tag.clone().into_bytes())).or_default();
        }
        self.entries.insert(name.clone(), entry);
        self.changed(at, name);
        self.tidy(now_ms);
        let end = if lease.is_some() { BuildEnd::Filled } else { BuildEnd::Revoked };
        self.end(name, end);
        Ok(())
    }

    pub(super) fn execute(
        &mut self,
        when: When,
        namespace: &str,
        command: &Command,
    ) -> Result<Outcome, Rejection> {
        let (now_ms, revision) = when;
        let name = |key: &Bytes| (namespace.to_owned(), key.to_vec());
        Ok(match command {
            Command::CacheSet(set) => {
                let (value, tags) = (&set.value, &set.tags);
                let (ttl_ms, stale_ms) = (set.ttl_ms, set.stale_for_ms);
                self.store(when, &name(&set.key), None, value, ttl_ms, stale_ms, tags)?;
                Outcome::CacheSet { revision }
            }
            Command::CacheFill(fill) => {
                let (lease, value, tags) = (Some(fill.lease.0), &fill.value, &fill.tags);
                let (ttl_ms, stale_ms) = (fill.ttl_ms, fill.stale_for_ms);
                self.store(when, &name(&fill.key), lease, value, ttl_ms, stale_ms, tags)?;
                Outcome::CacheFill { revision }
            }
            Command::CacheDelete(delete) => {
                key_fits(&delete.key)?;
                let name = name(&delete.key);
                let deleted = self.live(&name).is_some();
                if deleted {
                    self.entries.remove(&name);
                }
                self.tidy(now_ms);
                self.changed(revision, &name);
                self.end(&name, BuildEnd::Revoked);
                Outcome::CacheDelete { deleted, revision }
            }
            Command::CacheDeletePattern(delete) => self.delete_pattern(when, namespace, delete)?,
            Command::CacheInvalidateTags(invalidate) => {
                if invalidate.tags.is_empty() {
                    let why = "no tag is named; name one or more";
                    return Err(Rejection::Invalid(why.to_owned()));
                }
                let tags = checked_tags(&invalidate.tags)?;
                let order = self.next();
                for tag in &tags {
                    let name = (namespace.to_owned(), tag.clone().into_bytes());
                    let has = self.has(&name);
                    if !self.tags.contains_key(&name) && self.builds.is_empty() {
                        continue;
                    }
                    let builds = !self.builds.is_empty();
                    let tag = self.tags.entry(name).or_default();
                    tag.invalidated = order;
                    if builds {
                        tag.kept_until_ms = now_ms + 600_000;
                    }
                    if has {
                        tag.swept_ms = Some(now_ms + 1);
                    }
                }
                let (namespace, tags) = (namespace.to_owned(), texts(&tags));
                self.events.push(Event::CacheTagsInvalidated { namespace, tags, revision });
                Outcome::CacheInvalidateTags { revision }
            }
            Command::CacheTouch(touch) => {
                key_fits(&touch.key)?;
                let deadline_ms = checked_ttl(now_ms, touch.ttl_ms)?;
                let name = name(&touch.key);
                let found = self.fresh(now_ms, &name).is_some();
                if found {
                    self.entries.get_mut(&name).unwrap().deadline_ms = deadline_ms;
                    self.changed(revision, &name);
                }
                Outcome::CacheTouch { found, revision }
            }
            Command::CacheBuild(build) => {
                key_fits(&build.key)?;
                let lease_ms = build.lease_ms;
                if lease_ms < 100 {
                    let why = format!("the build's lease is {lease_ms} ms, the least is 100 ms");
                    return Err(Rejection::Invalid(why));
                }
                if lease_ms > 600_000 {
                    return Err(too_much("build lease in milliseconds", lease_ms, 600_000));
                }
                let name = name(&build.key);
                let answer = if let Some(entry) = self.fresh(now_ms, &name) {
                    CacheBuildAnswer::Hit { revision: entry.modified }
                } else if let Some(build) = self.builds.get(&name) {
                    let (lease, remaining_ms) = (BuildLease(build.lease), build.until_ms - now_ms);
                    CacheBuildAnswer::Busy { lease, remaining_ms }
                } else {
                    let lease = self.next();
                    let until_ms = now_ms + lease_ms;
                    self.builds.insert(name, Build { lease, granted: revision, until_ms });
                    CacheBuildAnswer::Granted { lease: BuildLease(lease), remaining_ms: lease_ms }
                };
                Outcome::CacheBuild { answer }
            }
            Command::CacheBuildEnd(end) => {
                key_fits(&end.key)?;
                let name = name(&end.key);
                let ended = self.builds.get(&name).is_some_and(|build| build.lease == end.lease.0);
                if ended {
                    let why = end.error.clone();
                    self.end(&name, why.map_or(BuildEnd::GivenUp, BuildEnd::Failed));
                }
                Outcome::CacheBuildEnd { ended }
            }
            Command::CacheEvict(evict) => {
                let mut evicted = 0;
                for victim in &evict.victims {
                    let (of, key) = query::cache_id_parts(&victim.id).unwrap();
                    let name = (of.to_owned(), key.to_vec());
                    let entry = self.entries.get(&name);
                    if entry.is_some_and(|entry| entry.modified == victim.mod_revision) {
                        self.entries.remove(&name);
                        evicted += 1;
                    }
                }
                self.tidy(now_ms);
                Outcome::CacheEvict { evicted }
            }
            Command::CacheResize(resize) => {
                let bytes_max = resize.bytes_max;
                if bytes_max < 1 << 20 {
                    return Err(Rejection::Invalid(format!(
                        "the cache would have {bytes_max} bytes, the least is 1048576"
                    )));
                }
                if bytes_max > 64 << 30 {
                    return Err(too_much("bytes of the cache", bytes_max, 64 << 30));
                }
                let bytes_max_before = std::mem::replace(&mut self.bytes_max, bytes_max);
                Outcome::CacheResize { bytes_max_before }
            }
            other => panic!("{other:?} is no command of the cache"),
        })
    }

    fn delete_pattern(
        &mut self,
        (now_ms, revision): When,
        namespace: &str,
        delete: &CacheDeletePattern,
    ) -> Result<Outcome, Rejection> {
        super::transaction::check_step(&delete.selector, &delete.after, delete.keys_max)?;
        let walk = |names: Vec<&Name>| {
            let (mut found, mut cursor, mut passed) = (Vec::new(), None, None);
            for name in names.into_iter().filter(|name| name.0 == namespace) {
                if delete.after.as_ref().is_some_and(|after| name.1[..] <= after[..]) {
                    continue;
                }
                if selects(&delete.selector, &name.1) {
                    if found.len() as u64 == delete.keys_max {
                        cursor = passed;
                        break;
                    }
                    found.push(name.clone());
                }
                passed = Some(Bytes::from(name.1.clone()));
            }
            (found, cursor)
        };
        let (entries, entries_end) = walk(self.entries.keys().collect());
        let (builds, builds_end) = walk(self.builds.keys().collect());
        let cursor = [entries_end, builds_end].into_iter().flatten().min();
        let reached = |name: &Name| cursor.as_ref().is_none_or(|cursor| name.1[..] <= cursor[..]);
        let mut deleted = 0;
        for name in entries.iter().filter(|name| reached(name)) {
            if self.live(name).is_some() {
                deleted += 1;
                self.changed(revision, name);
            }
            self.entries.remove(name);
        }
        for name in builds.iter().filter(|name| reached(name)) {
            self.end(name, BuildEnd::Revoked);
        }
        self.tidy(now_ms);
        self.events.push(Event::CachePatternDeleted {
            namespace: namespace.to_owned(),
            selector: KeySelector::clone(&delete.selector),
            after: delete.after.clone(),
            through: cursor.clone(),
            revision,
        });
        Ok(Outcome::CacheDeletePattern { deleted, cursor, revision })
    }

    pub(super) fn deadlines(&self) -> impl Iterator<Item = u64> + '_ {
        let entries = self.entries.values().filter_map(Entry::gone_ms);
        let builds = self.builds.values().map(|build| build.until_ms);
        let tags = self.tags.iter().filter_map(|(name, tag)| match tag.swept_ms {
            Some(at_ms) => Some(at_ms),
            None => (!self.has(name)).then_some(tag.kept_until_ms),
        });
        entries.chain(builds).chain(tags)
    }

    fn shown(&self, now_ms: u64, name: &Name) -> Option<CacheItem> {
        let entry = self.live(name)?.clone();
        let freshness = match entry.deadline_ms {
            None => CacheFreshness::Fresh { remaining_ms: None },
            Some(at_ms) if at_ms > now_ms => {
                CacheFreshness::Fresh { remaining_ms: Some(at_ms - now_ms) }
            }
            Some(at_ms) => {
                CacheFreshness::Stale { remaining_ms: at_ms + entry.stale_for_ms - now_ms }
            }
        };
        Some(CacheItem {
            value: entry.value.into(),
            tags: texts(&entry.tags),
            mod_revision: entry.modified,
            freshness,
            stale_for_ms: entry.stale_for_ms,
        })
    }

    pub(super) fn compare(&self, tables: &MemoryTables, now_ms: u64) -> Result<(), TestCaseError> {
        let usage = CacheUsage {
            entries: self.entries.len() as u64,
            bytes: self.bytes(),
            bytes_max: self.bytes_max,
            builds: self.builds.len() as u64,
            tags: self.tags.len() as u64,
        };
        prop_assert_eq!(query::cache_usage(tables, GROUP).unwrap(), usage);
        for namespace in ["", "a"] {
            for key in ["a", "b", "ab", "c", "d", "e", "f", "g", "h"] {
                let name = (namespace.to_owned(), key.as_bytes().to_vec());
                let found = query::cache_get(tables, GROUP, namespace, key.as_bytes()).unwrap();
                prop_assert_eq!(found, self.shown(now_ms, &name), "{:?}", name);
                let build = self.builds.get(&name).map(|build| CacheBuildItem {
                    lease: BuildLease(build.lease),
                    granted: build.granted,
                    remaining_ms: build.until_ms - now_ms,
                });
                let found = query::cache_build(tables, GROUP, namespace, key.as_bytes()).unwrap();
                prop_assert_eq!(found, build, "build of {:?}", name);
            }
        }
        let all: Vec<CacheCandidate> = self
            .entries
            .iter()
            .map(|(name, entry)| CacheCandidate {
                id: query::cache_id(&name.0, &name.1).unwrap(),
                mod_revision: entry.modified,
                bytes: entry.bytes(name),
                dead: self.live(name).is_none(),
            })
            .collect();
        let (mut found, mut after) = (Vec::new(), None::<Bytes>);
        loop {
            let page = query::cache_candidates(tables, GROUP, after.as_deref(), 3).unwrap();
            let CacheCandidates { candidates, cursor } = page;
            found.extend(candidates);
            after = cursor;
            if after.is_none() {
                break;
            }
        }
        prop_assert_eq!(found, all);
        Ok(())
    }
}
