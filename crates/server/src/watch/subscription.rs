//! One watch: hands out what concerns it, part by part, as fast as it is asked.

use super::ring::Chunk;
use super::{Ended, Hub, Look};
use crate::grpc::blocking;
use quorate_state::query::{self, Compacted, KvEvent, KvHistory, KvWatched};
use quorate_state::{HistoryPosition, Revision};
use std::sync::Arc;
use tokio::sync::{Notify, OwnedSemaphorePermit};

/// Bytes of the events of a part, if one alone does not have more: what a client that does not read
/// costs. At 64 bytes an event, keys and values apart, it is about a thousand.
const PART_BYTES: usize = 64 << 10;

/// Some of the changes, and how far the watch is with that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Part {
    /// In their order; there may be none.
    pub(crate) events: Vec<KvEvent>,
    /// Everything up to this revision was handed out. What lies above it in here belongs to one
    /// revision, with which the next part goes on.
    pub(crate) revision: Revision,
}

/// A watch that has begun. It ends when it is dropped.
pub(crate) struct Subscription {
    hub: Arc<Hub>,
    id: u64,
    watched: Arc<KvWatched>,
    values: bool,
    /// Everything up to here was handed out, or does not concern it.
    seen: HistoryPosition,
    /// What it said last of how far it is.
    told: Revision,
    /// How many confirmations it has passed on.
    confirmed: u64,
    /// Whether it has not caught up since it began, or fell behind the ring.
    catching_up: bool,
    wake: Arc<Notify>,
    _place: OwnedSemaphorePermit,
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.hub.leave(self.id);
    }
}

impl Subscription {
    #[allow(clippy::too_many_arguments, reason = "made in one place, of what it is made there")]
    pub(super) fn new(
        hub: Arc<Hub>,
        id: u64,
        watched: Arc<KvWatched>,
        values: bool,
        after: HistoryPosition,
        confirmed: u64,
        wake: Arc<Notify>,
        place: OwnedSemaphorePermit,
    ) -> Self {
        let told = whole(after);
        Self {
            hub,
            id,
            watched,
            values,
            seen: after,
            told,
            confirmed,
            catching_up: true,
            wake,
            _place: place,
        }
    }

    /// How far it is.
    pub(crate) fn revision(&self) -> Revision {
        self.told
    }

    /// The next part: as soon as there is an event, or a quorum has confirmed that there is none, or
    /// it has caught up, or has looked through a page of the history in vain.
    ///
    /// # Cancel safety
    /// Nothing is lost when it is dropped.
    pub(crate) async fn next(&mut self) -> Result<Part, Ended> {
        loop {
            match self.hub.look(self.id, self.seen) {
                Look::Ended(ended) => return Err(ended),
                Look::Older(seen) => {
                    self.seen = seen;
                    self.catching_up = true;
                    self.hub.counters.watches.ring_misses.count();
                    let part = self.read()?;
                    if part.revision > self.told || !part.events.is_empty() {
                        return Ok(self.tell(part));
                    }
                }
                Look::Chunk(chunk, seen) => {
                    self.seen = seen;
                    let events = self.take(&chunk);
                    if !events.is_empty() {
                        return Ok(self.tell(Part { events, revision: whole(self.seen) }));
                    }
                }
                Look::Idle(seen, confirmed) => {
                    self.seen = seen;
                    let caught_up = self.catching_up && whole(seen) > self.told;
                    self.catching_up = false;
                    if caught_up || confirmed > self.confirmed {
                        self.confirmed = confirmed;
                        return Ok(self.tell(Part { events: Vec::new(), revision: whole(seen) }));
                    }
                    self.wake.notified().await;
                }
            }
        }
    }

    fn tell(&mut self, part: Part) -> Part {
        self.told = part.revision;
        part
    }

    /// A page of the history in the tables.
    fn read(&mut self) -> Result<Part, Ended> {
        let view = self.hub.replica.stale();
        let asked = KvHistory {
            watched: Some(&self.watched),
            after: self.seen,
            values: self.values,
            bytes_max: PART_BYTES,
        };
        let group = self.hub.replica.group();
        match blocking(|| query::kv_history(&*view.tables, group, &asked)) {
            Ok(Ok(page)) => {
                self.seen = page.through;
                Ok(Part { events: page.events, revision: whole(self.seen) })
            }
            Ok(Err(Compacted { oldest })) => Err(Ended::Compacted { oldest }),
            Err(fatal) => Err(Ended::Unreadable(fatal.to_string())),
        }
    }

    /// What concerns it in a chunk, as much as goes into a part.
    fn take(&mut self, chunk: &Chunk) -> Vec<KvEvent> {
        let from = chunk.events.partition_point(|event| event.position <= self.seen);
        let mut events = Vec::new();
        let mut bytes = 0;
        let mut passed = self.seen;
        for event in &chunk.events[from..] {
            if self.watched.takes(event) {
                let event = if self.values { event.clone() } else { event.without_value() };
                bytes += event.counted_bytes();
                if bytes > PART_BYTES && !events.is_empty() {
                    // Behind a whole revision when this event is the first of another one.
                    let next = event.position.revision > passed.revision;
                    self.seen =
                        if next { HistoryPosition::behind(passed.revision) } else { passed };
                    return events;
                }
                events.push(event);
            }
            passed = event.position;
        }
        self.seen = chunk.through;
        events
    }
}

/// The newest revision of which nothing lies behind a position.
fn whole(position: HistoryPosition) -> Revision {
    if position == HistoryPosition::behind(position.revision) {
        return position.revision;
    }
    Revision(position.revision.0.saturating_sub(1))
}
