//! Why a lock needs a fencing token: a holder that was stopped for too long writes too late, and is
//! refused.
//!
//! `QUORATE_ENDPOINTS=127.0.0.1:8811 cargo run --release -p quorate-client --example fenced_write`
#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use quorate_client::{Client, Error, LockGuard};
use std::time::Duration;

const LOCK: &str = "example/report";

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let endpoints =
        std::env::var("QUORATE_ENDPOINTS").unwrap_or_else(|_| "127.0.0.1:8811".to_owned());
    let client = Client::builder().endpoints(endpoints.split(',').map(str::trim)).connect()?;
    let kv = client.kv();

    // The first holder has all it needs to write, and then does not get to run for longer than its
    // ttl: a pause of its garbage collector, a laptop that was closed. Leaving the lock to itself
    // is the same here, because nobody renews it then.
    let lock = client.locks().acquire(LOCK).ttl(Duration::from_millis(500)).await?;
    let stopped = LockGuard { name: LOCK.to_owned(), fencing_token: lock.leave() };
    println!("the first holder has token {}, and is stopped", stopped.fencing_token);

    // Its lease passes, and another one gets the lock and writes.
    let second = client.locks().acquire(LOCK).await?;
    println!("the second holder has token {}", second.fencing_token());
    kv.set("example/report", "by the second").guard(&second.guard()).await?;

    // The first one goes on where it was. Without the guard it would overwrite the report.
    match kv.set("example/report", "by the first").guard(&stopped).await {
        Err(Error::LockLost { message, .. }) => println!("the first holder was refused: {message}"),
        Ok(_) => return Err("a write under a lost lock was accepted".into()),
        Err(error) => return Err(error.into()),
    }
    let report = kv.get("example/report").await?.ok_or("the report is gone")?;
    println!("the report is {:?}", String::from_utf8_lossy(&report.value));

    // The write was the last thing to do under the lock: this says whether it was still held.
    println!("the second holder still had it: {}", second.release().await?);
    client.close().await?;
    Ok(())
}
