//! Locks that several contend for, who hold them for a moment, or for longer than their ttl, or vanish
//! with them; and writes guarded by them, also by those that are not held any more.
//!
//! By this process's one clock no two ever believed at once that they hold the same lock. By the
//! cluster's own order, revisions: tokens grow from grant to grant, and no write guarded by a token is
//! applied after a newer grant. Nor is one that began after its lock was given back.

use crate::work::calls::{Calls, Came, Notes, Odd, tell};
use crate::work::workload::{Context, LAST_DEADLINE, Verdict, Workload};
use anyhow::{Context as _, Result};
use futures::FutureExt as _;
use futures::future::BoxFuture;
use quorate_client::{Client, Error, Lock, LockGuard};
use rand::RngExt as _;
use rand::rngs::SmallRng;
use serde::Serialize;
use std::collections::BTreeMap;
use std::time::Duration;

const NAME: &str = "lock";
const LOCKS: u64 = 2;
/// Of each lock.
const CONTENDERS: u64 = 3;
const TTL: Duration = Duration::from_millis(1_500);
const SESSION_TTL: Duration = Duration::from_secs(5);
const WAIT: Duration = Duration::from_secs(2);
/// How often a holder looks whether it still believes in its lock.
const LOOK: Duration = Duration::from_millis(4);
/// A hold, usually; of a hundred some last longer than the ttl, and some end without a word.
const HOLD_MS_MAX: u64 = 60;
const LONG_HOLD: Duration = Duration::from_millis(2_200);
/// Between two rounds of a contender, at most.
const THINK_MS_MAX: u64 = 40;
/// Fewer grants show little.
const LEAST: usize = 20;

/// What a contender saw.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
enum Event {
    Granted {
        lock: u64,
        token: u64,
        revision: u64,
        /// From when on until when its holder certainly believed in it; it never did when it was lost
        /// on its way.
        from: Duration,
        until: Option<Duration>,
        /// Since when it is known to be given back, or lost.
        ended: Option<Duration>,
    },
    /// A write guarded by a token was applied.
    Wrote { lock: u64, token: u64, revision: u64, begun: Duration },
    /// One was refused.
    Refused { lock: u64, token: u64 },
}

#[derive(Default)]
pub(crate) struct Contention {
    events: Notes<Event>,
    odd: Odd,
}

impl Workload for Contention {
    fn name(&self) -> &'static str {
        NAME
    }

    fn callers(&self, context: &Context) -> Vec<BoxFuture<'static, ()>> {
        let caller = |number| {
            let contender = Contender {
                lock: number % LOCKS,
                calls: Calls::new(NAME, context, &self.odd),
                client: context
                    .client_with(|options| options.namespace(NAME).session_ttl(SESSION_TTL)),
                random: context.random(NAME, number),
                events: self.events.clone(),
                context: context.clone(),
            };
            contender.run().boxed()
        };
        (0..LOCKS * CONTENDERS).map(caller).collect()
    }

    fn judge(self: Box<Self>, context: Context) -> BoxFuture<'static, Result<Verdict>> {
        async move {
            let client = context.client(NAME);
            // Whatever was left behind ends by itself: each lock can be had.
            for lock in 0..LOCKS {
                let acquire = client.locks().acquire(name(lock)).wait(LAST_DEADLINE);
                let held = acquire.timeout(LAST_DEADLINE).await.context("a last lock")?;
                held.release().await.context("the end of a last lock")?;
            }
            let events = self.events.take();
            let mut verdict = Verdict::default();
            self.odd.report(&mut verdict);
            tell(&mut verdict, check(&events));
            let count = |which: fn(&Event) -> bool| events.iter().filter(|one| which(one)).count();
            let granted = count(|event| matches!(event, Event::Granted { .. }));
            let wrote = count(|event| matches!(event, Event::Wrote { .. }));
            let refused = count(|event| matches!(event, Event::Refused { .. }));
            verdict.has_to_show(granted >= LEAST, || format!("only {granted} locks were granted"));
            verdict.has_to_show(wrote > 0 && refused > 0, || {
                format!("{wrote} guarded writes were applied, {refused} refused")
            });
            verdict.checked = format!(
                "{granted} grants of {LOCKS} locks, none believed in by two; {wrote} guarded writes, \
                 {refused} refused ones"
            );
            Ok(verdict)
        }
        .boxed()
    }
}

fn name(lock: u64) -> String {
    format!("lock-{lock}")
}

struct Contender {
    lock: u64,
    context: Context,
    calls: Calls,
    client: Client,
    random: SmallRng,
    events: Notes<Event>,
}

impl Contender {
    async fn run(mut self) {
        loop {
            self.round().await;
            let think = Duration::from_millis(self.random.random_range(0..=THINK_MS_MAX));
            if !self.context.pause(think).await {
                break;
            }
        }
        // It ends with its ttl otherwise.
        let _ = self.client.close().await;
    }

    fn note(&self, event: Event) {
        self.context.journal.write(&event);
        self.events.push(event);
    }

    async fn round(&mut self) {
        let acquire = self.client.locks().acquire(name(self.lock)).ttl(TTL).wait(WAIT);
        match self.calls.make_waiting("acquire", WAIT, acquire).await {
            Came::Answer(lock) => self.hold(lock).await,
            // Others had it all the time; or it was lost on its way here.
            Came::Refused(Error::NotAcquired { .. } | Error::LockLost { .. }) => {}
            Came::Refused(error) => self.calls.odd("acquire", &error),
            Came::Failed | Came::Unknown => {}
        }
    }

    async fn hold(&mut self, lock: Lock) {
        let from = self.calls.now();
        let (token, revision, guard) = (lock.fencing_token(), lock.revision(), lock.guard());
        let fate = self.random.random_range(0..100);
        let hold = match fate {
            0..2 => LONG_HOLD,
            _ => Duration::from_millis(self.random.random_range(0..=HOLD_MS_MAX)),
        };
        let (until, ()) =
            tokio::join!(self.believe(&lock, from, hold), self.write(&guard, fate < 50),);
        // Nothing is said any more, as if the holder had died.
        let ended = if (2..4).contains(&fate) {
            let _ = lock.leave();
            None
        } else {
            match self.calls.make("release", lock.release()).await {
                // Or it was not held any more.
                Came::Answer(_) => Some(self.calls.now()),
                Came::Refused(error) => {
                    self.calls.odd("release", &error);
                    None
                }
                Came::Failed | Came::Unknown => None,
            }
        };
        let lock = self.lock;
        self.note(Event::Granted { lock, token, revision, from, until, ended });
        // Too late in most cases; the cluster has to know.
        self.write(&guard, (50..80).contains(&fate)).await;
    }

    /// Holds a lock for so long; answers until when it certainly was believed in, if at all. The
    /// time is taken before the look: in between the belief can only end.
    async fn believe(&self, lock: &Lock, from: Duration, hold: Duration) -> Option<Duration> {
        let mut until = None;
        loop {
            let now = self.calls.now();
            if lock.is_lost() {
                return until;
            }
            until = Some(now);
            if now >= from + hold {
                return until;
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    async fn write(&self, guard: &LockGuard, wanted: bool) {
        if !wanted {
            return;
        }
        let (lock, token) = (self.lock, guard.fencing_token);
        let begun = self.calls.now();
        let write = self.client.kv().set(name(lock), token.to_string()).guard(guard);
        match self.calls.make("guarded write", write).await {
            Came::Answer(written) => {
                self.note(Event::Wrote { lock, token, revision: written.revision, begun });
            }
            Came::Refused(Error::LockLost { .. }) => self.note(Event::Refused { lock, token }),
            Came::Refused(error) => self.calls.odd("guarded write", &error),
            Came::Failed | Came::Unknown => {}
        }
    }
}

/// What is known of one grant.
struct Grant {
    token: u64,
    revision: u64,
    ended: Option<Duration>,
}

/// What can't be, a line each.
fn check(events: &[Event]) -> Vec<String> {
    let mut breaches = Vec::new();
    let mut beliefs: BTreeMap<u64, Vec<(Duration, Duration, u64)>> = BTreeMap::new();
    let mut grants: BTreeMap<u64, Vec<Grant>> = BTreeMap::new();
    for event in events {
        if let Event::Granted { lock, token, revision, from, until, ended } = *event {
            if let Some(until) = until {
                beliefs.entry(lock).or_default().push((from, until, token));
            }
            grants.entry(lock).or_default().push(Grant { token, revision, ended });
        }
    }
    for (lock, beliefs) in &mut beliefs {
        beliefs.sort();
        for pair in beliefs.windows(2) {
            let [(_, until, token), (from, _, next)] = pair else { continue };
            if from < until {
                breaches.push(format!(
                    "lock {lock} was believed in under {token} until {until:?}, and under {next} from \
                     {from:?} on"
                ));
            }
        }
    }
    for (lock, grants) in &mut grants {
        grants.sort_by_key(|grant| (grant.revision, grant.token));
        for pair in grants.windows(2) {
            let [before, after] = pair else { continue };
            if after.token <= before.token {
                breaches.push(format!(
                    "lock {lock}: token {} of revision {} does not grow after {} of {}",
                    after.token, after.revision, before.token, before.revision
                ));
            }
        }
    }
    for event in events {
        let Event::Wrote { lock, token, revision, begun } = event else { continue };
        let grants = grants.get(lock).map_or(&[][..], Vec::as_slice);
        let newest = grants.iter().rfind(|grant| grant.revision <= *revision);
        if let Some(newest) = newest.filter(|newest| newest.token > *token) {
            breaches.push(format!(
                "lock {lock}: a write under {token} was applied at {revision}, after {} was granted at \
                 {}",
                newest.token, newest.revision
            ));
        }
        let own = grants.iter().find(|grant| grant.token == *token);
        if let Some(ended) = own.and_then(|own| own.ended).filter(|ended| ended < begun) {
            breaches.push(format!(
                "lock {lock}: a write under {token}, begun at {begun:?}, was applied; the lock was given \
                 back by {ended:?}"
            ));
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

    fn granted(token: u64, from: u64, until: u64) -> Event {
        let (from, until, ended) = (at(from), Some(at(until)), Some(at(until + 1)));
        Event::Granted { lock: 0, token, revision: token * 10, from, until, ended }
    }

    fn wrote(token: u64, revision: u64, begun: u64) -> Event {
        Event::Wrote { lock: 0, token, revision, begun: at(begun) }
    }

    fn right() -> Vec<Event> {
        vec![
            granted(3, 30, 40),
            granted(1, 10, 20),
            granted(2, 21, 30),
            Event::Granted {
                lock: 1,
                token: 2,
                revision: 20,
                from: at(0),
                until: Some(at(99)),
                ended: None,
            },
            wrote(1, 11, 12),
            wrote(2, 29, 30),
            wrote(3, 31, 33),
        ]
    }

    #[track_caller]
    fn finds(more: Event, part: &str) {
        let events = [right(), vec![more]].concat();
        let breaches = check(&events);
        assert!(breaches.iter().any(|breach| breach.contains(part)), "{breaches:?}");
    }

    #[test]
    fn holders_one_after_the_other_are_right() {
        assert_eq!(check(&right()), Vec::<String>::new());
    }

    #[test]
    fn two_holders_at_once_are_found() {
        finds(granted(4, 39, 50), "was believed in under 3 until 40ms, and under 4 from 39ms");
    }

    #[test]
    fn tokens_that_do_not_grow_are_found() {
        let again = Event::Granted {
            lock: 0,
            token: 3,
            revision: 40,
            from: at(50),
            until: Some(at(51)),
            ended: None,
        };
        finds(again, "token 3 of revision 40 does not grow after 3 of 30");
    }

    #[test]
    fn a_write_of_a_former_holder_is_found() {
        finds(wrote(1, 25, 15), "after 2 was granted at 20");
        finds(wrote(3, 39, 42), "was given back by 41ms");
    }
}
