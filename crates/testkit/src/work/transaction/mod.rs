//! Transactions over all services: each moves money between keys, counts itself, marks two keys and an
//! entry of the cache with its number, and pushes a job; and some of them are refused at their last
//! step, or by a condition.
//!
//! Whoever reads all keys at one moment sees whole transactions only: the money adds up, marks agree
//! with each other and with the counts, and are those of everything that was acknowledged before. The
//! cache is neither behind the keys read before it nor ahead of those read after it. Each job is there
//! once its keys are, and is done once, by a transaction that counts it; see [`check`].

mod check;

use crate::work::calls::{Calls, Came, Notes, Odd, tell};
use crate::work::pulls::Pulls;
use crate::work::workload::{CALL_DEADLINE, Context, LAST_DEADLINE, Verdict, Workload};
use anyhow::{Context as _, Result};
use check::{Audit, Fate, History, Look, Marks, Taken, Transfer};
use futures::FutureExt as _;
use futures::future::BoxFuture;
use quorate_client::cache::CachePolicy;
use quorate_client::queue::{Backoff, Job, NewJob, UpdateQueue};
use quorate_client::{Client, Error, TxnOutcome};
use rand::RngExt as _;
use rand::rngs::SmallRng;
use std::time::Duration;

const NAME: &str = "transaction";
const QUEUE: &str = "transfers";
const TELLERS: usize = 3;
const AUDITORS: usize = 2;
const ACCOUNTS: usize = 8;
/// Between two calls of a caller, at most.
const THINK_MS_MAX: u64 = 150;
/// Short, so that what could not be said to be done is seen again within a run.
const VISIBILITY: Duration = Duration::from_secs(2);
const SESSION_TTL: Duration = Duration::from_secs(5);
const WAIT: Duration = Duration::from_millis(500);
/// Before a caller tries again what could not be done.
const REST: Duration = Duration::from_millis(200);
/// Fewer transactions, or audits, show little.
const LEAST: usize = 20;

#[derive(Default)]
pub(crate) struct Transfers {
    transfers: Notes<Transfer>,
    audits: Notes<Audit>,
    looks: Notes<Look>,
    taken: Notes<Taken>,
    odd: Odd,
}

impl Transfers {
    fn caller(&self, context: &Context, number: u64) -> Caller {
        Caller {
            calls: Calls::new(NAME, context, &self.odd),
            client: context.client_with(|options| options.namespace(NAME).session_ttl(SESSION_TTL)),
            random: context.random(NAME, number),
            context: context.clone(),
            transfers: self.transfers.clone(),
            audits: self.audits.clone(),
            looks: self.looks.clone(),
            taken: self.taken.clone(),
        }
    }
}

impl Workload for Transfers {
    fn name(&self) -> &'static str {
        NAME
    }

    fn callers(&self, context: &Context) -> Vec<BoxFuture<'static, ()>> {
        let mut callers = vec![
            self.caller(context, 100).take_on().boxed(),
            self.caller(context, 101).look_on().boxed(),
        ];
        let number = |caller: usize| caller as u64;
        callers.extend(
            (0..TELLERS)
                .map(|teller| self.caller(context, number(teller)).transfer_on(teller).boxed()),
        );
        let auditors = TELLERS..TELLERS + AUDITORS;
        callers.extend(auditors.map(|one| self.caller(context, number(one)).audit_on().boxed()));
        callers
    }

    fn judge(self: Box<Self>, context: Context) -> BoxFuture<'static, Result<Verdict>> {
        async move {
            let mut verdict = Verdict::default();
            let caller = self.caller(&context, u64::MAX);
            if let Err(left) = caller.drain().await? {
                verdict.problems.push(left);
            }
            let last = caller.read_all(LAST_DEADLINE).await.context("a last audit")?;
            let history = History {
                transfers: self.transfers.take(),
                audits: self.audits.take(),
                looks: self.looks.take(),
                taken: self.taken.take(),
                end: audit(&last, Duration::ZERO, Duration::ZERO).marks,
            };
            self.odd.report(&mut verdict);
            tell(&mut verdict, history.check());
            let count = |of| history.transfers.iter().filter(|one| one.fate == of).count();
            let (done, not) = (count(Fate::Done), count(Fate::Not));
            let audits = history.audits.len();
            verdict.has_to_show(done >= LEAST, || format!("only {done} transactions are done"));
            verdict.has_to_show(not > 0, || "no transaction was refused".to_owned());
            verdict.has_to_show(audits >= LEAST, || format!("only {audits} audits"));
            verdict.checked = format!(
                "{done} transactions, {not} refused, {} unknown; {audits} audits, {} looks into the \
                 cache, {} jobs taken",
                count(Fate::Unknown),
                history.looks.len(),
                history.taken.len(),
            );
            Ok(verdict)
        }
        .boxed()
    }
}

fn account(number: usize) -> String {
    format!("account/{number}")
}

fn key(of: &str, teller: usize) -> String {
    format!("{of}/{teller}")
}

/// Of each teller, in the order of [`Marks`].
const KEYS: [&str; 4] = ["left", "right", "count", "done"];

/// What stands for a text that is no number: nobody wrote this one.
const NO_NUMBER: u32 = u32::MAX;

/// The number that a read found; 0 when there is nothing.
fn number(outcome: &TxnOutcome, position: usize) -> i64 {
    let text = outcome.entry(position).map(|entry| String::from_utf8_lossy(&entry.value));
    text.map_or(0, |text| text.parse().unwrap_or_else(|_| NO_NUMBER.into()))
}

fn mark(outcome: &TxnOutcome, position: usize) -> u64 {
    u64::try_from(number(outcome, position)).unwrap_or_else(|_| NO_NUMBER.into())
}

fn audit(read: &TxnOutcome, begun: Duration, ended: Duration) -> Audit {
    let marks = (0..TELLERS).map(|teller| {
        let at = ACCOUNTS + teller * KEYS.len();
        let [left, right, count, done] = [0, 1, 2, 3].map(|key| mark(read, at + key));
        Marks { left, right, count, done }
    });
    let sum = (0..ACCOUNTS).map(|account| number(read, account)).sum();
    Audit { begun, ended, sum, marks: marks.collect() }
}

struct Caller {
    context: Context,
    calls: Calls,
    client: Client,
    random: SmallRng,
    transfers: Notes<Transfer>,
    audits: Notes<Audit>,
    looks: Notes<Look>,
    taken: Notes<Taken>,
}

impl Caller {
    /// False when it is time to end.
    async fn think(&mut self) -> bool {
        let think = Duration::from_millis(self.random.random_range(0..=THINK_MS_MAX));
        self.context.pause(think).await
    }

    async fn transfer_on(mut self, teller: usize) {
        let mut number = 0;
        // The last one that was made, if that is known.
        let mut last = Some(0);
        loop {
            number += 1;
            let begun = self.calls.now();
            let fate = self.transfer(teller, number, last).await;
            let ended = self.calls.now();
            match fate {
                Fate::Done => last = Some(number),
                Fate::Not => {}
                Fate::Unknown => last = None,
            }
            let transfer = Transfer { teller, number, begun, ended, fate };
            self.context.journal.write(&transfer);
            self.transfers.push(transfer);
            if !self.think().await {
                return;
            }
        }
    }

    async fn transfer(&mut self, teller: usize, number: u64, last: Option<u64>) -> Fate {
        let from = self.random.random_range(0..ACCOUNTS);
        let to = (from + self.random.random_range(1..ACCOUNTS)) % ACCOUNTS;
        let amount = self.random.random_range(1..=50);
        let mark = number.to_string();
        let mut txn = self.client.txn();
        let (mut holds, mut is_refused) = (true, false);
        match (self.random.random_range(0..10), last) {
            (0, _) => is_refused = true,
            // Nobody else changes it.
            (1..3, Some(last)) if last > 0 => {
                txn = txn.when_value(key("left", teller), last.to_string());
            }
            (3, _) => {
                txn = txn.when_value(key("left", teller), "something else");
                holds = false;
            }
            _ => {}
        }
        txn = txn
            .increment(account(from), -amount)
            .increment(account(to), amount)
            .increment(key("count", teller), 1)
            .set(key("left", teller), mark.clone())
            .push(QUEUE, NewJob::new(format!("{teller}.{number}")))
            .cache_set(key("mark", teller), mark.clone(), CachePolicy::new())
            .set(key("right", teller), mark);
        if is_refused {
            txn = txn.set("note", "not a number").increment("note", 1);
        }
        match self.calls.make("transfer", txn.commit()).await {
            Came::Answer(outcome) if outcome.succeeded() == holds && !is_refused => match holds {
                true => Fate::Done,
                false => Fate::Not,
            },
            Came::Answer(outcome) => {
                self.calls.odd("transfer", &outcome);
                Fate::Unknown
            }
            Came::Refused(error) if is_refused && error.reason() == "NOT_A_NUMBER" => Fate::Not,
            Came::Refused(error) => {
                self.calls.odd("transfer", &error);
                Fate::Unknown
            }
            Came::Failed => Fate::Not,
            Came::Unknown => Fate::Unknown,
        }
    }

    fn read_all(&self, deadline: Duration) -> BoxFuture<'static, Result<TxnOutcome, Error>> {
        let txn = (0..ACCOUNTS).fold(self.client.txn(), |txn, number| txn.get(account(number)));
        let keys = (0..TELLERS).flat_map(|teller| KEYS.map(|of| key(of, teller)));
        keys.fold(txn, |txn, key| txn.get(key)).timeout(deadline).commit().boxed()
    }

    async fn audit_on(mut self) {
        loop {
            let begun = self.calls.now();
            match self.calls.make("audit", self.read_all(CALL_DEADLINE)).await {
                Came::Answer(read) => {
                    let audit = audit(&read, begun, self.calls.now());
                    self.context.journal.write(&audit);
                    self.audits.push(audit);
                }
                Came::Refused(error) => self.calls.odd("audit", &error),
                Came::Failed | Came::Unknown => {}
            }
            if !self.think().await {
                return;
            }
        }
    }

    /// The mark of a teller in the keys.
    async fn mark(&self, teller: usize) -> Option<u64> {
        let read = self.client.txn().get(key("left", teller)).commit();
        match self.calls.make("look", read).await {
            Came::Answer(read) => Some(mark(&read, 0)),
            Came::Refused(error) => {
                self.calls.odd("look", &error);
                None
            }
            Came::Failed | Came::Unknown => None,
        }
    }

    async fn look_on(mut self) {
        loop {
            let teller = self.random.random_range(0..TELLERS);
            let linearizable = self.random.random_bool(0.5);
            if let Some(look) = self.look(teller, linearizable).await {
                self.context.journal.write(&look);
                self.looks.push(look);
            }
            if !self.think().await {
                return;
            }
        }
    }

    async fn look(&self, teller: usize, linearizable: bool) -> Option<Look> {
        let before = self.mark(teller).await?;
        // What this client has seen it sees in the cache, too, whichever node it asks.
        let get = self.client.cache().get(key("mark", teller));
        let get = if linearizable { get.linearizable() } else { get };
        let cached = match self.calls.make("look", get).await {
            Came::Answer(entry) => entry.map(|entry| {
                let text = String::from_utf8_lossy(&entry.value);
                text.parse().unwrap_or_else(|_| NO_NUMBER.into())
            }),
            Came::Refused(error) => {
                self.calls.odd("look", &error);
                return None;
            }
            Came::Failed | Came::Unknown => return None,
        };
        let after = self.mark(teller).await?;
        Some(Look { teller, before, cached, after })
    }

    fn pulls(&self) -> Pulls<'_> {
        Pulls {
            context: &self.context,
            calls: &self.calls,
            client: &self.client,
            queue: QUEUE,
            wait: WAIT,
            rest: REST,
        }
    }

    async fn take_on(self) {
        let set_up = |update: UpdateQueue| {
            let again = Backoff::fixed(Duration::from_millis(50));
            update.visibility(VISIBILITY).attempts_max(0).backoff(again)
        };
        self.pulls().take_on(set_up, |job| self.take(job)).await;
    }

    async fn take(&self, job: Job) {
        let payload = String::from_utf8_lossy(job.payload()).into_owned();
        let numbers = payload.split_once('.');
        let numbers =
            numbers.and_then(|(one, other)| Some((one.parse().ok()?, other.parse().ok()?)));
        let Some((teller, number)) = numbers else {
            return self.calls.odd("take", &payload);
        };
        let mark = self.mark(teller).await;
        let txn = self.client.txn().increment(key("done", teller), 1).ack(&job);
        let done = match self.calls.make("done", txn.commit()).await {
            Came::Answer(_) => Fate::Done,
            // It came too late, so it is not counted either.
            Came::Refused(Error::JobLost { .. }) | Came::Failed => Fate::Not,
            Came::Unknown => Fate::Unknown,
            Came::Refused(error) => {
                self.calls.odd("done", &error);
                Fate::Unknown
            }
        };
        let taken = Taken { teller, number, id: job.id(), mark, done };
        // If it is not done it comes again when its lease is over.
        let _ = job.leave();
        self.context.journal.write(&taken);
        self.taken.push(taken);
    }

    /// Does the jobs that are left, until there are none; else says how many.
    async fn drain(&self) -> Result<Result<(), String>> {
        self.pulls().drain(|job| self.take(job)).await
    }
}
