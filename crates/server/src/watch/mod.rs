//! The watches of a node: one task reads what was applied, all watches share what it read.
//!
//! ```text
//!  Replica::applies ──► tail ──► Ring (decoded once) ──► Subscription::next, one per watch
//!                        │                                  │        │
//!                        └─ wakes whom an event concerns    │        └─ behind the ring: the tables
//!                        └─ a read barrier every 5 s ───────┘           (any pace, bounded pages)
//! ```
//!
//! A watch that has seen everything costs nothing until the task finds an event for it. One that
//! lags reads pages of the history itself, when its client has room for them; what it misses of the
//! ring is not kept for it. So the memory of a watch is its selectors and one message, however slow
//! its client. The task runs while there are watches.
//!
//! Positions, not wake-ups, decide what a watch gets: the history is the same on every replica, also
//! right after a snapshot was installed, and whatever the task missed is found in the tables.

mod ring;
mod subscription;
mod tail;

pub(crate) use subscription::{Part, Subscription};

use crate::metrics::Counters;
use quorate_consensus::Replica;
use quorate_state::query::{KvEvent, KvWatched};
use quorate_state::{HistoryPosition, Revision};
use ring::{Chunk, Found, Ring};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

/// Watches of a node: as many as connections. One takes about a KiB, and 64 KiB with the largest
/// selectors.
pub(crate) const WATCHES_MAX: usize = 10_000;
/// How often watches are told how far they are, behind a read barrier for all of them.
pub(crate) const MARK_INTERVAL: Duration = Duration::from_secs(5);
/// Without a barrier for this long a watch might hang where nothing arrives any more.
pub(crate) const NO_QUORUM_MAX: Duration = Duration::from_secs(15);

/// Why a watch is over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// What comes next was trimmed from the history.
    Compacted {
        /// The oldest revision that is whole.
        oldest: Revision,
    },
    /// No quorum has confirmed for [`NO_QUORUM_MAX`] what this node has.
    NoQuorum,
    /// The node stops.
    Stopping,
    /// The tables can't be read.
    Unreadable(String),
}

/// The watches of one node. Clones are the same.
#[derive(Clone)]
pub(crate) struct Watches(Arc<Hub>);

struct Hub {
    replica: Replica,
    counters: Arc<Counters>,
    /// Cancelled when the server stops.
    stop: CancellationToken,
    places: Arc<Semaphore>,
    shared: Mutex<Shared>,
    /// The last watch is gone.
    none_left: Notify,
}

#[derive(Default)]
struct Shared {
    ring: Ring,
    /// By a number that is never used again; in the order they came, so that a simulation wakes
    /// them in the same order each time.
    watches: BTreeMap<u64, Watch>,
    last_id: u64,
    tailing: bool,
    /// How often a quorum has confirmed that all was read up to the ring's end.
    confirmed: u64,
}

/// A watch, as the task sees it.
struct Watch {
    watched: Arc<KvWatched>,
    /// Whether it has seen everything that concerns it up to the ring's end; if not, it is at work.
    idle: bool,
    /// It has seen everything up to here, and more when it is idle.
    seen: HistoryPosition,
    ended: Option<Ended>,
    wake: Arc<Notify>,
}

impl Watches {
    pub(crate) fn new(replica: Replica, counters: Arc<Counters>, stop: CancellationToken) -> Self {
        Self(Arc::new(Hub {
            replica,
            counters,
            stop,
            places: Arc::new(Semaphore::new(WATCHES_MAX)),
            shared: Mutex::default(),
            none_left: Notify::new(),
        }))
    }

    /// A place for one more watch; none when there are [`WATCHES_MAX`].
    pub(crate) fn place(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.0.places).try_acquire_owned().ok()
    }

    /// Begins a watch behind a position.
    pub(crate) fn begin(
        &self,
        watched: KvWatched,
        values: bool,
        after: HistoryPosition,
        place: OwnedSemaphorePermit,
    ) -> Subscription {
        let watched = Arc::new(watched);
        let wake = Arc::new(Notify::new());
        let mut shared = self.0.shared();
        shared.last_id += 1;
        let id = shared.last_id;
        let watch = Watch {
            watched: Arc::clone(&watched),
            idle: false,
            seen: after,
            ended: None,
            wake: Arc::clone(&wake),
        };
        shared.watches.insert(id, watch);
        let confirmed = shared.confirmed;
        if !shared.tailing {
            shared.tailing = true;
            tokio::spawn(tail::run(Arc::clone(&self.0)));
        }
        drop(shared);
        self.0.counters.watches.open.enter();
        Subscription::new(Arc::clone(&self.0), id, watched, values, after, confirmed, wake, place)
    }
}

/// What a watch finds when it looks.
enum Look {
    /// It is over.
    Ended(Ended),
    /// It goes on in the tables, behind this position.
    Older(HistoryPosition),
    /// It goes on in these events, behind this position.
    Chunk(Arc<Chunk>, HistoryPosition),
    /// It has seen everything, up to this position; so often was that confirmed.
    Idle(HistoryPosition, u64),
}

impl Hub {
    fn shared(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What there is for a watch that has seen everything up to `seen`.
    fn look(&self, id: u64, seen: HistoryPosition) -> Look {
        let mut shared = self.shared();
        let Shared { ring, watches, confirmed, .. } = &mut *shared;
        let Some(watch) = watches.get_mut(&id) else { return Look::Ended(Ended::Stopping) };
        if let Some(ended) = &watch.ended {
            return Look::Ended(ended.clone());
        }
        let passed = if watch.idle { ring.end() } else { watch.seen };
        let seen = seen.max(passed);
        watch.seen = seen;
        let found = ring.behind(seen);
        watch.idle = matches!(found, Found::Nothing);
        match found {
            Found::Older => Look::Older(seen),
            Found::Chunk(chunk) => Look::Chunk(chunk, seen),
            Found::Nothing => Look::Idle(seen, *confirmed),
        }
    }

    fn leave(&self, id: u64) {
        let mut shared = self.shared();
        shared.watches.remove(&id);
        let none_left = shared.watches.is_empty();
        drop(shared);
        self.counters.watches.open.leave();
        if none_left {
            self.none_left.notify_one();
        }
    }
}

impl Shared {
    /// Wakes the idle watches that one of the events concerns; the others have seen the chunk with
    /// that.
    fn add(&mut self, chunk: Chunk) {
        for watch in self.watches.values_mut().filter(|watch| watch.idle) {
            let new = |event: &&KvEvent| event.position > watch.seen;
            if chunk.events.iter().filter(new).any(|event| watch.watched.takes(event)) {
                watch.idle = false;
                watch.seen = watch.seen.max(chunk.after);
                watch.wake.notify_one();
            }
        }
        self.ring.push(Arc::new(chunk));
    }

    /// Begins the ring anew because something between its end and this position can't be read any
    /// more. Idle watches go on where the ring ended, in the tables, and are told there.
    fn skip_to(&mut self, position: HistoryPosition) {
        let end = self.ring.end();
        for watch in self.watches.values_mut().filter(|watch| watch.idle) {
            watch.idle = false;
            watch.seen = watch.seen.max(end);
            watch.wake.notify_one();
        }
        self.ring.reset(position);
    }

    /// A quorum has confirmed that there is nothing behind the ring's end.
    fn confirm(&mut self) {
        self.confirmed += 1;
        self.watches.values().for_each(|watch| watch.wake.notify_one());
    }

    /// Ends all watches.
    fn end(&mut self, why: &Ended) {
        for watch in self.watches.values_mut() {
            watch.ended.get_or_insert_with(|| why.clone());
            watch.wake.notify_one();
        }
    }
}
