//! Leader election: whoever holds the lock leads, the others watch it and stand by.
//!
//! Start it several times, then end the one that leads (Ctrl-C, or `kill -9`: then its ttl has to
//! pass first):
//! `QUORATE_ENDPOINTS=127.0.0.1:8811 cargo run --release -p quorate-client --example leader_election`
#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use quorate_client::{Client, Error, Lock};
use std::time::Duration;

const LOCK: &str = "example/leader";
/// How long the others wait when the leader dies without a word. It must be longer than any pause
/// that it may have to survive as the leader.
const TTL: Duration = Duration::from_secs(5);
/// Longest wait in one call; asking again goes to the end of the line.
const WAIT: Duration = Duration::from_secs(3_600);

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let endpoints =
        std::env::var("QUORATE_ENDPOINTS").unwrap_or_else(|_| "127.0.0.1:8811".to_owned());
    let client = Client::builder().endpoints(endpoints.split(',').map(str::trim)).connect()?;
    // Everybody learns who leads, whether or not it is itself.
    let mut watch = client.locks().watch(LOCK).await?;
    let watching = tokio::spawn(async move {
        while let Some(Ok(lock)) = watch.next().await {
            match lock.holders.first() {
                Some(leader) => println!("leader: session {}", leader.session_id),
                None => println!("nobody leads"),
            }
        }
    });
    let end = tokio::signal::ctrl_c();
    tokio::select! {
        failed = stand(&client) => failed?,
        interrupted = end => interrupted?,
    }
    watching.abort();
    // Gives up the lock, or the place in line, at once.
    client.close().await?;
    Ok(())
}

/// Waits to be the leader, leads while it may, and begins anew.
async fn stand(client: &Client) -> Result<(), Error> {
    loop {
        match client.locks().acquire(LOCK).ttl(TTL).wait(WAIT).await {
            Ok(lock) => lead(client, &lock).await?,
            // The wait ran out, or the lock was lost before it was ours to use.
            Err(Error::NotAcquired { .. } | Error::LockLost { .. }) => {}
            Err(error) => return Err(error),
        }
    }
}

/// Does the leader's work until it is not the leader any more.
async fn lead(client: &Client, lock: &Lock) -> Result<(), Error> {
    println!("I lead, under token {}", lock.fencing_token());
    let work = async {
        loop {
            // Guarded: should this process be stopped right here, and go on when another one leads,
            // the cluster refuses it.
            let count = client.kv().increment("example/work", 1).guard(&lock.guard()).await?;
            println!("did piece {} of the work", count.value);
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    };
    let ended: Result<(), Error> = tokio::select! {
        () = lock.lost() => Ok(()),
        ended = work => ended,
    };
    match ended {
        Ok(()) | Err(Error::LockLost { .. }) => {}
        Err(error) => return Err(error),
    }
    println!("I do not lead any more");
    Ok(())
}
