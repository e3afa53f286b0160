//! Nothing is stuck when nothing is in the way.

use super::super::record::History;
use super::super::{DELIVERED_WITHIN, TAKEN_WITHIN};

/// A job that is ready, and first of its group, goes to somebody soon: somebody has time.
pub(super) fn what_is_ready_is_taken(history: &History) -> Vec<String> {
    let long = history.waits.iter().filter(|wait| wait.to > wait.from + TAKEN_WITHIN);
    long.map(|wait| {
        format!(
            "job {} in {} was ready from {:.3?} until {:.3?}, and nobody took it",
            wait.job, wait.queue, wait.from, wait.to
        )
    })
    .collect()
}

/// In the end, when all others are gone, those who lived through the run get what is pushed, each a
/// part of it, although nobody has begun anew.
pub(super) fn who_lives_is_served(history: &History) -> Vec<String> {
    let mut problems = Vec::new();
    for called in &history.called {
        let came = history.deliveries.iter().find(|delivery| delivery.name == called.name);
        let came = came.map(|delivery| delivery.told);
        if came.is_none_or(|told| told > called.pushed + DELIVERED_WITHIN) {
            problems.push(format!(
                "{} was pushed into {} at {:.3?}, and came at {came:.3?}",
                called.name, called.queue, called.pushed
            ));
        }
    }
    for (client, queue) in &history.survivors {
        let mut called = history.called.iter().filter(|called| called.queue == *queue).peekable();
        let is_called = called.peek().is_some();
        let served = called.any(|called| {
            history
                .deliveries
                .iter()
                .any(|delivery| delivery.client == *client && delivery.name == called.name)
        });
        if is_called && !served {
            problems.push(format!("client {client} consumes {queue}, and got nothing in the end"));
        }
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::super::super::record::{Called, Wait};
    use super::super::made_up::{Q, done, finds, passes, s};
    use super::*;

    #[test]
    fn a_job_that_nobody_takes_is_found() {
        let mut history = done(1, 10);
        history.waits.push(Wait { job: 1, queue: Q, from: s(1), to: s(1) + TAKEN_WITHIN });
        passes(&history);
        history.waits[0].to += s(1);
        finds(&history, "job 1 in q was ready from 1.000s");
    }

    #[test]
    fn who_gets_nothing_in_the_end_is_found() {
        let mut history = done(1, 10);
        history.called.push(Called { queue: Q, name: "j1".to_owned(), pushed: s(2) });
        history.survivors.push((1, Q));
        passes(&history);
        history.survivors.push((2, Q));
        finds(&history, "client 2 consumes q, and got nothing in the end");
        history.survivors.pop();
        history.deliveries[0].told = s(3) + DELIVERED_WITHIN;
        finds(&history, "j1 was pushed into q at 2.000s, and came at Some(");
        history.deliveries[0].name = "j7".to_owned();
        finds(&history, "and came at None");
    }
}
