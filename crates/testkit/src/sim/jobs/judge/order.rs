//! When and in which order jobs come, and which are the same.

use super::super::super::invariants::SLACK;
use super::super::record::{History, Push, Word, answered};
use crate::history::Outcome;
use std::collections::BTreeMap;

/// A job that waits, because its push or its worker said so, is not delivered before its time. (One
/// with a ttl may have been put back from the dead letters meanwhile.)
pub(super) fn nothing_comes_before_its_time(history: &History) -> Vec<String> {
    let mut problems = Vec::new();
    let jobs = history.by_job();
    for push in history.pushes.iter().filter(|push| push.wants.ttl.is_none()) {
        let Some((id, deliveries)) = history.job_of(push).and_then(|id| jobs.get_key_value(&id))
        else {
            continue;
        };
        let after = push.asked + push.wants.delay;
        if let Some(early) = deliveries.iter().find(|early| early.told + SLACK < after) {
            problems.push(format!(
                "{} was to wait until {after:.3?} at least, but came at {:.3?}",
                push.name, early.told
            ));
        }
        for nack in history.said_of(*id).filter(|said| said.word == Word::Nack) {
            let Some(wait) = answered(&nack.outcome) else { continue };
            let after = nack.asked + wait;
            let next = deliveries.iter().filter(|next| next.lease > nack.lease);
            if let Some(early) = next.into_iter().find(|early| early.told + SLACK < after) {
                problems.push(format!(
                    "{} was to wait until {after:.3?} at least, as its worker had said under lease \
                     {}, but came at {:.3?}",
                    push.name, nack.lease, early.told
                ));
            }
        }
    }
    problems
}

/// A job of a group is not delivered before all those are over that were pushed before it. (Of a
/// queue whose dead letters are put back this would not be so.)
pub(super) fn groups_are_done_in_order(history: &History) -> Vec<String> {
    let mut groups: BTreeMap<(&str, &str), Vec<u64>> = BTreeMap::new();
    for push in &history.pushes {
        let (Some(group), Some(id)) = (&push.wants.group, history.job_of(push)) else { continue };
        groups.entry((push.queue, group)).or_default().push(id);
    }
    let mut problems = Vec::new();
    for ((queue, group), mut ids) in groups {
        // They count up in the order of the pushes.
        ids.sort_unstable();
        for (nth, id) in ids.iter().enumerate() {
            for delivery in history.deliveries.iter().filter(|delivery| delivery.job == *id) {
                let unfinished = ids[..nth].iter().find(|earlier| {
                    let again =
                        history.leases_of(**earlier).range(delivery.lease..).next().is_some();
                    let mut words = history.said_of(**earlier).filter(|said| said.is_ok());
                    again || words.any(|said| said.asked > delivery.told + SLACK)
                });
                if let Some(earlier) = unfinished {
                    problems.push(format!(
                        "job {id} of {group} in {queue} was delivered under lease {} at {:.3?}, \
                         while job {earlier}, which came before it, was not finished",
                        delivery.lease, delivery.told
                    ));
                }
            }
        }
    }
    problems
}

/// Within the window of its key a push is answered with the job that was added under that, and adds
/// none itself.
pub(super) fn duplicates_are_recognised(history: &History) -> Vec<String> {
    let mut keys: BTreeMap<(&str, &str), Vec<&Push>> = BTreeMap::new();
    for push in &history.pushes {
        if let Some(key) = &push.wants.dedupe {
            keys.entry((push.queue, key)).or_default().push(push);
        }
    }
    let mut problems = Vec::new();
    for ((queue, key), mut pushes) in keys {
        let unknown: Vec<&Push> =
            pushes.iter().copied().filter(|push| push.outcome == Outcome::Unknown).collect();
        pushes.retain(|push| push.pushed().is_some());
        pushes.sort_by_key(|push| push.pushed().map(|pushed| pushed.revision));
        let window = history.kind(queue).map(|kind| kind.dedupe_window).unwrap_or_default();
        let mut first: Option<&Push> = None;
        for push in pushes {
            let Some(pushed) = push.pushed() else { continue };
            let known = first.and_then(Push::pushed).map(|first| first.id);
            if pushed.duplicate {
                // One of unknown outcome may have been added meanwhile.
                let of_unknown = unknown
                    .iter()
                    .any(|push| history.job_of(push).is_none_or(|job| job == pushed.id));
                if known != Some(pushed.id) && !of_unknown {
                    problems.push(format!(
                        "{} was told to be a duplicate of job {}, but under {key} in {queue} \
                         {known:?} was pushed",
                        push.name, pushed.id
                    ));
                }
                continue;
            }
            if let Some(first) = first.filter(|first| push.ended + SLACK < first.asked + window) {
                problems.push(format!(
                    "{} was added at {:.3?} as job {}, but under {key} in {queue} {} had been at \
                     {:.3?}, and counts for {window:?}",
                    push.name, push.ended, pushed.id, first.name, first.asked
                ));
            }
            first = Some(push);
        }
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::super::super::record::Pushed;
    use super::super::made_up::{Q, delivered, done, empty, finds, passes, pushed, s, said};
    use super::*;

    #[test]
    fn a_job_that_comes_before_its_time_is_found() {
        let mut history = done(1, 10);
        history.pushes[0].wants.delay = s(1);
        passes(&history);
        history.pushes[0].wants.delay = s(2);
        finds(&history, "j1 was to wait until 3.000s at least, but came at 2.000s");
    }

    #[test]
    fn a_job_that_is_tried_again_before_its_time_is_found() {
        let mut history = done(1, 11);
        history.deliveries[0] = delivered(1, 11, 2, 4);
        history.deliveries.push(delivered(1, 10, 1, 2));
        history.said[0].asked = s(4);
        history.said.push(said(1, 10, Word::Nack, 2));
        history.said[1].outcome = Outcome::Ok(s(2));
        passes(&history);
        history.said[1].outcome = Outcome::Ok(s(3));
        finds(&history, "was to wait until 5.000s at least, as its worker had said under lease 10");
    }

    /// Jobs 1 and 2 of a group, the first of which fails once.
    fn grouped() -> History {
        let mut history = empty();
        history.pushes = vec![pushed(1), pushed(2)];
        for push in &mut history.pushes {
            push.wants.group = Some("g".to_owned());
        }
        history.deliveries =
            vec![delivered(1, 10, 1, 2), delivered(1, 11, 2, 3), delivered(2, 12, 1, 4)];
        history.said =
            vec![said(1, 10, Word::Nack, 2), said(1, 11, Word::Ack, 3), said(2, 12, Word::Ack, 4)];
        history
    }

    #[test]
    fn a_group_that_is_not_done_in_order_is_found() {
        let found = "while job 1, which came before it, was not finished";
        let mut history = grouped();
        passes(&history);
        // The second one came between the attempts of the first.
        (history.deliveries[1].lease, history.said[1].lease) = (13, 13);
        finds(&history, found);
        // The first one was acknowledged when the second had come.
        let mut history = grouped();
        history.said[1].asked = s(5);
        finds(&history, found);
        // Of different groups they may.
        history.pushes[1].wants.group = Some("other".to_owned());
        passes(&history);
    }

    fn keyed(id: u64, duplicate_of: Option<u64>) -> Push {
        let mut push = pushed(id);
        push.wants.dedupe = Some("key".to_owned());
        if let Some(of) = duplicate_of {
            push.outcome = Outcome::Ok(Pushed { id: of, duplicate: true, revision: id });
        }
        push
    }

    /// Job 1, and what is pushed under its key in second 2.
    fn twice(second: Push) -> History {
        let mut history = done(1, 10);
        history.pushes = vec![keyed(1, None), second];
        history.deliveries.push(delivered(2, 20, 1, 3));
        history.said.push(said(2, 20, Word::Ack, 3));
        history.rest.totals.clear();
        if history.job_of(&history.pushes[1]).is_none() {
            history.deliveries.pop();
            history.said.pop();
        }
        history
    }

    #[test]
    fn a_duplicate_that_is_added_or_answered_wrong_is_found() {
        passes(&twice(keyed(2, Some(1))));
        finds(&twice(keyed(2, None)), "j2 was added at 2.000s as job 2, but under key in q j1");
        finds(&twice(keyed(2, Some(7))), "j2 was told to be a duplicate of job 7");
        // The window is over.
        let late = Push { asked: s(61), ended: s(61), ..keyed(2, None) };
        let mut history = twice(late);
        (history.deliveries[1].told, history.said[1].asked) = (s(62), s(62));
        passes(&history);
        // A push of unknown outcome may have been the first one.
        let mut history = twice(keyed(2, Some(7)));
        let unknown = Push { name: "j7".to_owned(), outcome: Outcome::Unknown, ..keyed(1, None) };
        history.pushes.push(unknown);
        passes(&history);
        assert_eq!(history.pushes[0].queue, Q);
    }
}
