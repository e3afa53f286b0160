//! What is planted in a run: a fault in the broker, which has to be built for it, or in what its clients
//! do, to show that the simulation finds what it is there to find.

#[cfg(feature = "planted-faults")]
use quorate_state::planted::{self, Fault};
use std::fmt;

/// What is wrong on purpose.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Planted {
    /// Nothing.
    #[default]
    Nothing,
    /// Clients read without the barrier and take the answers for linearizable.
    StaleReads,
    /// Clients repeat an increment of unknown outcome under a new name.
    CountTwice,
    /// Clients leave the guard out of their guarded writes, as if it was not checked.
    SkippedGuards,
    /// Clients that push jobs say of some that they were added, and have not sent them.
    PushesNotSent,
    /// Workers that come too late with a job, and are told so, take it for done.
    StaleAcks,
    /// In the broker.
    #[cfg(feature = "planted-faults")]
    Broker(Fault),
}

/// What the machines of a run have to be like, so that a fault can show at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(
    not(feature = "planted-faults"),
    expect(dead_code, reason = "only faults in the broker need anything")
)]
pub(super) enum Needs {
    /// As in all runs.
    Nothing,
    /// Syncs that take long, no flush of the state, which would be found ahead of its log at once, and
    /// then a power failure everywhere.
    LongSyncs,
    /// Snapshots so often that nodes that were away need them.
    ManySnapshots,
    /// One node whose syncs take longer than those of the others, who commit without it.
    OneSlowDisk,
}

impl Planted {
    /// For what runs on this thread from now on.
    pub(super) fn plant_on_this_thread(self) {
        #[cfg(feature = "planted-faults")]
        if let Self::Broker(fault) = self {
            planted::plant_on_this_thread(fault);
        }
    }

    pub(super) fn needs(self) -> Needs {
        match self {
            #[cfg(feature = "planted-faults")]
            Self::Broker(Fault::AcknowledgeBeforeFsync) => Needs::LongSyncs,
            #[cfg(feature = "planted-faults")]
            Self::Broker(Fault::StateAheadOfLog) => Needs::OneSlowDisk,
            #[cfg(feature = "planted-faults")]
            Self::Broker(Fault::SnapshotMetaAhead) => Needs::ManySnapshots,
            _ => Needs::Nothing,
        }
    }
}

impl fmt::Display for Planted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            #[cfg(feature = "planted-faults")]
            Self::Broker(fault) => fault.fmt(f),
            clients => fmt::Debug::fmt(clients, f),
        }
    }
}
