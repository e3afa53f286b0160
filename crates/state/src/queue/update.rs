//! Makes a queue, or changes its options.

use super::{DEAD, dispatch, make, make_for_dead_letters, may_make_all, write_queue};
use crate::limits::{
    DEDUPE_WINDOW_MS_MAX, JOB_ATTEMPTS_MAX, JOB_BACKOFF_MS_MAX, JOB_KEEP_DONE_MS_MAX,
    JOB_VISIBILITY_MS_MAX, JOB_VISIBILITY_MS_MIN, JOBS_MAX, QUEUE_JOBS_MAX, QUEUE_NAME_BYTES_MAX,
    RATE_JOBS_MAX, RATE_PER_MS_MAX,
};
use crate::rows::Bucket;
use crate::scope::{Failure, Scope, at_most, within};
use crate::{DeadLetters, Outcome, QueueChange, QueueOptions, QueueUpdate, Rejection};

/// Jobs that are leased keep the time they were given.
pub(crate) fn apply(
    scope: &mut Scope<'_>,
    namespace: &str,
    update: &QueueUpdate,
) -> Result<Outcome, Failure> {
    check(&update.queue, &update.change)?;
    let letters = match &update.change.dead_letters {
        Some(DeadLetters::To(to)) => Some(to),
        _ => None,
    };
    let names: Vec<&str> = [&update.queue].into_iter().chain(letters).map(String::as_str).collect();
    may_make_all(scope, namespace, &names)?;
    let (at, created) = make(scope, namespace, &update.queue);
    if let Some(to) = letters {
        // Now, when that can be refused: a job that dies must have somewhere to go.
        make_for_dead_letters(scope, namespace, to);
    }
    let now_ms = scope.lease_ms();
    let queue = super::touched(scope, at.id)?;
    let before = queue.row.options.rate;
    change(&mut queue.row.options, &update.change);
    // A new rate begins with a full bucket, which is no more than its first burst. The same again
    // is none: workers that say it at their start would each get a burst.
    if let Some(rate) = queue.row.options.rate.filter(|rate| before != Some(*rate)) {
        let tokens = u64::from(rate.jobs).saturating_mul(rate.per_ms);
        queue.counts.bucket = Bucket { tokens, at_ms: now_ms };
    }
    write_queue(scope, at.id)?;
    dispatch(scope, at.id)?;
    Ok(Outcome::QueueUpdate { created, revision: scope.revision })
}

fn check(name: &str, change: &QueueChange) -> Result<(), Rejection> {
    let QueueChange {
        visibility_ms,
        attempts_max,
        backoff,
        dead_letters,
        keep_done_ms,
        jobs_max,
        when_full: _,
        parallel_max,
        rate,
        dedupe_window_ms,
    } = change;
    if let Some(visibility_ms) = *visibility_ms {
        if visibility_ms < JOB_VISIBILITY_MS_MIN {
            return Err(Rejection::Invalid(format!(
                "the visibility timeout is {visibility_ms} ms, the least is \
                 {JOB_VISIBILITY_MS_MIN} ms"
            )));
        }
        let what = "visibility timeout in milliseconds";
        at_most(what, visibility_ms, JOB_VISIBILITY_MS_MAX)?;
    }
    at_most("attempts of a job", attempts_max.unwrap_or(0).into(), JOB_ATTEMPTS_MAX.into())?;
    if let Some(backoff) = backoff {
        at_most("backoff in milliseconds", backoff.base_ms, JOB_BACKOFF_MS_MAX)?;
        at_most("longest backoff in milliseconds", backoff.cap_ms, JOB_BACKOFF_MS_MAX)?;
        let what = "thousandths of a backoff's jitter";
        at_most(what, backoff.jitter_permille.into(), 1_000)?;
    }
    match dead_letters {
        Some(DeadLetters::To(to)) if to == name => {
            return Err(Rejection::Invalid(format!(
                "queue {name:?} can't take its own dead letters; name another one"
            )));
        }
        Some(DeadLetters::Own) => {
            let limit = QUEUE_NAME_BYTES_MAX - DEAD.len() as u64;
            within("name bytes of a queue with dead letters of its own", name.len(), limit)?;
        }
        Some(DeadLetters::To(_) | DeadLetters::Discard) | None => {}
    }
    let what = "time to keep jobs that are done, in milliseconds";
    at_most(what, keep_done_ms.unwrap_or(0), JOB_KEEP_DONE_MS_MAX)?;
    if *jobs_max == Some(0) {
        return Err(Rejection::Invalid(
            "the queue may hold 0 jobs; allow 1 or more, or pause it".to_owned(),
        ));
    }
    at_most("jobs of a queue", jobs_max.unwrap_or(0), QUEUE_JOBS_MAX)?;
    at_most("jobs worked on at once", parallel_max.unwrap_or(0).into(), JOBS_MAX)?;
    if let Some(rate) = rate {
        at_most("jobs of a rate", rate.jobs.into(), RATE_JOBS_MAX.into())?;
        at_most("time of a rate in milliseconds", rate.per_ms, RATE_PER_MS_MAX)?;
        if rate.jobs > 0 && rate.per_ms == 0 {
            return Err(Rejection::Invalid(
                "the rate is per 0 ms; give it a time, or 0 jobs to have no limit".to_owned(),
            ));
        }
    }
    if *dedupe_window_ms == Some(0) {
        return Err(Rejection::Invalid("the dedupe window is 0 ms; give 1 ms or more".to_owned()));
    }
    at_most("dedupe window in milliseconds", dedupe_window_ms.unwrap_or(0), DEDUPE_WINDOW_MS_MAX)
}

fn change(options: &mut QueueOptions, change: &QueueChange) {
    fn set<T: Clone>(option: &mut T, change: &Option<T>) {
        if let Some(new) = change {
            option.clone_from(new);
        }
    }
    set(&mut options.visibility_ms, &change.visibility_ms);
    set(&mut options.attempts_max, &change.attempts_max);
    set(&mut options.backoff, &change.backoff);
    set(&mut options.dead_letters, &change.dead_letters);
    set(&mut options.keep_done_ms, &change.keep_done_ms);
    set(&mut options.jobs_max, &change.jobs_max);
    set(&mut options.when_full, &change.when_full);
    set(&mut options.parallel_max, &change.parallel_max);
    if let Some(rate) = change.rate {
        options.rate = Some(rate).filter(|rate| rate.jobs > 0);
    }
    set(&mut options.dedupe_window_ms, &change.dedupe_window_ms);
}
