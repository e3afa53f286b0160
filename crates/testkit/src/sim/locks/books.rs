//! What clients think they hold, what they wrote under it, and what they were told.

use super::super::cluster::Cluster;
use super::super::course::Course;
use super::super::invariants::SLACK;
use super::super::journal::Journal;
use super::super::net::{Host, NODES};
use super::witness::Witness;
use super::{LOCKS, TOLD_WITHIN};
use quorate_client::Lock;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// What a client thinks of a lock that it was granted.
#[derive(Clone, Debug)]
pub(super) struct Belief {
    pub(super) client: u64,
    pub(super) name: &'static str,
    pub(super) from: Duration,
    /// The grant's, as it was told.
    revision: u64,
    /// It thinks so until then if no further renewal is answered.
    pub(super) until: Duration,
    /// When it stopped to think so: it gave it back, or knows that it is lost.
    ended: Option<Duration>,
    /// Since when it is not renewed any more.
    pub(super) abandoned: Option<Duration>,
}

impl Belief {
    pub(super) fn end(&self) -> Duration {
        self.ended.map_or(self.until, |ended| ended.min(self.until))
    }
}

/// A guarded write that was acknowledged.
#[derive(Clone, Copy, Debug)]
struct Write {
    token: u64,
    revision: u64,
}

#[derive(Default)]
struct Inner {
    beliefs: BTreeMap<u64, Belief>,
    /// By token: when it was asked for, and how long that was to wait.
    waits: BTreeMap<u64, (Duration, Duration)>,
    writes: Vec<Write>,
    refused: usize,
    lost: usize,
    late_renewals: usize,
    deposed_asked: usize,
    /// A lock for all who ask whether they may renew it.
    shared: Option<(String, u64)>,
    /// Since when a node reaches no other.
    isolated: BTreeMap<Host, Duration>,
    /// The newest term of which anything was applied.
    applied_term: u64,
}

/// The books of one run.
pub(super) struct Books {
    pub(super) journal: Journal,
    pub(super) course: Course,
    inner: Mutex<Inner>,
}

/// What clients did with locks, for the claim that a run has tried something.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Locks granted.
    pub granted: usize,
    /// Of those, the ones that ran out, alone or with their sessions, or were given back.
    pub freed: usize,
    /// Locks that their clients knew to be lost.
    pub lost: usize,
    /// Renewals answered after more than half a ttl: what was left had been recorded.
    pub late_renewals: usize,
    /// Guarded writes acknowledged.
    pub written: usize,
    /// Guarded writes refused, because the lock had passed on.
    pub refused: usize,
    /// Renewals and reads asked of a node that was cut off, while a later leader was at work.
    pub deposed_asked: usize,
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { granted, freed, lost, late_renewals, written, refused, deposed_asked } = self;
        match granted {
            0 => Ok(()),
            _ => write!(
                f,
                "; locks: {granted} granted, {freed} freed, {lost} lost, {late_renewals} late \
                 renewals, {written} guarded writes, {refused} refused, {deposed_asked} asked of \
                 deposed leaders"
            ),
        }
    }
}

impl Books {
    pub(super) fn new(journal: Journal) -> Self {
        Self { journal, course: Course::default(), inner: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A client was told that it holds a lock.
    pub(super) fn granted(&self, client: u64, name: &'static str, lock: &Lock, now: Duration) {
        let (token, revision, until) =
            (lock.fencing_token(), lock.revision(), now + lock.remaining());
        self.journal.write(
            now,
            format_args!("client {client} holds {name} under {token} until {until:.3?}"),
        );
        let (ended, abandoned) = (None, None);
        let belief = Belief { client, name, from: now, revision, until, ended, abandoned };
        if self.lock().beliefs.insert(token, belief).is_some() {
            self.journal.problem(now, format_args!("token {token} was granted twice"));
        }
    }

    /// What was granted was asked for then, and was to be waited for so long.
    pub(super) fn waited(&self, token: u64, asked: Duration, wait: Duration) {
        self.lock().waits.insert(token, (asked, wait));
    }

    /// Its renewal was answered.
    pub(super) fn believes(&self, token: u64, until: Duration) {
        if let Some(belief) = self.lock().beliefs.get_mut(&token) {
            belief.until = belief.until.max(until);
        }
    }

    /// It is not renewed from now on; its client goes by what it was told.
    pub(super) fn abandoned(&self, token: u64, now: Duration, why: &str) {
        self.journal.write(now, format_args!("{token} is not renewed any more: {why}"));
        if let Some(belief) = self.lock().beliefs.get_mut(&token) {
            belief.abandoned.get_or_insert(now);
        }
    }

    /// Its client thinks no more that it holds it.
    pub(super) fn ended(&self, token: u64, now: Duration, why: &str) {
        self.abandoned(token, now, why);
        if let Some(belief) = self.lock().beliefs.get_mut(&token) {
            belief.ended.get_or_insert(now);
        }
    }

    pub(super) fn lost(&self, token: u64, now: Duration) {
        self.lock().lost += 1;
        self.ended(token, now, "lost");
    }

    pub(super) fn renewed_late(&self) {
        self.lock().late_renewals += 1;
    }

    pub(super) fn wrote(&self, token: u64, revision: u64) {
        self.lock().writes.push(Write { token, revision });
    }

    pub(super) fn refused(&self) {
        self.lock().refused += 1;
    }

    pub(super) fn belief(&self, token: u64) -> Option<Belief> {
        self.lock().beliefs.get(&token).cloned()
    }

    // ---- who may answer ----

    pub(super) fn share(&self, shared: Option<(String, u64)>) {
        self.lock().shared = shared;
    }

    pub(super) fn shared(&self) -> Option<(String, u64)> {
        self.lock().shared.clone()
    }

    /// Notes which nodes reach no other; between two steps.
    pub(super) fn tell_isolated(&self, cluster: &Cluster, now: Duration) {
        let mut inner = self.lock();
        for node in NODES {
            if cluster.reach.is_isolated(node) {
                inner.isolated.entry(node).or_insert(now);
            } else {
                inner.isolated.remove(node);
            }
        }
    }

    pub(super) fn applied_term(&self, term: u64) {
        let mut inner = self.lock();
        inner.applied_term = inner.applied_term.max(term);
    }

    /// A node is asked now. `term` is the one in which it leads by its own lights.
    pub(super) fn asked(&self, node: Host, term: Option<u64>) {
        let mut inner = self.lock();
        let deposed = term.is_some_and(|term| term < inner.applied_term);
        if deposed && inner.isolated.contains_key(node) {
            inner.deposed_asked += 1;
        }
    }

    /// A node answered what it was asked at `asked`, and forwards to nobody.
    pub(super) fn answered(&self, node: Host, what: &str, asked: Duration, now: Duration) {
        let inner = self.lock();
        let Some(&since) = inner.isolated.get(node).filter(|since| asked > **since + SLACK) else {
            return;
        };
        let term = inner.applied_term;
        drop(inner);
        self.journal.problem(
            now,
            format_args!(
                "{node} answered a {what} of {asked:.3?}, but reaches no other node since \
                 {since:.3?}; term {term} is the newest at work"
            ),
        );
    }

    // ---- judgement ----

    /// What must not be.
    pub(super) fn problems(&self, witness: &Witness) -> Vec<String> {
        let inner = self.lock();
        let mut problems = Vec::new();
        for (name, places) in LOCKS {
            let named = inner.beliefs.iter().filter(|(_, belief)| belief.name == name);
            let held: Vec<_> = named.collect();
            for (token, belief) in &held {
                // At the moment at which this one begins, how many others have not ended?
                let others: Vec<_> = held
                    .iter()
                    .filter(|(other, earlier)| {
                        other != token
                            && earlier.from <= belief.from
                            && earlier.end() > belief.from + SLACK
                            && belief.end() > belief.from
                    })
                    .collect();
                if others.len() >= places {
                    problems.push(format!(
                        "{name} is held twice: by client {} under {token}, {belief:?}, and by \
                         {others:?}",
                        belief.client
                    ));
                }
            }
        }
        for (token, belief) in &inner.beliefs {
            if witness.revision(*token).is_some_and(|revision| revision != belief.revision) {
                problems.push(format!("{token} was granted at another revision: {belief:?}"));
            }
            if let Some(freed) = witness.freed(*token)
                && belief.end() > freed + SLACK
            {
                problems.push(format!(
                    "{} was freed too early, at {freed:.3?}: {token} {belief:?}",
                    belief.name
                ));
            }
        }
        for (token, (asked, wait)) in &inner.waits {
            // Lease time, by which waits are counted, stands still without a leader.
            if let Some((seen, leader_since)) = witness.seen(*token)
                && self.course.was_calm(*asked)
                && leader_since < *asked
                && seen > *asked + *wait + TOLD_WITHIN
            {
                problems.push(format!(
                    "{token} was granted at {seen:.3?} to a client whose wait was over: it asked at                      {asked:.3?}, and was to wait for {wait:.3?}"
                ));
            }
        }
        for write in &inner.writes {
            let Some(belief) = inner.beliefs.get(&write.token) else { continue };
            if let Some((token, revision)) = witness.later_grant(belief.name, write.token)
                && LOCKS.contains(&(belief.name, 1))
                && revision < write.revision
            {
                problems.push(format!(
                    "a write guarded by {} under {} was acknowledged at revision {}, behind the \
                     grant of {token} at revision {revision}",
                    belief.name, write.token, write.revision
                ));
            }
        }
        problems
    }

    pub(super) fn counts(&self, witness: &Witness) -> Counts {
        let inner = self.lock();
        let (granted, freed) = witness.counts();
        Counts {
            granted,
            freed,
            lost: inner.lost,
            late_renewals: inner.late_renewals,
            written: inner.writes.len(),
            refused: inner.refused,
            deposed_asked: inner.deposed_asked,
        }
    }
}
