//! Leases of one job: they follow each other, and only under the newest can anything be said. Their
//! numbers grow in the order in which the nodes give them, whatever the order in which clients
//! hear.

use super::super::super::invariants::SLACK;
use super::super::record::{Delivery, History, Word};
use crate::history::Outcome;
use std::collections::BTreeMap;
use std::time::Duration;

/// An acknowledged job is over: it was acknowledged under one lease, the last that it had.
pub(super) fn a_job_is_done_once(history: &History) -> Vec<String> {
    let mut problems = Vec::new();
    for ack in history.said.iter().filter(|said| said.word == Word::Ack && said.is_ok()) {
        let (job, lease) = (ack.job, ack.lease);
        if let Some((later, _)) = history.leases_of(job).range(lease + 1..).next() {
            problems.push(format!(
                "job {job} was acknowledged under lease {lease} at {:.3?}, and then given again \
                 under {later}",
                ack.asked
            ));
        }
        let others = history.said_of(job).filter(|said| said.is_ok());
        for other in others.filter(|said| said.lease > lease) {
            problems.push(format!(
                "job {job} was acknowledged under lease {lease}, and under {} it was said: {:?}",
                other.lease, other.word
            ));
        }
    }
    problems
}

/// Each lease is of one job, and told to one client. That is told again only of what it let go of
/// with a word that had no answer, or none that helped: for all it knows the job is still its own.
pub(super) fn a_lease_is_told_once(history: &History) -> Vec<String> {
    let mut told: BTreeMap<u64, &Delivery> = BTreeMap::new();
    let mut problems = Vec::new();
    for delivery in &history.deliveries {
        let Some(before) = told.insert(delivery.lease, delivery) else { continue };
        let of_one = (before.job, before.client) == (delivery.job, delivery.client);
        let mut words = history.said_of(delivery.job).filter(|said| said.lease == delivery.lease);
        let let_go = words.any(|said| {
            !matches!(said.word, Word::Extend(_)) && !said.is_ok() && said.asked < delivery.told
        });
        if !of_one || !let_go {
            problems.push(format!("a lease was told twice: {before:?}, and {delivery:?}"));
        }
    }
    problems
}

/// Whoever has a lease that is not the newest is told so, whatever it says.
pub(super) fn old_leases_say_nothing(history: &History) -> Vec<String> {
    let jobs = history.by_job();
    let mut problems = Vec::new();
    for said in history.said.iter().filter(|said| said.is_ok()) {
        let deliveries = jobs.get(&said.job).map_or(&[][..], Vec::as_slice);
        let newer = deliveries
            .iter()
            .find(|newer| newer.lease > said.lease && newer.told + SLACK < said.asked);
        if let Some(newer) = newer {
            problems.push(format!(
                "{said:?} had an effect, but since {:.3?} client {} has job {} under lease {}",
                newer.told, newer.client, said.job, newer.lease
            ));
        }
    }
    problems
}

/// A job that was pulled comes to nobody else before its lease has ended: by its time, or by what
/// its client said. (That of a consumer may end with its session.)
pub(super) fn leases_last_as_long_as_they_were_told_to(history: &History) -> Vec<String> {
    let mut problems = Vec::new();
    for deliveries in history.by_job().into_values() {
        for (nth, delivery) in deliveries.iter().enumerate() {
            let Some(until) = lasts_until(history, delivery) else { continue };
            let next = deliveries[nth + 1..].iter().min_by_key(|next| next.told);
            if let Some(next) = next.filter(|next| next.told + SLACK < until) {
                let Delivery { job, client, lease, .. } = delivery;
                problems.push(format!(
                    "job {job} is client {client}'s under lease {lease} until {until:.3?} at \
                     least, but was given to client {} under {} at {:.3?}",
                    next.client, next.lease, next.told
                ));
            }
        }
    }
    problems
}

/// Until when a lease lasts at least. It was given after it was asked for.
fn lasts_until(history: &History, delivery: &Delivery) -> Option<Duration> {
    let mut until = delivery.pulled? + history.kind(delivery.queue)?.visibility;
    let said = history.said_of(delivery.job).filter(|said| said.lease == delivery.lease);
    for said in said {
        match (said.word, &said.outcome) {
            (_, Outcome::Failed) => {}
            // It is counted anew; that may also be shorter.
            (Word::Extend(_), Outcome::Ok(left)) => until = said.asked + *left,
            (Word::Extend(length), Outcome::Unknown) => until = until.min(said.asked + length),
            (Word::Ack | Word::Nack | Word::Kill | Word::HandBack, _) => {
                until = until.min(said.asked);
            }
        }
    }
    Some(until)
}

/// Every delivery counts as one attempt at most, one whose failure was answered as one, and there are
/// no more than there may be.
pub(super) fn attempts_are_counted(history: &History) -> Vec<String> {
    let mut problems = Vec::new();
    for (job, deliveries) in history.by_job() {
        let attempts_max = history.kind(deliveries[0].queue).map_or(0, |kind| kind.attempts_max);
        let has_ttl =
            history.push_of(&deliveries[0].name).is_some_and(|push| push.wants.ttl.is_some());
        let mut before = 0;
        let mut failed = None;
        for (lease, attempt) in history.leases_of(job) {
            if attempts_max > 0 && attempt > attempts_max {
                problems.push(format!(
                    "job {job} was given for attempt {attempt} under lease {lease}, and may have \
                     {attempts_max}"
                ));
            }
            if attempt == 0 || attempt > before + 1 {
                problems.push(format!(
                    "job {job} was given for attempt {attempt} under lease {lease}, after attempt \
                     {before}"
                ));
            }
            if let Some(failed) = failed.filter(|_| attempt <= before) {
                problems.push(format!(
                    "job {job} was given for attempt {attempt} under lease {lease}, though attempt \
                     {before} under {failed} had failed"
                ));
            }
            before = attempt;
            // What was its last attempt, or has a ttl, may be a dead letter that was put back.
            let may_die = has_ttl || attempt == attempts_max;
            let nacked = history
                .said_of(job)
                .any(|said| said.lease == lease && said.word == Word::Nack && said.is_ok());
            failed = (nacked && !may_die).then_some(lease);
        }
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::super::made_up::{delivered, done, empty, finds, passes, pushed, s, said};
    use super::*;

    #[test]
    fn a_job_that_is_given_again_after_it_was_done_is_found() {
        let mut history = done(1, 10);
        history.given.entry(1).or_default().insert(9, 1);
        history.deliveries[0].attempt = 2;
        passes(&history);
        history.given.entry(1).or_default().insert(11, 2);
        finds(&history, "acknowledged under lease 10 at 2.000s, and then given again under 11");
    }

    #[test]
    fn a_job_that_is_done_under_two_leases_is_found() {
        let mut history = done(1, 10);
        history.deliveries.push(delivered(1, 11, 2, 2));
        history.said.push(said(1, 11, Word::Ack, 2));
        finds(&history, "acknowledged under lease 10, and under 11 it was said: Ack");
    }

    #[test]
    fn a_lease_that_two_are_told_of_is_found() {
        let mut history = done(1, 10);
        history.deliveries.push(delivered(1, 10, 1, 3));
        finds(&history, "a lease was told twice");
        // Its client has tried to say something, and was told again.
        history.said.push(said(1, 10, Word::Nack, 2));
        history.said[1].outcome = Outcome::Unknown;
        passes(&history);
        history.deliveries[1].client = 2;
        finds(&history, "a lease was told twice");
    }

    #[test]
    fn what_is_said_under_an_old_lease_must_fail() {
        for word in [Word::Ack, Word::Nack, Word::Extend(s(1))] {
            let mut history = done(1, 11);
            history.deliveries[0].attempt = 2;
            history.deliveries.push(delivered(1, 10, 1, 1));
            history.said.push(said(1, 10, word, 5));
            finds(&history, "had an effect, but since 2.000s client 1 has job 1 under lease 11");
            history.said[1].outcome = Outcome::Failed;
            passes(&history);
        }
    }

    #[test]
    fn a_lease_that_is_cut_short_is_found() {
        let mut history = empty();
        history.pushes.push(pushed(1));
        history.deliveries = vec![delivered(1, 10, 1, 4), delivered(1, 11, 2, 5)];
        history.deliveries[0].pulled = Some(s(4));
        history.said.push(said(1, 11, Word::Ack, 6));
        finds(&history, "until 6.000s at least, but was given to client 1 under 11 at 5.000s");
        history.deliveries[1].told = s(6);
        passes(&history);
        // It was made to last longer.
        history.said.push(said(1, 10, Word::Extend(s(9)), 5));
        history.said[1].outcome = Outcome::Ok(s(9));
        finds(&history, "until 14.000s at least");
        // Or perhaps not.
        history.said[1].outcome = Outcome::Unknown;
        passes(&history);
        // It was given back, or may have been.
        history.deliveries[1].told = s(5);
        history.said[1] = said(1, 10, Word::HandBack, 4);
        passes(&history);
        history.said[1].outcome = Outcome::Failed;
        finds(&history, "until 6.000s at least");
    }

    #[test]
    fn attempts_that_are_too_many_or_counted_wrong_are_found() {
        let mut history = done(1, 12);
        history.given.entry(1).or_default().extend([(10, 1), (11, 2)]);
        history.deliveries[0].attempt = 3;
        finds(&history, "for attempt 3 under lease 12, and may have 2");
        // Handed back.
        history.deliveries[0].attempt = 2;
        passes(&history);
        history.given.entry(1).or_default().insert(11, 1);
        passes(&history);
        history.given.clear();
        finds(&history, "for attempt 2 under lease 12, after attempt 0");
        history.deliveries[0].attempt = 0;
        finds(&history, "for attempt 0");
    }

    #[test]
    fn a_failure_that_is_not_counted_is_found() {
        let mut history = done(1, 11);
        history.given.entry(1).or_default().insert(10, 1);
        history.said.push(said(1, 10, Word::Nack, 1));
        finds(&history, "for attempt 1 under lease 11, though attempt 1 under 10 had failed");
        // It was not taken, or it is not known whether it was.
        for outcome in [Outcome::Failed, Outcome::Unknown] {
            history.said[1].outcome = outcome;
            passes(&history);
        }
        history.said[1].outcome = Outcome::Ok(s(0));
        history.deliveries[0].attempt = 2;
        passes(&history);
        // It was a dead letter meanwhile: its time was up, or its attempts were used up.
        history.deliveries[0].attempt = 1;
        history.pushes[0].wants.ttl = Some(s(1));
        passes(&history);
        history.pushes[0].wants.ttl = None;
        history.given.entry(1).or_default().extend([(9, 1), (10, 2)]);
        passes(&history);
    }
}
