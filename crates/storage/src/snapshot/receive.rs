//! A snapshot on its way into a directory of its own; restartable by file.

use super::rocks::{FILES, Shared};
use super::{Snapshot, SnapshotFile, SnapshotReceiver, manifest};
use crate::Error;
use crate::files::{
    available_bytes, checksum_file, create_dir_durable, io_error, names_in, remove_dir,
    remove_file, rename_durable, sync_dir,
};
use crate::state::AppliedMeta;
use crate::state::generation::check_rows;
use rocksdb::DB;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError};

/// Bytes that must stay free beside a snapshot: for the state that is opened on it, with its memtables.
const SPARE_BYTES: u64 = 64 << 20;

/// Receives one snapshot.
pub(crate) struct RocksReceiver {
    shared: Arc<Shared>,
    /// Its number; a later transfer takes the directory over.
    transfer: u64,
    dir: PathBuf,
    meta: AppliedMeta,
    files: Vec<SnapshotFile>,
    complete: Vec<bool>,
    part: Option<Part>,
}

/// The file that is being written.
struct Part {
    number: usize,
    file: File,
    len: u64,
    crc32c: u32,
}

impl RocksReceiver {
    pub(crate) fn open(
        shared: Arc<Shared>,
        meta: AppliedMeta,
        files: Vec<SnapshotFile>,
    ) -> Result<Self, Error> {
        manifest::check(&shared.dir, &files, shared.snapshot_bytes_max())?;
        let mut newest = shared.transfer.lock().unwrap_or_else(PoisonError::into_inner);
        *newest += 1;
        let transfer = *newest;
        let name = format!("incoming-{:08x}", manifest::fingerprint(&meta, &files));
        for other in names_in(&shared.dir)? {
            if other.starts_with("incoming-") && other != name {
                remove_dir(&shared.dir.join(other))?;
            }
        }
        let dir = shared.dir.join(name);
        let files_dir = dir.join(FILES);
        create_dir_durable(&files_dir)?;
        remove_file(&dir.join("part"))?;
        let present = names_in(&files_dir)?;
        for name in present.iter().filter(|name| files.iter().all(|file| file.name != **name)) {
            remove_file(&files_dir.join(name))?;
        }
        let mut complete = Vec::with_capacity(files.len());
        for file in &files {
            let path = files_dir.join(&file.name);
            if file.len == 0 {
                // No piece would ever come for it.
                File::create(&path).map_err(|error| io_error("create", &path, &error))?;
            }
            let whole = present.contains(&file.name) || file.len == 0;
            let whole = whole && checksum_file(&path)? == (file.len, file.crc32c);
            if !whole {
                remove_file(&path)?;
            }
            complete.push(whole);
        }
        let missing = files.iter().zip(&complete).filter(|(_, complete)| !**complete);
        let needed = missing.map(|(file, _)| file.len).sum::<u64>().saturating_add(SPARE_BYTES);
        let free = available_bytes(&dir)?;
        if free < needed {
            let reason =
                format!("the disk has {free} bytes free, and it takes {needed}: make room on it");
            return Err(Error::Transfer { path: dir, reason });
        }
        // Not before: a later transfer removes the directory.
        drop(newest);
        Ok(Self { shared, transfer, dir, meta, files, complete, part: None })
    }

    fn refuse(&self, reason: String) -> Error {
        Error::Transfer { path: self.dir.clone(), reason }
    }

    /// Refuses when a later transfer has taken over.
    fn check_newest(&self, newest: u64) -> Result<(), Error> {
        if newest == self.transfer {
            return Ok(());
        }
        Err(self.refuse(String::from("a later transfer of a snapshot has begun")))
    }

    /// Begins a file, or finds the one under way.
    fn part(&mut self, number: usize, offset: u64) -> Result<Part, Error> {
        if let Some(part) =
            self.part.take_if(|part| part.number == number && part.len == offset && offset > 0)
        {
            return Ok(part);
        }
        if offset != 0 {
            return Err(self.refuse(format!("a piece of file {number} comes out of order")));
        }
        let path = self.dir.join("part");
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .open(&path)
            .map_err(|error| io_error("create", &path, &error))?;
        Ok(Part { number, file, len: 0, crc32c: 0 })
    }
}

impl SnapshotReceiver for RocksReceiver {
    fn missing(&self) -> Vec<usize> {
        (0..self.files.len()).filter(|number| !self.complete[*number]).collect()
    }

    fn write(&mut self, file: usize, offset: u64, data: &[u8]) -> Result<(), Error> {
        let shared = Arc::clone(&self.shared);
        let newest = shared.transfer.lock().unwrap_or_else(PoisonError::into_inner);
        self.check_newest(*newest)?;
        let Some(expected) = self.files.get(file).cloned() else {
            return Err(self.refuse(format!("there is no file number {file}")));
        };
        if self.complete[file] {
            return Err(self.refuse(format!("file {} is complete already", expected.name)));
        }
        let path = self.dir.join("part");
        let mut part = self.part(file, offset)?;
        let end = u64::try_from(data.len()).ok().and_then(|len| part.len.checked_add(len));
        let Some(end) = end.filter(|end| *end <= expected.len) else {
            return Err(self.refuse(format!(
                "file {} is longer than its {} bytes",
                expected.name, expected.len
            )));
        };
        part.file.write_all(data).map_err(|error| io_error("write", &path, &error))?;
        part.crc32c = crc32c::crc32c_append(part.crc32c, data);
        part.len = end;
        if end < expected.len {
            self.part = Some(part);
            return Ok(());
        }
        if part.crc32c != expected.crc32c {
            return Err(self.refuse(format!(
                "file {} has checksum {:08x} instead of {:08x}: it must be sent again",
                expected.name, part.crc32c, expected.crc32c
            )));
        }
        part.file.sync_all().map_err(|error| io_error("sync", &path, &error))?;
        rename_durable(&path, &self.dir.join(FILES).join(&expected.name))?;
        // The rename crossed directories: the one it came to counts.
        sync_dir(&self.dir.join(FILES))?;
        self.complete[file] = true;
        Ok(())
    }

    fn finish(self: Box<Self>) -> Result<Arc<dyn Snapshot>, Error> {
        let newest = self.shared.transfer.lock().unwrap_or_else(PoisonError::into_inner);
        self.check_newest(*newest)?;
        let missing = self.missing();
        if !missing.is_empty() {
            return Err(self.refuse(format!("{} files are missing", missing.len())));
        }
        let files_dir = self.dir.join(FILES);
        let names: Vec<String> = self.files.iter().map(|file| file.name.clone()).collect();
        manifest::check_lengths(&files_dir, &self.files)?;
        let rows = |db: &DB| check_rows(db, &files_dir);
        let problem = match self.shared.meta_of(&files_dir, &names, rows) {
            Ok(found) if found == self.meta => None,
            Ok(found) => Some(self.refuse(format!(
                "it was announced to end at {:?} and ends at {:?}",
                self.meta.applied, found.applied
            ))),
            Err(error @ Error::CorruptCopy { .. }) => Some(error),
            Err(error) => return Err(error),
        };
        if let Some(problem) = problem {
            // Each file is what was announced, so sending them again would not help.
            remove_dir(&self.dir)?;
            return Err(problem);
        }
        remove_file(&self.dir.join("part"))?;
        sync_dir(&files_dir)?;
        sync_dir(&self.dir)?;
        Ok(self.shared.adopt(&self.dir, self.meta.clone(), self.files.clone())?)
    }
}
