//! The document as it is written, and what is wrong with it.

use super::{Condition, Does, Is, Share, Step};
use crate::commands::lock::parse_ttl;
use crate::duration;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use quorate_client::cache::CachePolicy;
use quorate_client::{Content, LockGuard};
use serde::Deserialize;
use serde_json::Number;
use std::collections::BTreeMap;
use std::time::Duration;

/// The ttl of a lock when nothing is said, as of `lock acquire`.
const LOCK_TTL: Duration = Duration::from_secs(30);

/// The document as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Written {
    #[serde(default)]
    pub(super) conditions: Vec<WrittenCondition>,
    #[serde(default)]
    pub(super) then: Vec<WrittenStep>,
    #[serde(default)]
    pub(super) otherwise: Vec<WrittenStep>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WrittenCondition {
    key: Option<String>,
    key_base64: Option<String>,
    lock: Option<String>,
    is: String,
    version: Option<u64>,
    value: Option<String>,
    value_base64: Option<String>,
    token: Option<u64>,
    queue: Option<String>,
    jobs: Option<u64>,
}

impl WrittenCondition {
    pub(super) fn check(self) -> Result<Condition, String> {
        let Self { key, key_base64, mut lock, is, mut version, value, value_base64, .. } = self;
        let (mut token, mut queue, mut jobs) = (self.token, self.queue, self.jobs);
        let mut key = bytes("key", key, key_base64)?;
        let mut value = bytes("value", value, value_base64)?;
        let mut key_is = |is| Ok::<_, String>(Condition::Key(required("key", key.take())?, is));
        let asked = match is.as_str() {
            "version" => key_is(Is::Version(required("version", version.take())?))?,
            "value" => key_is(Is::Value(required("value", value.take())?))?,
            "absent" => key_is(Is::Absent)?,
            "exists" => key_is(Is::Exists)?,
            "held" => Condition::Held(guard(lock.take(), token.take())?),
            "free" => Condition::Free(required("lock", lock.take())?),
            "at-most" => {
                let queue = required("queue", queue.take())?;
                Condition::AtMost(queue, required("jobs", jobs.take())?)
            }
            other => {
                return Err(format!(
                    "nothing can be {other:?}; a key can be version, absent, exists or value, a \
                     lock held or free, a queue at-most so many jobs long"
                ));
            }
        };
        surplus(
            &is,
            &[
                ("key", key.is_some()),
                ("lock", lock.is_some()),
                ("version", version.is_some()),
                ("value", value.is_some()),
                ("token", token.is_some()),
                ("queue", queue.is_some()),
                ("jobs", jobs.is_some()),
            ],
        )?;
        Ok(asked)
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WrittenStep {
    op: String,
    key: Option<String>,
    key_base64: Option<String>,
    lock: Option<String>,
    value: Option<String>,
    value_base64: Option<String>,
    ttl: Option<String>,
    by: Option<Number>,
    token: Option<u64>,
    shared: Option<bool>,
    permits: Option<u32>,
    queue: Option<String>,
    payload: Option<String>,
    payload_base64: Option<String>,
    job: Option<String>,
    lease: Option<String>,
    channel: Option<String>,
    content_type: Option<String>,
    headers: Option<BTreeMap<String, String>>,
    stale_for: Option<String>,
    tags: Option<Vec<String>>,
}

impl WrittenStep {
    pub(super) fn check(self) -> Result<Step, String> {
        let Self { op, key, key_base64, mut lock, value, value_base64, mut ttl, mut by, .. } = self;
        let (mut token, mut shared, mut permits) = (self.token, self.shared, self.permits);
        let (mut queue, mut job, mut lease) = (self.queue, self.job, self.lease);
        let (mut channel, mut content_type) = (self.channel, self.content_type);
        let mut headers = self.headers;
        let (mut stale_for, mut tags) = (self.stale_for, self.tags);
        let mut payload = bytes("payload", self.payload, self.payload_base64)?;
        let mut key = bytes("key", key, key_base64)?;
        let mut value = bytes("value", value, value_base64)?;
        let mut to_key = |does| Ok::<_, String>(Step::Key(required("key", key.take())?, does));
        let step = match op.as_str() {
            "get" => to_key(Does::Get)?,
            "set" => {
                let ttl = ttl.take().map(|ttl| duration::parse_positive(&ttl)).transpose()?;
                to_key(Does::Set(required("value", value.take())?, ttl))?
            }
            "delete" => to_key(Does::Delete)?,
            "increment" => {
                let by = required("by", by.take())?;
                let whole = by.as_i64();
                to_key(Does::Increment(whole.ok_or_else(|| {
                    format!("{by} is no 64-bit integer; increment-float adds others")
                })?))?
            }
            "increment-float" => {
                let by = required("by", by.take())?;
                let float = by.as_f64().filter(|float| float.is_finite());
                let by = float.ok_or_else(|| format!("{by} is no finite number"))?;
                to_key(Does::IncrementFloat(by))?
            }
            "acquire" => Step::Acquire {
                name: required("lock", lock.take())?,
                ttl: ttl.take().map_or(Ok(LOCK_TTL), |ttl| parse_ttl(&ttl))?,
                share: share(shared.take(), permits.take())?,
            },
            "release" => Step::Release(guard(lock.take(), token.take())?),
            "push" => Step::Push {
                queue: required("queue", queue.take())?,
                payload: required("payload", payload.take())?,
            },
            "ack" => Step::Ack {
                queue: required("queue", queue.take())?,
                job: id("job", job.take())?,
                lease: id("lease", lease.take())?,
            },
            "publish" => {
                let content = Content::new(required("payload", payload.take())?)
                    .content_type(content_type.take().unwrap_or_default());
                let headers = headers.take().unwrap_or_default().into_iter();
                Step::Publish {
                    channel: required("channel", channel.take())?,
                    content: headers
                        .fold(content, |content, (name, value)| content.header(name, value)),
                }
            }
            "cache-set" => Step::CacheSet {
                key: required("key", key.take())?,
                value: required("value", value.take())?,
                policy: policy(ttl.take(), stale_for.take(), tags.take())?,
            },
            "cache-delete" => Step::CacheDelete { key: required("key", key.take())? },
            "cache-invalidate-tags" => {
                Step::CacheInvalidateTags { tags: required("tags", tags.take())? }
            }
            other => {
                return Err(format!(
                    "there is no operation {other:?}; there are get, set, delete, increment, \
                     increment-float, acquire, release, push, ack, publish, cache-set, cache-delete \
                     and cache-invalidate-tags"
                ));
            }
        };
        surplus(
            &op,
            &[
                ("key", key.is_some()),
                ("lock", lock.is_some()),
                ("value", value.is_some()),
                ("ttl", ttl.is_some()),
                ("by", by.is_some()),
                ("token", token.is_some()),
                ("shared", shared.is_some()),
                ("permits", permits.is_some()),
                ("queue", queue.is_some()),
                ("payload", payload.is_some()),
                ("job", job.is_some()),
                ("lease", lease.is_some()),
                ("payload", payload.is_some()),
                ("channel", channel.is_some()),
                ("content_type", content_type.is_some()),
                ("headers", headers.is_some()),
                ("stale_for", stale_for.is_some()),
                ("tags", tags.is_some()),
            ],
        )?;
        Ok(step)
    }
}

/// An id, which is text as in all answers.
fn id(name: &str, text: Option<String>) -> Result<u64, String> {
    let text = required(name, text)?;
    text.parse().map_err(|_| format!("{name} is {text:?}, which is no number"))
}

/// A lock and its token.
fn guard(lock: Option<String>, token: Option<u64>) -> Result<LockGuard, String> {
    Ok(LockGuard { name: required("lock", lock)?, fencing_token: required("token", token)? })
}

/// How an entry of the cache is kept.
fn policy(
    ttl: Option<String>,
    stale_for: Option<String>,
    tags: Option<Vec<String>>,
) -> Result<CachePolicy, String> {
    let mut policy = CachePolicy::new().tags(tags.unwrap_or_default());
    if let Some(ttl) = ttl {
        policy = policy.ttl(duration::parse_positive(&ttl)?);
    }
    if let Some(stale_for) = stale_for {
        policy = policy.stale_for(duration::parse(&stale_for)?);
    }
    Ok(policy)
}

fn share(shared: Option<bool>, permits: Option<u32>) -> Result<Share, String> {
    match (shared.unwrap_or(false), permits) {
        (true, Some(_)) => Err("it has both shared and permits; give one of them".to_owned()),
        (true, None) => Ok(Share::Shared),
        (false, Some(permits)) => Ok(Share::Permits(permits)),
        (false, None) => Ok(Share::Exclusive),
    }
}

/// Bytes, given as text or as base64.
fn bytes(
    name: &str,
    text: Option<String>,
    base64: Option<String>,
) -> Result<Option<Vec<u8>>, String> {
    match (text, base64) {
        (None, None) => Ok(None),
        (Some(text), None) => Ok(Some(text.into_bytes())),
        (None, Some(base64)) => match STANDARD.decode(base64) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) => Err(format!("{name}_base64 is no base64: {error}")),
        },
        (Some(_), Some(_)) => {
            Err(format!("it has both {name} and {name}_base64; give one of them"))
        }
    }
}

fn required<T>(name: &str, field: Option<T>) -> Result<T, String> {
    field.ok_or_else(|| format!("{name} is missing"))
}

/// A field that means nothing here is a mistake that would go unnoticed.
fn surplus(of: &str, fields: &[(&str, bool)]) -> Result<(), String> {
    match fields.iter().find(|(_, there)| *there) {
        Some((name, _)) => Err(format!("{of} has no {name}")),
        None => Ok(()),
    }
}
