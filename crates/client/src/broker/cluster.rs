//! The cluster as an adapter: each method is a call of the client's own API.

use super::{
    Answer, Broker, Build, BusEvent, Condition, Delivery, HeldLock, Items, KvChange, KvEntry,
    KvPage, LockState, Message, NewJob, Promise, PushedJob, QueueCounts, QueueSettings, SetOptions,
};
use crate::bus;
use crate::cache::{BuildError, BuildOptions};
use crate::kv::{self, Change};
use crate::lock;
use crate::queue::{self, Backoff};
use crate::{Client, Error};
use bytes::Bytes;
use futures::future::BoxFuture;
use futures::{StreamExt as _, stream};
use std::time::Duration;

impl Broker for Client {
    fn name(&self) -> &str {
        "quorate"
    }

    fn keeps(&self, promise: Promise) -> Result<(), Error> {
        match promise {
            Promise::DurableWrites | Promise::FairLocks | Promise::FencedWrites => Ok(()),
        }
    }

    fn close(&self) -> Answer<'_, ()> {
        Box::pin(Client::close(self))
    }

    fn publish<'a>(&'a self, channel: &'a str, payload: Bytes) -> Answer<'a, Option<u64>> {
        let publish = self.bus().publish(channel, payload);
        Box::pin(async move { Ok(Some(publish.await?.subscribers)) })
    }

    fn subscribe<'a>(&'a self, patterns: &'a [String]) -> Answer<'a, Items<BusEvent>> {
        let subscribe = self.bus().subscribe(patterns.iter().cloned());
        Box::pin(async move {
            let events = subscribe.await?.into_stream();
            Ok(events.map(|event| Ok(bus_event(event?))).boxed())
        })
    }

    fn cache_get<'a>(&'a self, key: &'a [u8]) -> Answer<'a, Option<Bytes>> {
        let get = self.cache().get(key);
        Box::pin(async move { Ok(get.await?.map(|entry| entry.value)) })
    }

    fn cache_set<'a>(
        &'a self,
        key: &'a [u8],
        value: Bytes,
        ttl: Option<Duration>,
    ) -> Answer<'a, ()> {
        let mut set = self.cache().set(key, value);
        if let Some(ttl) = ttl {
            set = set.ttl(ttl);
        }
        Box::pin(async move { set.await.map(drop) })
    }

    fn cache_delete<'a>(&'a self, key: &'a [u8]) -> Answer<'a, bool> {
        let delete = self.cache().delete(key);
        Box::pin(async move { Ok(delete.await?.deleted) })
    }

    fn cache_delete_pattern<'a>(&'a self, pattern: &'a [u8]) -> Answer<'a, u64> {
        let delete = self.cache().delete_pattern(pattern);
        Box::pin(async move { Ok(delete.await?.deleted) })
    }

    fn cache_get_or_build<'a>(
        &'a self,
        key: &'a [u8],
        ttl: Option<Duration>,
        build: Build,
    ) -> Answer<'a, Bytes> {
        let mut options = BuildOptions::new();
        if let Some(ttl) = ttl {
            options = options.ttl(ttl);
        }
        let cache = self.cache();
        Box::pin(async move {
            match cache.get_or_build(key, options, build).await {
                Ok(value) => Ok(value.value),
                Err(BuildError::Build(error) | BuildError::Client(error)) => Err(error),
                Err(BuildError::BuildFailed(message)) => {
                    Err(Error::BuildFailed { reason: "BUILD_FAILED".to_owned(), message })
                }
            }
        })
    }

    fn queue_update<'a>(&'a self, queue: &'a str, settings: QueueSettings) -> Answer<'a, ()> {
        let QueueSettings { visibility, attempts_max, retry_delay } = settings;
        let mut update = self.queue().update(queue);
        if let Some(visibility) = visibility {
            update = update.visibility(visibility);
        }
        if let Some(attempts_max) = attempts_max {
            update = update.attempts_max(attempts_max);
        }
        if let Some(delay) = retry_delay {
            update = update.backoff(Backoff::fixed(delay));
        }
        Box::pin(async move { update.await.map(drop) })
    }

    fn queue_push<'a>(&'a self, queue: &'a str, job: NewJob) -> Answer<'a, PushedJob> {
        let NewJob { payload, delay, priority, dedupe_key } = job;
        let mut push = self.queue().push(queue, payload).priority(priority);
        if !delay.is_zero() {
            push = push.delay(delay);
        }
        if let Some(key) = dedupe_key {
            push = push.dedupe_key(key);
        }
        Box::pin(async move {
            let pushed = push.await?;
            Ok(PushedJob { id: pushed.id.to_string(), duplicate: pushed.duplicate })
        })
    }

    fn queue_consume<'a>(
        &'a self,
        queue: &'a str,
        max_parallel: u32,
    ) -> Answer<'a, Items<Box<dyn Delivery>>> {
        let consume = self.queue().consume(queue, max_parallel);
        Box::pin(async move {
            let jobs = consume.start().await?.into_stream();
            Ok(jobs.map(|job| Ok(Box::new(job?) as Box<dyn Delivery>)).boxed())
        })
    }

    fn queue_counts<'a>(&'a self, queue: &'a str) -> Answer<'a, QueueCounts> {
        let stats = self.queue().stats(queue);
        Box::pin(async move {
            match stats.await {
                Ok(info) => {
                    let queue::QueueInfo { ready, delayed, leased, dead, .. } = info;
                    Ok(QueueCounts { ready, delayed, leased, dead })
                }
                Err(Error::NotFound { .. }) => Ok(QueueCounts::default()),
                Err(error) => Err(error),
            }
        })
    }

    fn kv_get<'a>(&'a self, key: &'a [u8]) -> Answer<'a, Option<KvEntry>> {
        let get = self.kv().get(key);
        Box::pin(async move { Ok(get.await?.map(kv_entry)) })
    }

    fn kv_set<'a>(
        &'a self,
        key: &'a [u8],
        value: Bytes,
        options: SetOptions,
    ) -> Answer<'a, Option<u64>> {
        let SetOptions { ttl, condition, guard } = options;
        let mut set = self.kv().set(key, value);
        if let Some(ttl) = ttl {
            set = set.ttl(ttl);
        }
        match condition {
            Some(Condition::Absent) => set = set.if_absent(),
            Some(Condition::Version(version)) => set = set.if_version(version),
            None => {}
        }
        if let Some(guard) = guard {
            set = set.guard(&guard);
        }
        Box::pin(async move { Ok(Some(set.await?.version)) })
    }

    fn kv_delete<'a>(&'a self, key: &'a [u8]) -> Answer<'a, bool> {
        let delete = self.kv().delete(key);
        Box::pin(async move { Ok(delete.await?.deleted) })
    }

    fn kv_increment<'a>(&'a self, key: &'a [u8], by: i64) -> Answer<'a, i64> {
        let increment = self.kv().increment(key, by);
        Box::pin(async move { Ok(increment.await?.value) })
    }

    fn kv_list<'a>(&'a self, pattern: &'a [u8], cursor: Option<Bytes>) -> Answer<'a, KvPage> {
        let mut list = self.kv().list(pattern);
        if let Some(cursor) = cursor {
            list = list.after(cursor);
        }
        Box::pin(async move {
            let kv::Page { entries, cursor, .. } = list.await?;
            Ok(KvPage { entries: entries.into_iter().map(kv_entry).collect(), cursor })
        })
    }

    fn kv_watch<'a>(&'a self, pattern: &'a [u8]) -> Answer<'a, Items<KvChange>> {
        let start = self.kv().watch(pattern);
        Box::pin(async move {
            let changes = start.start().await?.into_stream();
            let events = changes.flat_map(|changes| match changes {
                Ok(changes) => {
                    stream::iter(changes.events).map(|event| Ok(kv_change(event))).boxed()
                }
                Err(error) => stream::iter([Err(error)]).boxed(),
            });
            Ok(events.boxed())
        })
    }

    fn lock_acquire<'a>(
        &'a self,
        name: &'a str,
        ttl: Duration,
        wait: Duration,
    ) -> Answer<'a, Box<dyn HeldLock>> {
        let acquire = self.locks().acquire(name).ttl(ttl).wait(wait);
        Box::pin(async move { Ok(Box::new(acquire.await?) as Box<dyn HeldLock>) })
    }

    fn lock_inspect<'a>(&'a self, name: &'a str) -> Answer<'a, LockState> {
        let locks = self.locks();
        Box::pin(async move {
            let lock::LockState { holders, waiters, .. } = locks.inspect(name).await?;
            Ok(LockState { held: !holders.is_empty(), waiting: Some(waiters) })
        })
    }

    fn lock_force_release<'a>(&'a self, name: &'a str) -> Answer<'a, bool> {
        let locks = self.locks();
        Box::pin(async move { Ok(locks.force_release(name).await? > 0) })
    }
}

fn bus_event(event: bus::BusEvent) -> BusEvent {
    match event {
        bus::BusEvent::Message(bus::Message { channel, payload, .. }) => {
            BusEvent::Message(Message { channel, payload })
        }
        bus::BusEvent::Gap { missed } => BusEvent::Gap { missed },
    }
}

fn kv_entry(entry: kv::Entry) -> KvEntry {
    let kv::Entry { key, value, version, .. } = entry;
    KvEntry { key, value, version: Some(version) }
}

fn kv_change(event: kv::Event) -> KvChange {
    let value = match event.change {
        Change::Set { value, .. } => Some(value),
        Change::Deleted { .. } => None,
    };
    KvChange { key: event.key, value }
}

impl HeldLock for lock::Lock {
    fn name(&self) -> &str {
        lock::Lock::name(self)
    }

    fn fencing_token(&self) -> Result<u64, Error> {
        Ok(lock::Lock::fencing_token(self))
    }

    fn is_lost(&self) -> bool {
        lock::Lock::is_lost(self)
    }

    fn lost(&self) -> BoxFuture<'_, ()> {
        Box::pin(lock::Lock::lost(self))
    }

    fn release(self: Box<Self>) -> Answer<'static, bool> {
        Box::pin(lock::Lock::release(*self))
    }

    fn leave(self: Box<Self>) {
        // Its token is in nobody's hands then.
        let _ = lock::Lock::leave(*self);
    }
}

impl Delivery for queue::Job {
    fn id(&self) -> String {
        queue::Job::id(self).to_string()
    }

    fn payload(&self) -> &Bytes {
        queue::Job::payload(self)
    }

    fn attempt(&self) -> u32 {
        queue::Job::attempt(self)
    }

    fn ack(self: Box<Self>) -> Answer<'static, ()> {
        Box::pin(queue::Job::ack(*self))
    }

    fn nack(self: Box<Self>, delay: Option<Duration>) -> Answer<'static, ()> {
        Box::pin(async move {
            match delay {
                Some(delay) => self.nack_after(delay, "").await.map(drop),
                None => queue::Job::nack(*self, "").await.map(drop),
            }
        })
    }

    fn extend(&self, for_: Duration) -> Answer<'_, ()> {
        Box::pin(async move { queue::Job::extend(self, for_).await.map(drop) })
    }
}
