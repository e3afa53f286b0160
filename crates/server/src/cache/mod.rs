//! What a node does for the cache beside the log: who waits for a value to be built, who has a near
//! cache to be kept right, which entries are read, and, on the leader, which are evicted.

mod accesses;
mod builds;
mod eviction;
mod invalidations;

pub(crate) use accesses::{Accesses, Reads};
pub(crate) use builds::{Builds, Waiter};
pub(crate) use eviction::evict;
pub(crate) use invalidations::{Change, Invalidations, Listener};

use crate::bus::Bus;
use quorate_consensus::{Applied, Replica};
use quorate_state::{Event, Revision, query};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::{RecvError, TryRecvError};
use tokio_util::sync::CancellationToken;

/// How often the leader is told what was read.
const TELL_READS_EVERY: Duration = Duration::from_secs(1);
/// How long this node may take to tell, after it has applied something, that it has.
const CATCH_UP: Duration = Duration::from_secs(10);

/// The cache, as the services see it. Clones are the same.
#[derive(Clone)]
pub(crate) struct Cache {
    pub(crate) reads: Arc<Reads>,
    pub(crate) builds: Arc<Builds>,
    pub(crate) invalidations: Arc<Invalidations>,
    replica: Replica,
}

impl Cache {
    pub(crate) fn new(replica: Replica) -> Self {
        Self {
            reads: Arc::default(),
            builds: Arc::default(),
            invalidations: Arc::default(),
            replica,
        }
    }

    /// Tells the leader every second what was read here, until the server stops.
    pub(crate) async fn tell_reads(self, bus: Bus, stop: CancellationToken) {
        let mut every = tokio::time::interval(TELL_READS_EVERY);
        every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = every.tick() => {}
                () = stop.cancelled() => return,
            }
            let hashes = self.reads.take();
            if !hashes.is_empty() {
                bus.tell_cache_reads(hashes);
            }
        }
    }

    /// Follows what this node applies, for those who wait for builds and for near caches.
    ///
    /// Near caches are also told how far the node is, whatever was applied. A view's revision may be
    /// told once all events up to it were: so first the view, then the index it is of, whose events
    /// are in the channel before the index is known, then what the channel has.
    pub(crate) async fn follow(self, mut told: broadcast::Receiver<Applied>) {
        let mut applies = self.replica.applies();
        loop {
            tokio::select! {
                biased;
                news = told.recv() => match news {
                    Ok(applied) => self.tell(&applied),
                    Err(RecvError::Lagged(_)) => self.tell(&Applied::Resync),
                    Err(RecvError::Closed) => return,
                },
                more = applies.changed() => {
                    if !more {
                        return;
                    }
                    // Without near caches nobody asks how far it is.
                    if self.invalidations.is_idle() {
                        continue;
                    }
                    if !self.come_to_view(&mut told).await {
                        return;
                    }
                }
            }
        }
    }

    async fn come_to_view(&self, told: &mut broadcast::Receiver<Applied>) -> bool {
        let view = self.replica.stale();
        let (Ok(revision), Some(applied)) =
            (query::revision(&*view.tables, self.replica.group()), view.applied)
        else {
            return true;
        };
        drop(view);
        if self.replica.wait_index(applied.index, CATCH_UP).await.is_err() {
            return true;
        }
        loop {
            match told.try_recv() {
                Ok(applied) => self.tell(&applied),
                Err(TryRecvError::Lagged(_)) => self.tell(&Applied::Resync),
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Closed) => return false,
            }
        }
        self.invalidations.come_to(revision);
        true
    }

    fn tell(&self, applied: &Applied) {
        let Applied::Events(events) = applied else {
            self.builds.resync();
            // Whatever was missed had been applied by now.
            let view = self.replica.stale();
            let applied = query::revision(&*view.tables, self.replica.group());
            self.invalidations.everything(applied.unwrap_or(Revision(Revision::LIMIT)));
            return;
        };
        for event in events.iter() {
            match event {
                Event::CacheChanged { namespace, key, revision } => {
                    self.builds.changed(namespace, key);
                    self.invalidations.key(namespace, key, *revision);
                }
                Event::CacheTagsInvalidated { namespace, tags, revision } => {
                    self.invalidations.tags(namespace, tags, *revision);
                }
                Event::CachePatternDeleted { namespace, selector, revision, .. } => {
                    self.invalidations.selected(namespace, selector, *revision);
                }
                Event::CacheBuildEnded { namespace, key, lease, end } => {
                    self.builds.ended(namespace, key, *lease, end);
                }
                _ => {}
            }
        }
    }
}
