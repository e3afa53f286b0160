//! What every log refuses, whatever it is stored in.

use super::{LogBounds, LogEntry};
use crate::Error;
use quorate_state::{LogIndex, LogPosition};

/// The index behind this one.
pub(crate) fn next(index: LogIndex) -> LogIndex {
    LogIndex(index.0 + 1)
}

/// Entries must follow the last one, and each other, without a gap. A log that never held
/// anything begins anywhere.
pub(crate) fn check_follows(last: Option<LogPosition>, entries: &[LogEntry]) -> Result<(), Error> {
    let mut previous = last.map(|position| position.index);
    for entry in entries {
        if previous.is_some_and(|previous| next(previous) != entry.position.index) {
            return Err(Error::Invariant(format!(
                "entry {} does not follow {}",
                entry.position,
                display(previous)
            )));
        }
        previous = Some(entry.position.index);
    }
    Ok(())
}

/// A truncation leaves alone what was purged and what was committed.
pub(crate) fn check_truncation(
    bounds: &LogBounds,
    committed: Option<LogIndex>,
    keep: Option<LogIndex>,
) -> Result<(), Error> {
    let purged = bounds.purged.map(|position| position.index);
    for (bound, what) in [(purged, "purged"), (committed, "committed")] {
        if keep < bound {
            return Err(Error::Invariant(format!(
                "the log is to be cut behind {}, but {} is {what}",
                display(keep),
                display(bound)
            )));
        }
    }
    Ok(())
}

/// What is kept must be what the caller thinks it is.
pub(crate) fn check_kept(keep: LogPosition, found: LogPosition) -> Result<(), Error> {
    if found == keep {
        return Ok(());
    }
    Err(Error::Invariant(format!("the log is to be cut behind {keep} but holds {found} there")))
}

/// An index for a message.
pub(crate) fn display(index: Option<LogIndex>) -> String {
    index.map_or_else(|| String::from("nothing"), |index| index.to_string())
}
