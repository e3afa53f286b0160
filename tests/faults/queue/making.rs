//! Who pushes jobs and who takes them, and what they note of it.

use super::history::{Again, Delivery, Pushed, Settled};
use super::{QUEUE, connect};
use quorate_client::queue::{Job, NewJob};
use quorate_client::{Client, Error};
use rand::RngExt as _;
use rand::rngs::SmallRng;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::runtime::{Builder, Runtime};

/// Jobs that a worker has at a time.
const WINDOW: u32 = 32;
/// In so many of ten thousand jobs a worker dies with it.
const WORKERS_DIE: u32 = 4;
/// Jobs whose names end like this always fail, one of a hundred: whoever takes one sees that by its
/// name, and in the end it can be told from the name that it must be a dead letter.
const ALWAYS_FAILS: &str = "77";
/// In so many of a thousand a job fails, is handed back, is given up.
const FAILS: u32 = 30;
const RETURNS: u32 = 10;
const KILLS: u32 = 5;

/// What is noted while it goes on.
pub(super) struct Book {
    begun: Instant,
    pub(super) pushed: Mutex<BTreeMap<u64, Pushed>>,
    pub(super) maybe: Mutex<BTreeSet<String>>,
    pub(super) again: Mutex<Vec<Again>>,
    pub(super) deliveries: Mutex<Vec<Delivery>>,
    pub(super) died: AtomicUsize,
    pub(super) done: AtomicUsize,
    pub(super) stop: AtomicBool,
}

impl Book {
    pub(super) fn new() -> Self {
        Self {
            begun: Instant::now(),
            pushed: Mutex::default(),
            maybe: Mutex::default(),
            again: Mutex::default(),
            deliveries: Mutex::default(),
            died: AtomicUsize::default(),
            done: AtomicUsize::default(),
            stop: AtomicBool::default(),
        }
    }

    fn now(&self) -> Duration {
        self.begun.elapsed()
    }
}

pub(super) fn lock<T>(what: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    what.lock().expect("nobody panics while they write")
}

/// Pushes its share of the jobs, each under a name of its own.
pub(super) struct Producer {
    pub(super) number: usize,
    pub(super) client: Client,
    pub(super) book: Arc<Book>,
    pub(super) random: SmallRng,
    /// Jobs pushed into each of its groups; none once a push of one is unknown.
    pub(super) groups: Vec<Option<u64>>,
}

impl Producer {
    pub(super) async fn run(mut self, jobs: usize) {
        let mut made = 0;
        while made < jobs {
            let count = self.random.random_range(1..=32).min(jobs - made);
            let batch: Vec<(NewJob, Pushed)> =
                (made..made + count).map(|number| self.job(number)).collect();
            self.push(batch).await;
            made += count;
        }
    }

    fn job(&mut self, number: usize) -> (NewJob, Pushed) {
        let name = format!("{}.{number}", self.number);
        let mut job = NewJob::new(name.clone());
        let (mut delay, mut group, mut deduped) = (Duration::ZERO, None, false);
        match self.random.random_range(0..20) {
            0..3 => {
                delay = Duration::from_millis(self.random.random_range(1..2_000));
                job = job.delay(delay);
            }
            3..6 => job = job.priority(self.random.random()),
            6..8 => (job, deduped) = (job.dedupe_key(&name), true),
            8..10 => {
                let which = self.random.random_range(0..self.groups.len());
                if let Some(next) = &mut self.groups[which] {
                    let key = format!("{}/{which}", self.number);
                    job = job.group(&key);
                    group = Some((key, *next));
                    *next += 1;
                }
            }
            _ => {}
        }
        let sent = self.book.now();
        (job, Pushed { name, sent, delay, group, deduped })
    }

    async fn push(&mut self, batch: Vec<(NewJob, Pushed)>) {
        let (jobs, mut pushed): (Vec<NewJob>, Vec<Pushed>) = batch.into_iter().unzip();
        let sent = self.book.now();
        pushed.iter_mut().for_each(|job| job.sent = sent);
        let answer = loop {
            match self.client.queue().push_many(QUEUE, jobs.clone()).await {
                // Certainly not pushed, so it may be asked for again.
                Err(Error::Unavailable { .. } | Error::SessionExpired { .. }) => {}
                Err(Error::ResourceExhausted { .. }) => {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
                answer => break answer,
            }
        };
        match answer {
            Ok(ids) => {
                for (answer, job) in ids.iter().zip(&pushed) {
                    assert!(!answer.duplicate, "{} was pushed once", job.name);
                    let before = lock(&self.book.pushed).insert(answer.id, job.clone());
                    assert!(before.is_none(), "two jobs have the id {}", answer.id);
                }
                self.push_again(&jobs, &pushed, ids.iter().map(|answer| answer.id)).await;
            }
            Err(Error::Indeterminate { .. }) => {
                for job in pushed {
                    // Its order in the group is not known any more.
                    if let Some((key, _)) = &job.group {
                        let which = key.split('/').next_back().and_then(|n| n.parse().ok());
                        let which: usize = which.expect("groups are numbered");
                        self.groups[which] = None;
                    }
                    assert!(lock(&self.book.maybe).insert(job.name), "a name is that of one job");
                }
            }
            Err(error) => panic!("an ordinary push was refused: {error} ({})", error.reason()),
        }
    }

    /// What has a dedupe key is the same job, whoever leads by now.
    async fn push_again(
        &mut self,
        jobs: &[NewJob],
        pushed: &[Pushed],
        ids: impl Iterator<Item = u64>,
    ) {
        for ((job, id), pushed) in jobs.iter().zip(ids).zip(pushed) {
            if !pushed.deduped || self.random.random_range(0..4) > 0 {
                continue;
            }
            // Of one that failed it is not known which it was, but it was there.
            if let Ok(again) = self.client.queue().push_many(QUEUE, [job.clone()]).await {
                let (answered, duplicate) = (again[0].id, again[0].duplicate);
                lock(&self.book.again).push(Again { id, answered, duplicate });
            }
        }
    }
}

/// Takes jobs until it is told to stop, and dies now and then.
pub(super) struct Worker {
    pub(super) endpoints: Vec<String>,
    pub(super) book: Arc<Book>,
    pub(super) random: SmallRng,
}

enum Ended {
    Stopped,
    Killed,
}

impl Worker {
    pub(super) fn run(mut self) {
        loop {
            let runtime: Runtime =
                Builder::new_current_thread().enable_all().build().expect("a runtime");
            match runtime.block_on(self.work()) {
                Ended::Stopped => return,
                // Connections close; tasks that would say good-bye are never run.
                Ended::Killed => {
                    self.book.died.fetch_add(1, Ordering::Relaxed);
                    drop(runtime);
                }
            }
        }
    }

    async fn work(&mut self) -> Ended {
        let client = connect(&self.endpoints);
        let mut consumer = loop {
            match client.queue().consume(QUEUE, WINDOW).start().await {
                Ok(consumer) => break consumer,
                Err(_) if self.book.stop.load(Ordering::Relaxed) => return Ended::Stopped,
                Err(Error::Unavailable { .. }) => {}
                Err(error) => panic!("a consumer was refused: {error} ({})", error.reason()),
            }
        };
        let mut looks = tokio::time::interval(Duration::from_millis(50));
        loop {
            let job = tokio::select! {
                job = consumer.next() => job.expect("a consumer goes on"),
                _ = looks.tick() => {
                    if self.book.stop.load(Ordering::Relaxed) {
                        consumer.close().await;
                        let _ = client.close().await;
                        return Ended::Stopped;
                    }
                    continue;
                }
            };
            let job = job.expect("the queue is there");
            if self.random.random_range(0..10_000) < WORKERS_DIE {
                self.note(&job);
                return Ended::Killed;
            }
            self.settle(job).await;
        }
    }

    fn note(&self, job: &Job) -> usize {
        let (id, lease, attempt) = (job.id(), job.lease(), job.attempt());
        let at = self.book.now();
        let mut deliveries = lock(&self.book.deliveries);
        deliveries.push(Delivery { id, lease, attempt, at, settled: None });
        deliveries.len() - 1
    }

    async fn settle(&mut self, job: Job) {
        let place = self.note(&job);
        let name = String::from_utf8_lossy(job.payload()).into_owned();
        let sent = self.book.now();
        let settled = match self.random.random_range(0..1_000) {
            _ if always_fails(&name) => {
                of(job.nack_after(Duration::ZERO, "always").await, Settled::Failed)
            }
            chance if chance < FAILS => {
                of(job.nack_after(Duration::from_millis(20), "fails").await, Settled::Failed)
            }
            chance if chance < FAILS + RETURNS => of(job.hand_back().await, Settled::Returned),
            chance if chance < FAILS + RETURNS + KILLS => {
                of(job.kill("given up").await, Settled::Failed)
            }
            _ => {
                let settled = of(job.ack().await, Settled::Done);
                self.book.done.fetch_add(usize::from(settled == Settled::Done), Ordering::Relaxed);
                settled
            }
        };
        lock(&self.book.deliveries)[place].settled = Some((sent, settled));
    }
}

pub(super) fn always_fails(name: &str) -> bool {
    name.ends_with(ALWAYS_FAILS)
}

fn of<T>(answer: Result<T, Error>, wanted: Settled) -> Settled {
    match answer {
        Ok(_) => wanted,
        Err(Error::JobLost { .. }) => Settled::Late,
        Err(Error::Indeterminate { .. }) => Settled::Unknown,
        // While nodes die these may come, and say that nothing was done.
        Err(
            Error::Unavailable { .. }
            | Error::SessionExpired { .. }
            | Error::ResourceExhausted { .. },
        ) => Settled::Refused,
        Err(error) => panic!("{wanted:?} was refused: {error} ({})", error.reason()),
    }
}
