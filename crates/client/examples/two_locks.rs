//! Two locks at once, by a transaction: nobody waits for one while holding the other, so nobody waits
//! in a circle. At the end a write and both releases are one step.
//!
//! `QUORATE_ENDPOINTS=127.0.0.1:8811 cargo run --release -p quorate-client --example two_locks`
#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use quorate_client::lock::Lock;
use quorate_client::{Client, Error};
use std::time::Duration;

const ANN: &str = "example/account/ann";
const BOB: &str = "example/account/bob";
const TTL: Duration = Duration::from_secs(10);

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let endpoints =
        std::env::var("QUORATE_ENDPOINTS").unwrap_or_else(|_| "127.0.0.1:8811".to_owned());
    let client = Client::builder().endpoints(endpoints.split(',').map(str::trim)).connect()?;

    let (ann, bob) = both(&client).await?;
    println!("holding both, under the tokens {} and {}", ann.fencing_token(), bob.fencing_token());

    // One who needs only one of them gets neither: all of a transaction happens, or nothing.
    match client.txn().acquire_lock("example/other", TTL).acquire_lock(BOB, TTL).commit().await {
        Err(Error::NotAcquired { message, .. }) => println!("another one is refused: {message}"),
        Ok(_) => return Err("a lock that is held was granted".into()),
        Err(error) => return Err(error.into()),
    }

    // The last write under them, if both are still held; and then they are free, in the same step:
    // whoever gets one of them next sees the write.
    let outcome = client
        .txn()
        .when_lock_held(&ann.guard())
        .when_lock_held(&bob.guard())
        .set("example/audit", "both accounts were looked at")
        .release_lock(&ann.guard())
        .release_lock(&bob.guard())
        .commit()
        .await?;
    println!("wrote and released: {}", outcome.succeeded());
    // Nobody has to renew or release them any more.
    for lock in [ann, bob] {
        let _token = lock.leave();
    }
    client.close().await?;
    Ok(())
}

/// Takes both, as soon as both are free.
async fn both(client: &Client) -> Result<(Lock, Lock), Error> {
    loop {
        match client.txn().acquire_lock(ANN, TTL).acquire_lock(BOB, TTL).commit().await {
            Ok(outcome) => {
                let [ann, bob] = [0, 1].map(|at| outcome.fencing_token(at).unwrap_or_default());
                // A transaction's locks are renewed by whoever adopts them.
                let locks = client.locks();
                return Ok((locks.adopt(ANN, ann).await?, locks.adopt(BOB, bob).await?));
            }
            // Whoever has one of them will be done some time. A lock that is waited for goes to those
            // who wait first.
            Err(Error::NotAcquired { .. }) => tokio::time::sleep(Duration::from_millis(100)).await,
            Err(error) => return Err(error),
        }
    }
}
