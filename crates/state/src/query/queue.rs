//! Queues and jobs as a reader sees them.

use super::{clocks, exceeds};
use crate::keys::{self, Key};
use crate::limits::{NAMESPACE_BYTES_MAX, QUEUE_NAME_BYTES_MAX, SCAN_ROW_STEPS, SCAN_STEPS_MAX};
use crate::machine::Fatal;
use crate::queue::DEAD;
use crate::rows::{
    self, ConsumerRow, JobBodyRow, JobNoteRow, JobRow, JobState, PullState, QueueCountsRow,
    QueueRow, Wants,
};
use crate::session::each_row;
use crate::{
    AssignedJob, Attachment, ConsumerId, DeadLetters, DeathCause, Era, GroupId, JobCounts,
    JobFailure, JobId, JobLease, JobProgress, KeySelection, NodeId, QueueOptions, QueueTotals,
    Read, Stamp,
};
use bytes::Bytes;
use std::ops::ControlFlow;

/// A queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueItem {
    /// Whether it delivers nothing.
    pub paused: bool,
    /// How it works.
    pub options: QueueOptions,
    /// How many jobs are in it.
    pub jobs: JobCounts,
    /// How many jobs are in the queue of its dead letters, whichever queue they came from.
    pub dead: u64,
    /// What has happened in it.
    pub totals: QueueTotals,
    /// Milliseconds of lease time since the job that has been ready for longest is.
    pub oldest_ready_age_ms: Option<u64>,
}

/// The queue; none when it was never made, or deleted.
///
/// # Errors
/// When the tables fail.
pub fn queue(
    tables: &dyn Read,
    group: GroupId,
    namespace: &str,
    name: &str,
) -> Result<Option<QueueItem>, Fatal> {
    let Some(row) = queue_row(tables, group, namespace, name)? else { return Ok(None) };
    let lease_ms = clocks(tables, group)?.lease_ms;
    Ok(Some(queue_item(tables, group, (namespace, name), row, lease_ms)?))
}

/// How many jobs a queue has that are not done.
pub(crate) fn queue_jobs(
    tables: &dyn Read,
    group: GroupId,
    namespace: &str,
    name: &str,
) -> Result<u64, Fatal> {
    let Some(row) = queue_row(tables, group, namespace, name)? else { return Ok(0) };
    let jobs = queue_counts(tables, group, &row)?.jobs;
    Ok(jobs.ready + jobs.delayed + jobs.leased)
}

fn queue_row(
    tables: &dyn Read,
    group: GroupId,
    namespace: &str,
    name: &str,
) -> Result<Option<QueueRow>, Fatal> {
    // A queue of dead letters has a longer name than the one they come from.
    let name_bytes_max = QUEUE_NAME_BYTES_MAX + DEAD.len() as u64;
    if exceeds(namespace.len(), NAMESPACE_BYTES_MAX) || exceeds(name.len(), name_bytes_max) {
        return Ok(None);
    }
    let Some(bytes) = tables.get(&keys::queue(group, namespace, name))? else { return Ok(None) };
    Ok(Some(rows::decode("queue row", &bytes)?))
}

fn queue_counts(
    tables: &dyn Read,
    group: GroupId,
    row: &QueueRow,
) -> Result<QueueCountsRow, Fatal> {
    match tables.get(&keys::queue_counts(group, row.id))? {
        Some(bytes) => rows::decode("queue counts row", &bytes),
        None => Ok(QueueCountsRow::default()),
    }
}

fn queue_item(
    tables: &dyn Read,
    group: GroupId,
    (namespace, name): (&str, &str),
    row: QueueRow,
    lease_ms: u64,
) -> Result<QueueItem, Fatal> {
    let counts = queue_counts(tables, group, &row)?;
    let dead = match dead_letters_of(name, &row.options) {
        Some(dead) => match queue_row(tables, group, namespace, &dead)? {
            Some(row) => {
                let jobs = queue_counts(tables, group, &row)?.jobs;
                jobs.ready + jobs.delayed + jobs.leased
            }
            None => 0,
        },
        None => 0,
    };
    Ok(QueueItem {
        paused: row.paused,
        options: row.options,
        jobs: counts.jobs,
        dead,
        totals: counts.totals,
        oldest_ready_age_ms: counts.oldest_ready_ms.map(|at_ms| lease_ms.saturating_sub(at_ms)),
    })
}

fn dead_letters_of(name: &str, options: &QueueOptions) -> Option<String> {
    match &options.dead_letters {
        DeadLetters::Own => Some(format!("{name}{DEAD}")),
        DeadLetters::To(to) => Some(to.clone()),
        DeadLetters::Discard => None,
    }
}

/// A part of the queues there are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct QueuePage {
    /// Their names, in order.
    pub queues: Vec<(String, QueueItem)>,
    /// Where the next page begins; none on the last one. A page may be short, or empty, and have
    /// one all the same.
    pub cursor: Option<String>,
}

/// A page of the selected queues, after that of the name `after`.
///
/// # Errors
/// When the tables fail.
pub fn queues(
    tables: &dyn Read,
    group: GroupId,
    namespace: &str,
    selection: &KeySelection,
    after: Option<&str>,
    items_max: usize,
) -> Result<QueuePage, Fatal> {
    let mut page = QueuePage::default();
    if exceeds(namespace.len(), NAMESPACE_BYTES_MAX) {
        return Ok(page);
    }
    let lease_ms = clocks(tables, group)?.lease_ms;
    let (mut from, to) = keys::queue_range(group, namespace, selection.prefix());
    if let Some(after) = after {
        from = from.max(keys::successor(keys::queue(group, namespace, after)));
    }
    let (mut steps, mut passed, mut failed) = (0, None, None);
    let mut found = Vec::new();
    tables.scan(&from, &to, &mut |key, value| {
        if found.len() >= items_max.max(1) || steps > SCAN_STEPS_MAX {
            page.cursor = passed.take();
            return ControlFlow::Break(());
        }
        let Some(Key::Queue { name, .. }) = keys::parse(group, key) else {
            failed = Some(Fatal::Invariant(format!("QUEUE holds the key {key:02x?}")));
            return ControlFlow::Break(());
        };
        steps += SCAN_ROW_STEPS + key.len() + value.len();
        if selection.takes(name.as_bytes(), &mut steps) {
            match rows::decode::<QueueRow>("queue row", value) {
                Ok(row) => found.push((name.to_owned(), row)),
                Err(fatal) => {
                    failed = Some(fatal);
                    return ControlFlow::Break(());
                }
            }
        }
        passed = Some(name.to_owned());
        ControlFlow::Continue(())
    })?;
    if let Some(fatal) = failed {
        return Err(fatal);
    }
    for (name, row) in found {
        let item = queue_item(tables, group, (namespace, &name), row, lease_ms)?;
        page.queues.push((name, item));
    }
    Ok(page)
}

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

fn job_item(
    tables: &dyn Read,
    group: GroupId,
    id: JobId,
    row: JobRow,
    now: Stamp,
    with_body: bool,
) -> Result<JobItem, Fatal> {
    let left = |at_ms: u64| at_ms.saturating_sub(now.lease_ms);
    let note = match row.noted {
        true => match tables.get(&keys::job_note(group, id))? {
            Some(bytes) => rows::decode("job note row", &bytes)?,
            None => JobNoteRow::default(),
        },
        false => JobNoteRow::default(),
    };
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

fn job_row(
    tables: &dyn Read,
    group: GroupId,
    era: Era,
    id: JobId,
) -> Result<Option<JobRow>, Fatal> {
    match tables.get(&keys::job(group, era, id))? {
        Some(bytes) => Ok(Some(rows::decode("job row", &bytes)?)),
        None => Ok(None),
    }
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
    if let Some(row) = job_row(tables, group, asked.era, id)? {
        let item = job_item(tables, group, id, row, now, true)?;
        return Ok(Some((queue.to_owned(), item)));
    }
    let Some(dead) = dead_letters_of(queue, &asked.options) else { return Ok(None) };
    let Some(there) = queue_row(tables, group, namespace, &dead)? else { return Ok(None) };
    let row = job_row(tables, group, there.era, id)?;
    let Some(row) = row.filter(|row| row.from.as_deref() == Some(queue)) else { return Ok(None) };
    Ok(Some((dead, job_item(tables, group, id, row, now, true)?)))
}

/// A job that was given to somebody, as long as it is leased so: what its consumer is to be told.
///
/// # Errors
/// When the tables fail.
pub fn delivery(
    tables: &dyn Read,
    group: GroupId,
    assigned: &AssignedJob,
) -> Result<Option<JobItem>, Fatal> {
    let &AssignedJob { era, id, lease, .. } = assigned;
    let Some(row) = job_row(tables, group, era, id)? else { return Ok(None) };
    if !matches!(row.state, JobState::Leased { lease: newest, .. } if newest == lease) {
        return Ok(None);
    }
    let now = clocks(tables, group)?;
    Ok(Some(job_item(tables, group, id, row, now, true)?))
}

/// What became of a pull that waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PullStanding {
    /// It waits, here; nowhere: it is passed over until it is attached again.
    Waiting(Option<Attachment>),
    /// It was given these.
    Answered(Vec<AssignedJob>, Option<Attachment>),
    /// There was nothing in its time.
    TimedOut,
}

/// What became of a pull; none when it was forgotten, or its queue deleted.
///
/// # Errors
/// When the tables fail.
pub fn pull(
    tables: &dyn Read,
    group: GroupId,
    id: ConsumerId,
) -> Result<Option<PullStanding>, Fatal> {
    let Some(bytes) = tables.get(&keys::consumer(group, id))? else { return Ok(None) };
    let row: ConsumerRow = rows::decode("consumer row", &bytes)?;
    let Wants::Pull { state, .. } = row.wants else { return Ok(None) };
    Ok(Some(match state {
        PullState::Waiting => PullStanding::Waiting(row.attachment),
        PullState::Answered(jobs) => PullStanding::Answered(jobs, row.attachment),
        PullState::TimedOut => PullStanding::TimedOut,
    }))
}

/// Where a consumer is; none inside: nowhere, it may come back. None when it has ended.
///
/// # Errors
/// When the tables fail.
pub fn consumer(
    tables: &dyn Read,
    group: GroupId,
    id: ConsumerId,
) -> Result<Option<Option<Attachment>>, Fatal> {
    match tables.get(&keys::consumer(group, id))? {
        Some(bytes) => Ok(Some(rows::decode::<ConsumerRow>("consumer row", &bytes)?.attachment)),
        None => Ok(None),
    }
}

/// Who consumes on a node, or waits for a pull there, and at which place.
///
/// # Errors
/// When the tables fail.
pub fn consumers_on(
    tables: &dyn Read,
    group: GroupId,
    node: NodeId,
) -> Result<Vec<(ConsumerId, Attachment)>, Fatal> {
    let mut there = Vec::new();
    each_row(tables, group, keys::table::CONSUMER, |key, value| {
        let Some(Key::Consumer(id)) = keys::parse(group, key) else {
            return Err(Fatal::Invariant(format!("CONSUMER holds the key {key:02x?}")));
        };
        let row: ConsumerRow = rows::decode("consumer row", value)?;
        let over = matches!(
            row.wants,
            Wants::Pull { state: PullState::Answered(_) | PullState::TimedOut, .. }
        );
        if let Some(attachment) = row.attachment
            && attachment.node == node
            && !over
        {
            there.push((id, attachment));
        }
        Ok(())
    })?;
    Ok(there)
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
    let (mut from, to) = keys::jobs_range(group, of.era);
    if let Some(after) = list.after {
        from = keys::successor(keys::job(group, of.era, after));
    }
    let (mut steps, mut passed, mut cursor, mut failed) = (0, None, None, None);
    let mut found = Vec::new();
    tables.scan(&from, &to, &mut |key, value| {
        if found.len() >= list.items_max.max(1) || steps > SCAN_STEPS_MAX {
            cursor = passed;
            return ControlFlow::Break(());
        }
        steps += SCAN_ROW_STEPS + key.len() + value.len();
        match (keys::parse(group, key), rows::decode::<JobRow>("job row", value)) {
            (Some(Key::Job(_, id)), Ok(row)) => {
                passed = Some(id);
                if list.filter.takes(&row.state) {
                    found.push((id, row));
                }
            }
            (_, Err(fatal)) => failed = Some(fatal),
            _ => failed = Some(Fatal::Invariant(format!("JOB holds the key {key:02x?}"))),
        }
        if failed.is_none() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    })?;
    if let Some(fatal) = failed {
        return Err(fatal);
    }
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
        if let Some(row) = job_row(tables, group, of.era, id)? {
            let with_body = bytes == 0 || bytes + row.body_bytes <= bytes_max;
            bytes += if with_body { row.body_bytes } else { 0 };
            jobs.push(job_item(tables, group, id, row, now, with_body)?);
        }
    }
    Ok(Some(jobs))
}
