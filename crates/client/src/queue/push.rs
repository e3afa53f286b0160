//! `queue push`: adds one job or several.

use super::{Queue, sent_when_awaited};
use crate::Error;
use crate::client::{CallOptions, Identity};
use crate::kv::{call_settings, guard_setting, millis, mutation_settings};
use bytes::Bytes;
use quorate_proto::v1::{self, PushRequest};
use std::time::{Duration, SystemTime};

/// A job to be pushed.
#[derive(Clone, Debug, Default)]
#[must_use = "a job is in no queue before it is pushed"]
pub struct NewJob {
    wire: v1::NewJob,
}

impl NewJob {
    /// A job with this payload, of at most 1 MiB.
    pub fn new(payload: impl Into<Bytes>) -> Self {
        Self { wire: v1::NewJob { payload: payload.into(), ..Default::default() } }
    }
}

/// What can be said of a job that is pushed, on whatever holds one.
macro_rules! job_settings {
    ($($wire:ident).+) => {
        /// It is ready after this long, up to 366 days. Replaces `not_before`.
        pub fn delay(mut self, delay: Duration) -> Self {
            (self.$($wire).+.delay_ms, self.$($wire).+.not_before_ms) = (millis(delay), 0);
            self
        }

        /// It is ready at this time, by the cluster's wall clock. Replaces `delay`.
        pub fn not_before(mut self, at: SystemTime) -> Self {
            let since = at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
            // 0 would say nothing; what is in the past is ready at once, whenever it was.
            (self.$($wire).+.delay_ms, self.$($wire).+.not_before_ms) = (0, millis(since).max(1));
            self
        }

        /// Jobs of a higher one come first; default: 0.
        pub fn priority(mut self, priority: u8) -> Self {
            self.$($wire).+.priority = priority.into();
            self
        }

        /// 1 to 255 bytes: a job pushed into the queue under the same key is not pushed again for a
        /// while, whatever has become of it; the answer has the id of the first one, and says so.
        pub fn dedupe_key(mut self, key: impl AsRef<[u8]>) -> Self {
            self.$($wire).+.dedupe_key = crate::kv::owned(key);
            self
        }

        /// How long the dedupe key is remembered, up to a day; default: as the queue says.
        pub fn dedupe_window(mut self, window: Duration) -> Self {
            self.$($wire).+.dedupe_window_ms = millis(window);
            self
        }

        /// 1 to 255 bytes: jobs of the same group are done one at a time, in the order they were
        /// pushed. One that waits for its next attempt holds up the others.
        pub fn group(mut self, group: impl AsRef<[u8]>) -> Self {
            self.$($wire).+.group = crate::kv::owned(group);
            self
        }

        /// It is given up when it was not delivered for this long, up to 366 days; default: never.
        pub fn ttl(mut self, ttl: Duration) -> Self {
            self.$($wire).+.ttl_ms = Some(millis(ttl));
            self
        }

        /// Goes with it; at most 64, of 8 KiB together. A name may come again.
        pub fn header(mut self, name: impl Into<String>, value: impl Into<Bytes>) -> Self {
            let header = v1::JobHeader { name: name.into(), value: value.into() };
            self.$($wire).+.headers.push(header);
            self
        }

        /// Of the payload, such as `application/json`; at most 255 bytes.
        pub fn content_type(mut self, content_type: impl Into<String>) -> Self {
            self.$($wire).+.content_type = content_type.into();
            self
        }
    };
}

impl NewJob {
    job_settings!(wire);

    pub(crate) fn into_wire(self) -> v1::NewJob {
        self.wire
    }
}

/// A job is in the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PushedJob {
    /// Its id, unique in the cluster. Of a duplicate: that of the first one.
    pub id: u64,
    /// Whether it had been pushed before, under the same dedupe key.
    pub duplicate: bool,
    /// When it happened.
    pub revision: u64,
}

/// A push of one job; sent when awaited.
#[derive(Clone, Debug)]
#[must_use = "a request is sent when it is awaited"]
pub struct Push {
    many: PushMany,
    job: NewJob,
}

impl Push {
    pub(super) fn new(queue: Queue, name: String, payload: Bytes) -> Self {
        Self { many: PushMany::new(queue, name, Vec::new()), job: NewJob::new(payload) }
    }

    job_settings!(job.wire);

    /// How long this call may take in all, retries included; at most 5 min.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.many = self.many.timeout(timeout);
        self
    }

    /// Only if this lock is still held; see [`PushMany::guard`].
    pub fn guard(mut self, guard: &crate::LockGuard) -> Self {
        self.many = self.many.guard(guard);
        self
    }

    /// Names this push by 1 to 64 bytes made up for it; see [`PushMany::idempotency_key`].
    pub fn idempotency_key(mut self, key: impl AsRef<[u8]>) -> Self {
        self.many = self.many.idempotency_key(key);
        self
    }

    /// Sends this push without a name; see [`PushMany::anonymous`].
    pub fn anonymous(mut self) -> Self {
        self.many = self.many.anonymous();
        self
    }

    async fn send(self) -> Result<PushedJob, Error> {
        let Self { mut many, job } = self;
        many.jobs.push(job.wire);
        let mut pushed = many.send().await?;
        match (pushed.pop(), pushed.is_empty()) {
            (Some(pushed), true) => Ok(pushed),
            _ => {
                Err(Error::bad_answer("a push of one job was answered with another number".into()))
            }
        }
    }
}

sent_when_awaited!(Push => PushedJob);

/// A push of several jobs, all of them or none; sent when awaited.
#[derive(Clone, Debug)]
#[must_use = "a request is sent when it is awaited"]
pub struct PushMany {
    queue: Queue,
    name: String,
    jobs: Vec<v1::NewJob>,
    options: CallOptions,
}

impl PushMany {
    pub(super) fn new(queue: Queue, name: String, jobs: Vec<NewJob>) -> Self {
        let jobs = jobs.into_iter().map(|job| job.wire).collect();
        Self { queue, name, jobs, options: CallOptions::default() }
    }

    mutation_settings!();

    async fn send(self) -> Result<Vec<PushedJob>, Error> {
        let Self { queue, name, mut jobs, options } = self;
        // Pushed again under a name of the caller's, in another span, it would be another push.
        if !matches!(options.identity, Some(Identity::Key(_)))
            && let Some(context) = queue.inner.engine.context()
        {
            jobs.iter_mut().for_each(|job| context.add_to(&mut job.headers));
        }
        let request = |origin| PushRequest {
            namespace: queue.namespace.to_string(),
            origin: Some(origin),
            queue: name.clone(),
            jobs: jobs.clone(),
        };
        let answer = queue.inner.mutate("queue push", &queue.namespace, &options, request).await?;
        if answer.jobs.len() != jobs.len() {
            return Err(Error::bad_answer(format!(
                "a push of {} jobs was answered with {}",
                jobs.len(),
                answer.jobs.len()
            )));
        }
        let revision = answer.revision;
        let pushed = answer.jobs.into_iter().map(|job| {
            let v1::PushedJob { job_id, duplicate } = job;
            PushedJob { id: job_id, duplicate, revision }
        });
        Ok(pushed.collect())
    }
}

sent_when_awaited!(PushMany => Vec<PushedJob>);
