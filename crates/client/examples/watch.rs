//! Keeps a copy of some keys: lists them once, then follows every change from there on.
//!
//! `QUORATE_ENDPOINTS=127.0.0.1:8811 cargo run --release -p quorate-client --example watch -- user.`
//!
//! Start it, change keys by `quorate kv set user.1 ...`, kill nodes: the copy stays right. It ends
//! when `user.stop` is set.
#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use quorate_client::kv::Change;
use quorate_client::{Client, Error, KeyValue};
use std::collections::BTreeMap;

type Copy = BTreeMap<Vec<u8>, Vec<u8>>;

/// All keys, and the revision from which the changes lead on. Each page is of a revision of its own;
/// whoever applies all changes since the first of them comes to what is now.
async fn list(kv: &KeyValue, prefix: &str) -> Result<(Copy, u64), Error> {
    let mut copy = Copy::new();
    let mut revision = None;
    let mut cursor = None;
    loop {
        let mut list = kv.list_prefix(prefix);
        if let Some(cursor) = cursor {
            list = list.after(cursor);
        }
        let page = list.await?;
        revision.get_or_insert(page.revision);
        for entry in page.entries {
            copy.insert(entry.key.to_vec(), entry.value.to_vec());
        }
        match page.cursor {
            Some(next) => cursor = Some(next),
            None => return Ok((copy, revision.unwrap_or(0))),
        }
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let endpoints =
        std::env::var("QUORATE_ENDPOINTS").unwrap_or_else(|_| "127.0.0.1:8811".to_owned());
    let prefix = std::env::args().nth(1).unwrap_or_else(|| "user.".to_owned());
    let client = Client::builder().endpoints(endpoints.split(',').map(str::trim)).connect()?;
    let kv = client.kv();

    'list: loop {
        let (mut copy, revision) = list(&kv, &prefix).await?;
        println!("{} keys at revision {revision}", copy.len());
        let mut watch = match kv.watch_prefix(&prefix).from_revision(revision + 1).start().await {
            Ok(watch) => watch,
            Err(Error::Compacted { .. }) => continue 'list,
            Err(error) => return Err(error.into()),
        };
        while let Some(changes) = watch.next().await {
            let changes = match changes {
                Ok(changes) => changes,
                // It was away for so long that changes are lost: begin again.
                Err(Error::Compacted { oldest, .. }) => {
                    println!("the changes before revision {oldest} are gone: listing again");
                    continue 'list;
                }
                Err(error) => return Err(error.into()),
            };
            // All changes of a revision come together, so the copy is never between two.
            for event in changes.events {
                let key = String::from_utf8_lossy(&event.key).into_owned();
                match event.change {
                    Change::Set { value, version, .. } => {
                        let text = String::from_utf8_lossy(&value);
                        println!("{}: {key} = {text:?}, version {version}", event.revision);
                        copy.insert(event.key.to_vec(), value.to_vec());
                    }
                    Change::Deleted { cause, .. } => {
                        println!("{}: {key} is gone ({cause:?})", event.revision);
                        copy.remove(&event.key[..]);
                    }
                    _ => {}
                }
            }
            println!("{} keys at revision {}", copy.len(), changes.revision);
            if copy.contains_key(format!("{prefix}stop").as_bytes()) {
                return Ok(());
            }
        }
    }
}
