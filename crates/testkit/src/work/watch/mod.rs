//! Keys that several write, and watchers on different nodes who move to another watch every few
//! seconds, behind what they have seen; where that is not kept any more they list, and go on.
//!
//! All see the same changes in the same order, without a gap, once, and never go back; what was
//! acknowledged is among them where it was acknowledged. At the end each goes on to where all keys are
//! listed, and has come to just that; see [`check`].

mod check;

use crate::work::calls::{Calls, Came, Fate, Notes, Odd, tell};
use crate::work::workload::{Context, LAST_DEADLINE, Verdict, Workload};
use anyhow::{Context as _, Result};
use check::{Change, History, Seen, Write};
use futures::FutureExt as _;
use futures::future::BoxFuture;
use quorate_client::kv::{self, Changes, Page, Watch};
use quorate_client::{Client, Error, KeyValue, Routing};
use rand::RngExt as _;
use rand::rngs::SmallRng;
use serde::Serialize;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

const NAME: &str = "watch";
const PREFIX: &str = "watched/";
const WRITERS: u64 = 3;
const WATCHERS: usize = 4;
/// Few, so that each has many versions.
const KEYS: u64 = 12;
/// Between two writes of a writer, at most.
const THINK_MS_MAX: u64 = 80;
/// A watcher begins another watch after this long, at least and at most.
const MOVES_MS: std::ops::Range<u64> = 700..4_000;
/// Before a caller tries again what could not be done.
const REST: Duration = Duration::from_millis(200);
/// Fewer acknowledged writes show little.
const LEAST: usize = 20;

#[derive(Default)]
pub(crate) struct Watched {
    writes: Notes<Write>,
    seen: [Notes<Seen>; WATCHERS],
    odd: Odd,
    /// How often a watcher was told that what it wants is not kept.
    compacted: Arc<AtomicU64>,
}

impl Workload for Watched {
    fn name(&self) -> &'static str {
        NAME
    }

    fn callers(&self, context: &Context) -> Vec<BoxFuture<'static, ()>> {
        let mut callers = Vec::new();
        for number in 0..WRITERS {
            let writer = Writer {
                number,
                calls: Calls::new(NAME, context, &self.odd),
                client: context.client(NAME),
                random: context.random(NAME, number),
                context: context.clone(),
                writes: self.writes.clone(),
            };
            callers.push(writer.run().boxed());
        }
        for (number, seen) in (WRITERS..).zip(&self.seen) {
            let watcher = Watcher {
                number,
                calls: Calls::new(NAME, context, &self.odd),
                kv: context
                    .client_with(|options| options.namespace(NAME).routing(Routing::AnyNode))
                    .kv(),
                random: context.random(NAME, number),
                context: context.clone(),
                seen: seen.clone(),
                compacted: Arc::clone(&self.compacted),
            };
            callers.push(watcher.run().boxed());
        }
        callers
    }

    fn judge(self: Box<Self>, context: Context) -> BoxFuture<'static, Result<Verdict>> {
        async move {
            let kv = context.client(NAME).kv();
            let page = kv.list_prefix(PREFIX).timeout(LAST_DEADLINE).await.context("a last list")?;
            let mut history = History { writes: self.writes.take(), seen: Vec::new() };
            let mut moves = 0;
            for seen in &self.seen {
                let mut seen = seen.take();
                moves += seen.iter().filter(|one| matches!(one, Seen::Moved { .. })).count();
                let coming = finish(&kv, &page, &mut seen);
                let came = tokio::time::timeout(LAST_DEADLINE, coming).await;
                came.context("a watcher did not come to the end")?.context("a last watch")?;
                history.seen.push(seen);
            }
            let mut verdict = Verdict::default();
            self.odd.report(&mut verdict);
            tell(&mut verdict, history.check());
            let count = |which: fn(Fate) -> bool| {
                history.writes.iter().filter(|write| which(write.fate)).count()
            };
            let written = count(|fate| matches!(fate, Fate::At(_)));
            verdict.has_to_show(written >= LEAST, || format!("only {written} writes were acknowledged"));
            verdict.has_to_show(moves > 0, || "no watcher ever moved".to_owned());
            verdict.checked = format!(
                "{written} acknowledged writes, {} unknown; {WATCHERS} watchers saw the same over {moves} \
                 moves, and {} compactions",
                count(|fate| fate == Fate::Unknown),
                self.compacted.load(Ordering::Relaxed),
            );
            Ok(verdict)
        }
        .boxed()
    }
}

/// A watcher goes on to where the keys were listed, and is shown the list.
async fn finish(kv: &KeyValue, page: &Page, seen: &mut Vec<Seen>) -> Result<(), Error> {
    let mut done = done(seen);
    if let Some(from) = done.filter(|done| *done < page.revision) {
        let start = kv.watch_prefix(PREFIX).from_revision(from + 1).progress();
        match start.timeout(LAST_DEADLINE).start().await {
            Ok(mut watch) => {
                while done < Some(page.revision) {
                    let Some(changes) = watch.next().await else { break };
                    let (mut changes, revision) = read(changes?);
                    changes.retain(|(at, _)| *at <= page.revision);
                    let revision = revision.min(page.revision);
                    seen.push(Seen::Changes { changes, revision });
                    done = Some(revision);
                }
            }
            Err(Error::Compacted { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    seen.push(listed(page));
    Ok(())
}

/// Up to where a watcher has seen everything.
fn done(seen: &[Seen]) -> Option<u64> {
    seen.last().map(|last| match last {
        Seen::Listed { revision, .. }
        | Seen::Moved { revision }
        | Seen::Changes { revision, .. } => *revision,
    })
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn listed(page: &Page) -> Seen {
    let key = |entry: &quorate_client::Entry| (text(&entry.key), text(&entry.value), entry.version);
    Seen::Listed { revision: page.revision, keys: page.entries.iter().map(key).collect() }
}

fn read(changes: Changes) -> (Vec<(u64, Change)>, u64) {
    let events = changes.events.into_iter().map(|event| {
        let set = match &event.change {
            kv::Change::Set { value, version, .. } => Some((text(value), *version)),
            _ => None,
        };
        (event.revision, Change { key: text(&event.key), set })
    });
    (events.collect(), changes.revision)
}

struct Writer {
    number: u64,
    context: Context,
    calls: Calls,
    client: Client,
    random: SmallRng,
    writes: Notes<Write>,
}

impl Writer {
    async fn run(mut self) {
        let mut made = 0;
        loop {
            made += 1;
            self.write(format!("{}.{made}", self.number)).await;
            let think = Duration::from_millis(self.random.random_range(0..=THINK_MS_MAX));
            if !self.context.pause(think).await {
                return;
            }
        }
    }

    async fn write(&mut self, value: String) {
        let one = self.random.random_range(0..KEYS - 1);
        let key = |number: u64| format!("{PREFIX}{number:02}");
        let kv = self.client.kv();
        let (changes, came) = match self.random.random_range(0..10) {
            0..2 => {
                let deleted = self.calls.make("delete", kv.delete(key(one))).await;
                let came = match deleted {
                    // There was nothing to see.
                    Came::Answer(deleted) if !deleted.deleted => return,
                    Came::Answer(deleted) => Came::Answer(deleted.revision),
                    Came::Refused(error) => Came::Refused(error),
                    Came::Failed => Came::Failed,
                    Came::Unknown => Came::Unknown,
                };
                (vec![(key(one), None)], came)
            }
            2..4 => {
                let keys = [key(one), key(self.random.random_range(one + 1..KEYS))];
                let [first, second] = &keys;
                let txn = self.client.txn().set(first, value.clone()).set(second, value.clone());
                let txn = async { Ok(txn.commit().await?.revision) };
                let came = self.calls.make("set two", txn).await;
                (keys.map(|key| (key, Some(value.clone()))).into(), came)
            }
            _ => {
                let set = async { Ok(kv.set(key(one), value.clone()).await?.revision) };
                let came = self.calls.make("set", set).await;
                (vec![(key(one), Some(value))], came)
            }
        };
        let fate = match came {
            Came::Answer(revision) => Fate::At(revision),
            Came::Failed => Fate::Not,
            Came::Unknown => Fate::Unknown,
            Came::Refused(error) => {
                self.calls.odd("write", &error);
                Fate::Unknown
            }
        };
        let write = Write { changes, fate };
        self.context.journal.write(&write);
        self.writes.push(write);
    }
}

/// A line of the history.
#[derive(Serialize)]
struct Line<'a> {
    watcher: u64,
    seen: &'a Seen,
}

struct Watcher {
    number: u64,
    context: Context,
    calls: Calls,
    kv: KeyValue,
    random: SmallRng,
    seen: Notes<Seen>,
    compacted: Arc<AtomicU64>,
}

impl Watcher {
    async fn run(mut self) {
        // Where it is; it has to list first when it does not know.
        let mut done = None;
        while !self.context.stop.is_cancelled() {
            let begun = match done {
                None => self.list().await.map(|revision| (revision, None)),
                Some(behind) => self.start(behind).await.map(|watch| (behind, Some(watch))),
            };
            match begun {
                Ok((revision, None)) => done = Some(revision),
                Ok((revision, Some(watch))) => done = self.follow(watch, revision).await,
                Err(Lost::Compacted) => done = None,
                Err(Lost::Otherwise) => {
                    self.context.pause(REST).await;
                }
            }
        }
    }

    fn note(&self, seen: Seen) {
        self.context.journal.write(&Line { watcher: self.number, seen: &seen });
        self.seen.push(seen);
    }

    async fn list(&self) -> Result<u64, Lost> {
        let page = self.calls.make("list", self.kv.list_prefix(PREFIX)).await;
        let page = self.came("list", page)?;
        self.note(listed(&page));
        Ok(page.revision)
    }

    async fn start(&self, behind: u64) -> Result<Watch, Lost> {
        let start = self.kv.watch_prefix(PREFIX).from_revision(behind + 1).progress().start();
        let watch = self.calls.make("watch", start).await;
        self.came("watch", watch)
    }

    fn came<T>(&self, operation: &str, came: Came<T>) -> Result<T, Lost> {
        match came {
            Came::Answer(answer) => Ok(answer),
            Came::Failed | Came::Unknown => Err(Lost::Otherwise),
            Came::Refused(error) => Err(self.lost(operation, &error)),
        }
    }

    fn lost(&self, operation: &str, error: &Error) -> Lost {
        match error {
            Error::Compacted { .. } => {
                self.compacted.fetch_add(1, Ordering::Relaxed);
                return Lost::Compacted;
            }
            // No node could be found to go on with.
            Error::Unavailable { .. } => {}
            error => self.calls.odd(operation, error),
        }
        Lost::Otherwise
    }

    /// Watches until it is time for another watch; answers where that goes on.
    async fn follow(&mut self, mut watch: Watch, mut done: u64) -> Option<u64> {
        let moves = Duration::from_millis(self.random.random_range(MOVES_MS));
        let moves = tokio::time::sleep(moves);
        tokio::pin!(moves);
        loop {
            let next = tokio::select! {
                next = watch.next() => next,
                () = &mut moves => {
                    self.note(Seen::Moved { revision: done });
                    return Some(done);
                }
                () = self.context.stop.cancelled() => return Some(done),
            };
            match next {
                Some(Ok(changes)) => {
                    let (changes, revision) = read(changes);
                    done = revision;
                    self.note(Seen::Changes { changes, revision });
                }
                Some(Err(error)) => match self.lost("watch", &error) {
                    Lost::Compacted => return None,
                    Lost::Otherwise => return Some(done),
                },
                None => return Some(done),
            }
        }
    }
}

/// Why there is no watch.
enum Lost {
    /// What it is to begin with is not kept any more.
    Compacted,
    Otherwise,
}
