//! `quorate kv watch`: a line for each change of the keys that are watched.

use super::kv::text;
use crate::connect::Connect;
use crate::exit::Failure;
use crate::output::{Output, put_bytes};
use clap::Args;
use quorate_client::Client;
use quorate_client::kv::{Change, DeleteCause, Event, StartWatch, Watch as Watching};
use serde_json::{Map, Value};
use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::time::Duration;

/// Watch the keys that match PATTERN, begin with --prefix, or are a --key: a line for each change,
/// until it is stopped or --count lines are written.
///
/// Says on stderr when it has begun. Goes on at another node by itself when one fails.
#[derive(Debug, Args)]
pub(crate) struct Watch {
    #[arg(required_unless_present_any = ["prefix", "key"])]
    pattern: Option<OsString>,
    /// Keys that begin with this
    #[arg(long, value_name = "P")]
    prefix: Option<OsString>,
    /// This key; may be given again
    #[arg(long, value_name = "K")]
    key: Vec<OsString>,
    /// Begin with the changes of this revision; by default with what comes from now on
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    from_revision: Option<u64>,
    /// End after so many changes; exit status 1 when --timeout passes before
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// Without the values
    #[arg(long)]
    keys_only: bool,
}

impl Watch {
    pub(super) fn run(self, connect: &Connect, output: Output) -> Result<(), Failure> {
        let timeout = connect.timeout();
        connect.run(async |client| {
            // What follows is one wait, not one per change.
            let deadline = tokio::time::Instant::now() + timeout;
            let mut watch = self.starting(&client)?.start().await?;
            output.note(&format!("watching behind revision {}", watch.revision()));
            let Some(count) = self.count else { return self.show(&mut watch, None, output).await };
            match tokio::time::timeout_at(deadline, self.show(&mut watch, Some(count), output))
                .await
            {
                Ok(shown) => shown,
                Err(_) => Err(too_few(count, timeout)),
            }
        })
    }

    fn starting(&self, client: &Client) -> Result<StartWatch, Failure> {
        let kv = client.kv();
        let mut watch = None;
        if let Some(pattern) = &self.pattern {
            watch = Some(kv.watch(pattern.as_bytes()));
        }
        if let Some(prefix) = &self.prefix {
            watch = Some(match watch {
                None => kv.watch_prefix(prefix.as_bytes()),
                Some(watch) => watch.and_prefix(prefix.as_bytes()),
            });
        }
        for key in &self.key {
            watch = Some(match watch {
                None => kv.watch_key(key.as_bytes()),
                Some(watch) => watch.and_key(key.as_bytes()),
            });
        }
        let Some(watch) = watch else {
            return Err(Failure::Usage("give a pattern, --prefix or --key".to_owned()));
        };
        let watch = watch.from_revision(self.from_revision.unwrap_or(0));
        Ok(if self.keys_only { watch.keys_only() } else { watch })
    }

    async fn show(
        &self,
        watch: &mut Watching,
        count: Option<u64>,
        output: Output,
    ) -> Result<(), Failure> {
        let mut shown = 0;
        while let Some(changes) = watch.next().await {
            for event in changes?.events {
                output.line(&line(&event, self.keys_only, output))?;
                shown += 1;
                if Some(shown) == count {
                    return Ok(());
                }
            }
        }
        Ok(())
    }
}

fn too_few(count: u64, timeout: Duration) -> Failure {
    Failure::Other(anyhow::anyhow!(
        "there were fewer than {count} changes within {timeout:?}; allow more time by --timeout"
    ))
}

/// `revision<TAB>set<TAB>key<TAB>value`, or the reason in place of `set` and no value.
fn line(event: &Event, keys_only: bool, output: Output) -> String {
    let word = match &event.change {
        Change::Set { .. } => "set",
        Change::Deleted { cause, .. } => match cause {
            DeleteCause::Deleted => "deleted",
            DeleteCause::Expired => "expired",
            DeleteCause::SessionEnded => "session-ended",
            _ => "gone",
        },
        _ => "changed",
    };
    if !output.is_json() {
        let mut line = format!("{}\t{word}\t{}", event.revision, text(&event.key));
        if let Change::Set { value, .. } = &event.change
            && !keys_only
        {
            line += &format!("\t{}", text(value));
        }
        return line;
    }
    let mut object = Map::new();
    object.insert("revision".to_owned(), event.revision.into());
    object.insert("change".to_owned(), word.into());
    put_bytes(&mut object, "key", &event.key);
    if let Change::Set { value, version, create_revision, ttl, .. } = &event.change {
        if !keys_only {
            put_bytes(&mut object, "value", value);
        }
        object.insert("version".to_owned(), (*version).into());
        object.insert("create_revision".to_owned(), (*create_revision).into());
        if let Some(ttl_ms) = ttl.and_then(|ttl| u64::try_from(ttl.as_millis()).ok()) {
            object.insert("ttl_ms".to_owned(), ttl_ms.into());
        }
    }
    Value::from(object).to_string()
}
