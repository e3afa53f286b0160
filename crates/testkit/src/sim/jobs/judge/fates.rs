//! What becomes of jobs: each that was acknowledged is done, or a dead letter, and nothing else is.

use super::super::record::{Cause, History, Push, Pushed, Word, answered};
use crate::history::Outcome;
use std::collections::BTreeMap;

/// Every job that was added ends as one that was done or as a dead letter, but not as both.
pub(super) fn nothing_is_lost(history: &History) -> Vec<String> {
    let mut problems = Vec::new();
    for push in &history.pushes {
        let Some(id) = history.job_of(push) else { continue };
        let told =
            format!("{} (job {id} in {}, pushed at {:.3?})", push.name, push.queue, push.ended);
        let acks = || history.said_of(id).filter(|said| said.word == Word::Ack);
        let done = acks().any(|ack| ack.is_ok());
        let dead = history.rest.dead.contains_key(&id);
        if let Some(queue) = history.rest.left.get(&id) {
            problems.push(format!("{told} is still in {queue}"));
        } else if done && dead {
            problems.push(format!("{told} is done, and a dead letter as well"));
        } else if !done
            && !dead
            && !acks().any(|ack| ack.may_be_so())
            && !may_be_purged(history, push)
        {
            problems.push(format!("{told} is lost"));
        }
    }
    problems
}

/// Whether a purge of its queue may have come after it.
fn may_be_purged(history: &History, push: &Push) -> bool {
    let purges = history.removals.iter().filter(|purge| purge.queue == push.queue);
    purges.into_iter().any(|purge| match (&purge.outcome, push.pushed()) {
        (Outcome::Ok(revision), Some(pushed)) => pushed.revision < *revision,
        (Outcome::Failed, _) => false,
        (Outcome::Ok(_) | Outcome::Unknown, _) => true,
    })
}

/// Nothing comes of a push that was refused, or was one too many; of one whose outcome is unknown
/// at most one job.
pub(super) fn nothing_is_made_up(history: &History) -> Vec<String> {
    let mut problems = Vec::new();
    let mut names: BTreeMap<u64, &str> = BTreeMap::new();
    let mut ids: BTreeMap<&str, u64> = BTreeMap::new();
    for (id, name) in history.seen() {
        if names.insert(id, name).is_some_and(|before| before != name) {
            problems.push(format!("job {id} is {name}, and was another one before"));
        }
        if ids.insert(name, id).is_some_and(|before| before != id) {
            problems.push(format!("{name} was added more than once, last as job {id}"));
            continue;
        }
        match history.push_of(name).map(|push| &push.outcome) {
            None => problems.push(format!("job {id} is {name}, which nobody pushed")),
            Some(Outcome::Failed) => {
                problems.push(format!("job {id} is {name}, whose push was refused"));
            }
            Some(Outcome::Ok(Pushed { duplicate: true, .. })) => {
                problems.push(format!("job {id} is {name}, which was told to be a duplicate"));
            }
            Some(Outcome::Ok(pushed)) if pushed.id != id => {
                problems.push(format!("job {id} is {name}, which was told to be {}", pushed.id));
            }
            Some(Outcome::Ok(_) | Outcome::Unknown) => {}
        }
    }
    problems
}

/// A dead letter came to its last attempt, was killed by who had it last, or had a ttl. (How many
/// leases it had says nothing: those that were handed back are leases, too.)
pub(super) fn dead_letters_have_a_cause(history: &History) -> Vec<String> {
    let mut problems = Vec::new();
    for (id, letter) in &history.rest.dead {
        let attempts_max = history.kind(&letter.from).map_or(0, |kind| kind.attempts_max);
        let last = history.leases_of(*id).pop_last();
        let has_cause = match letter.cause {
            Cause::Attempts => {
                attempts_max > 0 && last.is_some_and(|(_, attempt)| attempt >= attempts_max)
            }
            Cause::Rejected => history.said_of(*id).any(|said| {
                let is_last = last.is_some_and(|(lease, _)| said.lease == lease);
                said.word == Word::Kill && said.may_be_so() && is_last
            }),
            Cause::Expired => {
                history.push_of(&letter.name).is_some_and(|push| push.wants.ttl.is_some())
            }
            Cause::None => false,
        };
        if !has_cause {
            problems.push(format!("job {id} is a dead letter without a cause: {letter:?}"));
        }
    }
    problems
}

/// Queues count as many acknowledgements and duplicates as clients were told of, and of those whose
/// outcome is unknown each once.
pub(super) fn queues_count_what_happened(history: &History) -> Vec<String> {
    let mut problems = Vec::new();
    for (queue, totals) in &history.rest.totals {
        let acks =
            || history.said.iter().filter(|said| said.queue == *queue && said.word == Word::Ack);
        let known = acks().filter(|ack| ack.is_ok()).count() as u64;
        let most = acks().filter(|ack| ack.may_be_so()).count() as u64;
        if totals.acked < known || totals.acked > most {
            problems.push(format!(
                "{queue} counts {} acknowledgements, but {known} were told of, and at most {most} \
                 were made",
                totals.acked
            ));
        }
        let pushes = || {
            let pushes = history.pushes.iter().filter(|push| push.queue == *queue);
            pushes.filter(|push| push.wants.dedupe.is_some())
        };
        let is_duplicate = |push: &&Push| answered(&push.outcome).is_some_and(|of| of.duplicate);
        let known = pushes().filter(is_duplicate).count() as u64;
        let most = pushes().filter(|push| push.outcome == Outcome::Unknown).count() as u64 + known;
        if totals.duplicates < known || totals.duplicates > most {
            problems.push(format!(
                "{queue} counts {} duplicates, but {known} were told of, and at most {most} were \
                 pushed",
                totals.duplicates
            ));
        }
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::super::super::record::{Letter, Removal};
    use super::super::made_up::{Q, delivered, done, empty, finds, passes, pushed, s, said};
    use super::*;

    fn letter(id: u64, cause: Cause) -> Letter {
        Letter { name: format!("j{id}"), from: Q.to_owned(), cause }
    }

    #[test]
    fn a_job_that_was_acknowledged_and_never_done_is_lost() {
        let mut history = done(1, 10);
        history.pushes.push(pushed(2));
        finds(&history, "j2 (job 2 in q, pushed at 2.000s) is lost");
        // It was delivered, and nobody knows whether its acknowledgement came.
        history.deliveries.push(delivered(2, 20, 1, 3));
        finds(&history, "is lost");
        history.said.push(said(2, 20, Word::Ack, 4));
        history.said[1].outcome = Outcome::Unknown;
        passes(&history);
        history.said[1].outcome = Outcome::Failed;
        finds(&history, "is lost");
    }

    #[test]
    fn a_purge_takes_what_was_pushed_before_it_alone() {
        let mut history = empty();
        history.pushes.push(pushed(2));
        let purge = |outcome| Removal { queue: Q, asked: s(1), outcome };
        history.removals = vec![purge(Outcome::Ok(3))];
        passes(&history);
        history.removals = vec![purge(Outcome::Unknown)];
        passes(&history);
        history.removals = vec![purge(Outcome::Ok(1)), purge(Outcome::Failed)];
        finds(&history, "is lost");
    }

    #[test]
    fn a_job_that_is_left_or_done_and_dead_is_found() {
        let mut history = done(1, 10);
        history.rest.left.insert(1, Q);
        finds(&history, "is still in q");
        let mut history = done(1, 10);
        history.said.push(said(1, 10, Word::Kill, 1));
        history.rest.dead.insert(1, letter(1, Cause::Rejected));
        finds(&history, "is done, and a dead letter as well");
    }

    #[test]
    fn jobs_that_nobody_pushed_are_found() {
        let mut history = done(1, 10);
        history.deliveries.push(delivered(2, 20, 1, 3));
        finds(&history, "job 2 is j2, which nobody pushed");
        history.pushes.push(Push { outcome: Outcome::Failed, ..pushed(2) });
        finds(&history, "whose push was refused");
        history.pushes[1].outcome = pushed(7).outcome;
        finds(&history, "which was told to be 7");
        let duplicate = Pushed { id: 1, duplicate: true, revision: 2 };
        history.pushes[1].outcome = Outcome::Ok(duplicate);
        finds(&history, "which was told to be a duplicate");
        let mut history = done(1, 10);
        history.deliveries.push(delivered(1, 11, 2, 3));
        history.deliveries[1].name = "j7".to_owned();
        finds(&history, "job 1 is j7, and was another one before");
    }

    #[test]
    fn a_push_of_unknown_outcome_adds_one_job_at_most() {
        let mut history = done(1, 10);
        history.pushes[0].outcome = Outcome::Unknown;
        passes(&history);
        history.deliveries.push(delivered(2, 20, 1, 3));
        history.deliveries[1].name = "j1".to_owned();
        finds(&history, "j1 was added more than once, last as job 2");
    }

    #[test]
    fn a_dead_letter_without_a_cause_is_found() {
        let mut history = empty();
        history.pushes.push(pushed(1));
        history.deliveries = vec![delivered(1, 10, 1, 2)];
        for cause in [Cause::None, Cause::Attempts, Cause::Rejected, Cause::Expired] {
            history.rest.dead.insert(1, letter(1, cause));
            finds(&history, "job 1 is a dead letter without a cause");
        }
        history.pushes[0].wants.ttl = Some(s(1));
        passes(&history);
        history.rest.dead.insert(1, letter(1, Cause::Rejected));
        history.said.push(said(1, 10, Word::Kill, 2));
        passes(&history);
        // The nodes gave it to somebody who was not told, and who can't have been killing it.
        history.given.entry(1).or_default().extend([(10, 1), (11, 2)]);
        finds(&history, "job 1 is a dead letter without a cause");
        history.rest.dead.insert(1, letter(1, Cause::Attempts));
        passes(&history);
        // It was handed back, and so did not come to its last attempt.
        history.given.entry(1).or_default().insert(11, 1);
        finds(&history, "job 1 is a dead letter without a cause");
    }

    #[test]
    fn counts_that_are_off_are_found() {
        for counted in [0, 2] {
            let mut history = done(1, 10);
            history.rest.totals.entry(Q).or_default().acked = counted;
            finds(&history, "acknowledgements, but 1 were told of");
        }
        let mut history = done(1, 10);
        history.rest.totals.entry(Q).or_default().duplicates = 1;
        finds(&history, "q counts 1 duplicates, but 0 were told of");
    }
}
