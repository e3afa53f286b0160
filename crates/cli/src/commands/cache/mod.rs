//! `quorate cache`: set, get, del, del-pattern, invalidate-tags, touch, stats, resize; get-or-build
//! is in `get_or_build.rs`.

mod get_or_build;

use super::kv::{about, payload};
use super::lock::guard::{Guarded, guarded};
use crate::connect::Connect;
use crate::duration::{self, millis};
use crate::exit::Failure;
use crate::output::{Output, put_bytes, table};
use crate::size;
use clap::{Args, Subcommand};
use quorate_client::cache::CacheStats;
use serde_json::{Map, Value, json};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::time::Duration;

/// What a cluster takes as the bound of its cache.
const BYTES_MAX: std::ops::RangeInclusive<u64> = (1 << 20)..=(64 << 30);

/// `quorate cache …`
#[derive(Debug, Args)]
pub(crate) struct Cache {
    #[command(flatten)]
    connect: Connect,
    #[command(subcommand)]
    command: Command,
}

/// How an entry is kept.
#[derive(Clone, Debug, Args)]
struct Kept {
    /// How long it is fresh, such as 30s; by default until it is deleted or evicted
    #[arg(long, value_name = "DURATION", value_parser = duration::parse_positive)]
    ttl: Option<Duration>,
    /// How long it may be shown after that, as a stale one, while a new value is built
    #[arg(long, value_name = "DURATION", value_parser = duration::parse, requires = "ttl")]
    stale_for: Option<Duration>,
    /// A tag, by which it can be made to vanish together with others; may be given several times
    #[arg(long = "tag", value_name = "T")]
    tags: Vec<String>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Set a key.
    Set {
        key: OsString,
        /// The value; - reads it from stdin, to the last byte
        #[arg(allow_hyphen_values = true)]
        value: OsString,
        #[command(flatten)]
        kept: Kept,
        #[command(flatten)]
        guarded: Guarded,
    },
    /// Write the value of a key to stdout, exactly; exit status 3 on a miss. The node that is asked
    /// answers from what it has.
    Get {
        key: OsString,
        /// See everything that was acknowledged before
        #[arg(long)]
        linearizable: bool,
        /// Also a value whose ttl is over, while it may be shown
        #[arg(long)]
        allow_stale: bool,
    },
    /// Delete a key; one that does not exist is no error.
    Del {
        key: OsString,
        #[command(flatten)]
        guarded: Guarded,
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
    /// Make every entry vanish that has one of the tags.
    InvalidateTags {
        #[arg(required = true, value_name = "T", num_args = 1..=64)]
        tags: Vec<String>,
        #[command(flatten)]
        guarded: Guarded,
    },
    /// Begin the ttl of an entry anew; exit status 3 if there is none.
    Touch {
        key: OsString,
        /// How long it is fresh from now on; by default without end
        #[arg(long, value_name = "DURATION", value_parser = duration::parse_positive)]
        ttl: Option<Duration>,
        #[command(flatten)]
        guarded: Guarded,
    },
    GetOrBuild(get_or_build::GetOrBuild),
    /// Show how full the cache is, and what the node that answers found in it.
    Stats,
    /// Change the bound of the cache on all nodes, 1MiB to 64GiB.
    Resize {
        /// Bytes of keys, values and tags, and 64 for each entry, such as 512MiB
        #[arg(value_name = "BYTES", value_parser = parse_bytes_max)]
        bytes: u64,
    },
}

fn parse_bytes_max(text: &str) -> Result<u64, String> {
    match size::parse(text)? {
        bytes if BYTES_MAX.contains(&bytes) => Ok(bytes),
        _ => Err(format!("{text} is not between 1MiB and 64GiB")),
    }
}

impl Cache {
    pub(crate) fn run(self, output: Output) -> Result<(), Failure> {
        let Self { connect, command } = self;
        match command {
            Command::Set { key, value, kept, guarded } => {
                let value = payload(value)?;
                let written = connect.run(async |client| {
                    let set = client.cache().set(key.as_bytes(), value).tags(kept.tags);
                    let mut set = guarded!(set, guarded);
                    if let Some(ttl) = kept.ttl {
                        set = set.ttl(ttl);
                    }
                    if let Some(stale_for) = kept.stale_for {
                        set = set.stale_for(stale_for);
                    }
                    Ok(set.await?)
                })?;
                output.done(
                    || about(&key, json!({ "revision": written.revision })),
                    || format!("revision {}", written.revision),
                )
            }
            Command::Get { key, linearizable, allow_stale } => {
                get(&connect, &key, (linearizable, allow_stale), output)
            }
            Command::Del { key, guarded } => {
                let done = connect.run(async |client| {
                    Ok(guarded!(client.cache().delete(key.as_bytes()), guarded).await?)
                })?;
                output.done(
                    || about(&key, json!({ "deleted": done.deleted, "revision": done.revision })),
                    || (if done.deleted { "deleted" } else { "there was none" }).to_owned(),
                )
            }
            Command::DelPattern { pattern, prefix, step_keys, guarded } => {
                let done = connect.run(async |client| {
                    let cache = client.cache();
                    let delete = match (&pattern, &prefix) {
                        (Some(pattern), _) => cache.delete_pattern(pattern.as_bytes()),
                        (None, prefix) => {
                            cache.delete_prefix(prefix.as_deref().unwrap_or_default().as_bytes())
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
            Command::InvalidateTags { tags, guarded } => {
                let done = connect.run(async |client| {
                    let invalidate = client.cache().invalidate_tags(tags.iter().cloned());
                    Ok(guarded!(invalidate, guarded).await?)
                })?;
                output.done(
                    || json!({ "tags": tags, "revision": done.revision }),
                    || format!("revision {}", done.revision),
                )
            }
            Command::Touch { key, ttl, guarded } => {
                let touched = connect.run(async |client| {
                    let mut touch = guarded!(client.cache().touch(key.as_bytes()), guarded);
                    if let Some(ttl) = ttl {
                        touch = touch.ttl(ttl);
                    }
                    Ok(touch.await?)
                })?;
                if !touched.found {
                    return Err(missed(&key));
                }
                output.done(
                    || about(&key, json!({ "revision": touched.revision })),
                    || format!("revision {}", touched.revision),
                )
            }
            Command::GetOrBuild(get) => get.run(&connect, output),
            Command::Stats => {
                let stats = connect.run(async |client| Ok(client.cache().stats().await?))?;
                output.result(|| shown(&stats), || text(&stats))
            }
            Command::Resize { bytes } => {
                let done = connect.run(async |client| Ok(client.cache().resize(bytes).await?))?;
                let previous = done.previous_bytes_max;
                output.done(
                    || json!({ "bytes_max": bytes, "previous_bytes_max": previous }),
                    || format!("{}, was {}", size::rough(bytes), size::rough(previous)),
                )
            }
        }
    }
}

fn missed(key: &OsStr) -> Failure {
    Failure::NotFound(format!("{} is not in the cache", key.to_string_lossy()))
}

fn get(
    connect: &Connect,
    key: &OsStr,
    (linearizable, allow_stale): (bool, bool),
    output: Output,
) -> Result<(), Failure> {
    let entry = connect.run(async |client| {
        let mut get = client.cache().get(key.as_bytes());
        if linearizable {
            get = get.linearizable();
        }
        if allow_stale {
            get = get.allow_stale();
        }
        Ok(get.await?)
    })?;
    let Some(entry) = entry else { return Err(missed(key)) };
    if !output.is_json() {
        return output.bytes(&entry.value);
    }
    let mut about_it = Map::new();
    put_bytes(&mut about_it, "value", &entry.value);
    about_it.insert("mod_revision".to_owned(), entry.mod_revision.into());
    if let Some(remaining) = entry.remaining_ttl {
        about_it.insert("remaining_ttl_ms".to_owned(), millis(remaining).into());
    }
    about_it.insert("stale".to_owned(), entry.stale.into());
    about_it.insert("tags".to_owned(), json!(entry.tags));
    about_it.insert("revision".to_owned(), entry.revision.into());
    output.line(&about(key, Value::from(about_it)).to_string())
}

fn shown(stats: &CacheStats) -> Value {
    json!({
        "entries": stats.entries,
        "bytes": stats.bytes,
        "bytes_max": stats.bytes_max,
        "builds": stats.builds,
        "hits": stats.hits,
        "stale_hits": stats.stale_hits,
        "misses": stats.misses,
        "evicted": stats.evicted,
        "revision": stats.revision,
        "node_id": stats.node_id,
    })
}

fn text(stats: &CacheStats) -> String {
    let row = |name: &str, value: String| vec![name.to_owned(), value];
    let found = stats.hits.saturating_add(stats.stale_hits);
    let asked = found.saturating_add(stats.misses);
    let share = match asked {
        0 => String::new(),
        asked => format!(" ({:.1} %)", found as f64 * 100.0 / asked as f64),
    };
    let rows = [
        row("entries", stats.entries.to_string()),
        row("size", format!("{} of {}", size::rough(stats.bytes), size::rough(stats.bytes_max))),
        row("being built", stats.builds.to_string()),
        row("hits", format!("{}{share}, {} of them stale", found, stats.stale_hits)),
        row("misses", stats.misses.to_string()),
        row("evicted", stats.evicted.to_string()),
    ];
    table(&["CACHE", &format!("AS NODE {} HAS IT", stats.node_id)], &rows)
}
