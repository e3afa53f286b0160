//! A backup that other programs read: a JSON object a line.

use super::format::Header;
use super::write::{Sink, Unfinished};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use quorate_state::query::{CacheFreshness, Exported, JobStanding, export as each};
use quorate_state::{
    DeadLetters, DeathCause, Fatal, GroupId, NewJob, QueueOptions, Read, Repeats, Share, WhenFull,
};
use serde_json::{Map, Value, json};
use std::ops::ControlFlow;

/// Bytes of lines handed out at once.
const PIECE_BYTES: usize = 256 << 10;

/// Writes the whole export. Blocks. The last line says how many there are before it, so that one
/// that was cut off is told from a whole one.
pub(crate) fn export(
    header: &Header,
    tables: &dyn Read,
    group: GroupId,
    sink: &mut Sink<'_>,
) -> Result<(), Unfinished> {
    let mut piece = Vec::new();
    let mut lines = 0_u64;
    let mut line = |value: &Value, piece: &mut Vec<u8>| {
        piece.extend(value.to_string().as_bytes());
        piece.push(b'\n');
        lines += 1;
        lines
    };
    let first = json!({
        "type": "header",
        "format": 1,
        "cluster_id": header.cluster_id,
        "revision": header.revision,
        "made_wall_ms": header.made_wall_ms,
        "version": header.version,
        "linearizable": header.linearizable,
    });
    line(&first, &mut piece);
    let mut wanted = ControlFlow::Continue(());
    let mut count = 1;
    each(tables, group, &mut |thing| {
        count = line(&shown(&thing), &mut piece);
        if piece.len() >= PIECE_BYTES {
            wanted = sink(std::mem::take(&mut piece), count);
        }
        wanted
    })
    .map_err(|fatal: Fatal| Unfinished::Fatal(fatal))?;
    if wanted.is_break() {
        return Err(Unfinished::Unwanted);
    }
    line(&json!({ "type": "end", "lines": count }), &mut piece);
    match sink(piece, count) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(()) => Err(Unfinished::Unwanted),
    }
}

type Object = Map<String, Value>;

/// Sets `name` to the bytes as text if they are UTF-8, else `name_base64`.
fn put(object: &mut Object, name: &str, bytes: &[u8]) {
    match std::str::from_utf8(bytes) {
        Ok(text) => object.insert(name.to_owned(), text.into()),
        Err(_) => object.insert(format!("{name}_base64"), STANDARD.encode(bytes).into()),
    };
}

fn object(kind: &str, namespace: &str, rest: Value) -> Object {
    let mut object = Object::new();
    object.insert("type".to_owned(), kind.into());
    object.insert("namespace".to_owned(), namespace.into());
    if let Value::Object(rest) = rest {
        object.extend(rest);
    }
    object
}

fn shown(thing: &Exported<'_>) -> Value {
    match thing {
        Exported::Key { namespace, key, item } => {
            let mut object = object(
                "key",
                namespace,
                json!({
                    "version": item.version,
                    "create_revision": item.create_revision,
                    "mod_revision": item.mod_revision,
                    "ttl_ms": item.remaining_ttl_ms,
                }),
            );
            put(&mut object, "key", key);
            put(&mut object, "value", &item.value);
            object.into()
        }
        Exported::Lock { namespace, name, item } => {
            let holders: Vec<Value> = item
                .holders
                .iter()
                .map(|holder| {
                    json!({
                        "fencing_token": holder.token,
                        "session": holder.session.to_string(),
                        "share": match holder.share {
                            Share::Exclusive => "exclusive".to_owned(),
                            Share::Shared => "shared".to_owned(),
                            Share::Permit { of } => format!("permit of {of}"),
                        },
                        "ttl_ms": holder.ttl_ms,
                        "held_ms": holder.held_ms,
                    })
                })
                .collect();
            let rest = json!({ "name": name, "holders": holders, "waiters": item.waiters });
            object("lock", namespace, rest).into()
        }
        Exported::Queue { namespace, name, paused, options } => {
            let rest = json!({ "name": name, "paused": paused, "options": queue(options) });
            object("queue", namespace, rest).into()
        }
        Exported::Job { namespace, queue, item } => {
            let (state, extra) = match &item.standing {
                JobStanding::Ready => ("ready", Value::Null),
                JobStanding::Delayed { for_ms } => ("delayed", json!({ "delay_ms": for_ms })),
                JobStanding::DelayedUntil { wall_ms } => {
                    ("delayed", json!({ "not_before_wall_ms": wall_ms }))
                }
                JobStanding::Leased { for_ms, .. } => ("leased", json!({ "lease_ms": for_ms })),
                JobStanding::Done { for_ms } => ("done", json!({ "kept_ms": for_ms })),
            };
            let mut object = object(
                "job",
                namespace,
                json!({
                    "queue": queue,
                    "id": item.id.to_string(),
                    "state": state,
                    "priority": item.priority,
                    "attempts": item.attempts,
                    "pushed_wall_ms": item.pushed_wall_ms,
                    "ttl_ms": item.remaining_ttl_ms,
                    "from_queue": item.from,
                    "death": item.death.map(|cause| match cause {
                        DeathCause::Attempts => "attempts",
                        DeathCause::Rejected => "rejected",
                        DeathCause::Expired => "expired",
                    }),
                    "failures": item.failures.iter().map(|failure| json!({
                        "attempt": failure.attempt,
                        "wall_ms": failure.wall_ms,
                        "error": failure.error,
                    })).collect::<Vec<_>>(),
                }),
            );
            if let Value::Object(extra) = extra {
                object.extend(extra);
            }
            if let Some(group) = &item.group {
                put(&mut object, "group", group);
            }
            if let Some(body) = &item.body {
                content(&mut object, &body.content_type, &body.headers, &body.payload);
            }
            object.into()
        }
        Exported::Schedule { namespace, name, item } => {
            let repeats = match &item.repeats {
                Repeats::Every { ms } => json!({ "every_ms": ms }),
                Repeats::Cron { text, zone } => json!({ "cron": text, "zone": zone }),
            };
            let rest = json!({
                "name": name,
                "queue": item.queue,
                "repeats": repeats,
                "next_wall_ms": item.next_wall_ms,
                "job": new_job(&item.job),
            });
            object("schedule", namespace, rest).into()
        }
        Exported::CacheEntry { namespace, key, item } => {
            let (ttl_ms, stale) = match item.freshness {
                CacheFreshness::Fresh { remaining_ms } => (remaining_ms, false),
                CacheFreshness::Stale { remaining_ms } => (Some(remaining_ms), true),
            };
            let mut object = object(
                "cache_entry",
                namespace,
                json!({
                    "tags": item.tags,
                    "ttl_ms": ttl_ms,
                    "stale": stale,
                    "stale_for_ms": item.stale_for_ms,
                    "mod_revision": item.mod_revision,
                }),
            );
            put(&mut object, "key", key);
            put(&mut object, "value", &item.value);
            object.into()
        }
    }
}

/// What is in a job.
fn content(
    object: &mut Object,
    content_type: &str,
    headers: &[(String, bytes::Bytes)],
    payload: &[u8],
) {
    if !content_type.is_empty() {
        object.insert("content_type".to_owned(), content_type.into());
    }
    let headers: Vec<Value> = headers
        .iter()
        .map(|(name, value)| {
            let mut header = Object::new();
            header.insert("name".to_owned(), name.as_str().into());
            put(&mut header, "value", value);
            header.into()
        })
        .collect();
    if !headers.is_empty() {
        object.insert("headers".to_owned(), headers.into());
    }
    put(object, "payload", payload);
}

fn new_job(job: &NewJob) -> Value {
    let mut object = Object::new();
    object.insert("priority".to_owned(), job.priority.into());
    object.insert("ttl_ms".to_owned(), job.ttl_ms.into());
    if let Some(group) = &job.group {
        put(&mut object, "group", group);
    }
    content(&mut object, &job.content_type, &job.headers, &job.payload);
    object.into()
}

fn queue(options: &QueueOptions) -> Value {
    json!({
        "visibility_ms": options.visibility_ms,
        "attempts_max": options.attempts_max,
        "backoff": {
            "exponential": options.backoff.exponential,
            "base_ms": options.backoff.base_ms,
            "cap_ms": options.backoff.cap_ms,
            "jitter_permille": options.backoff.jitter_permille,
        },
        "dead_letters": match &options.dead_letters {
            DeadLetters::Own => json!("own"),
            DeadLetters::To(queue) => json!({ "to": queue }),
            DeadLetters::Discard => json!("discard"),
        },
        "keep_done_ms": options.keep_done_ms,
        "jobs_max": options.jobs_max,
        "when_full": match options.when_full {
            WhenFull::Reject => "reject",
            WhenFull::DropOldest => "drop_oldest",
        },
        "parallel_max": options.parallel_max,
        "rate": options.rate.map(|rate| json!({ "jobs": rate.jobs, "per_ms": rate.per_ms })),
        "dedupe_window_ms": options.dedupe_window_ms,
    })
}
