//! Backups: everything a cluster holds, as one file, consistent at one revision.
//!
//! `write` makes the file from a view of the tables, in pieces that a node sends as they come;
//! `read` takes it apart and believes none of it; [`verify()`], [`info()`] and [`restore()`] are what can be
//! done with one without a node. The format is in `docs/backups.md`.

mod export;
mod format;
#[cfg(feature = "fuzzing")]
pub(crate) mod fuzzing;
mod info;
mod read;
mod repair;
mod restore;
#[cfg(test)]
mod tests;
mod verify;
mod write;

pub use format::{End, Header};
pub use info::info;
pub use repair::{FETCHED, Repaired, check as check_repair, repair};
pub use restore::{Restored, restore};
pub use verify::verify;

pub(crate) use export::export;
pub(crate) use write::save;

use quorate_consensus::StartError;
use std::io;
use std::path::{Path, PathBuf};

/// Told how many bytes of how many are done.
pub type Progress<'a> = dyn FnMut(u64, u64) + 'a;

/// Why nothing can be done with a backup, or with the directory that it is to go to.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The system refused.
    #[error("can't {action} {}: {error}", path.display())]
    Io {
        /// What was attempted: `"read"`.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What it said.
        error: io::Error,
    },
    /// It is no backup, or not what was written.
    #[error("{} is no backup that can be used: {reason}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What was found, and where.
        reason: String,
    },
    /// A newer version wrote it.
    #[error("{} needs a newer version of quorate: {reason}", path.display())]
    TooNew {
        /// The file.
        path: PathBuf,
        /// What this version does not know.
        reason: String,
    },
    /// The directory can't be used.
    #[error(transparent)]
    Storage(#[from] quorate_storage::Error),
    /// What is in the backup can't be gone on with.
    #[error(transparent)]
    Start(#[from] StartError),
    /// It does not fit what it is for.
    #[error("{0}")]
    Unfit(String),
}

impl Error {
    fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |error| Self::Io { action, path: path.to_owned(), error }
    }
}
