//! Writes, reads, compares and counts against a running cluster.
//!
//! `QUORATE_ENDPOINTS=127.0.0.1:8811 cargo run --release -p quorate-client --example quickstart`
#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use quorate_client::{Client, Error};
use std::time::Duration;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let endpoints =
        std::env::var("QUORATE_ENDPOINTS").unwrap_or_else(|_| "127.0.0.1:8811".to_owned());
    let client = Client::builder().endpoints(endpoints.split(',').map(str::trim)).connect()?;
    let kv = client.kv();

    let written = kv.set("greeting", "hello").ttl(Duration::from_secs(60)).await?;
    println!("set greeting: version {}, revision {}", written.version, written.revision);

    let entry = kv.get("greeting").await?.ok_or("the greeting is gone already")?;
    let text = String::from_utf8_lossy(&entry.value);
    println!("got {text:?}, which lives for another {:?}", entry.remaining_ttl);

    // Two writers that read the same version: the second one is told.
    kv.set("greeting", "good morning").if_version(written.version).await?;
    match kv.set("greeting", "good evening").if_version(written.version).await {
        Err(Error::ConditionFailed { version, .. }) => {
            println!("the second writer was refused: the key is at version {version:?}");
        }
        Ok(_) => return Err("a write on an old version was accepted".into()),
        Err(error) => return Err(error.into()),
    }

    println!("this ran {} times here", kv.increment("quickstart/runs", 1).await?.value);
    kv.delete("greeting").await?;

    let members = client.cluster().members().await?;
    for member in &members.members {
        let leads = if members.leader_id == Some(member.node_id) { ", the leader" } else { "" };
        println!("node {} at {}{leads}", member.node_id, member.client_addr);
    }
    client.close().await?;
    Ok(())
}
