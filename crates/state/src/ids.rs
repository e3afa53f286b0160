//! Newtypes for the numbers that must not be confused with each other.

use serde::{Deserialize, Serialize};
use std::fmt;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(
            Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
        )]
        #[serde(transparent)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

id! {
    /// A node of the cluster. Never reused: a wiped node comes back under a new id.
    NodeId(u64)
}
id! {
    /// One Raft group: a log, a state machine, a leader. A namespace lives in exactly one group.
    GroupId(u32)
}
id! {
    /// A Raft term.
    Term(u64)
}
id! {
    /// A position in a group's log; the first entry has index 0 (it holds the first membership).
    LogIndex(u64)
}
id! {
    /// A client session: [`Revision`] of the entry that opened it, so it is never reused.
    SessionId(u64)
}
id! {
    /// Tells the holder of a lock from every earlier one: grows with each grant of the group, for
    /// as long as the group lives, and stays below 2^53.
    FencingToken(u64)
}
id! {
    /// A place in a lock's queue: the [`Revision`] of the command that took it.
    TicketId(u64)
}
id! {
    /// A queue, under whatever name; never reused in its group.
    QueueId(u64)
}
id! {
    /// A job, in whichever queue it is: unique in its group, and larger than those pushed before.
    JobId(u64)
}
id! {
    /// Tells one delivery of a job from every other: grows with each delivery in the group. Who
    /// holds the newest of a job may acknowledge it.
    JobLease(u64)
}
id! {
    /// Somebody who takes jobs from a queue: a stream that consumes, or a pull that waits.
    ConsumerId(u64)
}
id! {
    /// A schedule as it was put; one that replaces it has another.
    ScheduleId(u64)
}
id! {
    /// The jobs of a queue since it was last emptied. They are stored under it, so that emptying a
    /// queue is to give it a new one.
    Era(u64)
}
id! {
    /// Tells one build of an entry of the cache from every other: grows with whatever happens in the
    /// cache of the group, for as long as the group lives.
    BuildLease(u64)
}
id! {
    /// The number of a request within its session, chosen by the client, from 1.
    Sequence(u64)
}

id! {
    /// What there is to know: of commands and rows for one build, and for the whole cluster, whose
    /// level is the highest that all of its members know. See [`crate::FeatureLevel::NEWEST`].
    FeatureLevel(u8)
}

/// An access token. Chosen at random by whoever proposes it, so it tells nothing, and is no secret:
/// what is secret is beside it. Shown as 16 hexadecimal digits.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct AccessTokenId(pub u64);

impl fmt::Display for AccessTokenId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl FeatureLevel {
    /// What every build knows.
    pub const FIRST: Self = Self(1);
    /// The newest that this build knows.
    pub const NEWEST: Self = Self(crate::codec::FEATURE_LEVEL);
}

/// When a change happened: `base + (log index << 12 | position of the command in its entry)`.
///
/// Grows strictly with every command of a group, and stays below 2^53, so that it is exact in
/// JSON numbers.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Revision(pub u64);

impl Revision {
    /// Bits that hold the position of a command in its entry.
    pub const POSITION_BITS: u32 = 12;
    /// Revisions stay below this number (2^53).
    pub const LIMIT: u64 = 1 << 53;

    /// The revision of the command at `position` of the entry at `index`.
    ///
    /// # Panics
    /// When the number would reach 2^53, or `position` does not fit in 12 bits: both mean that a
    /// bound enforced elsewhere was broken, and going on would corrupt the order of revisions.
    #[must_use]
    pub fn new(base: u64, index: LogIndex, position: u32) -> Self {
        assert!(position < 1 << Self::POSITION_BITS, "command position {position} out of range");
        assert!(index.0 < Self::LIMIT >> Self::POSITION_BITS, "log index {index} out of range");
        let revision = base + ((index.0 << Self::POSITION_BITS) | u64::from(position));
        assert!(revision < Self::LIMIT, "revision {revision} reached 2^53");
        Self(revision)
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The identity of a log entry: no two different entries share one.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct LogPosition {
    /// Term of the leader that created the entry.
    pub term: Term,
    /// Index of the entry.
    pub index: LogIndex,
}

impl fmt::Display for LogPosition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.term, self.index)
    }
}
