//! Puts dead letters back into the queue they came from.

use super::{At, dispatch, find, find_named, put_in, queue, take_out};
use crate::limits::JOBS_PER_CALL_MAX;
use crate::rows::{self, JobRow, JobState};
use crate::scope::{Failure, Scope, within};
use crate::{Fatal, JobId, Outcome, QueueRedrive, Redriven, Rejection, WhenFull};
use std::ops::ControlFlow;

/// Dead letters, and how they stand.
type Letters = Vec<(JobId, JobRow)>;

/// They are ready at once, and have all their attempts before them. Those that somebody works on
/// are passed over. A queue that is full, and would refuse a push, takes no more.
pub(crate) fn apply(
    scope: &mut Scope<'_>,
    namespace: &str,
    redrive: &QueueRedrive,
) -> Result<Outcome, Failure> {
    let to = find(scope, namespace, &redrive.queue)?;
    let revision = scope.revision;
    let none = Outcome::QueueRedrive { moved: 0, cursor: None, revision };
    let options = &queue(scope, to.id)?.row.options;
    let Some(dead) = options.dead_letters_of(&redrive.queue) else { return Ok(none) };
    let room = match options.when_full {
        WhenFull::Reject => {
            options.jobs_max.saturating_sub(queue(scope, to.id)?.counts.jobs.unfinished())
        }
        WhenFull::DropOldest => u64::MAX,
    };
    let Some(from) = find_named(scope, namespace, &dead) else { return Ok(none) };
    let most = scope.allowance.redriven.max(1).min(room);
    let (letters, cursor) = match &redrive.which {
        Redriven::Jobs(ids) => {
            within("jobs to put back at once", ids.len(), JOBS_PER_CALL_MAX as u64)?;
            (named(scope, from, &redrive.queue, ids)?, None)
        }
        Redriven::After { after, jobs_max } => {
            let jobs_max = (*jobs_max).min(most).max(1);
            following(scope, from, &redrive.queue, *after, jobs_max)?
        }
    };
    if room == 0 && !letters.is_empty() {
        let limit = queue(scope, to.id)?.row.options.jobs_max;
        let queue = redrive.queue.clone();
        return Err(Failure::Rejected(Rejection::QueueFull { queue, limit }));
    }
    let mut moved = 0;
    for (id, before) in letters {
        if moved == most {
            break;
        }
        take_out(scope, from, id, &before)?;
        let mut row = before;
        row.state = JobState::Ready;
        row.ready_ms = scope.lease_ms();
        row.attempts = 0;
        row.from = None;
        super::make_room(scope, to, 1)?;
        put_in(scope, to, id, &mut row)?;
        forget_death(scope, id)?;
        moved += 1;
    }
    scope.allowance.redriven = scope.allowance.redriven.saturating_sub(moved);
    // Where they came from others may have waited behind them in their groups.
    scope.queues_due.insert(from.id);
    dispatch(scope, to.id)?;
    Ok(Outcome::QueueRedrive { moved, cursor, revision })
}

/// What failed is remembered; that it was given up is over.
fn forget_death(scope: &mut Scope<'_>, id: JobId) -> Result<(), Fatal> {
    let mut note = super::note(scope, id)?;
    note.death = None;
    super::write_note(scope, id, &note);
    Ok(())
}

fn goes_back(row: &JobRow, to: &str) -> bool {
    row.from.as_deref() == Some(to)
        && !matches!(row.state, JobState::Leased { .. } | JobState::Done { .. })
}

fn named(scope: &Scope<'_>, from: At, to: &str, ids: &[JobId]) -> Result<Letters, Fatal> {
    let mut ids = ids.to_vec();
    ids.sort_unstable();
    ids.dedup();
    let mut found = Vec::new();
    for id in ids {
        if let Some(row) = super::job(scope, from.era, id)?.filter(|row| goes_back(row, to)) {
            found.push((id, row));
        }
    }
    Ok(found)
}

/// The next ones, and where the step after this begins.
fn following(
    scope: &mut Scope<'_>,
    from: At,
    to: &str,
    after: Option<JobId>,
    jobs_max: u64,
) -> Result<(Letters, Option<JobId>), Fatal> {
    // One at least, so that it ends some time.
    let steps_max = scope.allowance.redrive_steps.max(1);
    let (mut found, mut looked_at) = (Vec::new(), 0);
    let (mut passed, mut cursor) = (None, None);
    rows::each_job(&scope.txn, scope.group, from.era, after, |id, row, _| {
        if found.len() as u64 == jobs_max || looked_at == steps_max {
            cursor = passed;
            return ControlFlow::Break(());
        }
        looked_at += 1;
        passed = Some(id);
        if goes_back(&row, to) {
            found.push((id, row));
        }
        ControlFlow::Continue(())
    })?;
    scope.allowance.redrive_steps = steps_max - looked_at;
    Ok((found, cursor))
}
