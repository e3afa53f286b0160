//! How storage fails. All but one of these stop the node: none depends on what a user asked for.

use std::path::PathBuf;

/// A failure of the disk, the files on it, or of the rules between log and state.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// The operating system refused.
    #[error("{action} {}: {reason}", path.display())]
    Io {
        /// What was attempted: `"open"`.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        reason: String,
    },
    /// Bytes on disk are not what was written, and nobody else has them: they are of the log, the
    /// votes in it, or the identity.
    #[error(
        "corrupt data in {location}: {reason}; what this node has promised can't be trusted any more, and no older copy may take its place: put another node in its place with `quorate cluster replace` and an empty directory"
    )]
    Corrupt {
        /// File, key or index.
        location: String,
        /// What was found.
        reason: String,
    },
    /// Bytes on disk are not what was written, but the other members have the same: they are of the
    /// state or a snapshot.
    #[error(
        "corrupt data in {location}: {reason}; this node's copy of the state can't be trusted, while its log can: `quorate cluster repair` has it fetch the state from the other nodes of its cluster; one that has no others is restored from a backup"
    )]
    CorruptCopy {
        /// File, or row of which database.
        location: String,
        /// What was found.
        reason: String,
    },
    /// The database library failed.
    #[error("database {}: {reason}", path.display())]
    Database {
        /// The database's directory.
        path: PathBuf,
        /// What it said.
        reason: String,
    },
    /// A snapshot on its way in that does not go on: it is not what was announced, or has no room. The
    /// one failure that does not stop the node: its own data are as good as before.
    #[error("the snapshot in {} can't be received: {reason}", path.display())]
    Transfer {
        /// Where it was to go.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A rule that holds by construction was found broken.
    #[error("broken invariant: {0}")]
    Invariant(String),
    /// The directory belongs to another node or cluster, or is in use.
    #[error("{0}")]
    Identity(String),
    /// The directory is of a node that was removed from its cluster.
    #[error("{0}")]
    Left(String),
}

impl Error {
    /// The same of something that other members have as well.
    pub(crate) fn of_copy(self) -> Self {
        match self {
            Self::Corrupt { location, reason } => Self::CorruptCopy { location, reason },
            other => other,
        }
    }
}
