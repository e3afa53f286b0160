//! Task queues: sorted sets of what is ready, delayed and leased, changed by scripts.

mod consume;

pub(super) use consume::consume;

use super::connection::Effect;
use super::names::{check_value, millis};
use super::{Inner, NAME};
use crate::Error;
use crate::broker::{NewJob, PushedJob, QueueCounts, QueueSettings};
use redis::{FromRedisValue, Script, cmd};
use std::sync::LazyLock;
use std::time::Duration;

/// Jobs of a queue.
const JOBS_MAX: u64 = 1_000_000;
/// How long a dedupe key is remembered.
const DEDUPE: Duration = Duration::from_secs(300);
/// A lease, when nothing is said, and as short as it may be.
const VISIBILITY: Duration = Duration::from_secs(30);
const VISIBILITY_MIN: Duration = Duration::from_secs(1);
/// How long a job waits that failed, when nothing is said.
const RETRY: Duration = Duration::from_secs(1);
/// Deliveries of a job, when nothing is said.
const ATTEMPTS: u32 = 5;
/// What the name of a queue of dead letters ends with. Nothing in one dies again.
const DEAD: &str = ".dead";

/// A script, behind what all of them begin with.
macro_rules! script {
    ($name:ident, $file:literal) => {
        static $name: LazyLock<Script> = LazyLock::new(|| {
            Script::new(concat!(include_str!("scripts/queue.lua"), include_str!($file)))
        });
    };
}

script!(PUSH, "scripts/queue_push.lua");
script!(TAKE, "scripts/queue_take.lua");
script!(SETTLE, "scripts/queue_settle.lua");
script!(COUNTS, "scripts/queue_counts.lua");

/// The names of a queue's parts.
#[derive(Clone, Debug)]
struct Parts {
    /// In the order in which scripts know them.
    keys: Vec<Vec<u8>>,
    /// Where it is told that there may be something to take, here and in the dead letters.
    channel: Vec<u8>,
    dead_channel: Vec<u8>,
    attempts: u32,
}

impl Parts {
    fn new(inner: &Inner, queue: &str) -> Result<Self, Error> {
        let names = &inner.names;
        let dead = format!("{queue}{DEAD}");
        let mut keys = Vec::new();
        for name in [queue, &dead] {
            for part in [
                "ready",
                "delayed",
                "leased",
                "payloads",
                "attempts",
                "priorities",
                "leases",
                "settings",
            ] {
                keys.push(names.queue(part, name)?);
            }
        }
        keys.push(names.queue_ids());
        Ok(Self {
            keys,
            channel: names.queue("news", queue)?,
            dead_channel: names.queue("news", &dead)?,
            attempts: if queue.ends_with(DEAD) { 0 } else { ATTEMPTS },
        })
    }

    fn settings(&self) -> &[u8] {
        &self.keys[7]
    }

    /// Runs a script with arguments behind those that all have.
    async fn run<T: FromRedisValue>(
        &self,
        inner: &Inner,
        (what, effect): (&str, Effect),
        script: &Script,
        more_keys: &[Vec<u8>],
        arguments: &[&[u8]],
    ) -> Result<T, Error> {
        let call = |mut connection| async move {
            let mut call = script.prepare_invoke();
            for key in self.keys.iter().chain(more_keys) {
                call.key(key);
            }
            call.arg(&self.channel).arg(&self.dead_channel).arg(self.attempts);
            for argument in arguments {
                call.arg(*argument);
            }
            call.invoke_async(&mut connection).await
        };
        inner.connection.call(what, effect, call).await
    }
}

pub(super) async fn push(inner: &Inner, queue: &str, job: NewJob) -> Result<PushedJob, Error> {
    let NewJob { payload, delay, priority, dedupe_key } = job;
    check_value(&payload)?;
    let parts = Parts::new(inner, queue)?;
    let dedupe: Vec<Vec<u8>> =
        dedupe_key.iter().map(|key| inner.names.dedupe(queue, key)).collect::<Result<_, _>>()?;
    let numbers = [u64::from(priority), millis(delay), millis(DEDUPE), JOBS_MAX];
    let numbers = numbers.map(|number| number.to_string());
    let mut arguments = vec![&payload[..]];
    arguments.extend(numbers.iter().map(|number| number.as_bytes()));
    let how = ("queue push", Effect::EachTime);
    let answer: Vec<String> = parts.run(inner, how, &PUSH, &dedupe, &arguments).await?;
    match &answer[..] {
        [id, duplicate] => Ok(PushedJob { id: id.clone(), duplicate: duplicate == "1" }),
        [] => Err(Error::ResourceExhausted {
            reason: "QUEUE_FULL".to_owned(),
            message: format!("queue {queue} has {JOBS_MAX} jobs, which is the limit"),
        }),
        _ => Err(Error::bad_answer(format!("queue push was answered by {answer:?}"))),
    }
}

pub(super) async fn update(
    inner: &Inner,
    queue: &str,
    settings: QueueSettings,
) -> Result<(), Error> {
    let QueueSettings { visibility, attempts_max, retry_delay } = settings;
    if let Some(short) = visibility.filter(|visibility| *visibility < VISIBILITY_MIN) {
        return Err(Error::bad_option(format!(
            "visibility is {short:?}; it must be at least {VISIBILITY_MIN:?}"
        )));
    }
    let parts = Parts::new(inner, queue)?;
    let named = [
        ("visibility_ms", visibility.map(millis)),
        ("attempts_max", attempts_max.map(u64::from)),
        ("retry_ms", retry_delay.map(millis)),
    ];
    let mut set = cmd("HSET");
    set.arg(parts.settings());
    let mut any = false;
    for (name, value) in named {
        if let Some(value) = value {
            set.arg(name).arg(value);
            any = true;
        }
    }
    if !any {
        return Ok(());
    }
    inner
        .connection
        .call("queue update", Effect::Once, |mut connection| {
            let set = &set;
            async move { set.query_async(&mut connection).await }
        })
        .await
}

pub(super) async fn counts(inner: &Inner, queue: &str) -> Result<QueueCounts, Error> {
    let parts = Parts::new(inner, queue)?;
    let how = ("queue counts", Effect::Once);
    let (ready, delayed, leased, dead) = parts.run(inner, how, &COUNTS, &[], &[]).await?;
    Ok(QueueCounts { ready, delayed, leased, dead })
}

/// The lease of a job is over.
fn job_lost(id: &str) -> Error {
    Error::JobLost {
        reason: "JOB_LEASE_LOST".to_owned(),
        message: format!("job {id} of {NAME} is not leased under that number any more"),
    }
}
