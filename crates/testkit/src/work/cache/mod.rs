//! A cache: keys that are changed, and rebuilt by whoever misses them; and keys that only expire.
//!
//! A value says what was the truth when it was made. Whoever changes the truth sets, deletes or
//! invalidates the key then; once that is acknowledged, no read that has to see it answers anything
//! older. Nothing is read that was not stored, one builds at a time, and a ttl is not late by more than
//! a second while the cluster is well; see [`check`].

mod check;

use crate::work::calls::{Calls, Came, Notes, Odd, tell};
use crate::work::workload::{Context, Verdict, Workload};
use anyhow::Result;
use check::{BUILD_LEASE, Build, Changed, Fate, History, Made, Read, Sees, TTL, Value};
use futures::FutureExt as _;
use futures::future::BoxFuture;
use quorate_client::cache::{BuildError, BuildOptions, NearOptions, Source};
use quorate_client::{Cache, CacheEntry, Error, Routing};
use rand::RngExt as _;
use rand::rngs::SmallRng;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

const NAME: &str = "cache";
const CHANGERS: u64 = 2;
const BUILDERS: u64 = 3;
const READERS: u64 = 2;
/// Keys that are changed; each belongs to one changer.
const CHANGED: u64 = TRUTHS as u64;
const TRUTHS: usize = 4;
/// Keys that only expire.
const EXPIRING: u64 = 2;
/// Between two calls of a caller, at most.
const THINK_MS_MAX: u64 = 100;
/// Of a builder: mostly; and one of so many takes longer than its lease.
const BUILD_MS_MAX: u64 = 60;
const SLOW: u32 = 60;
const SLOW_BUILD: Duration = Duration::from_millis(1_300);
/// For one call of a builder to the cluster, and for another's value.
const BUILD_CALL: Duration = Duration::from_secs(3);
const BUILD_WAIT: Duration = Duration::from_secs(2);
/// Fewer reads that found something, or builds, show little.
const LEAST: usize = 20;

/// What all callers share.
#[derive(Clone, Default)]
struct Shared {
    /// Of each key that is changed.
    truths: Arc<[AtomicU64; TRUTHS]>,
    /// Values made so far.
    values: Arc<AtomicU64>,
    made: Notes<Made>,
    changed: Notes<Changed>,
    builds: Notes<Build>,
    reads: Notes<Read>,
}

#[derive(Default)]
pub(crate) struct Caching {
    shared: Shared,
    odd: Odd,
}

impl Workload for Caching {
    fn name(&self) -> &'static str {
        NAME
    }

    fn callers(&self, context: &Context) -> Vec<BoxFuture<'static, ()>> {
        let caller = |number: u64| {
            let routing = match number.is_multiple_of(2) {
                true => Routing::AnyNode,
                false => Routing::Leader,
            };
            let client = context.client_with(|options| options.namespace(NAME).routing(routing));
            let caller = Caller {
                calls: Calls::new(NAME, context, &self.odd),
                cache: client.cache(),
                random: context.random(NAME, number),
                context: context.clone(),
                shared: self.shared.clone(),
            };
            match number {
                0..CHANGERS => caller.change_on(number).boxed(),
                number if number < CHANGERS + BUILDERS => caller.build_on().boxed(),
                _ => caller.read_on().boxed(),
            }
        };
        (0..CHANGERS + BUILDERS + READERS).map(caller).collect()
    }

    fn judge(self: Box<Self>, _: Context) -> BoxFuture<'static, Result<Verdict>> {
        async move {
            let Shared { made, changed, builds, reads, .. } = self.shared;
            let history = History {
                made: made.take(),
                changed: changed.take(),
                builds: builds.take(),
                reads: reads.take(),
            };
            let mut verdict = Verdict::default();
            self.odd.report(&mut verdict);
            tell(&mut verdict, history.check());
            let found = history.reads.iter().filter(|read| read.value.is_some()).count();
            let builds = history.builds.len();
            verdict.has_to_show(found >= LEAST, || format!("only {found} reads found something"));
            verdict.has_to_show(builds >= LEAST, || format!("only {builds} values were built"));
            verdict.checked = format!(
                "{found} of {} reads found a value, {builds} values were built, {} changes",
                history.reads.len(),
                history.changed.len()
            );
            Ok(verdict)
        }
        .boxed()
    }
}

fn changed_key(number: u64) -> String {
    format!("changed/{number}")
}

fn expiring_key(number: u64) -> String {
    format!("expiring/{number}")
}

fn tag(number: u64) -> String {
    format!("tag-{number}")
}

/// As it is stored.
fn text_of(key: &str, Value { number, truth }: Value) -> String {
    format!("{key} {number} {truth}")
}

/// None when it is not one of that key.
fn value_of(key: &str, text: &[u8]) -> Option<Value> {
    let text = std::str::from_utf8(text).ok()?.strip_prefix(key)?.strip_prefix(' ')?;
    let (number, truth) = text.split_once(' ')?;
    Some(Value { number: number.parse().ok()?, truth: truth.parse().ok()? })
}

#[derive(Clone)]
struct Caller {
    context: Context,
    calls: Calls,
    cache: Cache,
    random: SmallRng,
    shared: Shared,
}

impl Caller {
    /// False when it is time to end.
    async fn think(&mut self) -> bool {
        let think = Duration::from_millis(self.random.random_range(0..=THINK_MS_MAX));
        self.context.pause(think).await
    }

    /// Another value of a key that is changed, or of one that is not.
    fn value(&self, key: Option<u64>) -> Value {
        let truth = key.map_or(0, |key| self.truth(key).load(Ordering::SeqCst));
        Value { number: self.shared.values.fetch_add(1, Ordering::Relaxed), truth }
    }

    fn truth(&self, key: u64) -> &AtomicU64 {
        &self.shared.truths[usize::try_from(key).expect("there are few")]
    }

    fn made(&self, made: Made) {
        self.context.journal.write(&made);
        self.shared.made.push(made);
    }

    async fn change_on(mut self, number: u64) {
        let near = self.cache.near(NearOptions::new());
        loop {
            let key = number + CHANGERS * self.random.random_range(0..CHANGED / CHANGERS);
            if self.change(key).await == Fate::Done {
                // Whoever has changed it sees that, whichever node it asks, and in its own copies.
                let cache = if self.random.random_bool(0.5) { &near } else { &self.cache };
                let get = cache.get(changed_key(key));
                self.read(changed_key(key), Sees::Own, get).await;
            }
            if !self.think().await {
                return;
            }
        }
    }

    async fn change(&mut self, number: u64) -> Fate {
        let truth = self.truth(number).fetch_add(1, Ordering::SeqCst) + 1;
        let (key, begun) = (changed_key(number), self.calls.now());
        let way = self.random.random_range(0..4);
        let came = match way {
            0 => {
                let delete = self.cache.delete(&key);
                let delete = async { delete.await.map(drop) };
                self.calls.make("delete", delete).await
            }
            1 => {
                let invalidate = self.cache.invalidate_tags([tag(number)]);
                let invalidate = async { invalidate.await.map(drop) };
                self.calls.make("invalidate", invalidate).await
            }
            2 => {
                let delete = self.cache.delete_pattern(format!("{key}*"));
                let delete = async { delete.await.map(drop) };
                self.calls.make("delete pattern", delete).await
            }
            _ => {
                let value = self.value(Some(number));
                let set = self.cache.set(&key, text_of(&key, value)).tag(tag(number));
                let set = async { set.await.map(drop) };
                let came = self.calls.make("set", set).await;
                let (fate, ended) = (fate(&came), self.calls.now());
                self.made(Made { key: key.clone(), value, begun, ended, fate, expires: false });
                came
            }
        };
        if let Came::Refused(error) = &came {
            self.calls.odd("change", error);
        }
        let changed = Changed { key, truth, ended: self.calls.now(), fate: fate(&came) };
        self.context.journal.write(&changed);
        let fate = changed.fate;
        self.shared.changed.push(changed);
        fate
    }

    async fn read_on(mut self) {
        loop {
            let key = match self.random.random_range(0..CHANGED + EXPIRING) {
                number if number < CHANGED => changed_key(number),
                number => expiring_key(number - CHANGED),
            };
            let get = self.cache.get(&key).linearizable();
            self.read(key, Sees::All, get).await;
            if !self.think().await {
                return;
            }
        }
    }

    async fn read(
        &self,
        key: String,
        sees: Sees,
        get: impl IntoFuture<Output = Result<Option<CacheEntry>, Error>, IntoFuture: Send>,
    ) {
        let begun = self.calls.now();
        let entry = match self.calls.make("read", get).await {
            Came::Answer(entry) => entry,
            Came::Refused(error) => return self.calls.odd("read", &error),
            Came::Failed | Came::Unknown => return,
        };
        self.found(key, begun, sees, entry.as_ref().map(|entry| &entry.value[..]));
    }

    fn found(&self, key: String, begun: Duration, sees: Sees, text: Option<&[u8]>) {
        let value = text.and_then(|text| value_of(&key, text));
        if let Some(text) = text.filter(|_| value.is_none()) {
            return self.calls.odd("read", &(key, String::from_utf8_lossy(text)));
        }
        let read = Read { key, begun, ended: self.calls.now(), sees, value };
        self.context.journal.write(&read);
        self.shared.reads.push(read);
    }

    async fn build_on(mut self) {
        loop {
            match self.random.random_range(0..CHANGED + EXPIRING) {
                number if number < CHANGED => self.build(changed_key(number), Some(number)).await,
                number => self.build(expiring_key(number - CHANGED), None).await,
            }
            if !self.think().await {
                return;
            }
        }
    }

    /// Gets a value, or builds it.
    async fn build(&mut self, key: String, changed: Option<u64>) {
        let options = BuildOptions::new().build_lease(BUILD_LEASE).wait(BUILD_WAIT);
        let options = options.timeout(BUILD_CALL);
        let options = match changed {
            Some(number) => options.tag(tag(number)),
            None => options.ttl(TTL),
        };
        let begun = self.calls.now();
        // Of this call: when it asked last, and what it has built since.
        let (asked, built) = (Notes::<Duration>::default(), Notes::<(Value, Duration)>::default());
        asked.push(begun);
        let builder = {
            let (caller, key, asked, built) =
                (self.clone(), key.clone(), asked.clone(), built.clone());
            let take = match self.random.random_range(0..SLOW) {
                0 => SLOW_BUILD,
                _ => Duration::from_millis(self.random.random_range(0..=BUILD_MS_MAX)),
            };
            let fails = self.random.random_range(0..20) == 0;
            move || {
                let (caller, key, asked, built) =
                    (caller.clone(), key.clone(), asked.clone(), built.clone());
                async move {
                    let begun = caller.calls.now();
                    let value = caller.value(changed);
                    tokio::time::sleep(take).await;
                    let ended = caller.calls.now();
                    let since = asked.take().pop().unwrap_or(begun);
                    // If what it has built comes too late, it asks again after this.
                    asked.push(ended);
                    let build = Build { key: key.clone(), asked: since, begun, ended };
                    caller.context.journal.write(&build);
                    caller.shared.builds.push(build);
                    if fails {
                        return Err("it could not be built");
                    }
                    built.push((value, begun));
                    Ok(text_of(&key, value))
                }
            }
        };
        let call = async {
            self.cache.get_or_build(&key, options, builder).await.map_err(|error| match error {
                BuildError::Client(error) => error,
                other => Error::BuildFailed {
                    reason: "BUILD_FAILED".to_owned(),
                    message: other.to_string(),
                },
            })
        };
        let came = self.calls.make_waiting("build", BUILD_WAIT + 3 * SLOW_BUILD, call).await;
        let ended = self.calls.now();
        // Only the last can be stored: after each other it was asked for another one.
        let mut built = built.take();
        let last = match &came {
            Came::Answer(value) if value.source == Source::Built => Fate::Done,
            Came::Answer(_) | Came::Failed | Came::Refused(_) => Fate::Not,
            Came::Unknown => Fate::Unknown,
        };
        let expires = changed.is_none();
        let newest = built.pop().map(|(value, begun)| (value, begun, last));
        let others = built.into_iter().map(|(value, begun)| (value, begun, Fate::Not));
        for (value, begun, fate) in others.chain(newest) {
            self.made(Made { key: key.clone(), value, begun, ended, fate, expires });
        }
        match came {
            Came::Answer(value) => self.found(key, begun, Sees::Something, Some(&value.value)),
            Came::Refused(Error::BuildFailed { .. } | Error::BuildLeaseLost { .. }) => {}
            Came::Refused(error) => self.calls.odd("build", &error),
            Came::Failed | Came::Unknown => {}
        }
    }
}

fn fate<T>(came: &Came<T>) -> Fate {
    match came {
        Came::Answer(_) => Fate::Done,
        Came::Failed => Fate::Not,
        // One that can't be is told besides.
        Came::Unknown | Came::Refused(_) => Fate::Unknown,
    }
}
