//! The clients: they change several things at once, repeat that, try what must be refused, and read
//! together what was changed together.

use super::super::clients::{self, AGAIN, ms, now, options, recover};
use super::super::net::{AUDITOR, Host};
use super::super::plan::Plan;
use super::books::Books;
use super::{COPY, COUNT, LEFT, QUEUE, RIGHT, Stage, shown};
use quorate_client::cache::CachePolicy;
use quorate_client::{Client, Error, NewJob, Routing, Transaction, TxnOutcome};
use rand::RngExt;
use std::time::Duration;

/// Clients on each host.
const PER_HOST: u64 = 3;
/// The auditor's number.
const AUDITOR_NUMBER: u64 = 99;

type Party = clients::Party<Books>;

pub(super) fn start(stage: &mut Stage<'_>, plan: &Plan, host: Host, first: u64, until: Duration) {
    let all: Vec<_> =
        (first..first + PER_HOST).map(|number| worker(stage, plan, host, number)).collect();
    all.iter().for_each(|_| stage.story.books.course.begins());
    stage.sim.client(host, async move {
        let work = all.into_iter().map(|worker| Box::pin(worker.work(until)));
        for worked in futures::future::join_all(work).await {
            worked?;
        }
        Ok(())
    });
}

pub(super) fn audit(stage: &mut Stage<'_>, plan: &Plan) {
    let auditor = worker(stage, plan, AUDITOR, AUDITOR_NUMBER);
    stage.sim.client(AUDITOR, Box::pin(auditor.audit()));
}

fn worker(stage: &Stage<'_>, plan: &Plan, host: Host, number: u64) -> Worker {
    Worker { party: Party::new(stage, &stage.story.books, plan, host, number), sent: 0, seen: 0 }
}

struct Worker {
    party: Party,
    /// Transactions sent, so that each has another text and key.
    sent: u64,
    /// The highest count it has seen.
    seen: u64,
}

impl Worker {
    fn client(&mut self) -> Result<Client, Error> {
        let routing = match self.party.number % 10 {
            1 => Routing::AnyNode,
            // Its home node alone, whatever becomes of it.
            2 => Routing::Endpoints,
            _ => Routing::Leader,
        };
        let home = usize::try_from(self.party.number).unwrap_or_default();
        options(self.party.host, &self.party.reach, home, routing)
            .seed(self.party.rng.random())
            .request_timeout(ms(self.party.rng.random_range(800..=3_000)))
            .attempt_timeout(ms(self.party.rng.random_range(250..=1_000)))
            .connect()
    }

    async fn work(mut self, until: Duration) -> turmoil::Result {
        let client = self.client()?;
        while now() < until {
            tokio::time::sleep(ms(self.party.rng.random_range(5..=120))).await;
            match self.party.rng.random_range(0..10) {
                0..=4 => self.change(&client).await,
                5 => self.try_what_is_refused(&client).await,
                _ => self.read(&client).await,
            }
        }
        self.party.books.course.is_done();
        Ok(())
    }

    fn text(&mut self) -> String {
        self.sent += 1;
        let padding = match self.party.rng.random_ratio(1, 4) {
            true => self.party.rng.random_range(0..2_000),
            false => 0,
        };
        format!("{}.{}{:padding$}", self.party.number, self.sent, "")
    }

    fn transaction(&mut self, client: &Client) -> Transaction {
        let text = self.text();
        client
            .txn()
            .increment(COUNT, 1)
            .set(LEFT, text.clone())
            .cache_set(COPY, text.clone(), CachePolicy::new())
            .push(QUEUE, NewJob::new(shown(text.as_bytes())))
            .set(RIGHT, text)
            .idempotency_key(format!("{}.{}", self.party.number, self.sent))
    }

    /// Sends a transaction, and often sends it again.
    async fn change(&mut self, client: &Client) {
        let transaction = self.transaction(client);
        let first = self.send(&transaction).await;
        let again = match &first {
            Ok(_) => self.party.rng.random_ratio(1, 3),
            Err(error) => error.may_have_been_applied() && self.party.rng.random_ratio(1, 2),
        };
        let second = match again {
            true => {
                tokio::time::sleep(ms(self.party.rng.random_range(0..=500))).await;
                Some(self.send(&transaction).await)
            }
            false => None,
        };
        let books = &self.party.books;
        match (&first, &second) {
            (Ok(first), Some(Ok(second))) => {
                books.acknowledged();
                books.repeated();
                if first != second {
                    self.problem(format_args!(
                        "transaction {} was answered {first:?}, and its repetition {second:?}",
                        self.sent
                    ));
                }
            }
            (Ok(_), _) | (_, Some(Ok(_))) => books.acknowledged(),
            (Err(error), None) | (_, Some(Err(error))) if !error.may_have_been_applied() => {
                // Of the first of two it is not known.
                if second.is_some() {
                    books.unknown();
                }
            }
            _ => books.unknown(),
        }
    }

    async fn send(&mut self, transaction: &Transaction) -> Result<TxnOutcome, Error> {
        let outcome = transaction.clone().commit().await;
        self.party.books.course.called(&outcome);
        match &outcome {
            Ok(done) => self.seen = self.seen.max(count(done.number(0))),
            Err(error) => self.expected(error),
        }
        self.note(format_args!("transaction {} -> {}", self.sent, told(&outcome)));
        outcome
    }

    /// Its last operation adds to what is no number.
    async fn try_what_is_refused(&mut self, client: &Client) {
        if self.seen == 0 {
            return;
        }
        let text = self.text();
        let transaction = client
            .txn()
            .increment(COUNT, 1)
            .set(RIGHT, text.clone())
            .push(QUEUE, NewJob::new(text))
            .increment(LEFT, 1);
        let outcome = transaction.commit().await;
        self.party.books.course.called(&outcome);
        match &outcome {
            Ok(done) => self.problem(format_args!("what must be refused went through: {done:?}")),
            Err(error) if error.reason() == "NOT_A_NUMBER" => self.party.books.refused(),
            Err(error) => self.expected(error),
        }
        self.note(format_args!("a refused transaction -> {}", told(&outcome)));
    }

    /// Reads keys, and whether the queue is longer than that, at one moment.
    async fn read(&mut self, client: &Client) {
        let most = self.seen + self.party.rng.random_range(0..=1);
        let read = client.txn().when_queue_at_most(QUEUE, most);
        let read = read.get(COUNT).get(LEFT).get(RIGHT).or_get(COUNT).or_get(LEFT).or_get(RIGHT);
        let outcome = read.commit().await;
        self.party.books.course.called(&outcome);
        let read = match &outcome {
            Ok(read) => read,
            Err(error) => return self.expected(error),
        };
        self.party.books.read();
        let text = |at| read.entry(at).map(|entry| shown(&entry.value));
        let counted = text(0).map_or(0, |text| text.parse().unwrap_or_default());
        if (counted <= most) != read.succeeded() || text(1) != text(2) {
            self.problem(format_args!(
                "half of a transaction was read: {counted} are counted, {} and {} are the texts, and \
                 that the queue has at most {most} jobs is {}",
                text(1).unwrap_or_default(),
                text(2).unwrap_or_default(),
                read.succeeded()
            ));
        }
        self.note(format_args!("{counted} are read"));
        self.seen = self.seen.max(counted);
    }

    /// Some errors must not come at all.
    fn expected(&self, error: &Error) {
        let troubled = matches!(
            error,
            Error::Unavailable { .. }
                | Error::Indeterminate { .. }
                | Error::ResourceExhausted { .. }
                | Error::SessionExpired { .. }
        );
        if !troubled {
            self.problem(format_args!("client {} was told: {error}", self.party.number));
        }
    }

    fn problem(&self, what: std::fmt::Arguments<'_>) {
        self.party.books.journal.problem(now(), what);
    }

    fn note(&self, what: std::fmt::Arguments<'_>) {
        self.party.books.journal.write(now(), format_args!("client {} {what}", self.party.number));
    }

    async fn audit(mut self) -> turmoil::Result {
        let client = clients::auditor(self.party.host, &self.party.reach, &mut self.party.rng)?;
        recover(&client, &self.party.books.course, &self.party.books.journal).await;
        let found = loop {
            match client.kv().get(COUNT).await {
                Ok(found) => break found,
                Err(_) => tokio::time::sleep(AGAIN).await,
            }
        };
        let found = found.map_or(0, |entry| shown(&entry.value).parse().unwrap_or_default());
        if let Err(what) = self.party.books.check(found) {
            self.problem(format_args!("{what}"));
        }
        self.party.books.course.audited();
        Ok(())
    }
}

fn count(number: Option<i64>) -> u64 {
    number.and_then(|number| u64::try_from(number).ok()).unwrap_or_default()
}

fn told(outcome: &Result<TxnOutcome, Error>) -> String {
    match outcome {
        Ok(outcome) => format!("done at {}", outcome.revision),
        Err(error) => error.reason().to_owned(),
    }
}
