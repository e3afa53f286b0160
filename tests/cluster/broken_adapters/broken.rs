//! An adapter that passes everything on to another one, but for one thing, which it does wrong.

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::{FutureExt as _, StreamExt as _, stream};
use quorate_client::Error;
use quorate_client::broker::{
    Answer, Broker, Build, BusEvent, Delivery, HeldLock, Items, KvChange, KvEntry, KvPage,
    LockState, NewJob, Promise, PushedJob, QueueCounts, QueueSettings, SetOptions,
};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// What is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    None,
    LosesMessages,
    DoublesMessages,
    SwapsMessages,
    IgnoresPatterns,
    StaysSubscribed,
    TakesBytesForText,
    SharesNamespaces,
    ForgetsTtls,
    KeepsOldTtls,
    DeletesAll,
    BuildsForEach,
    IgnoresConditions,
    AddsInTwoSteps,
    ReadsWhatItRemembers,
    ListsOnePage,
    WatchesHalf,
    LosesJobs,
    DoublesJobs,
    IgnoresPriorities,
    IgnoresDelays,
    AcksNothing,
    AcksWhatFailed,
    ForgetsDedupeKeys,
    IgnoresMaxParallel,
    ExtendsNothing,
    TakesLateAcks,
    NeverGivesUp,
    LocksForEverybody,
    RenewsNothing,
    RenewsForEver,
    HidesLosses,
    PassesOnAtRandom,
    WaitsWithoutAWord,
    GivesOutOldTokens,
    IgnoresGuards,
}

#[derive(Debug)]
pub(super) struct Broken {
    inner: Arc<dyn Broker>,
    fault: Fault,
    calls: AtomicU64,
    /// Who waits for a lock, of all adapters together.
    waiting: Arc<AtomicU64>,
    read: Mutex<BTreeMap<Vec<u8>, Option<KvEntry>>>,
    ttls: Mutex<BTreeMap<Vec<u8>, Duration>>,
}

impl Broken {
    pub(super) fn new(inner: Arc<dyn Broker>, fault: Fault, waiting: Arc<AtomicU64>) -> Self {
        let calls = AtomicU64::new(0);
        Self { inner, fault, calls, waiting, read: Mutex::default(), ttls: Mutex::default() }
    }

    fn has(&self, fault: Fault) -> bool {
        self.fault == fault
    }

    /// Whether it is the turn of one of several calls to go wrong.
    fn every(&self, times: u64) -> bool {
        self.calls.fetch_add(1, Ordering::Relaxed) % times == times - 1
    }

    fn payload(&self, payload: Bytes) -> Bytes {
        match self.has(Fault::TakesBytesForText) {
            true => String::from_utf8_lossy(&payload).into_owned().into(),
            false => payload,
        }
    }

    fn ttl(&self, key: &[u8], ttl: Option<Duration>) -> Option<Duration> {
        let mut ttls = self.ttls.lock().unwrap_or_else(PoisonError::into_inner);
        match self.fault {
            Fault::ForgetsTtls => None,
            Fault::KeepsOldTtls => {
                let old = ttls.get(key).copied();
                if let Some(ttl) = ttl {
                    ttls.insert(key.to_vec(), ttl);
                }
                ttl.or(old)
            }
            _ => ttl,
        }
    }
}

fn ready<'a, T: Send + 'a>(answer: T) -> Answer<'a, T> {
    Box::pin(std::future::ready(Ok(answer)))
}

impl Broker for Broken {
    fn name(&self) -> &str {
        "broken"
    }

    fn keeps(&self, promise: Promise) -> Result<(), Error> {
        self.inner.keeps(promise)
    }

    fn close(&self) -> Answer<'_, ()> {
        self.inner.close()
    }

    fn publish<'a>(&'a self, channel: &'a str, payload: Bytes) -> Answer<'a, Option<u64>> {
        let payload = self.payload(payload);
        match self.fault {
            Fault::LosesMessages if self.every(10) => ready(Some(1)),
            Fault::DoublesMessages => Box::pin(async move {
                self.inner.publish(channel, payload.clone()).await?;
                self.inner.publish(channel, payload).await
            }),
            _ => self.inner.publish(channel, payload),
        }
    }

    fn subscribe<'a>(&'a self, patterns: &'a [String]) -> Answer<'a, Items<BusEvent>> {
        Box::pin(async move {
            let all = ["*".to_owned()];
            let patterns = if self.has(Fault::IgnoresPatterns) { &all } else { patterns };
            let events = self.inner.subscribe(patterns).await?;
            if self.has(Fault::StaysSubscribed) {
                let mut kept = self.inner.subscribe(patterns).await?;
                tokio::spawn(async move { while kept.next().await.is_some() {} });
            }
            if !self.has(Fault::SwapsMessages) {
                return Ok(events);
            }
            let swapped = events.chunks(2).flat_map(|mut two| {
                two.reverse();
                stream::iter(two)
            });
            Ok(swapped.boxed())
        })
    }

    fn cache_get<'a>(&'a self, key: &'a [u8]) -> Answer<'a, Option<Bytes>> {
        self.inner.cache_get(key)
    }

    fn cache_set<'a>(
        &'a self,
        key: &'a [u8],
        value: Bytes,
        ttl: Option<Duration>,
    ) -> Answer<'a, ()> {
        self.inner.cache_set(key, self.payload(value), self.ttl(key, ttl))
    }

    fn cache_delete<'a>(&'a self, key: &'a [u8]) -> Answer<'a, bool> {
        self.inner.cache_delete(key)
    }

    fn cache_delete_pattern<'a>(&'a self, pattern: &'a [u8]) -> Answer<'a, u64> {
        let pattern = if self.has(Fault::DeletesAll) { b"*" } else { pattern };
        self.inner.cache_delete_pattern(pattern)
    }

    fn cache_get_or_build<'a>(
        &'a self,
        key: &'a [u8],
        ttl: Option<Duration>,
        mut build: Build,
    ) -> Answer<'a, Bytes> {
        if !self.has(Fault::BuildsForEach) {
            return self.inner.cache_get_or_build(key, ttl, build);
        }
        Box::pin(async move {
            if let Some(value) = self.inner.cache_get(key).await? {
                return Ok(value);
            }
            let value = build().await?;
            self.inner.cache_set(key, value.clone(), ttl).await?;
            Ok(value)
        })
    }

    fn queue_update<'a>(&'a self, queue: &'a str, mut settings: QueueSettings) -> Answer<'a, ()> {
        if self.has(Fault::NeverGivesUp) {
            settings.attempts_max = Some(0);
        }
        self.inner.queue_update(queue, settings)
    }

    fn queue_push<'a>(&'a self, queue: &'a str, mut job: NewJob) -> Answer<'a, PushedJob> {
        job.payload = self.payload(job.payload);
        match self.fault {
            Fault::LosesJobs if self.every(10) => {
                return ready(PushedJob { id: "1".to_owned(), duplicate: false });
            }
            Fault::DoublesJobs => {
                return Box::pin(async move {
                    self.inner.queue_push(queue, job.clone()).await?;
                    self.inner.queue_push(queue, job).await
                });
            }
            Fault::IgnoresPriorities => job.priority = 0,
            Fault::IgnoresDelays => job.delay = Duration::ZERO,
            Fault::ForgetsDedupeKeys => job.dedupe_key = None,
            _ => {}
        }
        self.inner.queue_push(queue, job)
    }

    fn queue_consume<'a>(
        &'a self,
        queue: &'a str,
        max_parallel: u32,
    ) -> Answer<'a, Items<Box<dyn Delivery>>> {
        let fault = self.fault;
        let max_parallel = if fault == Fault::IgnoresMaxParallel { 100 } else { max_parallel };
        Box::pin(async move {
            let jobs = self.inner.queue_consume(queue, max_parallel).await?;
            let broken = move |job: Result<Box<dyn Delivery>, Error>| {
                Ok(Box::new(BrokenJob { job: job?, fault }) as Box<dyn Delivery>)
            };
            Ok(jobs.map(broken).boxed())
        })
    }

    fn queue_counts<'a>(&'a self, queue: &'a str) -> Answer<'a, QueueCounts> {
        self.inner.queue_counts(queue)
    }

    fn kv_get<'a>(&'a self, key: &'a [u8]) -> Answer<'a, Option<KvEntry>> {
        if !self.has(Fault::ReadsWhatItRemembers) {
            return self.inner.kv_get(key);
        }
        Box::pin(async move {
            let now = self.inner.kv_get(key).await?;
            let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
            Ok(read.entry(key.to_vec()).or_insert(now).clone())
        })
    }

    fn kv_set<'a>(
        &'a self,
        key: &'a [u8],
        value: Bytes,
        mut options: SetOptions,
    ) -> Answer<'a, Option<u64>> {
        options.ttl = self.ttl(key, options.ttl);
        match self.fault {
            Fault::IgnoresConditions => options.condition = None,
            Fault::IgnoresGuards => options.guard = None,
            _ => {}
        }
        self.inner.kv_set(key, self.payload(value), options)
    }

    fn kv_delete<'a>(&'a self, key: &'a [u8]) -> Answer<'a, bool> {
        self.inner.kv_delete(key)
    }

    fn kv_increment<'a>(&'a self, key: &'a [u8], by: i64) -> Answer<'a, i64> {
        if !self.has(Fault::AddsInTwoSteps) {
            return self.inner.kv_increment(key, by);
        }
        Box::pin(async move {
            let old = self.inner.kv_get(key).await?.map(|entry| entry.value);
            let old = old.and_then(|old| std::str::from_utf8(&old).ok()?.parse::<i64>().ok());
            let sum = old.unwrap_or(0) + by;
            self.inner.kv_set(key, sum.to_string().into(), SetOptions::new()).await?;
            Ok(sum)
        })
    }

    fn kv_list<'a>(&'a self, pattern: &'a [u8], cursor: Option<Bytes>) -> Answer<'a, KvPage> {
        Box::pin(async move {
            let mut page = self.inner.kv_list(pattern, cursor).await?;
            if self.has(Fault::ListsOnePage) {
                page.cursor = None;
            }
            Ok(page)
        })
    }

    fn kv_watch<'a>(&'a self, pattern: &'a [u8]) -> Answer<'a, Items<KvChange>> {
        Box::pin(async move {
            let changes = self.inner.kv_watch(pattern).await?;
            if !self.has(Fault::WatchesHalf) {
                return Ok(changes);
            }
            let half = changes.enumerate().filter(|(number, _)| {
                let seen = number % 2 == 0;
                async move { seen }
            });
            Ok(half.map(|(_, change)| change).boxed())
        })
    }

    fn lock_acquire<'a>(
        &'a self,
        name: &'a str,
        ttl: Duration,
        wait: Duration,
    ) -> Answer<'a, Box<dyn HeldLock>> {
        Box::pin(async move {
            let own = format!("{name}-{:p}-{}", self, self.calls.fetch_add(1, Ordering::Relaxed));
            let asked = if self.has(Fault::LocksForEverybody) { &own } else { name };
            let taken = match self.has(Fault::PassesOnAtRandom) && !wait.is_zero() {
                true => self.take_at_random(asked, ttl, wait).await,
                false => self.inner.lock_acquire(asked, ttl, wait).await,
            };
            let mut lock = match taken {
                Err(Error::NotAcquired { reason, .. }) if self.has(Fault::WaitsWithoutAWord) => {
                    return Err(Error::NotAcquired { reason, message: "no".to_owned() });
                }
                taken => Some(taken?),
            };
            let held = BrokenLock { name: name.to_owned(), fault: self.fault, lock: lock.take() };
            Ok(Box::new(held.begun()) as Box<dyn HeldLock>)
        })
    }

    fn lock_inspect<'a>(&'a self, name: &'a str) -> Answer<'a, LockState> {
        Box::pin(async move {
            let mut state = self.inner.lock_inspect(name).await?;
            if self.has(Fault::PassesOnAtRandom) {
                state.waiting = Some(self.waiting.load(Ordering::Relaxed));
            }
            Ok(state)
        })
    }

    fn lock_force_release<'a>(&'a self, name: &'a str) -> Answer<'a, bool> {
        self.inner.lock_force_release(name)
    }
}

impl Broken {
    /// The one that asks last is let go first.
    async fn take_at_random(
        &self,
        name: &str,
        ttl: Duration,
        wait: Duration,
    ) -> Result<Box<dyn HeldLock>, Error> {
        let mine = self.waiting.fetch_add(1, Ordering::Relaxed) + 1;
        let end = tokio::time::Instant::now() + wait;
        loop {
            let last = self.waiting.load(Ordering::Relaxed) == mine;
            if last && let Ok(lock) = self.inner.lock_acquire(name, ttl, Duration::ZERO).await {
                self.waiting.fetch_sub(1, Ordering::Relaxed);
                return Ok(lock);
            }
            if tokio::time::Instant::now() > end {
                return self.inner.lock_acquire(name, ttl, Duration::ZERO).await;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

#[derive(Debug)]
struct BrokenJob {
    job: Box<dyn Delivery>,
    fault: Fault,
}

impl Delivery for BrokenJob {
    fn id(&self) -> String {
        self.job.id()
    }

    fn payload(&self) -> &Bytes {
        self.job.payload()
    }

    fn attempt(&self) -> u32 {
        self.job.attempt()
    }

    fn ack(self: Box<Self>) -> Answer<'static, ()> {
        match self.fault {
            // Dropping it puts it back.
            Fault::AcksNothing => ready(()),
            Fault::TakesLateAcks => self.job.ack().map(|_| Ok(())).boxed(),
            _ => self.job.ack(),
        }
    }

    fn nack(self: Box<Self>, delay: Option<Duration>) -> Answer<'static, ()> {
        match self.fault {
            Fault::AcksWhatFailed => self.job.ack(),
            Fault::IgnoresDelays => self.job.nack(Some(Duration::ZERO)),
            _ => self.job.nack(delay),
        }
    }

    fn extend(&self, for_: Duration) -> Answer<'_, ()> {
        match self.fault {
            Fault::ExtendsNothing => ready(()),
            _ => self.job.extend(for_),
        }
    }
}

#[derive(Debug)]
struct BrokenLock {
    name: String,
    fault: Fault,
    /// None once it is left.
    lock: Option<Box<dyn HeldLock>>,
}

impl BrokenLock {
    fn begun(mut self) -> Self {
        if self.fault == Fault::RenewsNothing
            && let Some(lock) = self.lock.take()
        {
            lock.leave();
        }
        self
    }
}

impl HeldLock for BrokenLock {
    fn name(&self) -> &str {
        &self.name
    }

    fn fencing_token(&self) -> Result<u64, Error> {
        match (&self.lock, self.fault) {
            (Some(lock), Fault::GivesOutOldTokens) => Ok(1_000_000 - lock.fencing_token()?),
            (Some(lock), _) => lock.fencing_token(),
            (None, _) => Ok(1),
        }
    }

    fn is_lost(&self) -> bool {
        self.fault != Fault::HidesLosses && self.lock.as_ref().is_some_and(|lock| lock.is_lost())
    }

    fn lost(&self) -> BoxFuture<'_, ()> {
        match (&self.lock, self.fault) {
            (Some(lock), fault) if fault != Fault::HidesLosses => lock.lost(),
            _ => Box::pin(std::future::pending()),
        }
    }

    fn release(mut self: Box<Self>) -> Answer<'static, bool> {
        match self.lock.take() {
            Some(lock) => lock.release(),
            None => ready(true),
        }
    }

    fn leave(mut self: Box<Self>) {
        if self.fault != Fault::RenewsForEver
            && let Some(lock) = self.lock.take()
        {
            lock.leave();
        }
    }
}

impl Drop for BrokenLock {
    fn drop(&mut self) {
        if self.fault == Fault::RenewsForEver {
            // It goes on for as long as the test.
            std::mem::forget(self.lock.take());
        }
    }
}
