//! What can be wrong with files for TLS, in words that say what to do.

use std::path::PathBuf;

/// Why files can't be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file can't be read.
    #[error("can't read {what}, {}: {reason}", path.display())]
    Read {
        /// What it is for.
        what: &'static str,
        /// Which file.
        path: PathBuf,
        /// What the system said.
        reason: String,
    },
    /// A file has not in it what it should.
    #[error("{}, {what}: {problem}", path.display())]
    Content {
        /// What it is for.
        what: &'static str,
        /// Which file.
        path: PathBuf,
        /// What is wrong, and what to do.
        problem: String,
    },
    /// The system's own authorities can't be had.
    #[error(
        "this system has no certificate authorities that can be read ({0}); name a file with the one \
         that signed the certificates of the nodes"
    )]
    NoAuthorities(String),
}

impl Error {
    /// That a file has not in it what it should: `problem` must not repeat what it has.
    #[must_use]
    pub fn content(what: &'static str, path: &std::path::Path, problem: String) -> Self {
        Self::Content { what, path: path.to_owned(), problem }
    }
}
