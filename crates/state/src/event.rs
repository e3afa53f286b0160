//! What an entry brings about that others wait for.

use crate::{
    AssignedJob, Attachment, BuildLease, ConsumerId, FencingToken, JobId, JobLease, KeySelector,
    Publication, Revision, SessionId, TicketId,
};
use bytes::Bytes;

/// Something that others wait for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A session was opened.
    SessionOpened {
        /// Which.
        id: SessionId,
        /// Its ttl.
        ttl_ms: u64,
    },
    /// A session ended, by its owner or by expiry.
    SessionEnded {
        /// Which.
        id: SessionId,
    },
    /// A lock was granted, at once or to one who waited.
    LockGranted {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
        /// What it is held under.
        token: FencingToken,
        /// The session that holds it.
        session: SessionId,
        /// It is lost when it is not renewed for this long.
        ttl_ms: u64,
    },
    /// A lock was given back or lost.
    LockFreed {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
        /// What it was held under.
        token: FencingToken,
    },
    /// Something became of a ticket: [`crate::query::ticket`] tells what.
    TicketChanged {
        /// Which.
        id: TicketId,
    },
    /// A consumer was given a job.
    JobAssigned {
        /// Who.
        consumer: ConsumerId,
        /// Where it is.
        attachment: Attachment,
        /// The job.
        job: AssignedJob,
    },
    /// A job was taken from a consumer, who may be working on it.
    JobWithdrawn {
        /// From whom.
        consumer: ConsumerId,
        /// Where it is.
        attachment: Attachment,
        /// Which.
        id: JobId,
        /// What it was delivered under.
        lease: JobLease,
    },
    /// A consumer has ended, or went on elsewhere.
    ConsumerLeft {
        /// Who.
        consumer: ConsumerId,
        /// Where it was.
        attachment: Attachment,
    },
    /// A schedule was put, or was due, and asks when it is next.
    ScheduleDue {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
    },
    /// Something became of a pull that waits: [`crate::query::pull`] tells what.
    PullChanged {
        /// Which.
        consumer: ConsumerId,
    },
    /// What is left of a lease was recorded.
    LeaseRecorded {
        /// Which.
        lease: LeaseId,
        /// What a new leader gives it; none: its whole ttl.
        remaining_ms: Option<u64>,
    },
    /// An entry of the cache was set, filled, touched, or deleted by its key or by a pattern: what a
    /// client keeps of it is outdated. Also when there was no entry to delete by its key: it may have been
    /// evicted, which clients are not told.
    CacheChanged {
        /// Its namespace.
        namespace: String,
        /// Its key.
        key: Bytes,
        /// When.
        revision: Revision,
    },
    /// All entries of the cache that have one of these tags are outdated.
    CacheTagsInvalidated {
        /// Their namespace.
        namespace: String,
        /// The tags, in order, each once.
        tags: Vec<String>,
        /// When.
        revision: Revision,
    },
    /// Nobody builds this entry of the cache any more.
    CacheBuildEnded {
        /// Its namespace.
        namespace: String,
        /// Its key.
        key: Bytes,
        /// What it was built under.
        lease: BuildLease,
        /// What became of it.
        end: BuildEnd,
    },
    /// A message was published by a transaction.
    Published {
        /// Its namespace.
        namespace: String,
        /// The message.
        publication: Publication,
    },
    /// The selected entries of the cache in this range are gone. Each that was there has its own
    /// [`Event::CacheChanged`] before this; clients may keep others, which were evicted.
    CachePatternDeleted {
        /// Their namespace.
        namespace: String,
        /// Which.
        selector: KeySelector,
        /// Only keys above this one.
        after: Option<Bytes>,
        /// Only keys up to this one.
        through: Option<Bytes>,
        /// When.
        revision: Revision,
    },
    /// An access token, a role or a subject appeared, changed or went, also by its time; whoever keeps
    /// them reads them anew. One stands for all changes in a row of an entry.
    AccessChanged,
}

/// What became of a build of an entry of the cache.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BuildEnd {
    /// The entry is there.
    Filled,
    /// The builder could not build it, because of this.
    Failed(String),
    /// The builder gave it up.
    GivenUp,
    /// The builder took too long.
    Lapsed,
    /// The key was set, deleted or invalidated meanwhile.
    Revoked,
}

/// What lasts as long as it is renewed. The leader keeps count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LeaseId {
    /// A session.
    Session(SessionId),
    /// A lock held under this token.
    Lock(FencingToken),
}
