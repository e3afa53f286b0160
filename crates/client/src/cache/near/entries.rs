//! The copies themselves, and the rule by which they are kept and used.
//!
//! `P` is the revision up to which everything that was invalidated has been taken in. A copy may be
//! used for a read that has to see revision `S` only while `P >= S`. A value that was read at revision
//! `R` may be kept only if nothing that was taken in has invalidated it behind `R`, and everything
//! behind `R` is remembered. Both are looked at, and the value put in, under the mutex under which
//! invalidations are taken in; reads need none.

use super::ring::{Ring, What};
use crate::cache::CacheEntry;
use bytes::Bytes;
use moka::notification::RemovalCause;
use moka::sync::Cache as Kept;
use quorate_proto::v1::CacheInvalidation;
use quorate_proto::v1::cache_invalidation::What as Invalidated;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// Bytes of an entry besides its key, its value and its tags: about what it takes in the tables.
const ENTRY_BYTES: usize = 128;
/// `P` while there is no stream: copies are used for no read at all.
const OFF: u64 = 0;

/// The copies.
pub(super) struct Entries {
    kept: Kept<Bytes, Arc<Copy>>,
    /// `P` plus one, or [`OFF`].
    position: AtomicU64,
    /// Grows when all copies are dropped: those of an earlier one are not used.
    epoch: AtomicU64,
    /// Copies that are not kept any more, whoever dropped them: to be taken out of the tags.
    removed: Arc<Mutex<Vec<Arc<Copy>>>>,
    state: Mutex<State>,
    ttl_max: Duration,
}

struct State {
    stream: Option<Stream>,
    /// Which keys have a tag, each with the id of its copy.
    tags: HashMap<Arc<str>, HashMap<Bytes, u64>>,
    last_id: u64,
}

struct Stream {
    group: u32,
    /// The last `P`.
    revision: u64,
    ring: Ring,
}

/// A copy.
struct Copy {
    id: u64,
    epoch: u64,
    key: Bytes,
    entry: CacheEntry,
    /// When its ttl is over; none without one.
    fresh_until: Option<Instant>,
    used_until: Instant,
    tags: Vec<Arc<str>>,
}

impl Entries {
    pub(super) fn new(bytes_max: u64, ttl_max: Duration) -> Self {
        let removed = Arc::new(Mutex::new(Vec::new()));
        let listener = {
            let removed = Arc::clone(&removed);
            move |_: Arc<Bytes>, copy: Arc<Copy>, _: RemovalCause| {
                // Under no other lock: it is called from reads, too. Emptied with every change, so there
                // are never more than there were copies.
                locked(&removed).push(copy);
            }
        };
        let kept = Kept::builder()
            .max_capacity(bytes_max)
            .weigher(|key: &Bytes, copy: &Arc<Copy>| weight(key, &copy.entry))
            .eviction_listener(listener)
            .build();
        let state = State { stream: None, tags: HashMap::new(), last_id: 0 };
        Self {
            kept,
            position: AtomicU64::new(OFF),
            epoch: AtomicU64::new(0),
            removed,
            state: Mutex::new(state),
            ttl_max,
        }
    }

    /// The copy of a key, for a read that has to see this revision.
    pub(super) fn get(&self, key: &[u8], revision: u64, now: Instant) -> Option<CacheEntry> {
        let epoch = self.epoch.load(Ordering::Acquire);
        // Before the copy is looked for: what was taken in up to there has been removed by then.
        if self.position.load(Ordering::Acquire) <= revision {
            return None;
        }
        let copy = self.kept.get(key)?;
        // All of it within one epoch: another stream may have begun further back.
        if copy.epoch != epoch
            || self.epoch.load(Ordering::Acquire) != epoch
            || now >= copy.used_until
        {
            return None;
        }
        let remaining_ttl = copy.fresh_until.map(|until| until.saturating_duration_since(now));
        Some(CacheEntry { remaining_ttl, ..copy.entry.clone() })
    }

    /// Keeps what a read that was sent then has answered, if that may be.
    pub(super) fn offer(
        &self,
        key: &Bytes,
        entry: &CacheEntry,
        group: u32,
        sent_at: Instant,
        now: Instant,
    ) {
        // What is longer than the clock goes is without end.
        let fresh_until = entry.remaining_ttl.and_then(|ttl| sent_at.checked_add(ttl));
        let longest = sent_at + self.ttl_max;
        let used_until = fresh_until.map_or(longest, |until| until.min(longest));
        if entry.stale || used_until <= now {
            return;
        }
        let mut state = self.state();
        self.clean(&mut state);
        let Some(stream) = &state.stream else { return };
        let ring = &stream.ring;
        let invalidated = ring.is_behind(What::Key(key), entry.revision)
            || entry.tags.iter().any(|tag| ring.is_behind(What::Tag(tag), entry.revision));
        if stream.group != group || !ring.covers(entry.revision) || invalidated {
            return;
        }
        let epoch = self.epoch.load(Ordering::Acquire);
        let newer = |copy: Arc<Copy>| copy.epoch == epoch && copy.entry.revision > entry.revision;
        if self.kept.get(key).is_some_and(newer) {
            return;
        }
        state.last_id += 1;
        let id = state.last_id;
        let tags: Vec<Arc<str>> = entry.tags.iter().map(|tag| Arc::from(tag.as_str())).collect();
        for tag in &tags {
            state.tags.entry(Arc::clone(tag)).or_default().insert(key.clone(), id);
        }
        let entry = entry.clone();
        let copy = Copy { id, epoch, key: key.clone(), entry, fresh_until, used_until, tags };
        self.kept.insert(key.clone(), Arc::new(copy));
        // Now, so that the bound holds.
        self.kept.run_pending_tasks();
        self.clean(&mut state);
    }

    /// A stream has begun: what happens behind this revision comes with it.
    pub(super) fn begin(&self, group: u32, revision: u64) {
        let mut state = self.state();
        self.drop_all(&mut state);
        state.stream = Some(Stream { group, revision, ring: Ring::new(revision) });
        self.position.store(revision.saturating_add(1), Ordering::Release);
    }

    /// The stream is over: nobody says any more what happens.
    pub(super) fn lost(&self) {
        let mut state = self.state();
        self.position.store(OFF, Ordering::Release);
        state.stream = None;
        self.drop_all(&mut state);
    }

    /// Takes in what the stream says: this was invalidated, and that is all up to that revision.
    ///
    /// # Errors
    /// Why it makes no sense; then the stream is not to be trusted.
    pub(super) fn take_in(
        &self,
        invalidations: &[CacheInvalidation],
        group: u32,
        revision: u64,
    ) -> Result<(), String> {
        let mut state = self.state();
        self.clean(&mut state);
        let Some(stream) = &state.stream else { return Err("there is no stream".to_owned()) };
        if stream.group != group || revision < stream.revision {
            return Err(format!(
                "the stream went from revision {} of group {} to {revision} of group {group}",
                stream.revision, stream.group
            ));
        }
        for invalidation in invalidations {
            let at = invalidation.revision;
            match &invalidation.what {
                Some(Invalidated::Key(key)) => {
                    remember(&mut state, What::Key(key), at);
                    self.remove(key, at);
                }
                Some(Invalidated::Tag(tag)) => {
                    remember(&mut state, What::Tag(tag), at);
                    self.remove_tagged(&state, tag, at);
                }
                Some(Invalidated::Prefix(prefix)) => {
                    if let Some(stream) = &mut state.stream {
                        stream.ring.raise(at);
                    }
                    for (key, _) in &self.kept {
                        if key.starts_with(prefix) {
                            self.remove(&key, at);
                        }
                    }
                }
                Some(Invalidated::Everything(_)) => {
                    self.drop_all(&mut state);
                    if let Some(stream) = &mut state.stream {
                        stream.ring = Ring::new(at);
                    }
                }
                None => return Err(format!("it does not say what happened at {at}")),
            }
        }
        self.clean(&mut state);
        if let Some(stream) = &mut state.stream {
            stream.revision = revision;
        }
        // Last: whoever reads it does not find what was removed.
        self.position.store(revision.saturating_add(1), Ordering::Release);
        Ok(())
    }

    pub(super) fn forget(&self, key: &[u8]) {
        let mut state = self.state();
        self.kept.invalidate(key);
        self.clean(&mut state);
    }

    pub(super) fn forget_tags(&self, tags: &[String]) {
        let mut state = self.state();
        for tag in tags {
            self.remove_tagged(&state, tag, u64::MAX);
        }
        self.clean(&mut state);
    }

    pub(super) fn forget_all(&self) {
        self.drop_all(&mut self.state());
    }

    /// Drops the copy of a key if it was read before this revision.
    fn remove(&self, key: &[u8], revision: u64) {
        if self.kept.get(key).is_some_and(|copy| copy.entry.revision < revision) {
            self.kept.invalidate(key);
        }
    }

    fn remove_tagged(&self, state: &State, tag: &str, revision: u64) {
        for key in state.tags.get(tag).into_iter().flat_map(HashMap::keys) {
            self.remove(key, revision);
        }
    }

    fn drop_all(&self, state: &mut State) {
        self.epoch.fetch_add(1, Ordering::AcqRel);
        self.kept.invalidate_all();
        self.kept.run_pending_tasks();
        state.tags.clear();
        locked(&self.removed).clear();
    }

    /// Takes what is not kept any more out of the tags.
    fn clean(&self, state: &mut State) {
        let removed = std::mem::take(&mut *locked(&self.removed));
        for copy in removed {
            for tag in &copy.tags {
                let Some(keys) = state.tags.get_mut(tag) else { continue };
                // Another copy of the same key may be kept under it.
                if keys.get(&copy.key) == Some(&copy.id) {
                    keys.remove(&copy.key);
                }
                if keys.is_empty() {
                    state.tags.remove(tag);
                }
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        locked(&self.state)
    }
}

fn remember(state: &mut State, what: What<'_>, revision: u64) {
    if let Some(stream) = &mut state.stream {
        stream.ring.push(what, revision);
    }
}

fn weight(key: &Bytes, entry: &CacheEntry) -> u32 {
    let tags: usize = entry.tags.iter().map(String::len).sum();
    u32::try_from(key.len() + entry.value.len() + tags + ENTRY_BYTES).unwrap_or(u32::MAX)
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
