//! A queue that is pulled from until it is time to end.

use super::calls::{Calls, Came};
use super::workload::{Context, LAST_DEADLINE};
use anyhow::{Context as _, Result};
use quorate_client::queue::{Job, UpdateQueue};
use quorate_client::{Client, Queue};
use std::time::Duration;

/// What is pulled from, and how.
pub(crate) struct Pulls<'a> {
    pub(crate) context: &'a Context,
    pub(crate) calls: &'a Calls,
    pub(crate) client: &'a Client,
    pub(crate) queue: &'static str,
    /// How long a pull waits for a job.
    pub(crate) wait: Duration,
    /// Before what could not be done is tried again.
    pub(crate) rest: Duration,
}

impl Pulls<'_> {
    /// Sets the queue up, and hands each job to `take`.
    pub(crate) async fn take_on<T: Future<Output = ()> + Send>(
        &self,
        set_up: impl Fn(UpdateQueue) -> UpdateQueue + Send + Sync,
        take: impl Fn(Job) -> T + Send + Sync,
    ) {
        let queue: Queue = self.client.queue();
        while !self.is_set_up(set_up(queue.update(self.queue))).await {
            if !self.context.pause(self.rest).await {
                return;
            }
        }
        while !self.context.stop.is_cancelled() {
            let pull = queue.pull(self.queue).count(4).wait(self.wait);
            match self.calls.make_waiting("take", self.wait, pull).await {
                Came::Answer(jobs) => {
                    for job in jobs {
                        take(job).await;
                    }
                    continue;
                }
                Came::Refused(error) => self.calls.odd("take", &error),
                Came::Failed | Came::Unknown => {}
            }
            self.context.pause(self.rest).await;
        }
    }

    /// Hands the jobs that are left to `take`, until there are none; else says how many.
    pub(crate) async fn drain<T: Future<Output = ()> + Send>(
        &self,
        take: impl Fn(Job) -> T + Send + Sync,
    ) -> Result<Result<(), String>> {
        let queue = self.client.queue();
        let until = self.calls.now() + LAST_DEADLINE;
        loop {
            let pull = queue.pull(self.queue).count(32).wait(self.wait).timeout(LAST_DEADLINE);
            for job in pull.await.context("a last pull")? {
                take(job).await;
            }
            let stats = queue.stats(self.queue).timeout(LAST_DEADLINE);
            let stats = stats.await.context("last counts")?;
            if stats.ready + stats.delayed + stats.leased == 0 {
                return Ok(Ok(()));
            }
            if self.calls.now() > until {
                return Ok(Err(format!("jobs are left after {LAST_DEADLINE:?}: {stats:?}")));
            }
        }
    }

    async fn is_set_up(&self, update: UpdateQueue) -> bool {
        match self.calls.make("update", update).await {
            Came::Answer(_) => return true,
            Came::Refused(error) => self.calls.odd("update", &error),
            Came::Failed | Came::Unknown => {}
        }
        false
    }
}
