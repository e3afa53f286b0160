//! What a backup says of itself.

use super::read::Backup;
use super::{Error, Header};
use std::path::Path;

/// What its first part says: who made it, of what, when. Whether the rest is whole,
/// [`super::verify()`] says.
///
/// # Errors
/// When it can't be read, does not begin as a backup, or needs a newer version.
pub fn info(path: &Path) -> Result<Header, Error> {
    Ok(Backup::open(path)?.header)
}
