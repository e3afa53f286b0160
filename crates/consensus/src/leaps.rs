//! Time that a test lets pass at once.
//!
//! The leader does it, deadline by deadline: its clocks leap to the next one there is, and go on when the
//! entry that deals with it is applied here. So what falls due on the way falls due in its order, and what
//! follows from it (the next time of a schedule, a key that a session held) has its own time before the
//! leap ends. Outside of tests there are no [`Leaps`], and nobody looks for any.

use crate::clock::TermClock;
use crate::failure::Failure;
use crate::leader::{LeaderTask, Looks, unreadable};
use crate::machine_adapter::Applied;
use crate::proposer::quorum_acked;
use quorate_state::{Stamp, query};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::broadcast::error::TryRecvError;
use tokio::sync::{oneshot, watch};
use tokio::time::Instant;

/// The leaps of a cluster's clocks, shared by all its nodes: whoever leads makes them.
#[derive(Debug, Default)]
pub struct Leaps {
    /// All that was leapt, in microseconds.
    passed_us: AtomicU64,
    /// What was asked for and is not over, in this order.
    asked: Mutex<VecDeque<Asked>>,
    /// Bumped when more is asked for.
    news: watch::Sender<u64>,
}

#[derive(Debug)]
struct Asked {
    left: Duration,
    done: oneshot::Sender<()>,
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

impl Leaps {
    /// Lets this much time pass, and returns when all that fell due on the way is dealt with: in the
    /// log, and applied by the node that leads. Waits for as long as nobody leads with a quorum.
    ///
    /// # Cancel safety
    /// When it is dropped, some of the time may have passed.
    pub async fn leap(&self, by: Duration) {
        let (done, over) = oneshot::channel();
        self.asked().push_back(Asked { left: by, done });
        self.news.send_modify(|news| *news += 1);
        // `self` keeps the other end.
        let _ = over.await;
    }

    /// All that was leapt so far: a wall clock is ahead by this much.
    #[must_use]
    pub fn passed(&self) -> Duration {
        Duration::from_micros(self.passed_us())
    }

    pub(crate) fn passed_us(&self) -> u64 {
        self.passed_us.load(Ordering::SeqCst)
    }

    fn asked(&self) -> MutexGuard<'_, VecDeque<Asked>> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is left of the leap that is under way.
    fn left(&self) -> Option<Duration> {
        let mut asked = self.asked();
        while asked.front().is_some_and(|first| first.done.is_closed()) {
            asked.pop_front();
        }
        asked.front().map(|first| first.left)
    }

    /// Lets a part of it pass.
    pub(crate) fn pass(&self, step: Duration) {
        if let Some(first) = self.asked().front_mut() {
            first.left = first.left.saturating_sub(step);
        }
        self.passed_us.fetch_add(micros(step), Ordering::SeqCst);
    }

    /// The leap under way has come to its end.
    fn over(&self) {
        if let Some(first) = self.asked().pop_front() {
            // Whoever asked may have given up.
            let _ = first.done.send(());
        }
    }
}

/// Hears of what may let a leap begin or go on.
pub(crate) struct Wakes {
    leaps: Option<Arc<Leaps>>,
    news: Option<watch::Receiver<u64>>,
    applied: watch::Receiver<u64>,
}

impl Wakes {
    pub(crate) fn new(leaps: Option<Arc<Leaps>>, applied: watch::Receiver<u64>) -> Self {
        let news = leaps.as_ref().map(|leaps| leaps.news.subscribe());
        Self { leaps, news, applied }
    }

    /// Waits for the next; for ever where there are no leaps.
    pub(crate) async fn next(&mut self) {
        let (Some(leaps), Some(news)) = (&self.leaps, &mut self.news) else {
            return std::future::pending().await;
        };
        let under_way = leaps.left().is_some();
        let changed = tokio::select! {
            changed = news.changed() => changed,
            changed = self.applied.changed(), if under_way => changed,
        };
        if changed.is_err() {
            // Consensus stops.
            std::future::pending().await
        }
    }
}

impl LeaderTask {
    /// Goes on with the leap that is under way, as far as that is possible now.
    pub(crate) fn leap(&mut self, clock: &TermClock, looks: &mut Looks) -> Result<(), Failure> {
        let Some(leaps) = self.wall.leaps() else { return Ok(()) };
        while let Some(left) = leaps.left() {
            // Another one may lead by now; and what is proposed without a quorum waits for one.
            let known = quorum_acked(&self.raft);
            if known.is_none_or(|acked| acked + self.quorum_ttl < Instant::now()) {
                return Ok(());
            }
            // A lock that a caller knows to be granted has begun before time leaps.
            self.take_in_what_is_there(clock)?;
            match self.next_due(clock, looks)? {
                Some(Duration::ZERO) => return self.look(clock, looks),
                _ if left.is_zero() => leaps.over(),
                next => leaps.pass(next.map_or(left, |next| next.min(left))),
            }
        }
        Ok(())
    }

    fn take_in_what_is_there(&mut self, clock: &TermClock) -> Result<(), Failure> {
        loop {
            match self.told.try_recv() {
                Ok(Applied::Events(events)) => self.take_in(&events, clock),
                Ok(Applied::Resync) | Err(TryRecvError::Lagged(_)) => {
                    self.derive_leases(self.now_ms(clock))?;
                }
                Err(TryRecvError::Empty | TryRecvError::Closed) => return Ok(()),
            }
        }
    }

    /// How long until something is due; zero while something is, or a schedule has yet to be told its
    /// next time.
    fn next_due(&self, clock: &TermClock, looks: &Looks) -> Result<Option<Duration>, Failure> {
        let Stamp { lease_ms, wall_ms } = self.now(clock);
        let view = self.reader.view();
        let tables = view.tables.as_ref();
        let asking = query::asking_schedules(tables, self.group).map_err(|e| unreadable(&e))?;
        if !asking.is_empty() {
            return Ok(Some(Duration::ZERO));
        }
        let (from_ms, wall_from_ms) = looks.from();
        let due = query::next_deadline_ms(tables, self.group, from_ms..=u64::MAX)
            .map_err(|e| unreadable(&e))?;
        let wall_due = query::next_wall_deadline_ms(tables, self.group, wall_from_ms..=u64::MAX)
            .map_err(|e| unreadable(&e))?;
        let left = [
            self.leases.next_ms().map(|at_ms| at_ms.saturating_sub(lease_ms)),
            due.map(|at_ms| at_ms.saturating_sub(lease_ms)),
            wall_due.map(|at_ms| at_ms.saturating_sub(wall_ms)),
        ];
        Ok(left.into_iter().flatten().min().map(Duration::from_millis))
    }
}
