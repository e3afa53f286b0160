//! A task queue: emails are pushed, and a worker sends them, several at a time.
//!
//! Some fail, and are tried again; one that can't succeed goes to the dead letters. Kill a node, or
//! this program, while it runs: what was not done is done by another one, or the next time.
//! `QUORATE_ENDPOINTS=127.0.0.1:8811 cargo run --release -p quorate-client --example task_queue`
#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use quorate_client::queue::{Backoff, JobError};
use quorate_client::{Client, Job, NewJob};
use std::sync::Arc;
use std::time::Duration;

const QUEUE: &str = "example/emails";
/// How often the queue is looked at until it is empty.
const LOOK_EVERY: Duration = Duration::from_millis(200);

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let endpoints =
        std::env::var("QUORATE_ENDPOINTS").unwrap_or_else(|_| "127.0.0.1:8811".to_owned());
    let client = Client::builder().endpoints(endpoints.split(',').map(str::trim)).connect()?;
    let queue = client.queue();

    // Made by the first push as well; this says how it works.
    let backoff = Backoff::exponential(Duration::from_millis(200), Duration::from_secs(10));
    queue.update(QUEUE).attempts_max(3).backoff(backoff).await?;

    // All of them or none. A key that names the work keeps it from being pushed twice.
    let names = ["ann", "bob", "carol", "no address", "dave"];
    let emails = names.map(|to| NewJob::new(to).dedupe_key(format!("welcome {to}")));
    for (to, pushed) in names.iter().zip(queue.push_many(QUEUE, emails).await?) {
        let again = if pushed.duplicate { ", which was pushed before" } else { "" };
        println!("an email to {to} is job {}{again}", pushed.id);
    }
    // Later, and before all others then.
    queue.push(QUEUE, "eve").delay(Duration::from_secs(2)).priority(9).await?;

    let worker = queue.worker(QUEUE, |job| async move { send(&job) }).max_parallel(4);
    let worker = worker.start().await?;
    let work = async {
        loop {
            let stats = queue.stats(QUEUE).await?;
            if stats.ready + stats.delayed + stats.leased == 0 {
                return Ok::<_, quorate_client::Error>(stats.dead);
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    };
    let dead = tokio::select! {
        dead = work => dead?,
        interrupted = tokio::signal::ctrl_c() => { interrupted?; 0 }
    };
    // What runs is finished, what waits is handed back.
    worker.stop();
    println!("{:?}, {dead} dead letters", worker.join().await?);
    client.close().await?;
    Ok(())
}

/// Does one job; an error puts it back, to be tried again a little later.
fn send(job: &Arc<Job>) -> Result<(), JobError> {
    let to = std::str::from_utf8(job.payload())?;
    if to.contains(' ') {
        // It would fail the next time, too.
        return Err(JobError::new(format!("{to:?} is no address")).kill());
    }
    if to == "bob" && job.attempt() < 3 {
        println!("{to} does not answer, attempt {}", job.attempt());
        return Err(JobError::new("does not answer"));
    }
    println!("sent to {to}, attempt {}", job.attempt());
    Ok(())
}
