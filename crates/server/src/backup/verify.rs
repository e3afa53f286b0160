//! Reads all of a backup, and finds whether it is as it was written.

use super::read::Backup;
use super::{End, Error, Header, Progress};
use std::path::Path;

/// What the backup is of, once every byte of it was checked.
///
/// # Errors
/// When it can't be read, is damaged (with what, and where), or needs a newer version.
pub fn verify(path: &Path, progress: &mut Progress<'_>) -> Result<(Header, End), Error> {
    Backup::open(path)?.rows(progress, |_| Ok(()))
}
