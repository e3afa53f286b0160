//! How storage fails. Every one of these stops the node: none depends on what a user asked for.

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
    /// Bytes on disk are not what was written.
    #[error(
        "corrupt data in {location}: {reason}; this node's copy can't be trusted: remove the node from the cluster and add it again with an empty directory"
    )]
    Corrupt {
        /// File, key or index.
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
