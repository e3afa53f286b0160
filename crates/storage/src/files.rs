//! Files and directories that survive a power failure, and errors that name them.

use crate::Error;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

/// An error of the system, with what was attempted on what.
pub(crate) fn io_error(action: &'static str, path: &Path, error: &io::Error) -> Error {
    Error::Io { action, path: path.to_owned(), reason: error.to_string() }
}

/// Creates a directory and those above it, and makes their names durable.
pub(crate) fn create_dir_durable(path: &Path) -> Result<(), Error> {
    if path.is_dir() {
        return Ok(());
    }
    let parent = parent_of(path);
    create_dir_durable(&parent)?;
    match fs::create_dir(path) {
        Ok(()) => sync_dir(&parent),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
        Err(error) => Err(io_error("create directory", path, &error)),
    }
}

/// The directory that holds `path`'s name.
pub(crate) fn parent_of(path: &Path) -> PathBuf {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        // A relative path of one component; the root is its own parent.
        _ if path.has_root() => path.to_owned(),
        _ => PathBuf::from("."),
    }
}

/// Makes the names in a directory durable.
pub(crate) fn sync_dir(path: &Path) -> Result<(), Error> {
    sync_file(path)
}

/// Makes the content of a file durable.
pub(crate) fn sync_file(path: &Path) -> Result<(), Error> {
    File::open(path)
        .and_then(|file| file.sync_all())
        .map_err(|error| io_error("sync", path, &error))
}

/// Renames, and makes it durable. Both names are in one directory.
pub(crate) fn rename_durable(from: &Path, to: &Path) -> Result<(), Error> {
    fs::rename(from, to).map_err(|error| io_error("rename", from, &error))?;
    sync_dir(&parent_of(to))
}

/// Replaces a small file: after a crash it has the old content or the new, never a mixture.
pub(crate) fn replace_file(path: &Path, content: &[u8]) -> Result<(), Error> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".tmp");
    let temporary = path.with_file_name(name);
    write_file_durable(&temporary, content)?;
    rename_durable(&temporary, path)
}

/// Writes a file and syncs it; its name is made durable by the caller.
pub(crate) fn write_file_durable(path: &Path, content: &[u8]) -> Result<(), Error> {
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .open(path)
        .and_then(|mut file| {
            file.write_all(content)?;
            file.sync_all()
        })
        .map_err(|error| io_error("write", path, &error))
}

/// The content of a file of at most `limit` bytes, or none when it does not exist.
pub(crate) fn read_small(path: &Path, limit: u64) -> Result<Option<Vec<u8>>, Error> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(io_error("open", path, &error)),
    };
    let mut content = Vec::new();
    file.take(limit + 1)
        .read_to_end(&mut content)
        .map_err(|error| io_error("read", path, &error))?;
    if u64::try_from(content.len()).unwrap_or(u64::MAX) > limit {
        return Err(Error::Corrupt {
            location: path.display().to_string(),
            reason: format!("the file is longer than {limit} bytes"),
        });
    }
    Ok(Some(content))
}

/// Removes a directory with all it holds; one that does not exist is no error.
pub(crate) fn remove_dir(path: &Path) -> Result<(), Error> {
    match fs::remove_dir_all(path) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(io_error("remove directory", path, &error)),
    }
}

/// Removes a file; one that does not exist is no error.
pub(crate) fn remove_file(path: &Path) -> Result<(), Error> {
    match fs::remove_file(path) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(io_error("remove", path, &error)),
    }
}

/// The plain names in a directory, sorted; names that are not UTF-8 are left out, since nothing
/// of ours is called so.
pub(crate) fn names_in(path: &Path) -> Result<Vec<String>, Error> {
    let mut names = Vec::new();
    for entry in fs::read_dir(path).map_err(|error| io_error("list", path, &error))? {
        let entry = entry.map_err(|error| io_error("list", path, &error))?;
        if let Ok(name) = entry.file_name().into_string() {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

/// Length and CRC-32C of a file, read in pieces.
pub(crate) fn checksum_file(path: &Path) -> Result<(u64, u32), Error> {
    let mut file = File::open(path).map_err(|error| io_error("open", path, &error))?;
    let mut buffer = vec![0; 256 << 10];
    let (mut len, mut crc) = (0_u64, 0_u32);
    loop {
        let read = match file.read(&mut buffer) {
            Ok(0) => return Ok((len, crc)),
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(io_error("read", path, &error)),
        };
        crc = crc32c::crc32c_append(crc, &buffer[..read]);
        len += u64::try_from(read).expect("a buffer's length fits in 64 bits");
    }
}

/// Bytes that an unprivileged process may still write on the file system that holds `path`.
///
/// # Errors
/// When the system does not tell.
pub fn available_bytes(path: &Path) -> Result<u64, Error> {
    let found = nix::sys::statvfs::statvfs(path)
        .map_err(|error| io_error("query free space of", path, &error.into()))?;
    Ok(found.blocks_available().saturating_mul(found.fragment_size()))
}
