//! `quorate txn`: a transaction from a JSON document; its outcome as one.

mod document;

use super::kv::marks;
use super::lock::guard::{Guarded, guarded};
use super::lock::session_ttl;
use crate::connect::Connect;
use crate::duration::millis;
use crate::exit::Failure;
use crate::output::{Output, id, number, put_bytes};
use anyhow::Context;
use clap::Args;
use document::{Document, Subject};
use quorate_client::{Client, TxnOutcome, TxnResult};
use serde_json::{Map, Value, json};
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

/// Bytes of a document: values may be base64, or escaped, and have 2 MiB at most all together.
const DOCUMENT_BYTES_MAX: u64 = 16 << 20;

const AFTER_HELP: &str = r#"The document:

  {"conditions": [{"key": "a", "is": "version", "version": 3},
                  {"key": "b", "is": "absent"},
                  {"key": "c", "is": "exists"},
                  {"key": "d", "is": "value", "value": "x"},
                  {"lock": "l", "is": "held", "token": 7},
                  {"lock": "m", "is": "free"},
                  {"queue": "q", "is": "at-most", "jobs": 100}],
   "then":       [{"op": "get", "key": "a"},
                  {"op": "set", "key": "a", "value": "1", "ttl": "30s"},
                  {"op": "delete", "key": "b"},
                  {"op": "increment", "key": "n", "by": 1},
                  {"op": "increment-float", "key": "f", "by": 0.5},
                  {"op": "acquire", "lock": "m", "ttl": "30s"},
                  {"op": "release", "lock": "l", "token": 7},
                  {"op": "push", "queue": "q", "payload": "x"},
                  {"op": "ack", "queue": "q", "job": "12", "lease": "34"},
                  {"op": "publish", "channel": "c", "payload": "x", "content_type": "text/plain",
                   "headers": {"trace": "17"}},
                  {"op": "cache-set", "key": "c", "value": "1", "ttl": "30s", "stale_for": "1m",
                   "tags": ["t"]},
                  {"op": "cache-delete", "key": "c"},
                  {"op": "cache-invalidate-tags", "tags": ["t"]}],
   "otherwise":  [{"op": "get", "key": "a"}]}

When all conditions hold, `then` happens, all of it or nothing; else `otherwise`. Each list may be
left out. What is not text is given as key_base64, value_base64 and payload_base64. The answer is JSON in either
output format, also when a condition does not hold (exit status 4).

A lock is taken now or not at all: when one is held by another, nothing happens (exit status 4). It
may be "shared": true, or one of so many "permits". As by `quorate lock acquire` it is held until it
is released, or not renewed for its ttl, and so is the session that is opened for it, which the
answer names. Nobody renews it but `quorate lock renew`.

A message is published once all of it is visible, at most once; a job that is pushed is not lost.

Example:
  echo '{"conditions":[{"key":"job","is":"absent"}],"then":[{"op":"set","key":"job","value":"me"}]}' |
    quorate txn -
  echo '{"then":[{"op":"acquire","lock":"ann"},{"op":"acquire","lock":"bob"}]}' | quorate txn -"#;

/// `quorate txn …`
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct Txn {
    #[command(flatten)]
    connect: Connect,
    /// The transaction as a JSON document; - reads it from stdin
    file: PathBuf,
    #[command(flatten)]
    guarded: Guarded,
}

impl Txn {
    pub(crate) fn run(self, output: Output) -> Result<(), Failure> {
        let Self { connect, file, guarded } = self;
        let document = Document::parse(&read(&file)?).map_err(|wrong| {
            Failure::Usage(format!("{} is no transaction: {wrong}", name(&file)))
        })?;
        let commit =
            async |client: &Client| guarded!(document.add_to(client.txn()), guarded).commit().await;
        let outcome = match document.lock_ttl() {
            None => connect.run(async |client| Ok(commit(&client).await?))?,
            Some(ttl) => connect.run_in_session(session_ttl(ttl), async |client| {
                let outcome = commit(&client).await;
                if !outcome.as_ref().is_ok_and(takes_locks) {
                    // Nobody needs the session then. It ends with its ttl if this fails.
                    let _ = client.close().await;
                }
                Ok(outcome?)
            })?,
        };
        let shown = shown(&outcome, &document.subjects_of(&outcome));
        output.done(|| shown.clone(), || format!("{shown:#}"))?;
        match outcome.failed_condition {
            None => Ok(()),
            Some(position) => Err(Failure::ConditionFailed(format!(
                "conditions[{position}] does not hold, so `otherwise` happened"
            ))),
        }
    }
}

/// Whether any lock was taken.
fn takes_locks(outcome: &TxnOutcome) -> bool {
    outcome.results.iter().any(|result| matches!(result, TxnResult::LockAcquired { .. }))
}

/// How a file is called in messages.
fn name(file: &Path) -> String {
    if file == Path::new("-") { "stdin".to_owned() } else { file.display().to_string() }
}

/// The bytes of a file; `-` stands for stdin.
fn read(file: &Path) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    let from: Box<dyn Read> = match file == Path::new("-") {
        true => Box::new(std::io::stdin().lock()),
        false => {
            let opened = File::open(file);
            Box::new(opened.with_context(|| format!("can't open {}", file.display()))?)
        }
    };
    let read = from.take(DOCUMENT_BYTES_MAX + 1).read_to_end(&mut bytes);
    let length = read.with_context(|| format!("can't read {}", name(file)))?;
    if length as u64 > DOCUMENT_BYTES_MAX {
        return Err(Failure::Usage(format!(
            "{} is longer than {DOCUMENT_BYTES_MAX} bytes; no cluster takes such a transaction",
            name(file)
        )));
    }
    Ok(bytes)
}

/// The outcome as a document; `subjects` are those of the operations that happened.
fn shown(outcome: &TxnOutcome, subjects: &[Subject<'_>]) -> Value {
    let results = outcome.results.iter().zip(subjects);
    let results: Vec<Value> =
        results.map(|(result, subject)| shown_result(result, *subject)).collect();
    let mut shown = json!({
        "succeeded": outcome.succeeded(),
        "results": results,
        "revision": outcome.revision,
    });
    if let Some(position) = outcome.failed_condition {
        shown["failed_condition"] = json!(position);
    }
    if let Some(session) = outcome.session_id.filter(|_| takes_locks(outcome)) {
        shown["session"] = id(session);
    }
    shown
}

fn shown_result(result: &TxnResult, subject: Subject<'_>) -> Value {
    let mut object = Map::new();
    let op = match result {
        TxnResult::Got(_) => "get",
        TxnResult::Set { .. } => "set",
        TxnResult::Deleted { .. } => "delete",
        TxnResult::Incremented { .. } => "increment",
        TxnResult::IncrementedFloat { .. } => "increment-float",
        TxnResult::LockAcquired { .. } => "acquire",
        TxnResult::LockReleased { .. } => "release",
        TxnResult::Pushed { .. } => "push",
        TxnResult::Acked => "ack",
        TxnResult::Published => "publish",
        TxnResult::CacheSet => "cache-set",
        TxnResult::CacheDeleted { .. } => "cache-delete",
        TxnResult::CacheTagsInvalidated => "cache-invalidate-tags",
        _ => "unknown",
    };
    object.insert("op".to_owned(), op.into());
    match subject {
        Subject::Key(key) => put_bytes(&mut object, "key", key),
        Subject::Lock(name) => {
            object.insert("lock".to_owned(), name.into());
        }
        Subject::Queue(name) => {
            object.insert("queue".to_owned(), name.into());
        }
        Subject::Channel(name) => {
            object.insert("channel".to_owned(), name.into());
        }
        Subject::Tags(tags) => {
            object.insert("tags".to_owned(), json!(tags));
        }
    }
    match result {
        TxnResult::Got(entry) => {
            object.insert("found".to_owned(), entry.is_some().into());
            if let Some(entry) = entry {
                put_bytes(&mut object, "value", &entry.value);
                object.extend(marks(entry));
            }
        }
        TxnResult::Set { version } => {
            object.insert("version".to_owned(), (*version).into());
        }
        TxnResult::Deleted { existed } | TxnResult::CacheDeleted { existed } => {
            object.insert("deleted".to_owned(), (*existed).into());
        }
        TxnResult::Incremented { value, version } => {
            object.insert("value".to_owned(), number(*value));
            object.insert("version".to_owned(), (*version).into());
        }
        TxnResult::IncrementedFloat { value, version } => {
            object.insert("value".to_owned(), (*value).into());
            object.insert("version".to_owned(), (*version).into());
        }
        TxnResult::LockAcquired { fencing_token, ttl } => {
            object.insert("token".to_owned(), id(*fencing_token));
            object.insert("ttl_ms".to_owned(), millis(*ttl).into());
        }
        TxnResult::LockReleased { released } => {
            object.insert("released".to_owned(), (*released).into());
        }
        TxnResult::Pushed { job_id, duplicate } => {
            object.insert("job".to_owned(), job_id.to_string().into());
            object.insert("duplicate".to_owned(), (*duplicate).into());
        }
        _ => {}
    }
    Value::from(object)
}
