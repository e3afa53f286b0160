//! Keys that are read, set, compared and deleted by many: the history of each must be linearizable
//! (Herlihy and Wing 1990), by the search of [`crate::history`].

use crate::history::{
    self, Bounds, Expect, Outcome, Recorder, Register, RegisterOp, RegisterRet, check,
};
use crate::work::book::Ended;
use crate::work::calls::Odd;
use crate::work::workload::{Context, Verdict, Workload};
use anyhow::Result;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use quorate_client::{Error, KeyValue};
use rand::RngExt as _;
use rand::rngs::SmallRng;
use serde::Serialize;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

const NAME: &str = "register";
const CALLERS: u64 = 6;
/// Keys that are in use at once.
const KEYS: u64 = 4;
/// Calls on a key before another takes its place: longer histories take longer to check, and say no more.
const CALLS_PER_KEY: u64 = 400;
/// Between two calls of a caller, at most.
const THINK_MS_MAX: u64 = 60;

#[derive(Default)]
pub(crate) struct Registers {
    recorder: Recorder<RegisterOp, RegisterRet>,
    calls: Arc<AtomicU64>,
    odd: Odd,
}

impl Workload for Registers {
    fn name(&self) -> &'static str {
        NAME
    }

    fn callers(&self, context: &Context) -> Vec<BoxFuture<'static, ()>> {
        let caller = |number| {
            let caller = Caller {
                number,
                kv: context.client(NAME).kv(),
                context: context.clone(),
                recorder: self.recorder.clone(),
                calls: Arc::clone(&self.calls),
                odd: self.odd.clone(),
                random: context.random(NAME, number),
                seen: HashMap::new(),
                made: 0,
            };
            caller.run().boxed()
        };
        (0..CALLERS).map(caller).collect()
    }

    fn judge(self: Box<Self>, _: Context) -> BoxFuture<'static, Result<Verdict>> {
        async move {
            let history = self.recorder.history();
            let (answered, failed, unknown) = history.counts();
            let mut verdict = Verdict::default();
            self.odd.report(&mut verdict);
            match check::<Register>(&history, &Bounds::default()) {
                history::Verdict::Linearizable { .. } => {}
                history::Verdict::Violation(violation) => verdict.problems.push(violation.to_string()),
                history::Verdict::Undecided(undecided) => verdict.problems.push(undecided.to_string()),
            }
            verdict.has_to_show(answered > 100, || format!("only {answered} calls were answered"));
            verdict.checked = format!(
                "{answered} answers of {} keys are linearizable; {failed} failed, {unknown} unknown",
                self.calls.load(Ordering::Relaxed) / CALLS_PER_KEY + KEYS
            );
            Ok(verdict)
        }
        .boxed()
    }
}

struct Caller {
    number: u64,
    context: Context,
    kv: KeyValue,
    recorder: Recorder<RegisterOp, RegisterRet>,
    /// Of all callers.
    calls: Arc<AtomicU64>,
    odd: Odd,
    random: SmallRng,
    /// The versions it saw last.
    seen: HashMap<String, u64>,
    made: u64,
}

/// A line of the history.
#[derive(Serialize)]
struct Line<'a> {
    client: u64,
    key: &'a str,
    op: &'a RegisterOp,
    #[serde(skip_serializing_if = "Option::is_none")]
    outcome: Option<&'a Outcome<RegisterRet>>,
}

impl Caller {
    async fn run(mut self) {
        loop {
            self.call().await;
            let think = Duration::from_millis(self.random.random_range(0..=THINK_MS_MAX));
            if !self.context.pause(think).await {
                return;
            }
        }
    }

    async fn call(&mut self) {
        self.made += 1;
        let newest = self.calls.fetch_add(1, Ordering::Relaxed) / CALLS_PER_KEY;
        let key = format!("key-{}", newest + self.random.random_range(0..KEYS));
        let value = format!("{}.{}", self.number, self.made);
        let version = self.seen.get(&key).copied();
        let op = match (self.random.random_range(0..100), version) {
            (0..45, _) => RegisterOp::Get,
            (45..70, Some(version)) => RegisterOp::cas(version, value.as_str()),
            (70..74, _) => RegisterOp::delete(),
            (74..78, _) => RegisterOp::create(value.as_str()),
            _ => RegisterOp::set(value.as_str()),
        };
        self.make(key, op).await;
    }

    async fn make(&mut self, key: String, op: RegisterOp) {
        let word = match op {
            RegisterOp::Get => "get",
            RegisterOp::Set { .. } => "set",
            RegisterOp::Delete { .. } => "delete",
        };
        let line = |outcome| Line { client: self.number, key: &key, op: &op, outcome };
        self.context.journal.write(&line(None));
        let recorded = self.recorder.invoke(self.number, key.as_str(), op.clone());
        let call = self.context.book.call(NAME, word);
        let answer = ask(&self.kv, &key, op.clone()).await;
        let outcome = match answer {
            Ok(ret) => {
                call.answered();
                recorded.ok(ret.clone());
                Outcome::Ok(ret)
            }
            Err(error) => match call.failed(&error) {
                Ended::Unknown => {
                    recorded.unknown();
                    Outcome::Unknown
                }
                Ended::Failed => {
                    recorded.failed();
                    Outcome::Failed
                }
                Ended::Answered => {
                    let at = self.context.book.elapsed();
                    self.odd.note(|| format!("{word} of {key} was answered, at {at:?}: {error}"));
                    recorded.unknown();
                    Outcome::Unknown
                }
            },
        };
        self.context.journal.write(&line(Some(&outcome)));
        match outcome {
            Outcome::Ok(
                RegisterRet::Get(Some((_, version)))
                | RegisterRet::Set { version }
                | RegisterRet::ConditionFailed { version: Some(version) },
            ) => drop(self.seen.insert(key, version)),
            _ => drop(self.seen.remove(&key)),
        }
    }
}

async fn ask(kv: &KeyValue, key: &str, op: RegisterOp) -> Result<RegisterRet, Error> {
    let answer = match op {
        RegisterOp::Get => kv.get(key).await.map(|entry| {
            let text = |value: &[u8]| String::from_utf8_lossy(value).into_owned().into();
            RegisterRet::Get(entry.map(|entry| (text(&entry.value), entry.version)))
        }),
        RegisterOp::Set { value, expect } => {
            let set = kv.set(key, value.as_bytes().to_vec());
            let set = match expect {
                Expect::Any => set,
                Expect::Absent => set.if_absent(),
                Expect::Version(version) => set.if_version(version),
            };
            set.await.map(|written| RegisterRet::Set { version: written.version })
        }
        RegisterOp::Delete { expect } => {
            let delete = kv.delete(key);
            let delete = match expect {
                Expect::Version(version) => delete.if_version(version),
                Expect::Any | Expect::Absent => delete,
            };
            delete.await.map(|deleted| RegisterRet::Delete { deleted: deleted.deleted })
        }
    };
    answer.or_else(|error| match error {
        Error::ConditionFailed { version, .. } => Ok(RegisterRet::ConditionFailed { version }),
        error => Err(error),
    })
}
