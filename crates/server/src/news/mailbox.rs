//! What a consumer of this node is told: jobs that it was given, and those that were taken from it.
//!
//! Each has a mailbox, which exists before the log hears of the consumer, so that nothing is missed
//! between. It holds no more jobs than the consumer may have: one that is withdrawn before it was
//! taken out is not told of at all.

use super::News;
use quorate_state::{AssignedJob, Attachment, JobId, JobLease};
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;

/// Somebody's mail, until it is dropped.
#[derive(Debug)]
pub(crate) struct Mailbox {
    news: Arc<News>,
    attachment: Attachment,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
pub(super) struct Shared {
    mail: Mutex<Mail>,
    woken: Notify,
}

/// What was kept in a mailbox since it was emptied last.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Mail {
    /// Jobs that the consumer was given, in the order of their deliveries.
    pub(crate) assigned: BTreeMap<JobLease, AssignedJob>,
    /// Those that were taken from it, of those it took out.
    pub(crate) withdrawn: VecDeque<(JobId, JobLease)>,
    /// The consumer is not here any more, as this node has applied it. What was taken from it before
    /// that is in here, or was.
    pub(crate) left: bool,
    /// It may have been given jobs that are not in here, because this node applied more at once than
    /// it can tell of. Nothing is assigned in here from then on.
    pub(crate) missed: bool,
}

impl Mailbox {
    /// From now on what is meant for this place is kept here.
    pub(crate) fn open(news: &Arc<News>, attachment: Attachment) -> Self {
        let shared = Arc::<Shared>::default();
        news.lock().mailboxes.insert(attachment.call, Arc::clone(&shared));
        Self { news: Arc::clone(news), attachment, shared }
    }

    /// Where it is.
    pub(crate) fn attachment(&self) -> Attachment {
        self.attachment
    }

    /// Waits for news of any kind, once for any number since it last waited.
    ///
    /// # Cancel safety
    /// News is not lost when the future is dropped before it resolves.
    pub(crate) async fn news(&self) {
        self.shared.woken.notified().await;
    }

    /// Empties it. That somebody left or missed something it says for ever.
    pub(crate) fn collect(&self) -> Mail {
        let mut mail = self.shared.lock();
        let (left, missed) = (mail.left, mail.missed);
        std::mem::replace(&mut *mail, Mail { left, missed, ..Mail::default() })
    }
}

impl Drop for Mailbox {
    fn drop(&mut self) {
        self.news.lock().mailboxes.remove(&self.attachment.call);
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Mail> {
        self.mail.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn assigned(&self, job: AssignedJob) {
        let mut mail = self.lock();
        if !mail.missed {
            mail.assigned.insert(job.lease, job);
            self.woken.notify_one();
        }
    }

    pub(super) fn withdrawn(&self, id: JobId, lease: JobLease) {
        let mut mail = self.lock();
        if mail.assigned.remove(&lease).is_none() {
            mail.withdrawn.push_back((id, lease));
            self.woken.notify_one();
        }
    }

    pub(super) fn left(&self) {
        self.lock().left = true;
        self.woken.notify_one();
    }

    pub(super) fn missed(&self) {
        let mut mail = self.lock();
        mail.missed = true;
        mail.assigned.clear();
        self.woken.notify_one();
    }
}
