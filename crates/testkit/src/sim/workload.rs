//! What the clients do, and what they were told.
//!
//! Eight clients on two hosts, each with its own connections, session and routing: reads, writes,
//! compare-and-set and deletes on five keys; increments of two numbers; keys with a ttl. In the end
//! one more client, which begins when everything is repaired, reads what is left.

use super::clients::{AGAIN, Party, auditor, ms, now, options, recover};
use super::cluster::{Cluster, GROUP};
use super::course::Course;
use super::journal::Journal;
use super::net::{AUDITOR, CLIENT_HOSTS, Host};
use super::plan::Plan;
use super::planted::Planted;
use super::stage::{Stage, Story};
use super::workload_books::{Books, Lease};
use crate::history::{CounterOp, Expect, Outcome, RegisterOp, RegisterRet};
use quorate_client::{Client, Entry, Error, KeyValue, Routing};
use quorate_state::query;
use rand::RngExt;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// Keys of the linearizable register.
const REGISTERS: [&str; 5] = ["k0", "k1", "k2", "k3", "k4"];
/// Keys that are only incremented.
pub(super) const COUNTERS: [&str; 2] = ["n0", "n1"];
/// Clients on each host.
const CLIENTS_PER_HOST: u64 = 4;
/// The auditor's number.
const AUDITOR_NUMBER: u64 = 99;
/// How long clients go on after everything is repaired.
const AFTERMATH: Duration = Duration::from_secs(2);
/// How often a client of the planted fault repeats an increment.
const REPEATS: u32 = 3;
/// What a counter that holds no number is taken to hold; no increments come to it.
const NO_NUMBER: i64 = i64::MIN;

/// What the clients of a run share.
pub(super) struct Registers {
    pub(super) books: Arc<Books>,
}

impl Registers {
    pub(super) fn new(journal: &Journal) -> Self {
        Self { books: Arc::new(Books::new(journal.clone())) }
    }
}

impl Story for Registers {
    fn course(&self) -> &Course {
        &self.books.course
    }

    fn is_over(&self) -> Result<(), String> {
        match self.books.course.is_audited() {
            true => Ok(()),
            false => Err("clients are still at work, or the auditor's reads fail".to_owned()),
        }
    }

    fn rest(&mut self, cluster: &Cluster) -> Result<(), String> {
        for machine in &cluster.machines {
            let Some((_, replica)) = machine.replica() else { continue };
            let view = replica.stale();
            for key in self.books.leases() {
                let found = query::kv_get(view.tables.as_ref(), GROUP, "", key.as_bytes());
                if !matches!(found, Ok(None)) {
                    return Err(format!("{key} has not expired on {}", machine.host));
                }
            }
        }
        Ok(())
    }
}

/// Puts the clients into the simulation.
pub(super) fn start(stage: &mut Stage<'_, Registers>, plan: &Plan) {
    let until = plan.heal_at + AFTERMATH;
    for (host, first) in CLIENT_HOSTS.into_iter().zip((1..).step_by(4)) {
        let workers: Vec<_> = (first..first + CLIENTS_PER_HOST)
            .map(|number| worker(stage, plan, host, number))
            .collect();
        workers.iter().for_each(|_| stage.story.books.course.begins());
        stage.sim.client(host, async move {
            let work = workers.into_iter().map(|worker| Box::pin(worker.work(until)));
            for worked in futures::future::join_all(work).await {
                worked?;
            }
            Ok(())
        });
    }
}

/// Puts the client into the simulation that looks at what is left.
pub(super) fn audit(stage: &mut Stage<'_, Registers>, plan: &Plan) {
    let worker = worker(stage, plan, AUDITOR, AUDITOR_NUMBER);
    stage.sim.client(AUDITOR, Box::pin(worker.audit()));
}

fn worker(stage: &Stage<'_, Registers>, plan: &Plan, host: Host, number: u64) -> Worker {
    let party = Party::new(stage, &stage.story.books, plan, host, number);
    Worker { party, versions: BTreeMap::new(), lease: None, written: 0 }
}

/// One client.
struct Worker {
    party: Party<Books>,
    /// The version of each register as it was last seen, for compare-and-set.
    versions: BTreeMap<&'static str, u64>,
    /// A key with a ttl that should be there for now.
    lease: Option<Lease>,
    /// Values written, so that each is another one.
    written: u64,
}

impl Worker {
    fn client(&mut self) -> Result<Client, Error> {
        let routing = match self.party.number % 4 {
            0 => Routing::AnyNode,
            // Its home node alone, whatever becomes of it.
            1 => Routing::Endpoints,
            _ => Routing::Leader,
        };
        let home = usize::try_from(self.party.number).unwrap_or_default();
        options(self.party.host, &self.party.reach, home, routing)
            .seed(self.party.rng.random())
            .request_timeout(ms(self.party.rng.random_range(800..=4_000)))
            .attempt_timeout(ms(self.party.rng.random_range(250..=1_000)))
            .session_ttl(ms(self.party.rng.random_range(1_500..=10_000)))
            .one_shot(self.party.number.is_multiple_of(5))
            .connect()
    }

    async fn work(mut self, until: Duration) -> turmoil::Result {
        let kv = self.client()?.kv();
        while now() < until {
            let think = Duration::from_millis(self.party.rng.random_range(5..=120));
            tokio::time::sleep(think).await;
            match self.party.rng.random_range(0..100) {
                0..=69 => self.register(&kv).await,
                70..=86 => self.counter(&kv).await,
                _ => self.lease(&kv).await,
            }
        }
        self.party.books.course.is_done();
        Ok(())
    }

    fn value(&mut self) -> String {
        self.written += 1;
        // Some are long, so that the log grows past its snapshots.
        let padding = if self.party.rng.random_ratio(1, 4) {
            self.party.rng.random_range(0..2_000)
        } else {
            0
        };
        format!("{}.{}{:padding$}", self.party.number, self.written, "")
    }

    async fn register(&mut self, kv: &KeyValue) {
        let key = REGISTERS[self.party.rng.random_range(0..REGISTERS.len())];
        let seen = self.versions.get(key).copied();
        let op = match (self.party.rng.random_range(0..100), seen) {
            (0..=44, _) => RegisterOp::Get,
            (45..=69, _) => RegisterOp::set(self.value()),
            (70..=84, Some(version)) => RegisterOp::cas(version, self.value()),
            (70..=91, _) => RegisterOp::create(self.value()),
            (92..=95, Some(version)) => RegisterOp::Delete { expect: Expect::Version(version) },
            _ => RegisterOp::delete(),
        };
        self.call_register(kv, key, op).await;
    }

    /// Makes a call, and writes down how it ended: whether it was answered.
    async fn call_register(&mut self, kv: &KeyValue, key: &'static str, op: RegisterOp) -> bool {
        let call = self.party.books.registers.invoke(self.party.number, key, op.clone());
        let reads = matches!(op, RegisterOp::Get);
        let answered = match &op {
            RegisterOp::Get => self.get(kv, key).await.map(RegisterRet::Get),
            RegisterOp::Set { value, expect } => {
                let set = kv.set(key, value.to_string());
                let set = match expect {
                    Expect::Any => set,
                    Expect::Absent => set.if_absent(),
                    Expect::Version(version) => set.if_version(*version),
                };
                set.await.map(|written| RegisterRet::Set { version: written.version })
            }
            RegisterOp::Delete { expect } => {
                let delete = kv.delete(key);
                let delete = match expect {
                    Expect::Version(version) => delete.if_version(*version),
                    Expect::Any | Expect::Absent => delete,
                };
                delete.await.map(|done| RegisterRet::Delete { deleted: done.deleted })
            }
        };
        let outcome = match answered {
            Err(Error::ConditionFailed { version, .. }) => {
                Outcome::Ok(RegisterRet::ConditionFailed { version })
            }
            Err(error) if reads => self.refused(&error),
            Err(error) => self.ended(&error),
            Ok(ret) => Outcome::Ok(ret),
        };
        let version = match &outcome {
            Outcome::Ok(RegisterRet::Get(seen)) => seen.as_ref().map(|(_, version)| *version),
            Outcome::Ok(RegisterRet::Set { version }) => Some(*version),
            Outcome::Ok(RegisterRet::ConditionFailed { version }) => *version,
            _ => None,
        };
        match version {
            Some(version) => self.versions.insert(key, version),
            None => self.versions.remove(key),
        };
        self.note(key, format_args!("{op:.60?} -> {outcome:.60?}"));
        let answered = matches!(outcome, Outcome::Ok(_));
        call.end(outcome);
        answered
    }

    /// A linearizable read, or what the planted fault takes for one.
    async fn get(
        &self,
        kv: &KeyValue,
        key: &str,
    ) -> Result<Option<(crate::history::Value, u64)>, Error> {
        let get = kv.get(key);
        let get = if self.party.planted == Planted::StaleReads { get.stale() } else { get };
        Ok(get.await?.map(|entry| (text(&entry).into(), entry.version)))
    }

    async fn counter(&mut self, kv: &KeyValue) {
        let key = COUNTERS[self.party.rng.random_range(0..COUNTERS.len())];
        if self.party.rng.random_ratio(1, 4) {
            self.read_counter(kv, key).await;
            return;
        }
        let by = self.party.rng.random_range(1..=3);
        let call = self.party.books.counters.invoke(self.party.number, key, CounterOp::Add(by));
        let mut answered = self.increment(kv, key, by).await;
        if self.party.planted == Planted::CountTwice {
            for _ in 0..REPEATS {
                if !matches!(answered, Err(Error::Indeterminate { .. })) {
                    break;
                }
                answered = self.increment(kv, key, by).await;
            }
        }
        let outcome = match answered {
            Ok(value) => Outcome::Ok(value),
            Err(error) => self.ended(&error),
        };
        self.party.books.counted(key, by, &outcome);
        self.note(key, format_args!("Add({by}) -> {outcome:?}"));
        call.end(outcome);
    }

    async fn increment(&self, kv: &KeyValue, key: &str, by: i64) -> Result<i64, Error> {
        Ok(kv.increment(key, by).await?.value)
    }

    /// What a counter holds; `None` when there was no answer.
    async fn read_counter(&mut self, kv: &KeyValue, key: &'static str) -> Option<i64> {
        let call = self.party.books.counters.invoke(self.party.number, key, CounterOp::Get);
        let outcome = match kv.get(key).await {
            Ok(None) => Outcome::Ok(0),
            Ok(Some(entry)) => Outcome::Ok(text(&entry).parse().unwrap_or_else(|_| {
                self.party.books.journal.problem(
                    now(),
                    format_args!("{key} holds {:?}, which is no number", text(&entry)),
                );
                NO_NUMBER
            })),
            Err(error) => self.refused(&error),
        };
        let read = if let Outcome::Ok(read) = outcome { Some(read) } else { None };
        self.note(key, format_args!("Get -> {outcome:?}"));
        call.end(outcome);
        read
    }

    /// Looks at the last key with a ttl while it must be there; else sets a new one.
    async fn lease(&mut self, kv: &KeyValue) {
        if let Some(lease) = self.lease.take() {
            if let Ok(read) = kv.get(&lease.key).await {
                let at = now();
                self.note(&lease.key, format_args!("Get -> {}", read.is_some()));
                self.party.books.check_lease(&lease, read.as_ref().map(text), at);
            }
            return;
        }
        let value = self.value();
        let key = format!("ttl.{}.{}", self.party.number, self.written);
        let ttl = Duration::from_millis(self.party.rng.random_range(200..=3_000));
        let lives_until = now() + ttl;
        let set = kv.set(&key, value.clone()).ttl(ttl).await;
        self.note(&key, format_args!("Set for {ttl:?} -> {:?}", set.is_ok()));
        let lease = Lease { key, value, lives_until };
        self.party.books.leased(&lease.key);
        match set {
            Ok(_) => self.lease = Some(lease),
            Err(error) => drop(self.ended::<()>(&error)),
        }
    }

    /// The outcome of a mutation that failed.
    fn ended<R>(&self, error: &Error) -> Outcome<R> {
        if error.may_have_been_applied() { Outcome::Unknown } else { self.refused(error) }
    }

    /// The outcome of a call without effect; some errors must not come at all.
    fn refused<R>(&self, error: &Error) -> Outcome<R> {
        let expected = matches!(
            error,
            Error::Unavailable { .. }
                | Error::ResourceExhausted { .. }
                | Error::SessionExpired { .. }
                | Error::NotFound { .. }
        );
        if !expected {
            let (number, reason) = (self.party.number, error.reason());
            self.party
                .books
                .journal
                .problem(now(), format_args!("client {number} was told {reason}: {error}"));
        }
        self.note("", format_args!("{}", error.reason()));
        Outcome::Failed
    }

    fn note(&self, key: &str, what: std::fmt::Arguments<'_>) {
        self.party
            .books
            .journal
            .write(now(), format_args!("client {} {key} {what}", self.party.number));
    }

    /// Writes until that succeeds, waits for the other clients, and reads everything, each until it
    /// is answered. For how long that may take is up to the run that waits for it.
    async fn audit(mut self) -> turmoil::Result {
        let client = auditor(self.party.host, &self.party.reach, &mut self.party.rng)?;
        recover(&client, &self.party.books.course, &self.party.books.journal).await;
        let kv = client.kv();
        for key in REGISTERS {
            while !self.call_register(&kv, key, RegisterOp::Get).await {
                tokio::time::sleep(AGAIN).await;
            }
        }
        for key in COUNTERS {
            let value = loop {
                if let Some(value) = self.read_counter(&kv, key).await {
                    break value;
                }
                tokio::time::sleep(AGAIN).await;
            };
            self.party.books.check_count(key, value, now());
        }
        self.party.books.course.audited();
        Ok(())
    }
}

fn text(entry: &Entry) -> String {
    String::from_utf8_lossy(&entry.value).into_owned()
}
