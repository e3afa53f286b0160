//! Changes that are sent again and again under one name, by several clients through all nodes, at once
//! and a while later, whoever leads by then: each has one effect, and one answer.
//!
//! Beside them changes that only their own client repeats, in its session. At the end every counter is
//! what the requests add up to, and the queue has each job once.

use crate::work::calls::{Calls, Came, Notes, Odd, tell};
use crate::work::workload::{Context, LAST_DEADLINE, Verdict, Workload};
use anyhow::{Context as _, Result};
use futures::future::BoxFuture;
use futures::{FutureExt as _, TryStreamExt as _};
use quorate_client::queue::JobInfo;
use quorate_client::{Client, Error, Routing};
use rand::RngExt as _;
use rand::rngs::SmallRng;
use serde::Serialize;
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

const NAME: &str = "retry";
const CALLERS: u64 = 4;
const COUNTERS: u64 = 3;
const QUEUE: &str = "once";
/// Requests of a caller that may be sent again.
const RECENT: usize = 24;
/// Between two calls of a caller, at most.
const THINK_MS_MAX: u64 = 100;
/// Fewer requests that were answered several times show little.
const LEAST: usize = 20;

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum What {
    Increment {
        counter: u64,
    },
    Transaction {
        counter: u64,
    },
    Push,
    /// By the session's own name; sent once by its caller.
    Plain {
        counter: u64,
    },
}

/// The number after an addition, or the id of a job; and when it happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
struct Answer {
    value: u64,
    revision: u64,
}

/// A request, and all that was ever answered to it.
#[derive(Clone, Debug, Serialize)]
struct Request {
    /// Its key; no other has it.
    name: String,
    what: What,
    answers: Vec<Answer>,
    /// How often it was sent without an effect, and without an answer.
    failed: u32,
    unknown: u32,
}

/// What there is at the end.
#[derive(Debug, Default)]
struct End {
    counters: Vec<u64>,
    jobs: Vec<(u64, String)>,
}

#[derive(Default)]
pub(crate) struct Retries {
    requests: Notes<Request>,
    odd: Odd,
}

impl Workload for Retries {
    fn name(&self) -> &'static str {
        NAME
    }

    fn callers(&self, context: &Context) -> Vec<BoxFuture<'static, ()>> {
        let caller = |number| {
            let of =
                |routing| context.client_with(|options| options.namespace(NAME).routing(routing));
            let caller = Caller {
                number,
                calls: Calls::new(NAME, context, &self.odd),
                clients: [of(Routing::Leader), of(Routing::AnyNode)],
                random: context.random(NAME, number),
                context: context.clone(),
                requests: self.requests.clone(),
                recent: VecDeque::new(),
                made: 0,
            };
            caller.run().boxed()
        };
        (0..CALLERS).map(caller).collect()
    }

    fn judge(self: Box<Self>, context: Context) -> BoxFuture<'static, Result<Verdict>> {
        async move {
            let end = end(&context.client(NAME)).await?;
            let requests = self.requests.take();
            let mut verdict = Verdict::default();
            self.odd.report(&mut verdict);
            tell(&mut verdict, check(&requests, &end));
            let again = requests.iter().filter(|request| request.answers.len() > 1).count();
            let sent: usize = requests.iter().map(Request::sent).sum();
            verdict.has_to_show(again >= LEAST, || {
                format!("only {again} requests were answered again")
            });
            verdict.checked = format!(
                "{} requests, sent {sent} times, have one effect and one answer each; {again} were \
                 answered several times",
                requests.len()
            );
            Ok(verdict)
        }
        .boxed()
    }
}

fn counter(number: u64) -> String {
    format!("counter/{number}")
}

async fn end(client: &Client) -> Result<End> {
    let mut end = End::default();
    for number in 0..COUNTERS {
        let get = client.kv().get(counter(number)).timeout(LAST_DEADLINE);
        let entry = get.await.context("a last read")?;
        let text = entry.map(|entry| String::from_utf8_lossy(&entry.value).into_owned());
        end.counters.push(text.map_or(Ok(0), |text| text.parse()).context("of a counter")?);
    }
    let list = client.queue().list_jobs(QUEUE).payloads().page_jobs(1_000).timeout(LAST_DEADLINE);
    let jobs: Vec<JobInfo> = match list.stream().try_collect().await {
        Err(Error::NotFound { .. }) => Vec::new(),
        jobs => jobs.context("a last list of jobs")?,
    };
    let jobs = jobs.into_iter();
    end.jobs.extend(jobs.map(|job| (job.id, String::from_utf8_lossy(&job.payload).into_owned())));
    Ok(end)
}

struct Caller {
    number: u64,
    context: Context,
    calls: Calls,
    clients: [Client; 2],
    random: SmallRng,
    requests: Notes<Request>,
    recent: VecDeque<Request>,
    made: u64,
}

impl Caller {
    async fn run(mut self) {
        loop {
            match self.random.random_range(0..self.recent.len() + 4) {
                place if place < self.recent.len() => self.again(place).await,
                _ => self.anew().await,
            }
            let think = Duration::from_millis(self.random.random_range(0..=THINK_MS_MAX));
            if !self.context.pause(think).await {
                break;
            }
        }
        for request in std::mem::take(&mut self.recent) {
            self.requests.push(request);
        }
    }

    /// A request, by one client or by both at once.
    async fn anew(&mut self) {
        self.made += 1;
        let counter = self.random.random_range(0..COUNTERS);
        let what = match self.random.random_range(0..5) {
            0..2 => What::Increment { counter },
            2 => What::Transaction { counter },
            3 => What::Push,
            _ => What::Plain { counter },
        };
        let name = format!("{}.{}", self.number, self.made);
        let mut request = Request { name, what, answers: Vec::new(), failed: 0, unknown: 0 };
        if matches!(what, What::Plain { .. }) {
            let came = self.send(&self.clients[0], &request).await;
            self.take(&mut request, came);
            self.requests.push(request);
            return;
        }
        if self.random.random_bool(0.5) {
            let [one, other] = &self.clients;
            let (first, second) =
                tokio::join!(self.send(one, &request), self.send(other, &request));
            self.take(&mut request, first);
            self.take(&mut request, second);
        } else {
            let came = self.send(&self.clients[0], &request).await;
            self.take(&mut request, came);
        }
        self.recent.push_back(request);
        if self.recent.len() > RECENT {
            self.requests.with(|all| all.extend(self.recent.pop_front()));
        }
    }

    async fn again(&mut self, place: usize) {
        let Some(mut request) = self.recent.remove(place) else { return };
        let by = self.random.random_range(0..self.clients.len());
        let came = self.send(&self.clients[by], &request).await;
        self.take(&mut request, came);
        self.recent.insert(place, request);
    }

    fn take(&self, request: &mut Request, came: Came<Answer>) {
        match came {
            Came::Answer(answer) => request.answers.push(answer),
            Came::Failed => request.failed += 1,
            Came::Unknown => request.unknown += 1,
            Came::Refused(error) => {
                request.unknown += 1;
                self.calls.odd("request", &error);
            }
        }
        self.context.journal.write(request);
    }

    async fn send(&self, client: &Client, request: &Request) -> Came<Answer> {
        let Request { name, what, .. } = request;
        match *what {
            What::Increment { counter } => {
                let add = client.kv().increment(self::counter(counter), 1).idempotency_key(name);
                let add = async { add.await.map(|sum| answer(sum.value, sum.revision)) };
                self.calls.make("increment", add).await
            }
            What::Plain { counter } => {
                let add = client.kv().increment(self::counter(counter), 1);
                let add = async { add.await.map(|sum| answer(sum.value, sum.revision)) };
                self.calls.make("plain increment", add).await
            }
            What::Transaction { counter } => {
                let txn =
                    client.txn().increment(self::counter(counter), 1).set("last", name.clone());
                let txn = txn.idempotency_key(name).commit();
                let txn = async {
                    let outcome = txn.await?;
                    Ok(answer(outcome.number(0).unwrap_or(-1), outcome.revision))
                };
                self.calls.make("transaction", txn).await
            }
            What::Push => {
                let push = client.queue().push(QUEUE, name.clone()).idempotency_key(name);
                let push = async {
                    push.await.map(|job| Answer { value: job.id, revision: job.revision })
                };
                self.calls.make("push", push).await
            }
        }
    }
}

/// Counters are never below zero; one that is stands out.
fn answer(value: i64, revision: u64) -> Answer {
    Answer { value: u64::try_from(value).unwrap_or(u64::MAX), revision }
}

impl Request {
    fn sent(&self) -> usize {
        self.answers.len() + (self.failed + self.unknown) as usize
    }
}

/// What can't be, a line each.
fn check(requests: &[Request], end: &End) -> Vec<String> {
    let mut breaches = Vec::new();
    // Requests that certainly happened, and that may have; and who was given which number.
    let mut counts: Vec<(u64, u64)> = vec![(0, 0); end.counters.len()];
    let mut given: BTreeMap<(u64, u64), &str> = BTreeMap::new();
    let mut pushed: BTreeMap<&str, &Request> = BTreeMap::new();
    for request in requests {
        let Request { name, what, answers, .. } = request;
        if let Some(other) = answers.iter().find(|answer| **answer != answers[0]) {
            breaches.push(format!("{name} was answered {:?}, and {other:?}", answers[0]));
        }
        let counter = match *what {
            What::Increment { counter }
            | What::Transaction { counter }
            | What::Plain { counter } => counter,
            What::Push => {
                pushed.insert(name, request);
                continue;
            }
        };
        let place = usize::try_from(counter).unwrap_or(usize::MAX);
        let Some((certain, maybe)) = counts.get_mut(place) else { continue };
        match (answers.first(), request.unknown) {
            (Some(answer), _) => {
                *certain += 1;
                if let Some(other) = given.insert((counter, answer.value), name) {
                    breaches.push(format!(
                        "counter {counter} came to {} for {other} and for {name}",
                        answer.value
                    ));
                }
                if answer.value > end.counters[place] {
                    breaches.push(format!(
                        "{name} brought counter {counter} to {}; at the end it is {}",
                        answer.value, end.counters[place]
                    ));
                }
            }
            (None, 1..) => *maybe += 1,
            (None, 0) => {}
        }
    }
    for (counter, ((certain, maybe), value)) in counts.iter().zip(&end.counters).enumerate() {
        if !(*certain..=certain + maybe).contains(value) {
            breaches.push(format!(
                "counter {counter} is {value}, of {certain} requests that happened and {maybe} that may \
                 have"
            ));
        }
    }
    jobs_are_there_once(&pushed, &end.jobs, &mut breaches);
    breaches
}

fn jobs_are_there_once(
    pushed: &BTreeMap<&str, &Request>,
    jobs: &[(u64, String)],
    breaches: &mut Vec<String>,
) {
    let mut there: BTreeMap<&str, u64> = BTreeMap::new();
    for (id, name) in jobs {
        if let Some(other) = there.insert(name, *id) {
            breaches.push(format!("{name} is job {other} and job {id}"));
        }
        match pushed.get(&name[..]) {
            None => breaches.push(format!("{name}, job {id}, was never pushed")),
            Some(request) if request.answers.is_empty() && request.unknown == 0 => {
                breaches.push(format!("{name} is job {id}, and pushing it certainly failed"));
            }
            Some(_) => {}
        }
    }
    for (name, request) in pushed {
        let Some(answer) = request.answers.first() else { continue };
        match there.get(name) {
            None => breaches.push(format!("{name}, job {}, is lost", answer.value)),
            Some(id) if *id != answer.value => {
                breaches.push(format!("{name} is job {id}, and was answered {answer:?}"));
            }
            Some(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(name: &str, what: What, values: &[u64], unknown: u32) -> Request {
        let answers = values.iter().map(|value| Answer { value: *value, revision: *value });
        Request { name: name.to_owned(), what, answers: answers.collect(), failed: 1, unknown }
    }

    const ADD: What = What::Increment { counter: 0 };

    fn right() -> (Vec<Request>, End) {
        let requests = vec![
            request("a", ADD, &[1, 1, 1], 2),
            request("b", What::Plain { counter: 0 }, &[3], 0),
            request("c", What::Transaction { counter: 0 }, &[], 1),
            request("d", ADD, &[], 0),
            request("e", What::Push, &[7, 7], 0),
            request("f", What::Push, &[], 1),
            request("g", What::Push, &[], 0),
        ];
        let jobs = vec![(7, "e".to_owned()), (8, "f".to_owned())];
        (requests, End { counters: vec![3], jobs })
    }

    #[track_caller]
    fn finds(change: impl FnOnce(&mut Vec<Request>, &mut End), part: &str) {
        let (mut requests, mut end) = right();
        change(&mut requests, &mut end);
        let breaches = check(&requests, &end);
        assert!(breaches.iter().any(|breach| breach.contains(part)), "{breaches:?}");
    }

    #[test]
    fn one_effect_and_one_answer_are_right() {
        let (requests, mut end) = right();
        assert_eq!(check(&requests, &end), Vec::<String>::new());
        // What is unknown may not have happened.
        end.jobs.pop();
        assert_eq!(check(&requests, &end), Vec::<String>::new());
    }

    #[test]
    fn another_answer_is_found() {
        finds(|requests, _| requests[0].answers[2].value = 2, "a was answered");
        finds(|requests, _| requests[0].answers[1].revision = 9, "a was answered");
        finds(|requests, _| requests[1].answers[0].value = 1, "came to 1 for a and for b");
    }

    #[test]
    fn doubled_effects_are_found() {
        finds(|_, end| end.counters[0] = 4, "counter 0 is 4");
        finds(|_, end| end.jobs.push((9, "e".to_owned())), "e is job 7 and job 9");
    }

    #[test]
    fn lost_effects_are_found() {
        finds(|_, end| end.counters[0] = 1, "at the end it is 1");
        finds(|_, end| end.counters[0] = 1, "counter 0 is 1");
        finds(|_, end| drop(end.jobs.remove(0)), "e, job 7, is lost");
        finds(|_, end| end.jobs[0].0 = 6, "e is job 6");
    }

    #[test]
    fn invented_effects_are_found() {
        finds(|_, end| end.jobs.push((9, "g".to_owned())), "certainly failed");
        finds(|_, end| end.jobs.push((9, "z".to_owned())), "never pushed");
    }
}
