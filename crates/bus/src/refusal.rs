//! Why something was not done, and the checks that everything has to pass.

use crate::limits::{CHANNEL_BYTES_MAX, GROUP_BYTES_MAX, NAMESPACE_BYTES_MAX};
use quorate_state::NodeId;
use thiserror::Error;

/// Nothing was changed, for this reason.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Refusal {
    /// It is no pattern.
    #[error("{0}")]
    Selector(String),
    /// It is too long, or empty.
    #[error("{what} must have 1 to {max} bytes, not {actual}")]
    Length {
        /// What was measured.
        what: &'static str,
        /// How long it is, in bytes.
        actual: usize,
        /// How long it may be, in bytes.
        max: usize,
    },
    /// There is too much of it.
    #[error("{what}: {actual}, and at most {max} are allowed")]
    TooMany {
        /// What was counted.
        what: &'static str,
        /// How many there are, with what was asked for.
        actual: usize,
        /// How many there may be.
        max: usize,
    },
    /// A subscription without a selector would never receive anything.
    #[error("a subscription needs at least one pattern")]
    NoSelector,
    /// The node has no such link, or not any more.
    #[error("node {0} has no such link; begin another one")]
    NotLinked(NodeId),
}

/// Refuses a channel's name that is empty or too long.
///
/// # Errors
/// When it has not 1 to [`CHANNEL_BYTES_MAX`] bytes.
pub fn check_channel(channel: &str) -> Result<(), Refusal> {
    length("a channel", channel, CHANNEL_BYTES_MAX)
}

/// Refuses the name of a queue group that is empty or too long.
///
/// # Errors
/// When it has not 1 to [`GROUP_BYTES_MAX`] bytes.
pub fn check_group(group: &str) -> Result<(), Refusal> {
    length("a queue group", group, GROUP_BYTES_MAX)
}

pub(crate) fn check_namespace(namespace: &str) -> Result<(), Refusal> {
    within("bytes of the namespace", namespace.len(), NAMESPACE_BYTES_MAX)
}

pub(crate) fn length(what: &'static str, text: &str, max: usize) -> Result<(), Refusal> {
    if text.is_empty() || text.len() > max {
        return Err(Refusal::Length { what, actual: text.len(), max });
    }
    Ok(())
}

pub(crate) fn within(what: &'static str, actual: usize, max: usize) -> Result<(), Refusal> {
    if actual > max { Err(Refusal::TooMany { what, actual, max }) } else { Ok(()) }
}
