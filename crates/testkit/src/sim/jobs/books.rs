//! What the clients of a run write down together, and how far the run is.

use super::super::course::Course;
use super::super::journal::Journal;
use super::QUEUES;
use super::counts::JobCounts;
use super::judge;
use super::record::{Called, Delivery, History, Outcome, Push, Removal, Said, Word, answered};
use super::witness::Witness;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

#[derive(Default)]
struct Inner {
    history: History,
    /// The queues are what they are to be.
    set_up: bool,
    surviving: usize,
    draining: bool,
}

/// The books of one run.
pub(super) struct Books {
    pub(super) journal: Journal,
    pub(super) course: Course,
    inner: Mutex<Inner>,
}

impl Books {
    pub(super) fn new(journal: Journal) -> Self {
        let history = History { queues: QUEUES.to_vec(), ..History::default() };
        let inner = Mutex::new(Inner { history, ..Inner::default() });
        Self { journal, course: Course::default(), inner }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    // ---- what was asked and told ----

    pub(super) fn pushed(&self, client: u64, push: Push) {
        let Push { name, queue, wants, asked, outcome, ended } = &push;
        self.journal.write(
            *ended,
            format_args!(
                "client {client} pushed {name} into {queue} at {asked:.3?}, {wants}: {outcome:?}"
            ),
        );
        self.lock().history.pushes.push(push);
    }

    pub(super) fn told(&self, delivery: Delivery) {
        let Delivery { client, queue, job, lease, attempt, name, told, pulled } = &delivery;
        let how = if pulled.is_some() { "pulled" } else { "was given" };
        self.journal.write(
            *told,
            format_args!(
                "client {client} {how} {name} of {queue}: job {job} under {lease}, attempt \
                 {attempt}"
            ),
        );
        self.lock().history.deliveries.push(delivery);
    }

    pub(super) fn said(&self, client: u64, said: Said, now: Duration) {
        let Said { job, lease, word, asked, outcome, .. } = &said;
        self.journal.write(
            now,
            format_args!(
                "client {client} said of job {job} under {lease} at {asked:.3?}: {word:?} -> \
                 {outcome:?}"
            ),
        );
        self.lock().history.said.push(said);
    }

    pub(super) fn removed(&self, client: u64, removal: Removal, now: Duration) {
        let Removal { queue, asked, outcome } = &removal;
        self.journal
            .write(now, format_args!("client {client} purged {queue} at {asked:.3?}: {outcome:?}"));
        self.lock().history.removals.push(removal);
    }

    pub(super) fn called(&self, called: Called) {
        self.lock().history.called.push(called);
    }

    /// Whether all that was called has come.
    pub(super) fn all_called_came(&self) -> bool {
        let inner = self.lock();
        let came = |called: &Called| {
            inner.history.deliveries.iter().any(|delivery| delivery.name == called.name)
        };
        inner.history.called.iter().all(came)
    }

    // ---- the course of the run ----

    pub(super) fn set_up(&self) {
        self.lock().set_up = true;
    }

    pub(super) fn is_set_up(&self) -> bool {
        self.lock().set_up
    }

    /// A consumer that is to live through the run has begun.
    pub(super) fn lives(&self, client: u64, queue: &'static str) {
        let mut inner = self.lock();
        inner.surviving += 1;
        inner.history.survivors.push((client, queue));
    }

    pub(super) fn has_lived(&self) {
        self.lock().surviving -= 1;
    }

    pub(super) fn surviving(&self) -> usize {
        self.lock().surviving
    }

    /// From now on whoever has a job does it.
    pub(super) fn drain(&self) {
        self.lock().draining = true;
    }

    pub(super) fn is_draining(&self) -> bool {
        self.lock().draining
    }

    // ---- judgement ----

    /// What must not be, and what was done.
    pub(super) fn judge(&self, witness: &Witness) -> (Vec<String>, JobCounts) {
        let mut history = self.lock().history.clone();
        witness.tell(&mut history);
        (judge::problems(&history), counts(&history, witness))
    }
}

fn counts(history: &History, witness: &Witness) -> JobCounts {
    let added = history.pushes.iter().filter(|push| history.job_of(push).is_some()).count();
    let words =
        |word: Word| history.said.iter().filter(|said| said.word == word && said.is_ok()).count();
    let of_duplicates = || history.pushes.iter().filter_map(|push| Some((push, push.pushed()?)));
    let mut duplicates_after_failover = 0;
    for (push, pushed) in of_duplicates().filter(|(_, pushed)| pushed.duplicate) {
        let mut first = of_duplicates();
        let first = first.find(|(_, first)| !first.duplicate && first.id == pushed.id);
        let between = first.is_some_and(|(first, _)| {
            witness.leader_changes().any(|at| first.ended < at && at < push.asked)
        });
        duplicates_after_failover += usize::from(between);
    }
    let mut told: BTreeMap<u64, usize> = BTreeMap::new();
    for delivery in &history.deliveries {
        *told.entry(delivery.job).or_default() += 1;
    }
    let delayed = history.pushes.iter().filter(|push| !push.wants.delay.is_zero());
    let delayed = delayed.filter_map(|push| history.job_of(push));
    JobCounts {
        added,
        unknown: history.pushes.iter().filter(|push| push.outcome == Outcome::Unknown).count(),
        done: words(Word::Ack),
        twice: told.values().filter(|times| **times > 1).count(),
        lapsed: history.rest.totals.values().map(|totals| totals.lapsed).sum(),
        dead: history.rest.dead.len(),
        duplicates: of_duplicates().filter(|(_, pushed)| pushed.duplicate).count(),
        duplicates_after_failover,
        handed_back: words(Word::HandBack),
        watched: witness.watched(),
        group_pairs: group_pairs(history, &told),
        delayed: delayed.filter(|job| told.contains_key(job)).count(),
        pulled: history.deliveries.iter().filter(|delivery| delivery.pulled.is_some()).count(),
        purges: history.removals.iter().filter(|purge| answered(&purge.outcome).is_some()).count(),
        failovers: witness.leader_changes().count().saturating_sub(1),
    }
}

/// Neighbours in a group that both came to somebody.
fn group_pairs(history: &History, told: &BTreeMap<u64, usize>) -> usize {
    let mut groups: BTreeMap<(&str, &str), BTreeSet<u64>> = BTreeMap::new();
    for push in &history.pushes {
        let (Some(group), Some(id)) = (&push.wants.group, history.job_of(push)) else { continue };
        groups.entry((push.queue, group)).or_default().insert(id);
    }
    let both = |(one, next): (&u64, &u64)| told.contains_key(one) && told.contains_key(next);
    groups
        .values()
        .map(|ids| ids.iter().zip(ids.iter().skip(1)).filter(|pair| both(*pair)).count())
        .sum()
}
