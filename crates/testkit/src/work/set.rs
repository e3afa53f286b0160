//! A set that only grows, in two shapes: one key whose value is all elements, changed by
//! compare-and-set, and one key for each element, made if there is none, and listed.
//!
//! What was acknowledged is in every read that begins after it, and so is what any read has shown; what
//! certainly failed is in none, and neither is what nobody added; nothing is there twice.

use crate::work::calls::{Calls, Came, Notes, Odd, tell};
use crate::work::workload::{CALL_DEADLINE, Context, LAST_DEADLINE, Verdict, Workload};
use anyhow::{Context as _, Result};
use futures::FutureExt as _;
use futures::future::BoxFuture;
use quorate_client::{Error, KeyValue};
use rand::RngExt as _;
use rand::rngs::SmallRng;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

const NAME: &str = "set";
const ADDERS: u64 = 3;
const READERS: u64 = 2;
/// Elements of one set; then another takes its place, so that none grows large.
const ELEMENTS: u64 = 60;
/// How often an adder tries again when another was faster.
const TRIES: u32 = 5;
/// Between two calls of a caller, at most.
const THINK_MS_MAX: u64 = 60;
/// Fewer acknowledged elements, or reads, show little.
const LEAST: usize = 20;

/// What became of adding an element.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Added {
    Done,
    Not,
    Unknown,
}

/// An element that somebody added, and when.
#[derive(Clone, Debug, Serialize)]
struct Add {
    set: u64,
    element: u64,
    begun: Duration,
    ended: Duration,
    added: Added,
}

/// What a read showed of a set.
#[derive(Clone, Debug, Serialize)]
struct Read {
    set: u64,
    begun: Duration,
    ended: Duration,
    elements: Vec<u64>,
}

#[derive(Default)]
pub(crate) struct Sets {
    adds: Notes<Add>,
    reads: Notes<Read>,
    odd: Odd,
    /// Elements given out so far.
    given: Arc<AtomicU64>,
}

impl Workload for Sets {
    fn name(&self) -> &'static str {
        NAME
    }

    fn callers(&self, context: &Context) -> Vec<BoxFuture<'static, ()>> {
        let caller = |number| {
            let caller = Caller {
                context: context.clone(),
                calls: Calls::new(NAME, context, &self.odd),
                kv: context.client(NAME).kv(),
                random: context.random(NAME, number),
                adds: self.adds.clone(),
                reads: self.reads.clone(),
                given: Arc::clone(&self.given),
            };
            caller.run(number < ADDERS).boxed()
        };
        (0..ADDERS + READERS).map(caller).collect()
    }

    fn judge(self: Box<Self>, context: Context) -> BoxFuture<'static, Result<Verdict>> {
        async move {
            let kv = context.client(NAME).kv();
            let calls = Calls::new(NAME, &context, &self.odd);
            let (adds, mut reads) = (self.adds.take(), self.reads.take());
            let seen = reads.len();
            let sets: BTreeSet<u64> = adds.iter().map(|add| add.set).collect();
            for set in &sets {
                let begun = calls.now();
                match elements(&kv, *set, LAST_DEADLINE).await.context("a last read")? {
                    Ok(elements) => {
                        let read = Read { set: *set, begun, ended: calls.now(), elements };
                        context.journal.write(&read);
                        reads.push(read);
                    }
                    Err(what) => calls.odd("read", &what),
                }
            }
            let mut verdict = Verdict::default();
            self.odd.report(&mut verdict);
            tell(&mut verdict, check(&adds, &reads));
            let count = |of| adds.iter().filter(|add| add.added == of).count();
            let (done, not, unknown) =
                (count(Added::Done), count(Added::Not), count(Added::Unknown));
            verdict
                .has_to_show(done >= LEAST, || format!("only {done} elements were acknowledged"));
            verdict.has_to_show(seen >= LEAST, || format!("only {seen} reads were answered"));
            verdict.checked = format!(
                "{done} acknowledged elements of {} sets are in {} reads; {not} failed, {unknown} \
                 unknown",
                sets.len(),
                reads.len()
            );
            Ok(verdict)
        }
        .boxed()
    }
}

struct Caller {
    context: Context,
    calls: Calls,
    kv: KeyValue,
    random: SmallRng,
    adds: Notes<Add>,
    reads: Notes<Read>,
    /// Of all callers.
    given: Arc<AtomicU64>,
}

impl Caller {
    async fn run(mut self, adds: bool) {
        loop {
            match adds {
                true => self.add().await,
                false => self.read().await,
            }
            let think = Duration::from_millis(self.random.random_range(0..=THINK_MS_MAX));
            if !self.context.pause(think).await {
                return;
            }
        }
    }

    async fn add(&mut self) {
        let element = self.given.fetch_add(1, Ordering::Relaxed);
        let (set, begun) = (element / ELEMENTS, self.calls.now());
        let added = match is_one_key(set) {
            true => self.add_to_value(set, element).await,
            false => self.add_key(set, element).await,
        };
        let add = Add { set, element, begun, ended: self.calls.now(), added };
        self.context.journal.write(&add);
        self.adds.push(add);
    }

    async fn add_key(&self, set: u64, element: u64) -> Added {
        let key = format!("{}{element}", prefix(set));
        let made = self.kv.set(key, element.to_string()).if_absent();
        match self.calls.make("add", made).await {
            Came::Answer(_) => Added::Done,
            Came::Failed => Added::Not,
            Came::Unknown => Added::Unknown,
            // Nobody else adds it, and nobody takes it away.
            Came::Refused(error) => {
                self.calls.odd("add", &error);
                Added::Unknown
            }
        }
    }

    async fn add_to_value(&self, set: u64, element: u64) -> Added {
        for _ in 0..TRIES {
            let before = match self.calls.make("read", self.kv.get(key(set))).await {
                Came::Answer(before) => before,
                Came::Failed | Came::Unknown => return Added::Not,
                Came::Refused(error) => {
                    self.calls.odd("read", &error);
                    return Added::Not;
                }
            };
            let changed = match before {
                None => self.kv.set(key(set), element.to_string()).if_absent(),
                Some(entry) => {
                    let value = [&entry.value[..], b" ", element.to_string().as_bytes()].concat();
                    self.kv.set(key(set), value).if_version(entry.version)
                }
            };
            match self.calls.make("add", changed).await {
                Came::Answer(_) => return Added::Done,
                // Another was faster.
                Came::Refused(Error::ConditionFailed { .. }) => {}
                Came::Failed => return Added::Not,
                Came::Unknown => return Added::Unknown,
                Came::Refused(error) => {
                    self.calls.odd("add", &error);
                    return Added::Unknown;
                }
            }
        }
        Added::Not
    }

    /// Mostly one that is being added to.
    async fn read(&mut self) {
        let newest = self.given.load(Ordering::Relaxed) / ELEMENTS;
        let set = match self.random.random_range(0..10) {
            0 => self.random.random_range(0..=newest),
            back => newest.saturating_sub(back % 2),
        };
        let begun = self.calls.now();
        let asked = elements(&self.kv, set, CALL_DEADLINE);
        match self.calls.make("read", asked).await {
            Came::Answer(Ok(elements)) => {
                let read = Read { set, begun, ended: self.calls.now(), elements };
                self.context.journal.write(&read);
                self.reads.push(read);
            }
            Came::Answer(Err(what)) => self.calls.odd("read", &what),
            Came::Refused(error) => self.calls.odd("read", &error),
            Came::Failed | Came::Unknown => {}
        }
    }
}

fn is_one_key(set: u64) -> bool {
    set.is_multiple_of(2)
}

fn key(set: u64) -> String {
    format!("set/{set}")
}

fn prefix(set: u64) -> String {
    format!("set/{set}/")
}

/// All elements of a set; or what is there and is none.
async fn elements(
    kv: &KeyValue,
    set: u64,
    deadline: Duration,
) -> Result<Result<Vec<u64>, String>, Error> {
    let texts = match is_one_key(set) {
        true => {
            let entry = kv.get(key(set)).timeout(deadline).await?;
            let value = entry.map(|entry| String::from_utf8_lossy(&entry.value).into_owned());
            let value = value.unwrap_or_default();
            value.split_whitespace().map(str::to_owned).collect::<Vec<_>>()
        }
        false => {
            let page = kv.list_prefix(prefix(set)).timeout(deadline).await?;
            let values = page.entries.iter();
            values.map(|entry| String::from_utf8_lossy(&entry.value).into_owned()).collect()
        }
    };
    let read = texts.iter().map(|text| text.parse());
    Ok(read.collect::<Result<_, _>>().map_err(|_| format!("set {set} has {texts:?}")))
}

/// What can't be, a line each.
fn check(adds: &[Add], reads: &[Read]) -> Vec<String> {
    let mut breaches = Vec::new();
    let known: BTreeMap<u64, &Add> = adds.iter().map(|add| (add.element, add)).collect();
    // Since when an element has to be there, and why: in the order of those times.
    let mut due: Vec<(Duration, u64, u64, &str)> = adds
        .iter()
        .filter(|add| add.added == Added::Done)
        .map(|add| (add.ended, add.set, add.element, "acknowledged"))
        .collect();
    let mut shown: BTreeMap<(u64, u64), Duration> = BTreeMap::new();
    for read in reads {
        for element in &read.elements {
            let first = shown.entry((read.set, *element)).or_insert(read.ended);
            *first = read.ended.min(*first);
        }
    }
    let shown = shown.into_iter();
    due.extend(shown.map(|((set, element), first)| (first, set, element, "shown by a read")));
    due.sort();
    let mut due = due.into_iter().peekable();
    let mut there: BTreeMap<u64, BTreeMap<u64, (Duration, &str)>> = BTreeMap::new();
    let mut in_order: Vec<&Read> = reads.iter().collect();
    in_order.sort_by_key(|read| read.begun);
    for read in in_order {
        while let Some((since, set, element, why)) = due.next_if(|(at, ..)| *at < read.begun) {
            there.entry(set).or_default().entry(element).or_insert((since, why));
        }
        let Read { set, begun, ended, elements } = read;
        let shown: BTreeSet<u64> = elements.iter().copied().collect();
        if shown.len() < elements.len() {
            breaches
                .push(format!("set {set} has an element twice, read at {begun:?}: {elements:?}"));
        }
        for (element, (since, why)) in there.get(set).into_iter().flatten() {
            if !shown.contains(element) {
                breaches.push(format!(
                    "element {element} of set {set} was {why} at {since:?}, and is missing in a read \
                     of {begun:?} to {ended:?}"
                ));
            }
        }
        for element in &shown {
            let wrong = match known.get(element) {
                None => "nobody added it",
                Some(add) if add.set != *set => "it was added to another one",
                Some(add) if add.added == Added::Not => "adding it certainly failed",
                Some(add) if add.begun > *ended => "it was added only later",
                Some(_) => continue,
            };
            breaches.push(format!("set {set} shows {element} at {ended:?}, and {wrong}"));
        }
    }
    breaches
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn add(element: u64, begun: u64, ended: u64, added: Added) -> Add {
        Add { set: 0, element, begun: at(begun), ended: at(ended), added }
    }

    fn read(begun: u64, elements: &[u64]) -> Read {
        let elements = elements.to_vec();
        Read { set: 0, begun: at(begun), ended: at(begun + 5), elements }
    }

    fn adds() -> Vec<Add> {
        vec![
            add(1, 0, 10, Added::Done),
            add(2, 20, 30, Added::Done),
            add(3, 20, 40, Added::Unknown),
            add(4, 20, 40, Added::Not),
        ]
    }

    #[track_caller]
    fn finds(reads: &[Read], part: &str) {
        let breaches = check(&adds(), reads);
        assert!(breaches.iter().any(|breach| breach.contains(part)), "{breaches:?}");
    }

    #[test]
    fn what_is_known_and_what_is_unknown_may_be_there() {
        let reads = [read(0, &[]), read(8, &[1]), read(24, &[1]), read(28, &[1, 2, 3])];
        assert_eq!(check(&adds(), &reads), Vec::<String>::new());
        let without = [read(50, &[1, 2]), read(60, &[2, 1]), read(70, &[1, 2, 3])];
        assert_eq!(check(&adds(), &without), Vec::<String>::new());
    }

    #[test]
    fn a_lost_element_is_found() {
        finds(&[read(50, &[1])], "element 2 of set 0 was acknowledged");
        finds(&[read(50, &[1, 2, 3]), read(60, &[1, 2])], "element 3 of set 0 was shown by a read");
    }

    #[test]
    fn an_invented_element_is_found() {
        finds(&[read(50, &[1, 2, 9])], "nobody added it");
        finds(&[read(50, &[1, 2, 4])], "certainly failed");
        finds(&[read(0, &[2])], "only later");
        let elsewhere = Read { set: 7, ..read(50, &[1]) };
        finds(&[elsewhere], "another one");
    }

    #[test]
    fn a_doubled_element_is_found() {
        finds(&[read(50, &[1, 2, 1])], "twice");
    }
}
