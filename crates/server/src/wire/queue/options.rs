//! How queues work: options and what changes of them.

use super::{at_most, queue_name};
use crate::grpc::Refused;
use crate::wire::{Invalid, caller, guard, invalid, namespace, unexpected};
use quorate_proto::v1;
use quorate_proto::v1::queue_dead_letters::To;
use quorate_state::limits::{
    DEDUPE_WINDOW_MS_MAX, JOB_ATTEMPTS_MAX, JOB_BACKOFF_MS_MAX, JOB_KEEP_DONE_MS_MAX,
    JOB_VISIBILITY_MS_MAX, JOB_VISIBILITY_MS_MIN, JOBS_MAX, QUEUE_JOBS_MAX, RATE_JOBS_MAX,
    RATE_PER_MS_MAX,
};
use quorate_state::{
    Backoff, Command, DeadLetters, Envelope, GroupId, Outcome, QueueChange, QueueOptions,
    QueueUpdate, Rate, WhenFull,
};

const INVALID: &str = "INVALID_OPTION";

pub(crate) fn update(request: v1::UpdateQueueRequest) -> Result<Envelope, Invalid> {
    let queue = queue_name(request.queue)?;
    let change = change(request.options.unwrap_or_default())?;
    if change.dead_letters == Some(DeadLetters::To(queue.clone())) {
        return Err(invalid(
            INVALID,
            "dead_letters.queue names the queue itself; its dead letters need another one",
        ));
    }
    Ok(Envelope {
        namespace: namespace(request.namespace)?,
        caller: caller(&request.origin)?,
        guard: guard(request.origin)?,
        command: Command::QueueUpdate(QueueUpdate { queue, change }),
    })
}

fn change(options: v1::QueueOptions) -> Result<QueueChange, Invalid> {
    let when_full = options.when_full();
    let v1::QueueOptions {
        visibility_ms,
        attempts_max,
        backoff,
        dead_letters,
        keep_done_ms,
        jobs_max,
        when_full: when_full_number,
        parallel_max,
        rate,
        dedupe_window_ms,
    } = options;
    within("visibility_ms", visibility_ms, JOB_VISIBILITY_MS_MIN, JOB_VISIBILITY_MS_MAX)?;
    within("attempts_max", attempts_max.map(Into::into), 0, JOB_ATTEMPTS_MAX.into())?;
    within("keep_done_ms", keep_done_ms, 0, JOB_KEEP_DONE_MS_MAX)?;
    within("jobs_max", jobs_max, 1, QUEUE_JOBS_MAX)?;
    within("parallel_max", parallel_max.map(Into::into), 0, JOBS_MAX)?;
    within("dedupe_window_ms", dedupe_window_ms, 1, DEDUPE_WINDOW_MS_MAX)?;
    if v1::QueueWhenFull::try_from(when_full_number).is_err() {
        return Err(invalid(
            "UNKNOWN_OPTION",
            format!(
                "when_full {when_full_number} is unknown to this version; 1 is reject, 2 is drop \
                 oldest"
            ),
        ));
    }
    Ok(QueueChange {
        visibility_ms,
        attempts_max,
        backoff: backoff.map(new_backoff).transpose()?,
        dead_letters: dead_letters.map(new_dead_letters).transpose()?,
        keep_done_ms,
        jobs_max,
        when_full: match when_full {
            v1::QueueWhenFull::Unspecified => None,
            v1::QueueWhenFull::Reject => Some(WhenFull::Reject),
            v1::QueueWhenFull::DropOldest => Some(WhenFull::DropOldest),
        },
        parallel_max,
        rate: rate.map(new_rate).transpose()?,
        dedupe_window_ms,
    })
}

fn within(name: &str, value: Option<u64>, min: u64, max: u64) -> Result<(), Invalid> {
    match value {
        Some(value) if !(min..=max).contains(&value) => Err(invalid(
            INVALID,
            format!("{name} is {value}, which is out of range; from {min} to {max}"),
        )),
        _ => Ok(()),
    }
}

fn new_backoff(backoff: v1::QueueBackoff) -> Result<Backoff, Invalid> {
    let v1::QueueBackoff { exponential, base_ms, cap_ms, jitter_permille } = backoff;
    at_most(INVALID, "backoff.base_ms", base_ms, JOB_BACKOFF_MS_MAX)?;
    at_most(INVALID, "backoff.cap_ms", cap_ms, JOB_BACKOFF_MS_MAX)?;
    at_most(INVALID, "backoff.jitter_permille", jitter_permille.into(), 1_000)?;
    if cap_ms < base_ms {
        return Err(invalid(
            INVALID,
            format!(
                "backoff.cap_ms is {cap_ms}, which is less than base_ms, {base_ms}; no wait would \
                 be as long as the first is to be"
            ),
        ));
    }
    Ok(Backoff { exponential, base_ms, cap_ms, jitter_permille })
}

fn new_dead_letters(letters: v1::QueueDeadLetters) -> Result<DeadLetters, Invalid> {
    match letters.to {
        Some(To::Own(true)) => Ok(DeadLetters::Own),
        Some(To::Discard(true)) => Ok(DeadLetters::Discard),
        Some(To::Queue(name)) => Ok(DeadLetters::To(queue_name(name)?)),
        Some(To::Own(false) | To::Discard(false)) | None => Err(invalid(
            INVALID,
            "dead_letters says nothing; say own or discard (true), or name a queue",
        )),
    }
}

fn new_rate(rate: v1::QueueRate) -> Result<Rate, Invalid> {
    let v1::QueueRate { jobs, per_ms } = rate;
    at_most(INVALID, "rate.jobs", jobs.into(), RATE_JOBS_MAX.into())?;
    at_most(INVALID, "rate.per_ms", per_ms, RATE_PER_MS_MAX)?;
    if jobs > 0 && per_ms == 0 {
        return Err(invalid(
            INVALID,
            "rate.per_ms is 0; give the rate a time, or 0 jobs to have no limit",
        ));
    }
    Ok(Rate { jobs, per_ms })
}

pub(crate) fn updated(
    outcome: Outcome,
    group: GroupId,
) -> Result<v1::UpdateQueueResponse, Refused> {
    match outcome {
        Outcome::QueueUpdate { created, revision } => {
            Ok(v1::UpdateQueueResponse { created, revision: revision.0, group_id: group.0 })
        }
        other => Err(unexpected(other)),
    }
}

/// All options of a queue.
pub(super) fn options(options: QueueOptions) -> v1::QueueOptions {
    let when_full = match options.when_full {
        WhenFull::Reject => v1::QueueWhenFull::Reject,
        WhenFull::DropOldest => v1::QueueWhenFull::DropOldest,
    };
    let to = match options.dead_letters {
        DeadLetters::Own => To::Own(true),
        DeadLetters::To(name) => To::Queue(name),
        DeadLetters::Discard => To::Discard(true),
    };
    let Backoff { exponential, base_ms, cap_ms, jitter_permille } = options.backoff;
    let Rate { jobs, per_ms } = options.rate.unwrap_or_default();
    v1::QueueOptions {
        visibility_ms: Some(options.visibility_ms),
        attempts_max: Some(options.attempts_max),
        backoff: Some(v1::QueueBackoff { exponential, base_ms, cap_ms, jitter_permille }),
        dead_letters: Some(v1::QueueDeadLetters { to: Some(to) }),
        keep_done_ms: Some(options.keep_done_ms),
        jobs_max: Some(options.jobs_max),
        when_full: when_full.into(),
        parallel_max: Some(options.parallel_max),
        rate: Some(v1::QueueRate { jobs, per_ms }),
        dedupe_window_ms: Some(options.dedupe_window_ms),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(options: v1::QueueOptions) -> v1::UpdateQueueRequest {
        let options = Some(options);
        v1::UpdateQueueRequest { queue: "q".into(), options, ..Default::default() }
    }

    fn changed(options: v1::QueueOptions) -> QueueChange {
        match update(of(options)).unwrap().command {
            Command::QueueUpdate(update) => update.change,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_is_not_named_does_not_change_and_what_is_answered_can_be_sent_back() {
        assert_eq!(changed(v1::QueueOptions::default()), QueueChange::default());
        assert_eq!(
            update(v1::UpdateQueueRequest { queue: "q".into(), ..Default::default() }),
            update(of(v1::QueueOptions::default()))
        );
        let all = QueueOptions {
            dead_letters: DeadLetters::To("letters".into()),
            when_full: WhenFull::DropOldest,
            rate: Some(Rate { jobs: 3, per_ms: 1_000 }),
            ..QueueOptions::default()
        };
        let change = changed(options(all.clone()));
        let expected = QueueChange {
            visibility_ms: Some(all.visibility_ms),
            attempts_max: Some(all.attempts_max),
            backoff: Some(all.backoff),
            dead_letters: Some(all.dead_letters),
            keep_done_ms: Some(all.keep_done_ms),
            jobs_max: Some(all.jobs_max),
            when_full: Some(all.when_full),
            parallel_max: Some(all.parallel_max),
            rate: all.rate,
            dedupe_window_ms: Some(all.dedupe_window_ms),
        };
        assert_eq!(change, expected);
        // Without a rate it says so.
        assert_eq!(changed(options(QueueOptions::default())).rate, Some(Rate::default()));
    }

    #[test]
    fn options_out_of_range_are_refused_and_named() {
        let none = v1::QueueOptions::default;
        let backoff = |base_ms, cap_ms, jitter_permille| {
            let exponential = true;
            Some(v1::QueueBackoff { exponential, base_ms, cap_ms, jitter_permille })
        };
        let letters = |to| Some(v1::QueueDeadLetters { to });
        let rate = |jobs, per_ms| Some(v1::QueueRate { jobs, per_ms });
        // As -1 arrives.
        let negative = Some(u64::MAX);
        for (name, options) in [
            ("visibility_ms", v1::QueueOptions { visibility_ms: Some(999), ..none() }),
            ("visibility_ms", v1::QueueOptions { visibility_ms: negative, ..none() }),
            ("attempts_max", v1::QueueOptions { attempts_max: Some(1_000_001), ..none() }),
            ("keep_done_ms", v1::QueueOptions { keep_done_ms: negative, ..none() }),
            ("jobs_max", v1::QueueOptions { jobs_max: Some(0), ..none() }),
            ("jobs_max", v1::QueueOptions { jobs_max: negative, ..none() }),
            ("parallel_max", v1::QueueOptions { parallel_max: Some(u32::MAX), ..none() }),
            ("dedupe_window_ms", v1::QueueOptions { dedupe_window_ms: Some(0), ..none() }),
            ("backoff.base_ms", v1::QueueOptions { backoff: backoff(u64::MAX, 1, 0), ..none() }),
            ("backoff.cap_ms", v1::QueueOptions { backoff: backoff(1, u64::MAX, 0), ..none() }),
            ("backoff.cap_ms", v1::QueueOptions { backoff: backoff(2, 1, 0), ..none() }),
            ("jitter", v1::QueueOptions { backoff: backoff(1, 1, 1_001), ..none() }),
            ("dead_letters", v1::QueueOptions { dead_letters: letters(None), ..none() }),
            (
                "dead_letters",
                v1::QueueOptions { dead_letters: letters(Some(To::Own(false))), ..none() },
            ),
            (
                "dead_letters",
                v1::QueueOptions { dead_letters: letters(Some(To::Queue("q".into()))), ..none() },
            ),
            ("rate.jobs", v1::QueueOptions { rate: rate(1_000_001, 1), ..none() }),
            ("rate.per_ms", v1::QueueOptions { rate: rate(1, 0), ..none() }),
            ("rate.per_ms", v1::QueueOptions { rate: rate(1, u64::MAX), ..none() }),
        ] {
            let Invalid { reason, message } = update(of(options)).unwrap_err();
            assert_eq!(reason, "INVALID_OPTION", "{message}");
            assert!(message.contains(name), "{name} is not in {message}");
        }
        let unknown = v1::QueueOptions { when_full: 3, ..none() };
        assert_eq!(update(of(unknown)).unwrap_err().reason, "UNKNOWN_OPTION");
        let nameless =
            v1::QueueOptions { dead_letters: letters(Some(To::Queue(String::new()))), ..none() };
        assert_eq!(update(of(nameless)).unwrap_err().reason, "QUEUE_NAME_EMPTY");
    }
}
