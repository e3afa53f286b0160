//! The task queue: what is asked for, and what consumers and workers do when nodes fail.

use crate::fake::{Act, Fake, NOT_APPLIED, Said, fail, status};
use quorate_client::queue::{Consumer, JobError, JobState, WorkerCounts, WorkerHandle};
use quorate_client::{Client, Error, Job, NewJob};
use quorate_proto::v1::{self, JobHeader};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};
use tokio::sync::Notify;
use tokio::time::Instant;
use tonic::Code;

mod calls;
mod consumers;
mod workers;

const LEASE: Duration = Duration::from_secs(30);

fn jobs(jobs: &[(u64, u64)]) -> Said {
    Said::Jobs(LEASE, jobs.to_vec())
}

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn gone(reason: &str) -> Act {
    fail(Code::FailedPrecondition, NOT_APPLIED, reason)
}

/// Waits until something is so; on a paused clock that takes no time of ours.
async fn until(so: impl Fn() -> bool) {
    let deadline = Instant::now() + secs(600);
    while !so() {
        assert!(Instant::now() < deadline, "it is not so, and will not be");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// A consumer with room for nine jobs.
async fn consumer(client: &Client) -> Consumer {
    client.queue().consume("q", 9).start().await.expect("it starts")
}

/// The job that it is handed next.
async fn next(consumer: &mut Consumer) -> Job {
    consumer.next().await.expect("a job").expect("no error")
}

/// A worker that does jobs at once, but for those named here.
async fn worker(fake: &Fake, parallel: u32, slow: &'static [(u64, u64)]) -> WorkerHandle {
    let handler = move |job: Arc<Job>| async move {
        if let Some((_, seconds)) = slow.iter().find(|(id, _)| *id == job.id()) {
            tokio::time::sleep(secs(*seconds)).await;
        }
        Ok(())
    };
    let worker = fake.client().queue().worker("q", handler).max_parallel(parallel);
    worker.start().await.expect("it starts")
}

fn counts(done: u64, failed: u64, lost: u64, handed_back: u64) -> impl PartialEq<WorkerCounts> {
    struct Four([u64; 4]);
    impl PartialEq<WorkerCounts> for Four {
        fn eq(&self, counts: &WorkerCounts) -> bool {
            self.0 == [counts.done, counts.failed, counts.lost, counts.handed_back]
        }
    }
    Four([done, failed, lost, handed_back])
}
