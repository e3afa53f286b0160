//! The task that follows what this node applies, for all watches.

use super::ring::Chunk;
use super::{Ended, Hub, MARK_INTERVAL, NO_QUORUM_MAX};
use crate::grpc::blocking;
use quorate_state::query::{self, Compacted, KvHistory};
use quorate_state::{Fatal, HistoryPosition, Revision};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// Bytes of a chunk: little enough to be looked through at once for all watches.
const CHUNK_BYTES: usize = 256 << 10;
/// How long a barrier may take.
const BARRIER_TIMEOUT: Duration = Duration::from_secs(4);

/// Runs until the last watch is gone, the server stops or the tables fail.
pub(super) async fn run(hub: Arc<Hub>) {
    let mut applies = hub.replica.applies();
    let mut tail = match Tail::begin(&hub) {
        Ok(tail) => tail,
        Err(fatal) => return give_up(&hub, &fatal),
    };
    // The first watches began behind barriers of their own.
    let mut confirmed_at = Instant::now();
    let mut barrier_at = confirmed_at + MARK_INTERVAL;
    // What a quorum has confirmed and may not have been read here yet.
    let mut confirming: Option<Revision> = None;
    let mut barrier = None;
    loop {
        if let Err(fatal) = tail.read() {
            return give_up(&hub, &fatal);
        }
        if confirming.is_some_and(|revision| tail.end >= HistoryPosition::behind(revision)) {
            confirming = None;
            hub.shared().confirm();
        }
        if confirmed_at.elapsed() >= NO_QUORUM_MAX {
            hub.shared().end(&Ended::NoQuorum);
            // Whoever begins from here on does so behind a barrier.
            confirmed_at = Instant::now();
        }
        tokio::select! {
            () = hub.stop.cancelled() => {
                let mut shared = hub.shared();
                shared.end(&Ended::Stopping);
                shared.tailing = false;
                return;
            }
            more = applies.changed() => {
                if !more {
                    let mut shared = hub.shared();
                    shared.end(&Ended::Stopping);
                    shared.tailing = false;
                    return;
                }
            }
            () = hub.none_left.notified() => {
                let mut shared = hub.shared();
                if shared.watches.is_empty() {
                    shared.ring.reset(HistoryPosition::default());
                    shared.tailing = false;
                    return;
                }
            }
            () = tokio::time::sleep_until(barrier_at), if barrier.is_none() => {
                let replica = hub.replica.clone();
                barrier = Some(Box::pin(async move { replica.read(BARRIER_TIMEOUT).await }));
            }
            passed = async { barrier.as_mut().expect("asked only if there is one").await },
                if barrier.is_some() =>
            {
                barrier = None;
                barrier_at = Instant::now() + MARK_INTERVAL;
                match passed {
                    Ok(view) => {
                        confirmed_at = Instant::now();
                        match query::revision(&*view.tables, hub.replica.group()) {
                            Ok(revision) => confirming = Some(revision),
                            Err(fatal) => return give_up(&hub, &fatal),
                        }
                    }
                    // Once more, and soon: so many seconds are not many attempts.
                    Err(_) => barrier_at = Instant::now() + MARK_INTERVAL / 10,
                }
            }
        }
    }
}

fn give_up(hub: &Hub, fatal: &Fatal) {
    tracing::error!(error = %fatal, "watches end: this node's history can't be read");
    let mut shared = hub.shared();
    shared.end(&Ended::Unreadable(fatal.to_string()));
    shared.tailing = false;
}

/// How far the history was read.
struct Tail<'a> {
    hub: &'a Hub,
    end: HistoryPosition,
}

impl<'a> Tail<'a> {
    fn begin(hub: &'a Hub) -> Result<Self, Fatal> {
        let view = hub.replica.stale();
        let end = HistoryPosition::behind(query::revision(&*view.tables, hub.replica.group())?);
        // Watches that are behind it, or have come already, read the tables.
        hub.shared().skip_to(end);
        Ok(Self { hub, end })
    }

    /// Reads everything there is.
    fn read(&mut self) -> Result<(), Fatal> {
        let view = self.hub.replica.stale();
        let (tables, group) = (&*view.tables, self.hub.replica.group());
        loop {
            let asked =
                KvHistory { watched: None, after: self.end, values: true, bytes_max: CHUNK_BYTES };
            match blocking(|| query::kv_history(tables, group, &asked))? {
                Ok(page) => {
                    if page.through > self.end {
                        let chunk = Chunk::new(self.end, page.through, page.events);
                        self.end = page.through;
                        self.hub.shared().add(chunk);
                    }
                    if !page.more {
                        return Ok(());
                    }
                }
                // The node was away, or a snapshot came, and the rest was trimmed meanwhile.
                Err(Compacted { oldest }) => {
                    self.end = HistoryPosition::before(oldest);
                    self.hub.shared().skip_to(self.end);
                }
            }
        }
    }
}
