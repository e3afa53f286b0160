//! What producers and workers saw of a queue, and what that must be like whoever died meanwhile.
//!
//! Each check is a function of the history alone. It answers how much it saw of what it is about, so
//! that a test which shows little is noticed, or the first thing that can't be.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// A job as its producer knows it.
#[derive(Clone, Debug)]
pub(super) struct Pushed {
    /// No other job has it; it is the payload.
    pub(super) name: String,
    /// Before its push was sent. All times are counted by one clock, from one moment.
    pub(super) sent: Duration,
    pub(super) delay: Duration,
    /// The group, and its number in it.
    pub(super) group: Option<(String, u64)>,
    /// Whether it has a dedupe key.
    pub(super) deduped: bool,
}

/// A push that was made again under the dedupe key of a job.
#[derive(Clone, Copy, Debug)]
pub(super) struct Again {
    /// What the first push was answered.
    pub(super) id: u64,
    /// What this one was.
    pub(super) answered: u64,
    pub(super) duplicate: bool,
}

/// What a worker saw of a delivery.
#[derive(Clone, Debug)]
pub(super) struct Delivery {
    pub(super) id: u64,
    pub(super) lease: u64,
    pub(super) attempt: u32,
    /// When it was there.
    pub(super) at: Duration,
    /// Before it was said what became of it, and what came of that; none when its worker died.
    pub(super) settled: Option<(Duration, Settled)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Settled {
    Done,
    Failed,
    Returned,
    /// Refused: somebody else has it by now, or it is done.
    Late,
    /// Refused for another reason, and so of no effect: it has the lease as before.
    Refused,
    /// Nobody knows.
    Unknown,
}

impl Settled {
    /// Whether the cluster took it, and so held the lease for alive.
    fn was_taken(self) -> bool {
        matches!(self, Self::Done | Self::Failed | Self::Returned)
    }

    /// Whether the job may come again under the same lease: for all the cluster knows, its worker has
    /// said nothing.
    fn may_be_unheard(self) -> bool {
        matches!(self, Self::Refused | Self::Unknown)
    }
}

/// A job as it is at the end.
#[derive(Clone, Debug)]
pub(super) struct Ended {
    pub(super) id: u64,
    pub(super) name: String,
    /// Or else a dead letter.
    pub(super) done: bool,
    pub(super) attempts: u32,
}

#[derive(Clone, Debug, Default)]
pub(super) struct History {
    pub(super) attempts_max: u32,
    /// By their ids.
    pub(super) pushed: BTreeMap<u64, Pushed>,
    /// Names of jobs that may be in the queue, once, although their push failed.
    pub(super) maybe: BTreeSet<String>,
    pub(super) again: Vec<Again>,
    pub(super) deliveries: Vec<Delivery>,
    pub(super) ended: Vec<Ended>,
}

/// How much of it was seen, or what is wrong.
pub(super) type Checked = Result<usize, String>;

impl History {
    /// Every job that was pushed is there at the end, once, and no other is. Answers how many are
    /// dead letters.
    pub(super) fn none_is_lost(&self) -> Checked {
        let (mut ids, mut names) = (BTreeSet::new(), BTreeSet::new());
        for Ended { id, name, .. } in &self.ended {
            if !ids.insert(*id) {
                return Err(format!("job {id} is there twice"));
            }
            if !names.insert(name) {
                return Err(format!("{name} is there under two ids, one of them {id}"));
            }
            match self.pushed.get(id) {
                Some(known) if known.name != *name => {
                    return Err(format!("job {id} is {name}, and was pushed as {}", known.name));
                }
                None if !self.maybe.contains(name) => {
                    return Err(format!("job {id} ({name}) was never pushed"));
                }
                _ => {}
            }
        }
        match self.pushed.keys().find(|id| !ids.contains(id)) {
            Some(id) => Err(format!("job {id}, and maybe others, is lost")),
            None => Ok(self.ended.iter().filter(|ended| !ended.done).count()),
        }
    }

    /// A job that is done was acknowledged once, and no other was. Answers how many were.
    pub(super) fn none_is_done_twice(&self) -> Checked {
        let mut acks: BTreeMap<u64, (u32, u32)> = BTreeMap::new();
        for delivery in &self.deliveries {
            let (done, unknown) = acks.entry(delivery.id).or_default();
            match delivery.settled {
                Some((_, Settled::Done)) => *done += 1,
                Some((_, Settled::Unknown)) => *unknown += 1,
                _ => {}
            }
        }
        let mut seen = 0;
        for Ended { id, done, .. } in &self.ended {
            match (done, acks.get(id).copied().unwrap_or_default()) {
                (true, (1, _)) => seen += 1,
                (true, (0, 1..)) | (false, (0, _)) => {}
                (true, (times, _)) => return Err(format!("job {id} was done {times} times")),
                (false, _) => return Err(format!("job {id} was done, and is a dead letter")),
            }
        }
        Ok(seen)
    }

    /// Once a lease was given, nothing is taken any more under one before; and nobody is given the
    /// same one twice, unless what was said under it may be unheard. Answers how many jobs had several.
    pub(super) fn one_lease_is_alive(&self) -> Checked {
        let mut several = 0;
        for (id, of) in self.by_job() {
            several += usize::from(of.len() > 1);
            for (place, one) in of.iter().enumerate() {
                for other in &of[..place] {
                    let unheard =
                        other.settled.is_some_and(|(_, settled)| settled.may_be_unheard());
                    if one.lease == other.lease && !unheard {
                        return Err(format!("job {id} was given out twice under {}", one.lease));
                    }
                }
                let Some((sent, settled)) = one.settled else { continue };
                let newer = of.iter().find(|newer| newer.lease > one.lease && newer.at < sent);
                if let Some(newer) = newer.filter(|_| settled.was_taken()) {
                    return Err(format!(
                        "job {id}: under {} it was {settled:?} after {} was given",
                        one.lease, newer.lease
                    ));
                }
            }
        }
        Ok(several)
    }

    /// Nobody is given a job more often than it may be, and each attempt that failed counts. Answers
    /// how many deliveries were not the first.
    pub(super) fn attempts_are_bounded(&self) -> Checked {
        let most = self.attempts_max;
        for delivery in &self.deliveries {
            if !(1..=most).contains(&delivery.attempt) {
                let Delivery { id, attempt, .. } = delivery;
                return Err(format!("job {id} was given out for attempt {attempt} of {most}"));
            }
        }
        // Since failed attempts never outnumber the one they lead to, there are not more than that.
        for (id, of) in self.by_job() {
            let failed = failed_leases(&of);
            for Delivery { lease, attempt, .. } in of {
                let before = failed.range(..lease).count();
                if (*attempt as usize) <= before {
                    return Err(format!(
                        "job {id} was given out for attempt {attempt} under {lease}, after {before} \
                         that failed"
                    ));
                }
            }
        }
        if let Some(ended) = self.ended.iter().find(|ended| ended.attempts > most) {
            return Err(format!("job {} had {} attempts of {most}", ended.id, ended.attempts));
        }
        Ok(self.deliveries.iter().filter(|delivery| delivery.attempt > 1).count())
    }

    /// No delayed job comes before its time. Answers how many delayed ones came.
    pub(super) fn none_is_early(&self) -> Checked {
        let mut delayed = BTreeSet::new();
        for delivery in &self.deliveries {
            let Some(job) = self.pushed.get(&delivery.id) else { continue };
            if job.delay.is_zero() {
                continue;
            }
            let after = delivery.at.saturating_sub(job.sent);
            if after < job.delay {
                return Err(format!("{} came after {after:?} of {:?}", job.name, job.delay));
            }
            delayed.insert(delivery.id);
        }
        Ok(delayed.len())
    }

    /// The next of a group comes after its predecessor was settled for the last time. Answers how
    /// many pairs there were.
    pub(super) fn groups_are_in_order(&self) -> Checked {
        let mut groups: BTreeMap<&str, BTreeMap<u64, u64>> = BTreeMap::new();
        for (id, job) in &self.pushed {
            if let Some((key, number)) = &job.group {
                groups.entry(key).or_default().insert(*number, *id);
            }
        }
        let of = self.by_job();
        let mut pairs = 0;
        for jobs in groups.values() {
            let jobs: Vec<u64> = jobs.values().copied().collect();
            for pair in jobs.windows(2) {
                let (Some(before), Some(after)) = (of.get(&pair[0]), of.get(&pair[1])) else {
                    continue;
                };
                let begun = after.iter().map(|delivery| delivery.at).min().unwrap_or_default();
                // One that came too late to be settled may have come at any time.
                let late = before
                    .iter()
                    .filter_map(|delivery| delivery.settled)
                    .any(|(sent, settled)| settled.was_taken() && sent > begun);
                if late {
                    return Err(format!("job {} came before {} was settled", pair[1], pair[0]));
                }
                pairs += 1;
            }
        }
        Ok(pairs)
    }

    /// A push under the key of a job is that job. Answers how many there were.
    pub(super) fn duplicates_are_the_same(&self) -> Checked {
        for Again { id, answered, duplicate } in &self.again {
            if id != answered || !duplicate {
                return Err(format!("job {id} was pushed again, and became {answered}"));
            }
        }
        Ok(self.again.len())
    }

    fn by_job(&self) -> BTreeMap<u64, Vec<&Delivery>> {
        let mut of: BTreeMap<u64, Vec<&Delivery>> = BTreeMap::new();
        for delivery in &self.deliveries {
            of.entry(delivery.id).or_default().push(delivery);
        }
        of
    }
}

/// The leases of a job that certainly ended as failed attempts: by a failure that was answered, or by
/// themselves, since in the end nothing is leased any more.
fn failed_leases(of: &[&Delivery]) -> BTreeSet<u64> {
    let mut failed: BTreeSet<u64> = of.iter().map(|delivery| delivery.lease).collect();
    for delivery in of {
        // It is done or was handed back, or may be.
        if let Some((_, Settled::Done | Settled::Returned | Settled::Unknown)) = delivery.settled {
            failed.remove(&delivery.lease);
        }
    }
    failed
}

#[cfg(test)]
mod tests;
