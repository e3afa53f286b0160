//! What must not be, found in what was written down. Each judgement is a function of that alone,
//! and has a history made up by hand that it must not let pass.

mod fates;
mod leases;
mod order;
mod waits;

use super::record::History;

/// All that must not be.
pub(super) fn problems(history: &History) -> Vec<String> {
    let judgements: [fn(&History) -> Vec<String>; 14] = [
        fates::nothing_is_lost,
        fates::nothing_is_made_up,
        fates::dead_letters_have_a_cause,
        fates::queues_count_what_happened,
        leases::a_job_is_done_once,
        leases::a_lease_is_told_once,
        leases::old_leases_say_nothing,
        leases::leases_last_as_long_as_they_were_told_to,
        leases::attempts_are_counted,
        order::nothing_comes_before_its_time,
        order::groups_are_done_in_order,
        order::duplicates_are_recognised,
        waits::what_is_ready_is_taken,
        waits::who_lives_is_served,
    ];
    judgements.iter().flat_map(|judge| judge(history)).collect()
}

/// Histories made up by hand.
#[cfg(test)]
mod made_up {
    use super::super::record::{Delivery, History, Kind, Push, Pushed, Said, Wants, Word};
    use crate::history::Outcome;
    use std::time::Duration;

    pub(super) const Q: &str = "q";

    pub(super) fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    pub(super) fn empty() -> History {
        let kind = Kind {
            name: Q,
            visibility: s(2),
            attempts_max: 2,
            backoff: s(1),
            dedupe_window: s(60),
        };
        History { queues: vec![kind], ..History::default() }
    }

    /// The job `id` with the name `j<id>`, pushed in the second `id` at the revision `id`.
    pub(super) fn pushed(id: u64) -> Push {
        let outcome = Outcome::Ok(Pushed { id, duplicate: false, revision: id });
        let (name, wants) = (format!("j{id}"), Wants::default());
        Push { name, queue: Q, wants, asked: s(id), ended: s(id), outcome }
    }

    /// Told to client 1 at `told`, and not pulled.
    pub(super) fn delivered(job: u64, lease: u64, attempt: u32, told: u64) -> Delivery {
        let (name, told) = (format!("j{job}"), s(told));
        Delivery { client: 1, queue: Q, job, lease, attempt, name, told, pulled: None }
    }

    pub(super) fn said(job: u64, lease: u64, word: Word, asked: u64) -> Said {
        Said { queue: Q, job, lease, word, asked: s(asked), outcome: Outcome::Ok(s(0)) }
    }

    /// A job that was pushed, delivered and acknowledged.
    pub(super) fn done(id: u64, lease: u64) -> History {
        let mut history = empty();
        history.pushes.push(pushed(id));
        history.deliveries.push(delivered(id, lease, 1, id + 1));
        history.said.push(said(id, lease, Word::Ack, id + 1));
        history.rest.totals.entry(Q).or_default().acked = 1;
        history
    }

    #[track_caller]
    pub(super) fn finds(history: &History, what: &str) {
        let problems = super::problems(history);
        assert!(problems.iter().any(|problem| problem.contains(what)), "{what:?}: {problems:#?}");
    }

    #[track_caller]
    pub(super) fn passes(history: &History) {
        let problems = super::problems(history);
        assert!(problems.is_empty(), "{problems:#?}");
    }

    #[test]
    fn what_went_well_passes() {
        passes(&empty());
        passes(&done(1, 10));
    }
}
