//! Says how far the work on a job is.

use super::{cut, leased, note, write_note};
use crate::rows::JobProgress;
use crate::scope::{Failure, Scope, at_most};
use crate::{Outcome, QueueProgress, Txn as _, codec, keys};

/// The lease is as long as it was.
pub(crate) fn apply(
    scope: &mut Scope<'_>,
    namespace: &str,
    progress: &QueueProgress,
) -> Result<Outcome, Failure> {
    at_most("thousandths of a job's progress", progress.permille.into(), 1_000)?;
    let (at, mut row) = leased(scope, namespace, &progress.job)?;
    let id = progress.job.id;
    let mut noted = note(scope, id)?;
    noted.progress = Some(JobProgress {
        permille: progress.permille,
        note: cut(&progress.note),
        wall_ms: scope.meta.stamp.wall_ms,
    });
    write_note(scope, id, &noted);
    if !row.noted {
        row.noted = true;
        scope.txn.put(&keys::job(scope.group, at.era, id), &codec::encode(&row));
    }
    Ok(Outcome::Done)
}
