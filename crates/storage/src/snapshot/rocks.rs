//! Snapshots of a RocksDB state: checkpoints, which are hard links to the state's own files.
//!
//! ```text
//! snapshots/<index + 1>-<term>-<serial>/manifest      list of the files; written last
//! snapshots/<index + 1>-<term>-<serial>/files/...     a RocksDB database
//! snapshots/incoming-<fingerprint>/files/...          on its way in: files that are complete
//! snapshots/incoming-<fingerprint>/part               on its way in: the file that is not
//! snapshots/building/...                              being taken
//! ```

use super::receive::RocksReceiver;
use super::{Snapshot, SnapshotFile, SnapshotReceiver, SnapshotStore, manifest};
use crate::Error;
use crate::files::{
    checksum_file, create_dir_durable, io_error, names_in, remove_dir, remove_file, rename_durable,
    sync_dir, sync_file,
};
use crate::rocks::{self, Budget, copy_error};
use crate::state::AppliedMeta;
use crate::state::generation::{Generation, check_rows, read_meta};
use crate::state::rocks::RocksState;
use arc_swap::ArcSwap;
use bytes::Bytes;
#[cfg(feature = "planted-faults")]
use quorate_state::planted::{Fault, is_planted};
use rocksdb::DB;
use rocksdb::checkpoint::Checkpoint;
use std::fs::{self, File};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Directory of the files in a snapshot's directory.
pub(crate) const FILES: &str = "files";

/// The snapshots of one group.
pub struct RocksSnapshots {
    shared: Arc<Shared>,
    state: Arc<ArcSwap<Generation>>,
    /// One snapshot is taken at a time.
    building: Mutex<()>,
}

/// What receivers use as well.
pub(crate) struct Shared {
    pub(crate) dir: PathBuf,
    budget: Budget,
    current: Mutex<Option<Arc<RocksSnapshot>>>,
    /// Keeps directory names apart.
    serial: AtomicU64,
    /// Number of the newest transfer. An older one that still runs may write no more, or two
    /// would fill one directory.
    pub(crate) transfer: Mutex<u64>,
}

/// A complete snapshot in a directory of its own, which goes when it is superseded and out of
/// use.
pub struct RocksSnapshot {
    dir: PathBuf,
    meta: AppliedMeta,
    files: Vec<SnapshotFile>,
    superseded: AtomicBool,
}

impl RocksSnapshot {
    /// Where one of its files is.
    pub(crate) fn path_of(&self, file: &SnapshotFile) -> PathBuf {
        self.dir.join(FILES).join(&file.name)
    }
}

impl Drop for RocksSnapshot {
    fn drop(&mut self) {
        if self.superseded.load(Ordering::Acquire)
            && let Err(error) = remove_dir(&self.dir)
        {
            // The next start tries again.
            tracing::warn!(%error, "an old snapshot could not be removed");
        }
    }
}

impl Snapshot for RocksSnapshot {
    fn meta(&self) -> &AppliedMeta {
        &self.meta
    }

    fn files(&self) -> &[SnapshotFile] {
        &self.files
    }

    fn read(&self, file: usize, offset: u64, len: usize) -> Result<Bytes, Error> {
        let Some(file) = self.files.get(file) else {
            return Err(Error::Invariant(format!("the snapshot has no file number {file}")));
        };
        let left = file.len.saturating_sub(offset);
        let len = usize::try_from(left).map_or(len, |left| left.min(len));
        let path = self.path_of(file);
        let mut piece = vec![0; len];
        File::open(&path)
            .and_then(|opened| opened.read_exact_at(&mut piece, offset))
            .map_err(|error| io_error("read", &path, &error))?;
        Ok(Bytes::from(piece))
    }

    fn check(&self, file: usize) -> Result<(), Error> {
        let Some(file) = self.files.get(file) else {
            return Err(Error::Invariant(format!("the snapshot has no file number {file}")));
        };
        let path = self.path_of(file);
        let (len, crc32c) = checksum_file(&path)?;
        if (len, crc32c) == (file.len, file.crc32c) {
            return Ok(());
        }
        Err(Error::CorruptCopy {
            location: path.display().to_string(),
            reason: format!(
                "it has {len} bytes with checksum {crc32c:08x} instead of {} with {:08x}",
                file.len, file.crc32c
            ),
        })
    }

    fn as_any(&self) -> &dyn std::any::Any {
        self
    }
}

impl RocksSnapshots {
    /// Opens the snapshots in `dir`, those of `state`. What was not complete is removed, except
    /// a transfer that may go on.
    ///
    /// # Errors
    /// When the newest is damaged or the device fails.
    pub fn open(dir: &Path, state: &RocksState, budget: &Budget) -> Result<Self, Error> {
        create_dir_durable(dir)?;
        let mut complete: Vec<_> = names_in(dir)?
            .into_iter()
            .filter_map(|name| Some((manifest::parse_dir_name(&name)?, name)))
            .collect();
        complete.sort();
        let serial = complete.iter().map(|((_, serial), _)| serial + 1).max().unwrap_or(0);
        let newest = complete.last().map(|(_, name)| name.clone());
        for name in names_in(dir)? {
            if Some(&name) != newest.as_ref() && !name.starts_with("incoming-") {
                remove_dir(&dir.join(name))?;
            }
        }
        let current = newest.map(|name| load(dir.join(name))).transpose()?.map(Arc::new);
        let shared = Shared {
            dir: dir.to_owned(),
            budget: budget.clone(),
            current: Mutex::new(current),
            serial: AtomicU64::new(serial),
            transfer: Mutex::new(0),
        };
        Ok(Self { shared: Arc::new(shared), state: state.current(), building: Mutex::new(()) })
    }

    /// Takes a snapshot of the state. Files that it shares with `previous` are not read again; with
    /// `reads_all` every row of it is.
    fn take(
        &self,
        state: &Generation,
        previous: Option<&RocksSnapshot>,
        reads_all: bool,
    ) -> Result<Arc<dyn Snapshot>, Error> {
        let building = self.shared.dir.join("building");
        remove_dir(&building)?;
        create_dir_durable(&building)?;
        let path = building.join(FILES);
        // Flushes first: without a write-ahead log the files alone must hold everything.
        Checkpoint::new(&state.db)
            .and_then(|checkpoint| checkpoint.create_checkpoint(&path))
            .map_err(|error| copy_error(&state.dir.path, error))?;
        let names = names_in(&path)?;
        let mut files = Vec::with_capacity(names.len());
        for name in &names {
            let file = path.join(name);
            sync_file(&file)?;
            let (len, crc32c) = match previous.and_then(|old| same_file(old, name, &file)) {
                Some(known) => known,
                None => checksum_file(&file)?,
            };
            files.push(SnapshotFile { name: name.clone(), len, crc32c });
        }
        sync_dir(&path)?;
        // Entries may have been applied since the decision to take it: what counts is what the
        // files say.
        let check = |db: &DB| if reads_all { check_rows(db, &path) } else { Ok(()) };
        let meta = self.shared.meta_of(&path, &names, check);
        let meta = meta.map_err(|error| named_in(error, &path, &state.dir.path))?;
        #[cfg(feature = "planted-faults")]
        let meta = if is_planted(Fault::SnapshotMetaAhead) { state.meta()? } else { meta };
        Ok(self.shared.adopt(&building, meta, files)?)
    }
}

/// The same failure, of the file of the state that a snapshot's file is a link to: that one stays.
fn named_in(error: Error, snapshot: &Path, state: &Path) -> Error {
    let (from, to) = (snapshot.display().to_string(), state.display().to_string());
    match error {
        Error::CorruptCopy { location, reason } => Error::CorruptCopy {
            location: location.replace(&from, &to),
            reason: reason.replace(&from, &to),
        },
        error => error,
    }
}

/// A snapshot whose directory has its final name: whole, or damaged.
fn load(dir: PathBuf) -> Result<RocksSnapshot, Error> {
    let Some((meta, files)) = manifest::read(&dir)? else {
        return Err(Error::CorruptCopy {
            location: dir.display().to_string(),
            reason: String::from("the snapshot has lost its manifest"),
        });
    };
    manifest::check_lengths(&dir.join(FILES), &files)?;
    Ok(RocksSnapshot { dir, meta, files, superseded: AtomicBool::new(false) })
}

impl Shared {
    pub(crate) fn snapshot_bytes_max(&self) -> u64 {
        self.budget.tuning().snapshot_bytes_max
    }

    fn current(&self) -> MutexGuard<'_, Option<Arc<RocksSnapshot>>> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the database in a snapshot's directory says of itself, after `check`. Leaves nothing behind.
    pub(crate) fn meta_of(
        &self,
        files: &Path,
        expected: &[String],
        check: impl FnOnce(&DB) -> Result<(), Error>,
    ) -> Result<AppliedMeta, Error> {
        // With a cache of its own: what is damaged on the disk may be whole in the one that all share,
        // under the same keys, since files of snapshots are those of the state.
        let mut options = Budget::new(self.budget.tuning()).state_options();
        options.create_if_missing(false);
        let meta = {
            let db = rocks::open_read_only(&options, files).map_err(Error::of_copy)?;
            check(&db)?;
            read_meta(&db, files)?
        };
        for name in names_in(files)?.iter().filter(|name| !expected.contains(name)) {
            remove_file(&files.join(name))?;
        }
        Ok(meta)
    }

    /// Gives a complete directory its final name, and makes it current unless a newer one is.
    pub(crate) fn adopt(
        &self,
        dir: &Path,
        meta: AppliedMeta,
        files: Vec<SnapshotFile>,
    ) -> Result<Arc<RocksSnapshot>, Error> {
        manifest::write(dir, &meta, &files)?;
        let serial = self.serial.fetch_add(1, Ordering::Relaxed);
        let path = self.dir.join(manifest::dir_name(meta.applied, serial));
        rename_durable(dir, &path)?;
        let snapshot =
            Arc::new(RocksSnapshot { dir: path, meta, files, superseded: AtomicBool::new(false) });
        let mut current = self.current();
        let newest = current.as_ref().and_then(|current| current.meta.applied);
        if newest.map(|at| at.index) > snapshot.meta.applied.map(|at| at.index) {
            snapshot.superseded.store(true, Ordering::Release);
        } else if let Some(old) = current.replace(Arc::clone(&snapshot)) {
            old.superseded.store(true, Ordering::Release);
        }
        Ok(snapshot)
    }
}

impl SnapshotStore for RocksSnapshots {
    fn build(&self) -> Result<Arc<dyn Snapshot>, Error> {
        let _one_at_a_time = self.building.lock().unwrap_or_else(PoisonError::into_inner);
        let state = self.state.load_full();
        let previous = self.shared.current().clone();
        if let Some(current) = previous.clone().filter(|current| current.meta.applied.is_some())
            && current.meta == state.meta()?
        {
            // It may have come from elsewhere; the promise is about this node's own state.
            state.flush()?;
            return Ok(current);
        }
        self.take(&state, previous.as_deref(), false)
    }

    fn renew(&self) -> Result<Arc<dyn Snapshot>, Error> {
        let _one_at_a_time = self.building.lock().unwrap_or_else(PoisonError::into_inner);
        let state = self.state.load_full();
        // Both snapshots are links to files of the state: what is damaged in the old one may be damaged
        // in the new one, and would be taken for whole with a checksum of its own.
        self.take(&state, None, true)
    }

    fn current(&self) -> Option<Arc<dyn Snapshot>> {
        self.shared.current().clone().map(|snapshot| snapshot as Arc<dyn Snapshot>)
    }

    fn receive(
        &self,
        meta: AppliedMeta,
        files: Vec<SnapshotFile>,
    ) -> Result<Box<dyn SnapshotReceiver>, Error> {
        Ok(Box::new(RocksReceiver::open(Arc::clone(&self.shared), meta, files)?))
    }
}

/// Length and checksum of a file that the previous snapshot has too: the same inode, so the same
/// bytes, which are not read again.
fn same_file(previous: &RocksSnapshot, name: &str, path: &Path) -> Option<(u64, u32)> {
    let known = previous.files.iter().find(|file| file.name == name)?;
    let (old, new) = (fs::metadata(previous.path_of(known)).ok()?, fs::metadata(path).ok()?);
    let same = old.ino() == new.ino() && old.dev() == new.dev() && new.len() == known.len;
    same.then_some((known.len, known.crc32c))
}
