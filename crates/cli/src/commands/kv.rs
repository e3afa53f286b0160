//! `quorate kv`: set, get, del, incr, list, del-pattern; watch is in `watch.rs`.

use super::lock::guard::{Guarded, guarded};
use super::watch::Watch;
use crate::connect::Connect;
use crate::duration;
use crate::exit::Failure;
use crate::output::{Output, number, put_bytes};
use anyhow::Context;
use clap::{Args, Subcommand};
use futures::StreamExt as _;
use quorate_client::{Client, Entry};
use serde_json::{Map, Value, json};
use std::ffi::{OsStr, OsString};
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::pin::pin;
use std::time::Duration;

/// Bytes read from stdin: above any value a cluster can be configured to take.
const STDIN_BYTES_MAX: u64 = 16 << 20;

/// `quorate kv …`
#[derive(Debug, Args)]
pub(crate) struct Kv {
    #[command(flatten)]
    connect: Connect,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Set a key.
    Set {
        key: OsString,
        /// The value; - reads it from stdin, to the last byte
        #[arg(allow_hyphen_values = true)]
        value: OsString,
        /// How long the key lives, such as 30s; by default until it is deleted
        #[arg(long, value_name = "DURATION", value_parser = duration::parse_positive)]
        ttl: Option<Duration>,
        /// Only if the key has exactly this version (exit status 4 if not)
        #[arg(long, value_name = "N", conflicts_with = "if_absent")]
        if_version: Option<u64>,
        /// Only if there is no such key (exit status 4 if there is)
        #[arg(long)]
        if_absent: bool,
        #[command(flatten)]
        guarded: Guarded,
    },
    /// Write the value of a key to stdout, exactly; exit status 3 if there is no such key.
    Get {
        key: OsString,
        /// Take whatever the asked node has; works without a quorum
        #[arg(long)]
        stale: bool,
    },
    /// Delete a key; one that does not exist is no error.
    Del {
        key: OsString,
        /// Only if the key has exactly this version (exit status 4 if not)
        #[arg(long, value_name = "N")]
        if_version: Option<u64>,
        #[command(flatten)]
        guarded: Guarded,
    },
    /// Add to a number; a key that does not exist counts as 0.
    Incr {
        key: OsString,
        /// How much to add
        #[arg(long, value_name = "N", default_value_t = 1, allow_negative_numbers = true)]
        by: i64,
        /// How much to add to a floating-point number
        #[arg(long, value_name = "X", conflicts_with = "by", allow_negative_numbers = true)]
        by_float: Option<f64>,
        #[command(flatten)]
        guarded: Guarded,
    },
    /// List keys: those that match PATTERN (* any run, ? one, [a-c] a class, \ takes the next as
    /// it is), or those that begin with --prefix. In the order of their bytes, consistent as a whole.
    List {
        #[arg(required_unless_present = "prefix", conflicts_with = "prefix")]
        pattern: Option<OsString>,
        /// Keys that begin with this
        #[arg(long, value_name = "P")]
        prefix: Option<OsString>,
        /// Without the values
        #[arg(long)]
        keys_only: bool,
        /// Only how many there are
        #[arg(long, conflicts_with_all = ["keys_only", "limit"])]
        count: bool,
        /// At most so many
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
        limit: Option<u32>,
        /// Take whatever the asked node has; works without a quorum
        #[arg(long)]
        stale: bool,
    },
    /// Delete the keys that match PATTERN, or begin with --prefix, in atomic steps.
    DelPattern {
        #[arg(required_unless_present = "prefix", conflicts_with = "prefix")]
        pattern: Option<OsString>,
        /// Keys that begin with this
        #[arg(long, value_name = "P")]
        prefix: Option<OsString>,
        /// Keys a step deletes at most, up to 10000; by default as many as the cluster thinks right
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000))]
        step_keys: Option<u32>,
        #[command(flatten)]
        guarded: Guarded,
    },
    Watch(Watch),
}

impl Kv {
    pub(crate) fn run(self, output: Output) -> Result<(), Failure> {
        let Self { connect, command } = self;
        match command {
            Command::Set { key, value, ttl, if_version, if_absent, guarded } => {
                let value = payload(value)?;
                let written = connect.run(async |client| {
                    let mut set = guarded!(client.kv().set(key.as_bytes(), value), guarded);
                    if let Some(ttl) = ttl {
                        set = set.ttl(ttl);
                    }
                    if let Some(version) = if_version {
                        set = set.if_version(version);
                    }
                    if if_absent {
                        set = set.if_absent();
                    }
                    Ok(set.await?)
                })?;
                output.done(
                    || {
                        let marks =
                            json!({ "version": written.version, "revision": written.revision });
                        about(&key, marks)
                    },
                    || format!("version {}", written.version),
                )
            }
            Command::Get { key, stale } => get(&connect, &key, stale, output),
            Command::Del { key, if_version, guarded } => {
                let done = connect.run(async |client| {
                    let mut delete = guarded!(client.kv().delete(key.as_bytes()), guarded);
                    if let Some(version) = if_version {
                        delete = delete.if_version(version);
                    }
                    Ok(delete.await?)
                })?;
                output.done(
                    || about(&key, json!({ "deleted": done.deleted, "revision": done.revision })),
                    || (if done.deleted { "deleted" } else { "there was none" }).to_owned(),
                )
            }
            Command::List { pattern, prefix, keys_only, count, limit, stale } => {
                let list = move |client: &Client| {
                    let kv = client.kv();
                    let mut list = match (&pattern, &prefix) {
                        (Some(pattern), _) => kv.list(pattern.as_bytes()),
                        (None, prefix) => {
                            kv.list_prefix(prefix.as_deref().unwrap_or_default().as_bytes())
                        }
                    };
                    if keys_only {
                        list = list.keys_only();
                    }
                    if let Some(limit) = limit {
                        list = list.limit(limit);
                    }
                    if stale { list.stale() } else { list }
                };
                if count {
                    let count = connect.run(async |client| Ok(list(&client).count().await?))?;
                    return output.result(|| json!({ "count": count }), || count.to_string());
                }
                connect.run(async |client| {
                    let mut entries = pin!(list(&client).stream().await?);
                    while let Some(entry) = entries.next().await {
                        output.line(&listed(&entry?, keys_only, output))?;
                    }
                    Ok(())
                })
            }
            Command::DelPattern { pattern, prefix, step_keys, guarded } => {
                let done = connect.run(async |client| {
                    let kv = client.kv();
                    let delete = match (&pattern, &prefix) {
                        (Some(pattern), _) => kv.delete_pattern(pattern.as_bytes()),
                        (None, prefix) => {
                            kv.delete_prefix(prefix.as_deref().unwrap_or_default().as_bytes())
                        }
                    };
                    // 0 leaves it to the cluster.
                    let delete = delete.step_keys(step_keys.unwrap_or(0));
                    Ok(guarded!(delete, guarded).await?)
                })?;
                output.done(
                    || json!({ "deleted": done.deleted, "steps": done.steps, "revision": done.revision }),
                    || format!("{} deleted", done.deleted),
                )
            }
            Command::Watch(watch) => watch.run(&connect, output),
            Command::Incr { key, by_float: Some(by), guarded, .. } => {
                let sum = connect.run(async |client| {
                    let increment = client.kv().increment_float(key.as_bytes(), by);
                    Ok(guarded!(increment, guarded).await?)
                })?;
                output.done(
                    || about(&key, json!({ "value": sum.value, "version": sum.version, "revision": sum.revision })),
                    || sum.value.to_string(),
                )
            }
            Command::Incr { key, by, guarded, .. } => {
                let sum = connect.run(async |client| {
                    Ok(guarded!(client.kv().increment(key.as_bytes(), by), guarded).await?)
                })?;
                output.done(
                    || {
                        let value = number(sum.value);
                        about(&key, json!({ "value": value, "version": sum.version, "revision": sum.revision }))
                    },
                    || sum.value.to_string(),
                )
            }
        }
    }
}

/// A line about a listed key: `key` alone, or `key<TAB>value`; what is not text is escaped.
fn listed(entry: &Entry, keys_only: bool, output: Output) -> String {
    if output.is_json() {
        let mut object = Map::new();
        put_bytes(&mut object, "key", &entry.key);
        if !keys_only {
            put_bytes(&mut object, "value", &entry.value);
        }
        object.extend(marks(entry));
        return Value::from(object).to_string();
    }
    if keys_only {
        return text(&entry.key);
    }
    format!("{}\t{}", text(&entry.key), text(&entry.value))
}

/// Bytes on a line of their own: what is not text is escaped.
pub(super) fn text(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) if !text.contains(['\t', '\n', '\r']) => text.to_owned(),
        _ => bytes.escape_ascii().to_string(),
    }
}

/// What there is to say about an entry besides its key and value.
pub(super) fn marks(entry: &Entry) -> Map<String, Value> {
    let mut marks = Map::new();
    marks.insert("version".to_owned(), entry.version.into());
    marks.insert("create_revision".to_owned(), entry.create_revision.into());
    marks.insert("mod_revision".to_owned(), entry.mod_revision.into());
    let remaining_ms = entry.remaining_ttl.map(|ttl| u64::try_from(ttl.as_millis()).ok());
    if let Some(remaining_ms) = remaining_ms {
        marks.insert("remaining_ttl_ms".to_owned(), remaining_ms.into());
    }
    marks
}

fn get(connect: &Connect, key: &OsStr, stale: bool, output: Output) -> Result<(), Failure> {
    let entry = connect.run(async |client| {
        let get = client.kv().get(key.as_bytes());
        Ok(if stale { get.stale().await? } else { get.await? })
    })?;
    let Some(entry) = entry else {
        return Err(Failure::NotFound(format!("there is no key {}", key.to_string_lossy())));
    };
    if !output.is_json() {
        return output.bytes(&entry.value);
    }
    let mut about_it = Map::new();
    put_bytes(&mut about_it, "value", &entry.value);
    about_it.extend(marks(&entry));
    output.line(&about(key, Value::from(about_it)).to_string())
}

/// A JSON object about a key: its name and `marks`.
pub(super) fn about(key: &OsStr, marks: Value) -> Value {
    let mut object = Map::new();
    put_bytes(&mut object, "key", key.as_bytes());
    if let Value::Object(marks) = marks {
        object.extend(marks);
    }
    Value::from(object)
}

/// The bytes of an argument; `-` stands for stdin.
pub(super) fn payload(argument: OsString) -> Result<Vec<u8>, Failure> {
    if argument != "-" {
        return Ok(argument.as_bytes().to_vec());
    }
    let mut bytes = Vec::new();
    let read = std::io::stdin().lock().take(STDIN_BYTES_MAX + 1).read_to_end(&mut bytes);
    let length = read.context("can't read the value from stdin")?;
    if length as u64 > STDIN_BYTES_MAX {
        return Err(Failure::Usage(format!(
            "the value on stdin is longer than {STDIN_BYTES_MAX} bytes; no cluster takes that"
        )));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_names_its_key_whatever_its_bytes() {
        let marks = json!({ "version": 3 });
        assert_eq!(about(OsStr::new("k"), marks.clone()).to_string(), r#"{"key":"k","version":3}"#);
        let key = OsStr::from_bytes(&[0xff]);
        assert_eq!(about(key, marks).to_string(), r#"{"key_base64":"/w==","version":3}"#);
    }

    #[test]
    fn an_argument_is_its_own_bytes() {
        assert_eq!(payload(OsStr::from_bytes(&[0xff, b'a']).to_owned()).unwrap(), [0xff, b'a']);
        assert_eq!(payload(OsString::new()).unwrap(), b"");
    }
}
