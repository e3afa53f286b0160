//! Jobs as a reader sees them.

use super::clocks;
use super::queue::{queue_counts, queue_row};
use crate::keys::{self};
use crate::limits::{SCAN_ROW_STEPS, SCAN_STEPS_MAX};
use crate::machine::Fatal;
use crate::rows::{self, JobBodyRow, JobNoteRow, JobRow, JobState};
use crate::{
    AssignedJob, ConsumerId, DeathCause, GroupId, JobFailure, JobId, JobLease, JobProgress, Read,
    Stamp,
};
use bytes::Bytes;
use std::ops::ControlFlow;

/// Where a job stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JobStanding {
    /// It can be delivered, or waits for others of its group.
    Ready,
    /// It waits.
    Delayed {
        /// So much longer, in lease time.
        for_ms: u64,
    },
    /// It waits.
    DelayedUntil {
        /// For this wall time.
        wall_ms: u64,
    },
    /// It is being worked on.
    Leased {
        /// Under this.
        lease: JobLease,
        /// By whom; none when it was pulled.
        consumer: Option<ConsumerId>,
        /// So much longer, unless that is extended.
        for_ms: u64,
    },
    /// It is done.
    Done {
        /// And kept so much longer.
        for_ms: u64,
    },
}

/// A job as a reader sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobItem {
    /// Which.
    pub id: JobId,
    /// Where it stands.
    pub standing: JobStanding,
    /// Jobs of a higher one come first.
    pub priority: u8,
    /// How often it was delivered, since it was pushed or put back from the dead letters.
    pub attempts: u32,
    /// Wall time of its push.
    pub pushed_wall_ms: u64,
    /// Milliseconds of lease time in which it is still delivered; none without a ttl.
    pub remaining_ttl_ms: Option<u64>,
    /// What group it belongs to.
    pub group: Option<Bytes>,
    /// The queue a dead letter came from.
    pub from: Option<String>,
    /// Why it is a dead letter.
    pub death: Option<DeathCause>,
    /// Its newest failures, in their order.
    pub failures: Vec<JobFailure>,
    /// How far the work on it is.
    pub progress: Option<JobProgress>,
    /// What is in it, if it was asked for.
    pub body: Option<JobBody>,
}

impl JobItem {
    /// Bytes of what is in it, as far as that is shown, and of what was noted of it.
    fn counted_bytes(&self) -> usize {
        let body = self.body.as_ref().map_or(0, |body| {
            let headers = body.headers.iter().map(|(name, value)| name.len() + value.len());
            body.payload.len() + body.content_type.len() + headers.sum::<usize>()
        });
        let failures = self.failures.iter().map(|failure| failure.error.len());
        let progress = self.progress.as_ref().map_or(0, |progress| progress.note.len());
        let keys =
            self.group.as_ref().map_or(0, Bytes::len) + self.from.as_ref().map_or(0, String::len);
        body + failures.sum::<usize>() + progress + keys
    }
}

/// What is in a job.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JobBody {
    /// Of the payload; empty when it has none.
    pub content_type: String,
    /// Names and values, in their order.
    pub headers: Vec<(String, Bytes)>,
    /// The payload.
    pub payload: Bytes,
}

fn body(tables: &dyn Read, group: GroupId, id: JobId) -> Result<Option<JobBody>, Fatal> {
    let Some(bytes) = tables.get(&keys::job_body(group, id))? else { return Ok(None) };
    // The payload is a slice of the row as it was read: a large one is not copied again.
    let bytes = Bytes::from(bytes);
    let row = JobBodyRow::decode(&bytes)?;
    let header =
        |(name, value): &(&str, &[u8])| ((*name).to_owned(), Bytes::copy_from_slice(value));
    Ok(Some(JobBody {
        content_type: row.content_type.to_owned(),
        headers: row.headers.iter().map(header).collect(),
        payload: bytes.slice_ref(row.payload),
    }))
}

pub(super) fn job_item(
    tables: &dyn Read,
    group: GroupId,
    id: JobId,
    row: JobRow,
    now: Stamp,
    with_body: bool,
) -> Result<JobItem, Fatal> {
    let left = |at_ms: u64| at_ms.saturating_sub(now.lease_ms);
    let note = if row.noted { rows::job_note(tables, group, id)? } else { JobNoteRow::default() };
    Ok(JobItem {
        id,
        standing: match row.state {
            JobState::Ready => JobStanding::Ready,
            JobState::Delayed => JobStanding::Delayed { for_ms: left(row.ready_ms) },
            JobState::DelayedUntil { wall_ms } => JobStanding::DelayedUntil { wall_ms },
            JobState::Leased { lease, consumer, until_ms } => {
                JobStanding::Leased { lease, consumer, for_ms: left(until_ms) }
            }
            JobState::Done { until_ms } => JobStanding::Done { for_ms: left(until_ms) },
        },
        priority: row.priority,
        attempts: row.attempts,
        pushed_wall_ms: row.pushed_wall_ms,
        remaining_ttl_ms: row.expires_ms.map(left),
        group: row.group.map(|group| group.key),
        from: row.from,
        death: note.death,
        failures: note.failures,
        progress: note.progress,
        body: if with_body { body(tables, group, id)? } else { None },
    })
}

/// The job with what is in it, and the queue where it is: a dead letter is looked for where those
/// of the queue go. None when it is in neither.
///
/// # Errors
/// When the tables fail.
pub fn job(
    tables: &dyn Read,
    group: GroupId,
    namespace: &str,
    queue: &str,
    id: JobId,
) -> Result<Option<(String, JobItem)>, Fatal> {
    let Some(asked) = queue_row(tables, group, namespace, queue)? else { return Ok(None) };
    let now = clocks(tables, group)?;
    if let Some(row) = rows::job(tables, group, asked.era, id)? {
        let item = job_item(tables, group, id, row, now, true)?;
        return Ok(Some((queue.to_owned(), item)));
    }
    let Some(dead) = asked.options.dead_letters_of(queue) else { return Ok(None) };
    let Some(there) = queue_row(tables, group, namespace, &dead)? else { return Ok(None) };
    let row = rows::job(tables, group, there.era, id)?;
    let Some(row) = row.filter(|row| row.from.as_deref() == Some(queue)) else { return Ok(None) };
    Ok(Some((dead, job_item(tables, group, id, row, now, true)?)))
}

/// A job that was given to somebody, as long as it is leased so: what its consumer is to be told.
/// `now` are the clocks of the same tables. What was noted of the job is left out.
///
/// # Errors
/// When the tables fail.
pub fn delivery(
    tables: &dyn Read,
    group: GroupId,
    now: Stamp,
    assigned: &AssignedJob,
) -> Result<Option<JobItem>, Fatal> {
    let &AssignedJob { era, id, lease, .. } = assigned;
    let row = rows::job(tables, group, era, id)?;
    let Some(mut row) = row.filter(|row| row.state.is_leased_under(lease)) else {
        return Ok(None);
    };
    row.noted = false;
    Ok(Some(job_item(tables, group, id, row, now, true)?))
}

/// Which jobs a list shows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum JobFilter {
    /// All of them.
    #[default]
    All,
    /// Those that are ready.
    Ready,
    /// Those that wait for their time.
    Delayed,
    /// Those that are worked on.
    Leased,
    /// Those that are done, and kept.
    Done,
}

impl JobFilter {
    fn takes(self, state: &JobState) -> bool {
        match self {
            Self::All => true,
            Self::Ready => matches!(state, JobState::Ready),
            Self::Delayed => matches!(state, JobState::Delayed | JobState::DelayedUntil { .. }),
            Self::Leased => matches!(state, JobState::Leased { .. }),
            Self::Done => matches!(state, JobState::Done { .. }),
        }
    }
}

/// A part of the jobs of a queue.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JobPage {
    /// In the order of their ids, which is that of their pushes.
    pub jobs: Vec<JobItem>,
    /// Where the next page begins; none on the last one. A page may be short, or empty, and have
    /// one all the same.
    pub cursor: Option<JobId>,
}

/// What a list of jobs shows.
#[derive(Clone, Copy, Debug)]
pub struct JobList {
    /// Which.
    pub filter: JobFilter,
    /// Only jobs above this id: the cursor of the page before.
    pub after: Option<JobId>,
    /// At most so many; one at least.
    pub items_max: usize,
    /// Whether with what is in them.
    pub bodies: bool,
    /// A page ends once its jobs have so many bytes, those of what is in them and of what was noted
    /// of them.
    pub bytes_max: usize,
}

/// A page of the jobs of a queue; none when there is no such queue.
///
/// # Errors
/// When the tables fail.
pub fn jobs(
    tables: &dyn Read,
    group: GroupId,
    namespace: &str,
    queue: &str,
    list: &JobList,
) -> Result<Option<JobPage>, Fatal> {
    let Some(of) = queue_row(tables, group, namespace, queue)? else { return Ok(None) };
    let (mut steps, mut passed, mut cursor) = (0, None, None);
    let mut found = Vec::new();
    rows::each_job(tables, group, of.era, list.after, |id, row, bytes| {
        if found.len() >= list.items_max.max(1) || steps > SCAN_STEPS_MAX {
            cursor = passed;
            return ControlFlow::Break(());
        }
        steps += SCAN_ROW_STEPS + bytes;
        passed = Some(id);
        if list.filter.takes(&row.state) {
            found.push((id, row));
        }
        ControlFlow::Continue(())
    })?;
    let now = clocks(tables, group)?;
    let mut page = JobPage { jobs: Vec::with_capacity(found.len()), cursor };
    let mut bytes = 0;
    for (id, row) in found {
        if bytes >= list.bytes_max && !page.jobs.is_empty() {
            page.cursor = page.jobs.last().map(|job: &JobItem| job.id);
            break;
        }
        let item = job_item(tables, group, id, row, now, list.bodies)?;
        bytes += item.counted_bytes();
        page.jobs.push(item);
    }
    Ok(Some(page))
}

/// The jobs that come next, as far as they are shown ([`crate::limits::PEEK_MAX`]), with what is in
/// them, which is left out once they have `bytes_max`; none when there is no such queue.
///
/// # Errors
/// When the tables fail.
pub fn peek(
    tables: &dyn Read,
    group: GroupId,
    namespace: &str,
    queue: &str,
    items_max: usize,
    bytes_max: u64,
) -> Result<Option<Vec<JobItem>>, Fatal> {
    let Some(of) = queue_row(tables, group, namespace, queue)? else { return Ok(None) };
    let next = queue_counts(tables, group, &of)?.next;
    let now = clocks(tables, group)?;
    let mut jobs = Vec::new();
    let mut bytes = 0;
    for id in next.into_iter().take(items_max) {
        if let Some(row) = rows::job(tables, group, of.era, id)? {
            let with_body = bytes == 0 || bytes + row.body_bytes <= bytes_max;
            bytes += if with_body { row.body_bytes } else { 0 };
            jobs.push(job_item(tables, group, id, row, now, with_body)?);
        }
    }
    Ok(Some(jobs))
}
