//! The outbox: a transaction writes a row, pushes a job and publishes a message, or does none of it; one
//! of unknown outcome is made again, on the condition that the row is not there.
//!
//! Whoever gets the job or the message finds the row. At the end there is a job for each row and a row
//! for each job, each was delivered, and no message came twice. (A message may be lost; a job may not.)

use crate::work::calls::{Calls, Came, Notes, Odd, tell};
use crate::work::pulls::Pulls;
use crate::work::workload::{Context, LAST_DEADLINE, Verdict, Workload};
use anyhow::{Context as _, Result};
use futures::future::BoxFuture;
use futures::{FutureExt as _, TryStreamExt as _};
use quorate_client::queue::{Backoff, Job, JobInfo, NewJob, UpdateQueue};
use quorate_client::{BusEvent, Client, Entry, Error};
use rand::RngExt as _;
use rand::rngs::SmallRng;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

const NAME: &str = "outbox";
const QUEUE: &str = "orders";
const CHANNEL: &str = "orders";
const ROWS: &str = "order/";
const WRITERS: u64 = 2;
/// Between two calls of a writer, at most.
const THINK_MS_MAX: u64 = 100;
const VISIBILITY: Duration = Duration::from_secs(2);
/// Longer than any run: jobs that are done are counted at its end.
const KEEP_DONE: Duration = Duration::from_secs(12 * 3_600);
const WAIT: Duration = Duration::from_millis(500);
/// Before a caller tries again what could not be done.
const REST: Duration = Duration::from_millis(200);
/// Fewer rows show little.
const LEAST: usize = 20;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Fate {
    Done,
    Not,
    Unknown,
}

/// What was seen of an order, by its name.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
enum Event {
    /// Somebody made it.
    Ordered { name: String, fate: Fate },
    /// Its job came; and whether its row was there then, if that could be read.
    Delivered { name: String, row: Option<bool> },
    /// Its message came.
    Heard { name: String, row: Option<bool> },
}

/// What there is at the end.
#[derive(Debug, Default)]
struct End {
    rows: BTreeSet<String>,
    /// A name for each job.
    jobs: Vec<String>,
}

#[derive(Default)]
pub(crate) struct Outbox {
    events: Notes<Event>,
    odd: Odd,
}

impl Outbox {
    fn caller(&self, context: &Context, number: u64) -> Caller {
        Caller {
            number,
            calls: Calls::new(NAME, context, &self.odd),
            client: context.client(NAME),
            random: context.random(NAME, number),
            context: context.clone(),
            events: self.events.clone(),
        }
    }
}

impl Workload for Outbox {
    fn name(&self) -> &'static str {
        NAME
    }

    fn callers(&self, context: &Context) -> Vec<BoxFuture<'static, ()>> {
        let writers = (0..WRITERS).map(|number| self.caller(context, number).write_on().boxed());
        let mut callers: Vec<_> = writers.collect();
        callers.push(self.caller(context, WRITERS).take_on().boxed());
        callers.push(self.caller(context, WRITERS + 1).hear_on().boxed());
        callers
    }

    fn judge(self: Box<Self>, context: Context) -> BoxFuture<'static, Result<Verdict>> {
        async move {
            let mut verdict = Verdict::default();
            let caller = self.caller(&context, u64::MAX);
            if let Err(left) = caller.drain().await? {
                verdict.problems.push(left);
            }
            let end = end(&caller.client).await?;
            let events = self.events.take();
            self.odd.report(&mut verdict);
            tell(&mut verdict, check(&events, &end));
            let count = |which: fn(&Event) -> bool| events.iter().filter(|one| which(one)).count();
            let heard = count(|event| matches!(event, Event::Heard { .. }));
            let rows = end.rows.len();
            verdict.has_to_show(rows >= LEAST, || format!("there are only {rows} rows"));
            verdict.has_to_show(heard > 0, || "nobody heard anything".to_owned());
            verdict.checked = format!(
                "{rows} rows and as many jobs, of {} transactions; {} deliveries, {heard} messages",
                count(|event| matches!(event, Event::Ordered { .. })),
                count(|event| matches!(event, Event::Delivered { .. })),
            );
            Ok(verdict)
        }
        .boxed()
    }
}

fn row(name: &str) -> String {
    format!("{ROWS}{name}")
}

async fn end(client: &Client) -> Result<End> {
    let rows = client.kv().list_prefix(ROWS).keys_only().timeout(LAST_DEADLINE).stream().await;
    let rows: Vec<Entry> = rows.context("a last list")?.try_collect().await.context("of rows")?;
    let name = |entry: Entry| String::from_utf8_lossy(&entry.key[ROWS.len()..]).into_owned();
    let list = client.queue().list_jobs(QUEUE).payloads().page_jobs(1_000).timeout(LAST_DEADLINE);
    let jobs: Vec<JobInfo> = list.stream().try_collect().await.context("a last list of jobs")?;
    let payload = |job: JobInfo| String::from_utf8_lossy(&job.payload).into_owned();
    Ok(End {
        rows: rows.into_iter().map(name).collect(),
        jobs: jobs.into_iter().map(payload).collect(),
    })
}

struct Caller {
    number: u64,
    context: Context,
    calls: Calls,
    client: Client,
    random: SmallRng,
    events: Notes<Event>,
}

impl Caller {
    fn note(&self, event: Event) {
        self.context.journal.write(&event);
        self.events.push(event);
    }

    async fn write_on(mut self) {
        let mut made = 0;
        loop {
            made += 1;
            let name = format!("{}.{made}", self.number);
            let fate = self.order(&name, true).await;
            self.note(Event::Ordered { name: name.clone(), fate });
            // It is there already, so nothing of it happens.
            if fate == Fate::Done && self.random.random_range(0..4) == 0 {
                self.order(&name, false).await;
            }
            let think = Duration::from_millis(self.random.random_range(0..=THINK_MS_MAX));
            if !self.context.pause(think).await {
                return;
            }
        }
    }

    /// Makes an order, until it is known what became of it.
    async fn order(&self, name: &str, is_new: bool) -> Fate {
        let mut is_unknown = false;
        loop {
            let txn = self.client.txn().when_absent(row(name)).set(row(name), name.to_owned());
            let txn =
                txn.push(QUEUE, NewJob::new(name.to_owned())).publish(CHANNEL, name.to_owned());
            match self.calls.make("order", txn.commit()).await {
                Came::Answer(outcome) if outcome.succeeded() && is_new => return Fate::Done,
                // Made by the one before.
                Came::Answer(outcome) if !outcome.succeeded() && (is_unknown || !is_new) => {
                    return Fate::Done;
                }
                Came::Answer(outcome) => {
                    self.calls.odd("order", &outcome);
                    return Fate::Unknown;
                }
                Came::Failed if !is_unknown => return Fate::Not,
                Came::Failed => {}
                Came::Unknown => is_unknown = true,
                Came::Refused(error) => {
                    self.calls.odd("order", &error);
                    return Fate::Unknown;
                }
            }
            if !self.context.pause(REST).await {
                return Fate::Unknown;
            }
        }
    }

    /// Whether the row is there, if it can be read.
    async fn has_row(&self, name: &str) -> Option<bool> {
        match self.calls.make("read", self.client.kv().get(row(name))).await {
            Came::Answer(entry) => Some(entry.is_some_and(|entry| entry.value == name.as_bytes())),
            Came::Failed | Came::Unknown => None,
            Came::Refused(error) => {
                self.calls.odd("read", &error);
                None
            }
        }
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
            let update = update.visibility(VISIBILITY).attempts_max(0);
            update.keep_done(KEEP_DONE).backoff(Backoff::fixed(REST))
        };
        self.pulls().take_on(set_up, |job| self.take(job)).await;
    }

    async fn take(&self, job: Job) {
        let name = String::from_utf8_lossy(job.payload()).into_owned();
        let row = self.has_row(&name).await;
        self.note(Event::Delivered { name, row });
        match self.calls.make("ack", job.ack()).await {
            // If it is not done it comes again.
            Came::Answer(()) | Came::Failed | Came::Unknown => {}
            Came::Refused(Error::JobLost { .. }) => {}
            Came::Refused(error) => self.calls.odd("ack", &error),
        }
    }

    async fn hear_on(self) {
        while !self.context.stop.is_cancelled() {
            let subscribe = self.client.bus().subscribe([CHANNEL]).start();
            match self.calls.make("subscribe", subscribe).await {
                Came::Answer(subscription) => self.hear(subscription).await,
                Came::Refused(error) => self.calls.odd("subscribe", &error),
                Came::Failed | Came::Unknown => {}
            }
            self.context.pause(REST).await;
        }
    }

    async fn hear(&self, mut subscription: quorate_client::Subscription) {
        loop {
            let next = tokio::select! {
                next = subscription.next() => next,
                () = self.context.stop.cancelled() => return,
            };
            match next {
                Some(Ok(BusEvent::Message(message))) => {
                    let name = String::from_utf8_lossy(&message.payload).into_owned();
                    let row = self.has_row(&name).await;
                    self.note(Event::Heard { name, row });
                }
                // A gap: messages may be lost.
                Some(Ok(_)) => {}
                Some(Err(Error::Unavailable { .. })) | None => return,
                Some(Err(error)) => return self.calls.odd("subscribe", &error),
            }
        }
    }

    /// Does the jobs that are left, until there are none; else says how many.
    async fn drain(&self) -> Result<Result<(), String>> {
        self.pulls().drain(|job| self.take(job)).await
    }
}

/// What can't be, a line each.
fn check(events: &[Event], end: &End) -> Vec<String> {
    let mut breaches = Vec::new();
    let mut fates: BTreeMap<&str, Fate> = BTreeMap::new();
    let (mut delivered, mut heard) = (BTreeSet::new(), BTreeSet::new());
    for event in events {
        let (what, name, row) = match event {
            Event::Ordered { name, fate } => {
                fates.insert(name, *fate);
                continue;
            }
            Event::Delivered { name, row } => {
                delivered.insert(&name[..]);
                ("job", name, row)
            }
            Event::Heard { name, row } => {
                if !heard.insert(&name[..]) {
                    breaches.push(format!("the message of {name} came twice"));
                }
                ("message", name, row)
            }
        };
        if *row == Some(false) {
            breaches.push(format!("the {what} of {name} came, and its row was not there"));
        }
        if !end.rows.contains(name) {
            breaches.push(format!("the {what} of {name} came, and there is no such row"));
        }
    }
    for name in &end.rows {
        match fates.get(&name[..]) {
            None => breaches.push(format!("nobody wrote the row of {name}")),
            Some(Fate::Not) => breaches.push(format!("{name} has a row, and certainly failed")),
            Some(Fate::Done | Fate::Unknown) => {}
        }
        if !delivered.contains(&name[..]) {
            breaches.push(format!("{name} has a row, and its job never came"));
        }
    }
    for (name, fate) in fates {
        if fate == Fate::Done && !end.rows.contains(name) {
            breaches.push(format!("{name} was acknowledged, and its row is lost"));
        }
    }
    let mut jobs = BTreeSet::new();
    for name in &end.jobs {
        if !jobs.insert(&name[..]) {
            breaches.push(format!("{name} has two jobs"));
        }
        if !end.rows.contains(name) {
            breaches.push(format!("{name} has a job, and no row"));
        }
    }
    for name in end.rows.iter().filter(|name| !jobs.contains(&name[..])) {
        breaches.push(format!("{name} has a row, and no job"));
    }
    breaches
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ordered(name: &str, fate: Fate) -> Event {
        Event::Ordered { name: name.to_owned(), fate }
    }

    fn delivered(name: &str, row: Option<bool>) -> Event {
        Event::Delivered { name: name.to_owned(), row }
    }

    fn heard(name: &str, row: Option<bool>) -> Event {
        Event::Heard { name: name.to_owned(), row }
    }

    /// The first is done and heard of, the second unknown and there, the third refused.
    fn right() -> (Vec<Event>, End) {
        let events = vec![
            ordered("a", Fate::Done),
            ordered("b", Fate::Unknown),
            ordered("c", Fate::Not),
            ordered("d", Fate::Unknown),
            delivered("a", Some(true)),
            delivered("a", Some(true)),
            delivered("b", None),
            heard("a", Some(true)),
        ];
        let names = ["a".to_owned(), "b".to_owned()];
        (events, End { rows: names.iter().cloned().collect(), jobs: names.to_vec() })
    }

    #[track_caller]
    fn finds(change: impl FnOnce(&mut Vec<Event>, &mut End), part: &str) {
        let (mut events, mut end) = right();
        change(&mut events, &mut end);
        let breaches = check(&events, &end);
        assert!(breaches.iter().any(|breach| breach.contains(part)), "{breaches:?}");
    }

    #[test]
    fn rows_with_their_jobs_are_right() {
        let (events, end) = right();
        assert_eq!(check(&events, &end), Vec::<String>::new());
    }

    #[test]
    fn half_of_a_transaction_is_found() {
        finds(|_, end| drop(end.jobs.pop()), "b has a row, and no job");
        finds(|_, end| assert!(end.rows.remove("b")), "b has a job, and no row");
        finds(|events, _| events.push(delivered("d", Some(true))), "there is no such row");
        finds(|events, _| events.push(heard("d", None)), "there is no such row");
        finds(|events, _| events.push(delivered("b", Some(false))), "its row was not there");
        finds(|events, _| events.push(heard("b", Some(false))), "its row was not there");
    }

    #[test]
    fn what_is_lost_or_doubled_is_found() {
        finds(|_, end| assert!(end.rows.remove("a")), "a was acknowledged, and its row is lost");
        finds(|events, _| drop(events.remove(6)), "its job never came");
        finds(|_, end| end.jobs.push("a".to_owned()), "a has two jobs");
        finds(|events, _| events.push(heard("a", None)), "came twice");
    }

    #[test]
    fn what_nobody_did_is_found() {
        let add = |name: &str, end: &mut End| assert!(end.rows.insert(name.to_owned()));
        finds(|_, end| add("c", end), "certainly failed");
        finds(|_, end| add("z", end), "nobody wrote");
    }
}
