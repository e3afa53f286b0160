//! A scheduler of which one leads: it pushes a job at every tick, whichever of several processes runs.
//!
//! Who holds the lock leads; the others wait in line, and take over when it dies. Each tick is one
//! transaction, guarded by the lock: the number of the tick goes up by one and its job is pushed, or
//! neither. So a leader that was stopped, and goes on when another one leads already, can't push anything,
//! and no tick has two jobs. Kill a node of the cluster, or the process that leads, while it runs.
//!
//! (For jobs at fixed times the cluster has schedules of its own: `quorate queue schedule`. This shows
//! what to do where deciding what is due is a program's own business.)
//!
//! `QUORATE_ENDPOINTS=127.0.0.1:8811 cargo run --release -p quorate-client --example scheduler -- 500ms`
#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use quorate_client::{Client, Error, Lock, NewJob};
use std::time::Duration;
use tokio::time::{MissedTickBehavior, interval};

const LOCK: &str = "example/scheduler";
const QUEUE: &str = "example/due";
const TICKS: &str = "example/ticks";
/// How long the others wait when the leader dies without a word.
const TTL: Duration = Duration::from_secs(3);
/// Longest wait in one call.
const WAIT: Duration = Duration::from_secs(3_600);

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let endpoints =
        std::env::var("QUORATE_ENDPOINTS").unwrap_or_else(|_| "127.0.0.1:8811".to_owned());
    let client = Client::builder().endpoints(endpoints.split(',').map(str::trim));
    let client = client.request_timeout(Duration::from_secs(20)).connect()?;
    let every_ms = std::env::args().nth(1).unwrap_or_else(|| "1000ms".to_owned());
    let every_ms: u64 = every_ms.strip_suffix("ms").unwrap_or(&every_ms).parse()?;
    let every = Duration::from_millis(every_ms.max(1));
    tokio::select! {
        failed = stand(&client, every) => failed?,
        interrupted = tokio::signal::ctrl_c() => interrupted?,
    }
    // Gives up the lock, or the place in line, at once.
    client.close().await?;
    Ok(())
}

/// Waits to be the leader, leads while it may, and begins anew.
async fn stand(client: &Client, every: Duration) -> Result<(), Error> {
    loop {
        println!("standing by");
        match client.locks().acquire(LOCK).ttl(TTL).wait(WAIT).await {
            Ok(lock) => lead(client, &lock, every).await?,
            // The wait ran out, or the lock was lost before it was ours to use; or no node could be asked
            // just now, and the request was withdrawn.
            Err(Error::NotAcquired { .. } | Error::LockLost { .. } | Error::Unavailable { .. }) => {
            }
            Err(error) => return Err(error),
        }
    }
}

/// Pushes the job of each tick until it is not the leader any more.
async fn lead(client: &Client, lock: &Lock, every: Duration) -> Result<(), Error> {
    println!("leading, under token {}", lock.fencing_token());
    let mut ticks = interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = lock.lost() => break,
            _ = ticks.tick() => {}
        }
        match tick(client, lock).await {
            Ok(number) => println!("tick {number}"),
            // Somebody else leads; it has not happened.
            Err(Error::LockLost { .. }) => break,
            // It has not happened either.
            Err(Error::Unavailable { .. }) => println!("no tick: no node could be asked"),
            // It may have happened. The next one looks what the number is before it goes on.
            Err(Error::Indeterminate { .. }) => println!("a tick may have been"),
            Err(error) => return Err(error),
        }
    }
    println!("leading no more");
    Ok(())
}

/// One tick: its number, and its job.
async fn tick(client: &Client, lock: &Lock) -> Result<u64, Error> {
    let last = client.kv().get(TICKS).await?;
    let number = last.as_ref().map_or(0, |entry| {
        std::str::from_utf8(&entry.value).ok().and_then(|text| text.parse().ok()).unwrap_or(0)
    }) + 1;
    let txn = match &last {
        Some(entry) => client.txn().when_version(TICKS, entry.version),
        None => client.txn().when_absent(TICKS),
    };
    let job = NewJob::new(number.to_string());
    let txn = txn.set(TICKS, number.to_string()).push(QUEUE, job).guard(&lock.guard());
    // When the condition does not hold, the tick before, of open fate, has happened after all: as this one.
    txn.commit().await?;
    Ok(number)
}
