//! What pushers and workers saw of a queue, and what of that can't be. Pure.

use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// By so much a time may seem shorter here than it was for the cluster, whose clocks count in
/// milliseconds and go at their own rate.
const MARGIN: Duration = Duration::from_millis(20);

/// A push of a job, the first or another under its dedupe key.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Push {
    /// No other job has it; it is the payload.
    pub(super) name: String,
    /// Before it was sent.
    pub(super) sent: Duration,
    pub(super) delay: Duration,
    pub(super) came: Pushed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Pushed {
    /// It is this job, and whether it was before.
    Is {
        id: u64,
        duplicate: bool,
    },
    Not,
    Unknown,
}

/// A job that was handed to a worker.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Delivery {
    pub(super) name: String,
    pub(super) id: u64,
    pub(super) lease: u64,
    pub(super) attempt: u32,
    /// When it was there.
    pub(super) at: Duration,
    /// Before it was said what became of it, and what came of that; none when nothing was said.
    pub(super) said: Option<(Duration, Said)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Said {
    Done,
    /// It failed, and is not to come again before so long.
    Failed {
        wait: Duration,
    },
    Returned,
    /// It came too late: the lease had ended.
    Late,
    /// Of no effect: the lease goes on.
    Not,
    Unknown,
}

/// A job as it is at the end.
#[derive(Clone, Debug, Serialize)]
pub(super) struct End {
    pub(super) name: String,
    pub(super) id: u64,
    /// Or else a dead letter, or still waiting.
    pub(super) done: bool,
    pub(super) attempts: u32,
}

#[derive(Debug, Default)]
pub(super) struct History {
    pub(super) attempts_max: u32,
    pub(super) pushes: Vec<Push>,
    pub(super) deliveries: Vec<Delivery>,
    pub(super) ends: Vec<End>,
}

/// What all pushes of one name came to.
#[derive(Default)]
struct Known {
    id: Option<u64>,
    unknown: bool,
    /// From the end of the last first push that may have made it.
    earliest: Duration,
}

impl History {
    /// What can't be, a line each.
    pub(super) fn check(&self) -> Vec<String> {
        let mut breaches = Vec::new();
        let known = self.pushes_agree(&mut breaches);
        self.nothing_is_lost_or_invented(&known, &mut breaches);
        let mut of: BTreeMap<u64, Vec<&Delivery>> = BTreeMap::new();
        for delivery in &self.deliveries {
            of.entry(delivery.id).or_default().push(delivery);
        }
        for deliveries in of.values_mut() {
            deliveries.sort_by_key(|delivery| (delivery.lease, delivery.at));
            one_lease_counts(deliveries, &mut breaches);
            nothing_is_early(deliveries, &mut breaches);
            self.attempts_are_counted(deliveries, &mut breaches);
        }
        for End { name, id, done, attempts } in &self.ends {
            if *attempts > self.attempts_max {
                breaches.push(format!("{name} had {attempts} attempts of {}", self.attempts_max));
            }
            let said = of.get(id).into_iter().flatten().filter_map(|one| one.said);
            let (mut acks, mut unknown) = (0, 0);
            for (_, said) in said {
                acks += u32::from(said == Said::Done);
                unknown += u32::from(said == Said::Unknown);
            }
            if !matches!((done, acks, unknown), (true, 1, _) | (true, 0, 1..) | (false, 0, _)) {
                breaches.push(format!(
                    "{name} (job {id}) is done: {done}; {acks} acknowledgements were taken, {unknown} \
                     may have been"
                ));
            }
        }
        breaches
    }

    /// All pushes of a name are one job.
    fn pushes_agree(&self, breaches: &mut Vec<String>) -> BTreeMap<&str, Known> {
        let mut names: BTreeMap<&str, Known> = BTreeMap::new();
        for push in &self.pushes {
            let name = &push.name[..];
            let known = names.entry(name).or_insert_with(|| Known {
                // A later push can't make it any earlier.
                earliest: push.sent + push.delay,
                ..Known::default()
            });
            match push.came {
                Pushed::Is { id, duplicate } => {
                    if known.id.is_some_and(|before| before != id) {
                        breaches.push(format!("{name} is job {:?}, and again {id}", known.id));
                    }
                    // Where nothing of it was there before, or certainly was, that is known.
                    if duplicate != known.id.is_some() && !known.unknown {
                        breaches.push(format!("{name}, job {id}, is a duplicate: {duplicate}"));
                    }
                    known.id = Some(id);
                }
                Pushed::Not => {}
                Pushed::Unknown => known.unknown = true,
            }
        }
        names
    }

    fn nothing_is_lost_or_invented(
        &self,
        known: &BTreeMap<&str, Known>,
        breaches: &mut Vec<String>,
    ) {
        let (mut ids, mut names) = (BTreeSet::new(), BTreeSet::new());
        for end in &self.ends {
            if !ids.insert(end.id) || !names.insert(&end.name[..]) {
                breaches.push(format!("{} (job {}) is there twice", end.name, end.id));
            }
        }
        for (name, known) in known {
            if let Some(id) = known.id
                && !names.contains(name)
            {
                breaches.push(format!("{name} (job {id}) was acknowledged, and is lost"));
            }
        }
        let delivered = self.deliveries.iter().map(|one| (&one.name, one.id, Some(one.at)));
        let ended = self.ends.iter().map(|one| (&one.name, one.id, None));
        for (name, id, at) in delivered.chain(ended) {
            let Some(known) = known.get(&name[..]) else {
                breaches.push(format!("{name} (job {id}) was never pushed"));
                continue;
            };
            match known.id {
                Some(pushed) if pushed != id => {
                    breaches.push(format!("{name} is job {id}, and was pushed as {pushed}"));
                }
                None if !known.unknown => {
                    breaches.push(format!("{name} is job {id}, and its push certainly failed"));
                }
                _ => {}
            }
            if at.is_some_and(|at| at + MARGIN < known.earliest) {
                let earliest = known.earliest;
                breaches.push(format!("{name} came at {at:?}, and was delayed to {earliest:?}"));
            }
        }
    }

    /// Each failure that was taken counts as an attempt, and there are not more than there may be.
    fn attempts_are_counted(&self, of: &[&Delivery], breaches: &mut Vec<String>) {
        let mut failed = 0;
        for Delivery { name, lease, attempt, said, .. } in of {
            if *attempt <= failed || *attempt > self.attempts_max {
                breaches.push(format!(
                    "{name} was given out for attempt {attempt} of {} under {lease}, after {failed} \
                     that failed",
                    self.attempts_max
                ));
            }
            failed += u32::from(matches!(said, Some((_, Said::Failed { .. }))));
        }
    }
}

/// Of one job, by lease: what was said under one is not taken any more once another was given, and one
/// that was settled is not given again.
fn one_lease_counts(of: &[&Delivery], breaches: &mut Vec<String>) {
    for (place, one) in of.iter().enumerate() {
        let Some((sent, said)) = one.said else { continue };
        let taken = matches!(said, Said::Done | Said::Failed { .. } | Said::Returned);
        for other in &of[place + 1..] {
            let Delivery { name, lease, at, .. } = other;
            let wrong = match said {
                Said::Done => "was given out after it was done",
                _ if taken && *lease == one.lease => "was given out twice under one lease",
                _ if taken && *at < sent => "was settled after another lease was given",
                _ => continue,
            };
            breaches.push(format!(
                "{name} {wrong}: {lease} at {at:?}; before: {said:?} under {}, sent at {sent:?}",
                one.lease
            ));
        }
    }
}

/// Of one job, by lease: after a failure it waits.
fn nothing_is_early(of: &[&Delivery], breaches: &mut Vec<String>) {
    for pair in of.windows(2) {
        let [before, after] = pair else { continue };
        if let Some((sent, Said::Failed { wait })) = before.said
            && after.at + MARGIN < sent + wait
        {
            let (name, at) = (&after.name, after.at);
            breaches
                .push(format!("{name} came at {at:?}; it failed at {sent:?}, to wait {wait:?}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn push(name: &str, came: Pushed) -> Push {
        Push { name: name.to_owned(), sent: ms(100), delay: ms(0), came }
    }

    fn is(id: u64) -> Pushed {
        Pushed::Is { id, duplicate: false }
    }

    fn delivery(id: u64, lease: u64, attempt: u32, said: Option<(u64, Said)>) -> Delivery {
        let said = said.map(|(sent, said)| (ms(sent), said));
        Delivery { name: format!("n{id}"), id, lease, attempt, at: ms(lease * 10), said }
    }

    fn end(id: u64, done: bool) -> End {
        End { name: format!("n{id}"), id, done, attempts: 1 }
    }

    /// Job 1 fails once and is done then; of 2 the push and the end are unknown; 3 was refused; 4
    /// lapses, is handed back, and is a dead letter in the end.
    fn right() -> History {
        let failed = Said::Failed { wait: ms(50) };
        History {
            attempts_max: 3,
            pushes: vec![
                push("n1", is(1)),
                push("n1", Pushed::Is { id: 1, duplicate: true }),
                push("n2", Pushed::Unknown),
                push("n3", Pushed::Not),
                push("n4", is(4)),
            ],
            deliveries: vec![
                delivery(1, 20, 1, Some((210, failed))),
                delivery(1, 30, 2, Some((310, Said::Done))),
                delivery(2, 21, 1, Some((220, Said::Unknown))),
                delivery(4, 22, 1, None),
                delivery(4, 32, 2, Some((330, Said::Returned))),
                delivery(4, 33, 2, Some((340, Said::Failed { wait: ms(0) }))),
            ],
            ends: vec![end(1, true), end(2, true), end(4, false)],
        }
    }

    #[track_caller]
    fn finds(change: impl FnOnce(&mut History), part: &str) {
        let mut history = right();
        change(&mut history);
        let breaches = history.check();
        assert!(breaches.iter().any(|breach| breach.contains(part)), "{breaches:?}");
    }

    #[test]
    fn what_may_be_is_not_found() {
        assert_eq!(right().check(), Vec::<String>::new());
        let mut other = right();
        other.ends.retain(|end| end.id != 2);
        other.deliveries.retain(|delivery| delivery.id != 2);
        assert_eq!(other.check(), Vec::<String>::new());
    }

    #[test]
    fn a_lost_job_is_found() {
        finds(|history| drop(history.ends.remove(0)), "n1 (job 1) was acknowledged, and is lost");
    }

    #[test]
    fn an_invented_job_is_found() {
        finds(|history| history.ends.push(end(9, false)), "n9 (job 9) was never pushed");
        finds(|history| history.ends.push(end(3, false)), "certainly failed");
        finds(|history| history.deliveries.push(delivery(3, 40, 1, None)), "certainly failed");
    }

    #[test]
    fn a_doubled_job_is_found() {
        let twice = End { id: 8, ..end(1, true) };
        finds(|history| history.ends.push(twice), "is there twice");
        finds(|history| history.pushes.push(push("n1", is(8))), "and again 8");
        let anew = Pushed::Is { id: 1, duplicate: false };
        finds(|history| history.pushes.push(push("n1", anew)), "is a duplicate: false");
    }

    #[test]
    fn two_acknowledgements_are_found() {
        let done = Some((320, Said::Done));
        finds(|history| history.deliveries.push(delivery(1, 29, 2, done)), "2 acknowledgements");
        finds(|history| history.deliveries.push(delivery(1, 41, 3, None)), "after it was done");
        finds(|history| history.ends[0].done = false, "is done: false; 1 ack");
        finds(|history| history.ends[2].done = true, "is done: true; 0 ack");
    }

    #[test]
    fn a_lease_that_counts_too_long_is_found() {
        let late = Some((400, Said::Failed { wait: ms(0) }));
        finds(
            |history| history.deliveries[3].said = late.map(|(at, said)| (ms(at), said)),
            "another lease",
        );
        let again = delivery(4, 33, 2, None);
        finds(|history| history.deliveries.push(again), "twice under one lease");
    }

    #[test]
    fn an_early_job_is_found() {
        finds(|history| history.pushes[0].delay = ms(150), "was delayed to");
        finds(|history| history.deliveries[1].at = ms(230), "to wait 50ms");
    }

    #[test]
    fn a_wrong_attempt_is_found() {
        finds(|history| history.deliveries[1].attempt = 1, "after 1 that failed");
        finds(|history| history.deliveries[1].attempt = 4, "attempt 4 of 3");
        finds(|history| history.ends[2].attempts = 4, "had 4 attempts of 3");
    }
}
