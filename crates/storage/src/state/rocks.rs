//! The applied state in RocksDB, without a write-ahead log: the Raft log is one.
//!
//! Everything a commit writes, the applied position included, is one write batch in one column
//! family, so whatever a crash leaves is the state right after some commit.

use super::generation::{
    self, APPLIED_KEY, Generation, MEMBERSHIP_KEY, Pointer, decode_applied, table_key,
};
use super::hot_rows::HotRows;
use super::{AppliedMeta, StateReader, StateStore, StateTxn, Tables, View};
use crate::Error;
use crate::files::{create_dir_durable, io_error, names_in, remove_dir, sync_dir, sync_file};
use crate::rocks::{Budget, copy_error};
use crate::snapshot::Snapshot;
use crate::snapshot::rocks::RocksSnapshot;
use arc_swap::ArcSwap;
use quorate_state::{LogPosition, Overlay, Read, StoredMembership, TableError, Txn, codec};
use rocksdb::{WriteBatch, WriteOptions};
use self_cell::self_cell;
use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Bytes of a row in a write batch beside its key and value, at most.
const BATCH_ROW_BYTES: usize = 16;

/// The state of one group.
pub struct RocksState {
    dir: PathBuf,
    budget: Budget,
    /// Shared with readers and the snapshot store; replaced when a snapshot is installed.
    current: Arc<ArcSwap<Generation>>,
    /// Of the current generation.
    hot: HotRows,
    meta: AppliedMeta,
    installed: Option<LogPosition>,
}

impl RocksState {
    /// Opens the state in `dir`, or creates an empty one.
    ///
    /// # Errors
    /// When it is damaged or the device fails.
    pub fn open(dir: &Path, budget: &Budget) -> Result<Self, Error> {
        create_dir_durable(dir)?;
        let pointer = match generation::read_pointer(dir)? {
            Some(pointer) => pointer,
            None => {
                if names_in(dir)?.iter().any(|name| name.starts_with("gen-")) {
                    return Err(Error::CorruptCopy {
                        location: dir.join("CURRENT").display().to_string(),
                        reason: String::from("the file is missing beside an existing state"),
                    });
                }
                // The pointer comes first, so that a state is never without one.
                let pointer = Pointer { generation: 1, installed: None };
                generation::write_pointer(dir, pointer)?;
                pointer
            }
        };
        let mut options = budget.state_options();
        if pointer.installed.is_some() {
            // An installed state was complete before the pointer named it.
            options.create_if_missing(false);
        }
        let current = Generation::open(dir, pointer.generation, &options, budget.failures())?;
        sync_dir(dir)?;
        generation::remove_others(dir, pointer.generation)?;
        let meta = current.meta()?;
        Ok(Self {
            dir: dir.to_owned(),
            budget: budget.clone(),
            current: Arc::new(ArcSwap::from_pointee(current)),
            hot: HotRows::new(),
            meta,
            installed: pointer.installed,
        })
    }

    /// Where the snapshot ended that this state began as.
    #[must_use]
    pub fn installed(&self) -> Option<LogPosition> {
        self.installed
    }

    /// Makes everything applied durable, as a full memtable does at any time.
    ///
    /// # Errors
    /// When the device fails.
    pub fn flush(&self) -> Result<(), Error> {
        self.current.load().flush()
    }

    pub(crate) fn current(&self) -> Arc<ArcSwap<Generation>> {
        Arc::clone(&self.current)
    }

    /// Fills a new generation from a snapshot, and opens it.
    fn adopt(&self, snapshot: &RocksSnapshot, number: u64) -> Result<Generation, Error> {
        let path = generation::generation_dir(&self.dir, number);
        // Left over from an install that did not finish.
        remove_dir(&path)?;
        create_dir_durable(&path)?;
        for file in snapshot.files() {
            let (from, to) = (snapshot.path_of(file), path.join(&file.name));
            // Table files never change once written, so both may be the same file; the others
            // belong to the database that is opened on them.
            if !file.name.ends_with(".sst") || fs::hard_link(&from, &to).is_err() {
                fs::copy(&from, &to).map_err(|error| io_error("copy", &from, &error))?;
            }
            sync_file(&to)?;
        }
        sync_dir(&path)?;
        let mut options = self.budget.state_options();
        options.create_if_missing(false);
        let generation = Generation::open(&self.dir, number, &options, self.budget.failures())?;
        let found = generation.meta()?;
        if found != *snapshot.meta() {
            return Err(Error::CorruptCopy {
                location: path.display().to_string(),
                reason: format!(
                    "the snapshot says it ends at {:?}, its tables end at {:?}",
                    snapshot.meta().applied,
                    found.applied
                ),
            });
        }
        sync_dir(&path)?;
        sync_dir(&self.dir)?;
        Ok(generation)
    }
}

impl StateStore for RocksState {
    fn applied(&self) -> AppliedMeta {
        self.meta.clone()
    }

    fn begin(&mut self) -> Box<dyn StateTxn + '_> {
        let Self { current, hot, meta, .. } = self;
        let generation = current.load_full();
        Box::new(RocksTxn { overlay: Overlay::new(LiveTables { generation, hot }), meta })
    }

    fn reader(&self) -> Arc<dyn StateReader> {
        Arc::new(RocksReader { current: Arc::clone(&self.current) })
    }

    fn install(&mut self, snapshot: Arc<dyn Snapshot>) -> Result<(), Error> {
        let snapshot = snapshot.as_any().downcast_ref::<RocksSnapshot>().ok_or_else(|| {
            Error::Invariant(String::from("a snapshot of another kind of store can't be installed"))
        })?;
        let number = self.current.load().dir.number + 1;
        let installed = snapshot.meta().applied;
        let generation = match self.adopt(snapshot, number) {
            Ok(generation) => generation,
            Err(error) => {
                // The old state is untouched; what was made of the new one is of no use.
                remove_dir(&generation::generation_dir(&self.dir, number))?;
                return Err(error);
            }
        };
        generation::write_pointer(&self.dir, Pointer { generation: number, installed })?;
        self.hot = HotRows::new();
        self.meta = snapshot.meta().clone();
        self.installed = installed;
        self.current.swap(Arc::new(generation)).supersede();
        Ok(())
    }
}

/// The newest state of a generation.
struct LiveTables<'a> {
    generation: Arc<Generation>,
    hot: &'a HotRows,
}

impl Read for LiveTables<'_> {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, TableError> {
        let generation = &self.generation;
        self.hot.get(key, || generation.found(generation.db.get_pinned(table_key(key))))
    }

    fn scan(
        &self,
        from: &[u8],
        to: &[u8],
        visit: &mut dyn FnMut(&[u8], &[u8]) -> ControlFlow<()>,
    ) -> Result<(), TableError> {
        let generation = &self.generation;
        generation.scan(from, to, |options| generation.db.raw_iterator_opt(options), visit)
    }
}

/// An open transaction.
struct RocksTxn<'a> {
    overlay: Overlay<LiveTables<'a>>,
    meta: &'a mut AppliedMeta,
}

impl Read for RocksTxn<'_> {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, TableError> {
        self.overlay.get(key)
    }

    fn scan(
        &self,
        from: &[u8],
        to: &[u8],
        visit: &mut dyn FnMut(&[u8], &[u8]) -> ControlFlow<()>,
    ) -> Result<(), TableError> {
        self.overlay.scan(from, to, visit)
    }
}

impl Txn for RocksTxn<'_> {
    fn put(&mut self, key: &[u8], value: &[u8]) {
        self.overlay.put(key, value);
    }

    fn delete(&mut self, key: &[u8]) {
        self.overlay.delete(key);
    }
}

impl StateTxn for RocksTxn<'_> {
    fn commit(self: Box<Self>, meta: &AppliedMeta) -> Result<(), Error> {
        let Self { overlay, meta: before } = *self;
        super::check_advances(before, meta)?;
        let (LiveTables { generation, hot }, writes) = overlay.into_parts();
        let bytes = writes
            .iter()
            .map(|(key, value)| key.len() + value.as_ref().map_or(0, Vec::len) + BATCH_ROW_BYTES);
        let mut batch = WriteBatch::with_capacity_bytes(bytes.sum());
        for (key, value) in &writes {
            match value {
                Some(value) => batch.put(table_key(key), value),
                None => batch.delete(table_key(key)),
            }
        }
        if let Some(applied) = meta.applied {
            batch.put(APPLIED_KEY, codec::encode(&applied));
        }
        let applied_only = before.membership == meta.membership;
        if !applied_only {
            batch.put(MEMBERSHIP_KEY, codec::encode(&meta.membership));
        }
        let mut options = WriteOptions::default();
        options.disable_wal(true);
        generation
            .db
            .write_opt(batch, &options)
            .map_err(|error| copy_error(&generation.dir.path, error))?;
        hot.committed(writes.into_iter());
        before.applied = meta.applied;
        if !applied_only {
            before.membership = meta.membership.clone();
        }
        Ok(())
    }

    fn as_txn(&mut self) -> &mut dyn Txn {
        self
    }
}

struct RocksReader {
    current: Arc<ArcSwap<Generation>>,
}

impl StateReader for RocksReader {
    fn view(&self) -> View {
        let frozen = Frozen::new(self.current.load_full(), |generation| generation.db.snapshot());
        let generation = frozen.borrow_owner();
        let applied = match frozen.borrow_dependent().get_pinned(APPLIED_KEY) {
            Ok(row) => decode_applied(row.as_deref())
                .map_err(|reason| generation.unreadable("applied", reason)),
            Err(error) => Err(generation.failed(error)),
        };
        match applied {
            Ok(applied) => View { applied, tables: Box::new(FrozenTables(frozen)) },
            Err(error) => View::failed(&error),
        }
    }
}

type DbSnapshot<'a> = rocksdb::Snapshot<'a>;

self_cell!(
    /// A RocksDB snapshot together with the database it borrows.
    struct Frozen {
        owner: Arc<Generation>,
        #[covariant]
        dependent: DbSnapshot,
    }
);

struct FrozenTables(Frozen);

impl Tables for FrozenTables {
    fn membership(&self) -> Result<StoredMembership, TableError> {
        let generation = self.0.borrow_owner();
        let row = self.0.borrow_dependent().get_pinned(MEMBERSHIP_KEY);
        let row = row.map_err(|error| generation.table_error(error))?;
        generation::decode_membership(row.as_deref())
            .map_err(|reason| TableError(generation.unreadable("membership", reason).to_string()))
    }

    fn rows_estimate(&self) -> u64 {
        let estimate = self.0.borrow_owner().db.property_int_value("rocksdb.estimate-num-keys");
        // Only a progress bar goes by it.
        estimate.ok().flatten().unwrap_or(0)
    }
}

impl Read for FrozenTables {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, TableError> {
        self.0.borrow_owner().found(self.0.borrow_dependent().get_pinned(table_key(key)))
    }

    fn scan(
        &self,
        from: &[u8],
        to: &[u8],
        visit: &mut dyn FnMut(&[u8], &[u8]) -> ControlFlow<()>,
    ) -> Result<(), TableError> {
        let snapshot = self.0.borrow_dependent();
        let open = |options| snapshot.raw_iterator_opt(options);
        self.0.borrow_owner().scan(from, to, open, visit)
    }
}
