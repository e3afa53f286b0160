//! The writers.

use super::ledger::{CounterLedger, KeyLedger, Ledger, Ledgers, Totals, value_of};
use super::meter::{Gap, Meter};
use anyhow::{Context as _, Result, bail};
use quorate_client::{Client, Error, KeyValue, Routing};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;

/// Keys each writer sets in turn: some are old when a node dies, some just written.
const KEYS: usize = 4;
/// Longer than any failover on the slowest machine, so that a retry is always answered, and shows
/// whether it had one effect.
const PATIENT: Duration = Duration::from_secs(60);
/// Shorter than most failovers, so that some outcomes stay unknown.
const IMPATIENT: Duration = Duration::from_millis(700);
/// One writer in so many is impatient.
const IMPATIENT_EVERY: usize = 4;
/// How long the first write of a writer may take.
const START_DEADLINE: Duration = Duration::from_secs(30);

/// How often writers are looked at.
const POLL: Duration = Duration::from_millis(5);

/// What writers do.
#[derive(Clone, Debug)]
pub struct Plan {
    /// How many there are, each with a client of its own and one call at a time.
    pub writers: usize,
    /// Bytes of a value.
    pub value_bytes: usize,
    /// What all keys begin with. Two loads on one cluster need different ones.
    pub prefix: String,
    /// Some writers give up early, and half of them go to any node instead of the leader. Without
    /// it all wait as long as it takes, and follow the leader.
    pub mixed: bool,
}

impl Default for Plan {
    fn default() -> Self {
        Self { writers: 16, value_bytes: 100, prefix: "load".to_owned(), mixed: true }
    }
}

/// Writers at work. Dropping it leaves them writing until their runtime ends; see [`Load::stop`].
pub struct Load {
    tasks: Vec<JoinHandle<Result<Ledger>>>,
    stop: Arc<AtomicBool>,
    meter: Arc<Meter>,
}

impl Load {
    /// Starts the writers, and returns when each had a write acknowledged.
    ///
    /// # Errors
    /// When one has none within half a minute.
    pub async fn start(endpoints: &[String], plan: Plan) -> Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let meter = Arc::new(Meter::new());
        let begun = Instant::now();
        meter.arm();
        let mut tasks = Vec::with_capacity(plan.writers);
        for number in 0..plan.writers {
            let impatient = plan.mixed && number % IMPATIENT_EVERY == 1;
            let any_node = plan.mixed && number % 2 == 0;
            let client = Client::builder()
                .endpoints(endpoints)
                .routing(if any_node { Routing::AnyNode } else { Routing::Leader })
                .request_timeout(if impatient { IMPATIENT } else { PATIENT })
                .connect()
                .context("could not make a client")?;
            // One for each kind: the sum of those who know how every call ended is known exactly.
            let kind = if impatient { "impatient" } else { "patient" };
            let shared_key = format!("{}/shared-{kind}", plan.prefix);
            let writer = Writer {
                number,
                impatient,
                kv: client.kv(),
                prefix: format!("{}/{number}", plan.prefix),
                value_bytes: plan.value_bytes,
                meter: Arc::clone(&meter),
                ledger: Ledger { shared_key, ..Ledger::default() },
            };
            tasks.push(tokio::spawn(writer.run(Arc::clone(&stop), client)));
        }
        let load = Self { tasks, stop, meter };
        load.gap(begun, begun, START_DEADLINE).await.context("the writers could not begin")?;
        Ok(load)
    }

    /// Waits until so many more writes per writer are acknowledged.
    ///
    /// # Errors
    /// When they are not within `deadline`, and when a writer found a broken promise.
    pub async fn wait_for(&self, writes_per_writer: u64, deadline: Duration) -> Result<()> {
        let writers = u64::try_from(self.tasks.len()).context("too many writers")?;
        let target = self.totals().acknowledged + writes_per_writer * writers;
        let end = Instant::now() + deadline;
        while self.totals().acknowledged < target {
            if let Some(violation) = self.violation() {
                bail!("{violation}");
            }
            if Instant::now() > end {
                let so_far = self.totals();
                bail!("not {target} writes within {deadline:?}, but {so_far:?}");
            }
            tokio::time::sleep(POLL).await;
        }
        Ok(())
    }

    /// Begins to note when writes are acknowledged. Call it just before a kill.
    pub fn arm(&self) {
        self.meter.arm();
    }

    /// Waits until every writer goes on after a kill, and tells how long that took. `killed` is
    /// the moment of the kill, `dead` one at which the node was certainly gone.
    ///
    /// # Errors
    /// When not all writers go on within `deadline`, and when one found a broken promise.
    pub async fn gap(&self, killed: Instant, dead: Instant, deadline: Duration) -> Result<Gap> {
        self.meter.gap(self.tasks.len(), killed, dead, deadline).await
    }

    /// The longest time in which no writer had an acknowledgement, since this was asked last.
    pub fn take_longest_silence(&self) -> Duration {
        self.meter.take_longest_silence()
    }

    /// How the calls up to now ended.
    pub fn totals(&self) -> Totals {
        self.meter.totals()
    }

    /// What a writer found that must not be, if one did.
    pub fn violation(&self) -> Option<String> {
        self.meter.violation()
    }

    /// Ends the writers after the call each has under way, and answers what they were promised.
    ///
    /// # Errors
    /// When a writer found a broken promise.
    pub async fn stop(self) -> Result<Ledgers> {
        self.stop.store(true, Ordering::Relaxed);
        let mut writers = Vec::with_capacity(self.tasks.len());
        for task in self.tasks {
            writers.push(task.await.context("a writer panicked")??);
        }
        Ok(Ledgers { writers })
    }
}

/// How a call ended that did not break a promise.
enum Ended<T> {
    Acknowledged(T),
    Unknown,
    Failed,
}

struct Writer {
    number: usize,
    /// It gives up early, so the outcome of a call may stay unknown to it.
    impatient: bool,
    kv: KeyValue,
    prefix: String,
    value_bytes: usize,
    meter: Arc<Meter>,
    ledger: Ledger,
}

impl Writer {
    async fn run(mut self, stop: Arc<AtomicBool>, client: Client) -> Result<Ledger> {
        let mut number = 0;
        while !stop.load(Ordering::Relaxed) {
            number += 1;
            if let Err(error) = self.round(number).await {
                let error = error.context(format!("writer {} saw a broken promise", self.number));
                self.meter.violated(format!("{error:#}"));
                return Err(error);
            }
        }
        // Its session would end by itself; not being able to end it now is no failure.
        let _ = client.close().await;
        Ok(self.ledger)
    }

    async fn round(&mut self, number: u64) -> Result<()> {
        self.set(number).await?;
        self.increment_own().await?;
        self.increment_shared().await
    }

    async fn set(&mut self, number: u64) -> Result<()> {
        let slot = usize::try_from(number).context("too many rounds")? % KEYS;
        let key = format!("{}/{slot}", self.prefix);
        let value = value_of(number, self.value_bytes);
        let ended = self.call(self.kv.set(&key, value)).await?;
        let ledger: &mut KeyLedger = self.ledger.keys.entry(key.clone()).or_default();
        match ended {
            Ended::Acknowledged(written) => {
                ledger
                    .acknowledged(number, written.version)
                    .with_context(|| format!("key {key}"))?;
            }
            Ended::Unknown => ledger.unknown(number),
            Ended::Failed => {}
        }
        Ok(())
    }

    async fn increment_own(&mut self) -> Result<()> {
        let key = format!("{}/count", self.prefix);
        let ended = self.call(self.kv.increment(&key, 1)).await?;
        let ledger: &mut CounterLedger = self.ledger.counters.entry(key.clone()).or_default();
        match ended {
            Ended::Acknowledged(sum) => {
                ledger.acknowledged(sum.value).with_context(|| format!("counter {key}"))?;
            }
            Ended::Unknown => ledger.unknown(),
            Ended::Failed => {}
        }
        Ok(())
    }

    async fn increment_shared(&mut self) -> Result<()> {
        match self.call(self.kv.increment(&self.ledger.shared_key, 1)).await? {
            Ended::Acknowledged(_) => self.ledger.shared.acknowledged += 1,
            Ended::Unknown => self.ledger.shared.unknown += 1,
            Ended::Failed => self.ledger.shared.failed += 1,
        }
        Ok(())
    }

    /// Makes a call, and counts how it ended. What can only come from a broken promise or a broken
    /// program is an error.
    async fn call<T>(
        &mut self,
        request: impl IntoFuture<Output = Result<T, Error>>,
    ) -> Result<Ended<T>> {
        let begun = Instant::now();
        match request.await {
            Ok(answer) => {
                self.ledger.totals.acknowledged += 1;
                self.meter.acknowledged(self.number, begun);
                Ok(Ended::Acknowledged(answer))
            }
            // The client repeats the call under the same name until it is answered.
            Err(error @ Error::Indeterminate { .. }) if !self.impatient => {
                bail!("the outcome of a write was unknown to the end of its {PATIENT:?}: {error}")
            }
            Err(Error::Indeterminate { .. }) => {
                self.ledger.totals.unknown += 1;
                self.meter.unknown();
                Ok(Ended::Unknown)
            }
            Err(
                Error::Unavailable { .. }
                | Error::SessionExpired { .. }
                | Error::ResourceExhausted { .. },
            ) => {
                self.ledger.totals.failed += 1;
                self.meter.failed();
                Ok(Ended::Failed)
            }
            Err(error) => {
                bail!("a write without a condition was refused: {error} ({})", error.reason())
            }
        }
    }
}
