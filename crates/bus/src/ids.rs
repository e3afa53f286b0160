//! Newtypes for the numbers that must not be confused with each other.

use std::fmt;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub u64);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

id! {
    /// Who sequences: the Raft term of a leader. A later leader has a higher one.
    Epoch
}
id! {
    /// The number of a message in its channel and epoch, from 1, without a hole for as long as the
    /// channel's counter is kept. It never repeats or goes back within an epoch.
    Sequence
}
id! {
    /// The number of a message among all that were published in an epoch, from 1. 0 is before all.
    Position
}
id! {
    /// One link of a node to the leader; whoever makes links gives each another number.
    LinkId
}
id! {
    /// A subscription at a router; never reused by it.
    SubscriptionId
}

/// A position in its epoch: orders all messages there ever were.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// Who sequenced.
    pub epoch: Epoch,
    /// Which message.
    pub position: Position,
}

impl Place {
    /// A position in an epoch.
    #[must_use]
    pub fn new(epoch: Epoch, position: Position) -> Self {
        Self { epoch, position }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.epoch, self.position)
    }
}
