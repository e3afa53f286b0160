//! A queue with everything that can become of a job: delays, dedupe keys, failures with and without a
//! wait, jobs handed back, leases that lapse, dead letters; taken by consumers and by pulls.
//!
//! At the end the queue is drained. Then every acknowledged push is a job that is done or dead, and
//! nothing else is there; see [`check`] for all that must hold.

mod check;

use crate::work::calls::{Calls, Came, Notes, Odd, tell};
use crate::work::workload::{Context, LAST_DEADLINE, Verdict, Workload};
use anyhow::{Context as _, Result};
use check::{Delivery, End, History, Push, Pushed, Said};
use futures::future::BoxFuture;
use futures::{FutureExt as _, TryStreamExt as _};
use quorate_client::queue::{Backoff, Consumer, Job, JobState};
use quorate_client::{Client, Error, Queue};
use rand::RngExt as _;
use rand::rngs::SmallRng;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

const NAME: &str = "queue";
const QUEUE: &str = "work";
const DEAD: &str = "work.dead";
const PUSHERS: u64 = 2;
const CONSUMERS: u64 = 3;
const PULLERS: u64 = 1;
/// Jobs that a consumer has at a time.
const WINDOW: u32 = 4;
const ATTEMPTS_MAX: u32 = 4;
/// Short, so that what nobody speaks of any more is seen again within a run.
const VISIBILITY: Duration = Duration::from_secs(2);
const SESSION_TTL: Duration = Duration::from_secs(5);
const BACKOFF: Duration = Duration::from_millis(100);
/// Longer than any run: jobs that are done are counted at its end.
const KEEP_DONE: Duration = Duration::from_secs(12 * 3_600);
/// One of so many always fails, which its name says, so that there are dead letters.
const FAILING: u64 = 40;
const PULL_WAIT: Duration = Duration::from_millis(500);
/// Between two pushes of a caller, at most.
const THINK_MS_MAX: u64 = 100;
/// What a worker takes for a job, at most.
const WORK_MS_MAX: u64 = 40;
/// Before a caller tries again what could not be done.
const REST: Duration = Duration::from_millis(200);
/// Fewer acknowledged jobs show little.
const LEAST: usize = 20;

#[derive(Default)]
pub(crate) struct Jobs {
    pushes: Notes<Push>,
    deliveries: Notes<Delivery>,
    odd: Odd,
    /// Names given out so far.
    given: Arc<AtomicU64>,
}

fn client(context: &Context) -> Client {
    context.client_with(|options| options.namespace(NAME).session_ttl(SESSION_TTL))
}

impl Jobs {
    fn caller(&self, context: &Context, number: u64) -> Caller {
        let client = client(context);
        Caller {
            calls: Calls::new(NAME, context, &self.odd),
            queue: client.queue(),
            client,
            random: context.random(NAME, number),
            context: context.clone(),
            pushes: self.pushes.clone(),
            deliveries: self.deliveries.clone(),
            given: Arc::clone(&self.given),
        }
    }
}

impl Workload for Jobs {
    fn name(&self) -> &'static str {
        NAME
    }

    fn callers(&self, context: &Context) -> Vec<BoxFuture<'static, ()>> {
        let caller = |number| {
            let caller = self.caller(context, number);
            match number {
                0..PUSHERS => caller.push_on().boxed(),
                number if number < PUSHERS + CONSUMERS => caller.consume_on().boxed(),
                _ => caller.pull_on().boxed(),
            }
        };
        (0..PUSHERS + CONSUMERS + PULLERS).map(caller).collect()
    }

    fn judge(self: Box<Self>, context: Context) -> BoxFuture<'static, Result<Verdict>> {
        async move {
            let mut verdict = Verdict::default();
            let mut caller = self.caller(&context, u64::MAX);
            if let Err(left) = caller.drain().await? {
                verdict.problems.push(left);
            }
            let mut history = History {
                attempts_max: ATTEMPTS_MAX,
                ends: ends(&caller.queue).await?,
                ..History::default()
            };
            history.ends.iter().for_each(|end| context.journal.write(end));
            (history.pushes, history.deliveries) = (self.pushes.take(), self.deliveries.take());
            self.odd.report(&mut verdict);
            tell(&mut verdict, history.check());
            let done = history.ends.iter().filter(|end| end.done).count();
            let dead = history.ends.len() - done;
            let again = history.deliveries.iter().filter(|one| one.attempt > 1).count();
            let unknown = history.pushes.iter().filter(|push| push.came == Pushed::Unknown).count();
            verdict.has_to_show(done >= LEAST, || format!("only {done} jobs are done"));
            verdict.has_to_show(dead > 0 && again > 0, || format!("{dead} jobs died, {again} came again"));
            verdict.checked = format!(
                "{} pushes ({unknown} unknown) are {done} jobs that are done and {dead} dead letters; \
                 {} deliveries, {again} of them not the first",
                history.pushes.len(),
                history.deliveries.len(),
            );
            Ok(verdict)
        }
        .boxed()
    }
}

/// All jobs that there are.
async fn ends(queue: &Queue) -> Result<Vec<End>> {
    let mut ends = Vec::new();
    for of in [QUEUE, DEAD] {
        let list = queue.list_jobs(of).payloads().page_jobs(1_000).timeout(LAST_DEADLINE);
        let jobs: Vec<_> = match list.stream().try_collect().await {
            // Nothing has died.
            Err(Error::NotFound { .. }) if of == DEAD => Vec::new(),
            jobs => jobs.context("the last list of jobs")?,
        };
        ends.extend(jobs.into_iter().map(|job: quorate_client::queue::JobInfo| End {
            name: String::from_utf8_lossy(&job.payload).into_owned(),
            id: job.id,
            done: of == QUEUE && job.state == JobState::Done,
            attempts: job.attempts,
        }));
    }
    Ok(ends)
}

struct Caller {
    context: Context,
    calls: Calls,
    client: Client,
    queue: Queue,
    random: SmallRng,
    pushes: Notes<Push>,
    deliveries: Notes<Delivery>,
    /// Of all callers.
    given: Arc<AtomicU64>,
}

impl Caller {
    /// Says how the queue works; false when it is time to end.
    async fn prepare(&self) -> bool {
        loop {
            let update = self.queue.update(QUEUE).visibility(VISIBILITY).keep_done(KEEP_DONE);
            let update = update.attempts_max(ATTEMPTS_MAX).backoff(Backoff::fixed(BACKOFF));
            match self.calls.make("update", update).await {
                Came::Answer(_) => return true,
                Came::Refused(error) => self.calls.odd("update", &error),
                Came::Failed | Came::Unknown => {}
            }
            if !self.context.pause(REST).await {
                return false;
            }
        }
    }

    async fn push_on(mut self) {
        if !self.prepare().await {
            return;
        }
        loop {
            self.push().await;
            let think = Duration::from_millis(self.random.random_range(0..=THINK_MS_MAX));
            if !self.context.pause(think).await {
                return;
            }
        }
    }

    /// Pushes a job; one with a dedupe key again, now and then, and always when it is not known
    /// what became of it.
    async fn push(&mut self) {
        let number = self.given.fetch_add(1, Ordering::Relaxed);
        let name = match number % FAILING {
            0 => format!("{number} fails"),
            _ => number.to_string(),
        };
        let delay = match self.random.random_range(0..4) {
            0 => Duration::from_millis(self.random.random_range(1..1_500)),
            _ => Duration::ZERO,
        };
        let deduped = self.random.random_range(0..4) == 0;
        let mut tries = 1 + u32::from(deduped && self.random.random_bool(0.5));
        while tries > 0 {
            tries -= 1;
            let mut push = self.queue.push(QUEUE, name.clone()).delay(delay);
            if deduped {
                push = push.dedupe_key(&name);
            }
            let sent = self.calls.now();
            let came = match self.calls.make("push", push).await {
                Came::Answer(job) => Pushed::Is { id: job.id, duplicate: job.duplicate },
                Came::Failed => Pushed::Not,
                Came::Unknown => {
                    tries += u32::from(deduped && !self.context.stop.is_cancelled());
                    Pushed::Unknown
                }
                Came::Refused(error) => {
                    self.calls.odd("push", &error);
                    Pushed::Unknown
                }
            };
            let push = Push { name: name.clone(), sent, delay, came };
            self.context.journal.write(&push);
            self.pushes.push(push);
        }
    }

    async fn consume_on(mut self) {
        if !self.prepare().await {
            return;
        }
        while !self.context.stop.is_cancelled() {
            match self.calls.make("consume", self.queue.consume(QUEUE, WINDOW).start()).await {
                Came::Answer(consumer) => self.consume(consumer).await,
                Came::Refused(error) => self.calls.odd("consume", &error),
                Came::Failed | Came::Unknown => {}
            }
            self.context.pause(REST).await;
        }
        self.leave().await;
    }

    async fn consume(&mut self, mut consumer: Consumer) {
        let stop = self.context.stop.clone();
        loop {
            let job = tokio::select! {
                job = consumer.next() => job,
                () = stop.cancelled() => return consumer.close().await,
            };
            match job {
                Some(Ok(job)) => self.work(job).await,
                // No node could be found in time.
                Some(Err(Error::Unavailable { .. })) | None => return,
                Some(Err(error)) => return self.calls.odd("consume", &error),
            }
        }
    }

    async fn pull_on(mut self) {
        if !self.prepare().await {
            return;
        }
        while !self.context.stop.is_cancelled() {
            let pull = self.queue.pull(QUEUE).count(2).wait(PULL_WAIT);
            match self.calls.make_waiting("pull", PULL_WAIT, pull).await {
                Came::Answer(jobs) => {
                    for job in jobs {
                        self.work(job).await;
                    }
                }
                Came::Refused(error) => self.calls.odd("pull", &error),
                Came::Failed | Came::Unknown => {}
            }
            self.context.pause(Duration::from_millis(WORK_MS_MAX)).await;
        }
        self.leave().await;
    }

    /// What it did not settle ends with its session.
    async fn leave(&self) {
        // It ends with its ttl otherwise.
        let _ = self.client.close().await;
    }

    async fn work(&mut self, job: Job) {
        let name = String::from_utf8_lossy(job.payload()).into_owned();
        let (id, lease, attempt) = (job.id(), job.lease(), job.attempt());
        let at = self.calls.now();
        let work = Duration::from_millis(self.random.random_range(0..=WORK_MS_MAX));
        self.context.pause(work).await;
        let sent = self.calls.now();
        let said = self.settle(&name, job).await.map(|said| (sent, said));
        let delivery = Delivery { name, id, lease, attempt, at, said };
        self.context.journal.write(&delivery);
        self.deliveries.push(delivery);
    }

    async fn settle(&mut self, name: &str, job: Job) -> Option<Said> {
        let (at_once, later) = (Duration::ZERO, Duration::from_millis(300));
        Some(match self.random.random_range(0..100) {
            _ if name.ends_with("fails") => {
                let nack = job.nack_after(at_once, "it always fails");
                self.say("nack", nack.boxed(), Said::Failed { wait: at_once }).await
            }
            // Nothing is said, as if its worker had died.
            0..3 => {
                let _ = job.leave();
                return None;
            }
            3..8 => {
                // Parts of a millisecond of the backoff are nothing to rely on.
                self.say("nack", job.nack("it failed").boxed(), Said::Failed { wait: BACKOFF })
                    .await
            }
            8..12 => {
                let nack = job.nack_after(later, "it failed");
                self.say("nack", nack.boxed(), Said::Failed { wait: later }).await
            }
            12..15 => self.say("nack", job.hand_back().boxed(), Said::Returned).await,
            15 => {
                self.say("nack", job.kill("given up").boxed(), Said::Failed { wait: at_once }).await
            }
            _ => self.say("ack", job.ack().boxed(), Said::Done).await,
        })
    }

    async fn say<T: Send>(
        &self,
        operation: &'static str,
        call: BoxFuture<'_, Result<T, Error>>,
        wanted: Said,
    ) -> Said {
        match self.calls.make(operation, call).await {
            Came::Answer(_) => wanted,
            Came::Refused(Error::JobLost { .. }) => Said::Late,
            Came::Failed => Said::Not,
            Came::Unknown => Said::Unknown,
            Came::Refused(error) => {
                self.calls.odd(operation, &error);
                Said::Unknown
            }
        }
    }

    /// Does what is left, until nothing is; else says what it is.
    async fn drain(&mut self) -> Result<Result<(), String>> {
        let until = self.calls.now() + LAST_DEADLINE;
        loop {
            let pull = self.queue.pull(QUEUE).count(32).wait(PULL_WAIT).timeout(LAST_DEADLINE);
            for job in pull.await.context("a last pull")? {
                let name = String::from_utf8_lossy(job.payload()).into_owned();
                let (id, lease, attempt) = (job.id(), job.lease(), job.attempt());
                let (at, said) =
                    (self.calls.now(), self.say("ack", job.ack().boxed(), Said::Done).await);
                let said = Some((at, said));
                let delivery = Delivery { name, id, lease, attempt, at, said };
                self.context.journal.write(&delivery);
                self.deliveries.push(delivery);
            }
            let stats = self.queue.stats(QUEUE).timeout(LAST_DEADLINE).await;
            let stats = stats.context("the last counts of the queue")?;
            if stats.ready + stats.delayed + stats.leased == 0 {
                return Ok(Ok(()));
            }
            if self.calls.now() > until {
                return Ok(Err(format!("jobs are left after {LAST_DEADLINE:?}: {stats:?}")));
            }
        }
    }
}
