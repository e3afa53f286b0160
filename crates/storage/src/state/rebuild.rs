//! A state made anew from rows that come from elsewhere: a backup, or another node of the cluster.
//!
//! It is written beside what is there, which may be damaged beyond opening or nothing at all, and
//! takes its place by the one rename that an install ends with. Until then nothing has changed.

use super::AppliedMeta;
use super::generation::{
    self, APPLIED_KEY, Generation, MEMBERSHIP_KEY, Pointer, remove_others, table_key,
};
use crate::files::{create_dir_durable, remove_dir, sync_dir};
use crate::rocks::{Budget, copy_error};
use crate::{Error, Tuning};
use quorate_state::{GroupId, codec};
use rocksdb::{WriteBatch, WriteOptions};
use std::path::{Path, PathBuf};

/// Bytes of rows written at once.
const BATCH_BYTES: usize = 1 << 20;

/// A state on its way. Dropping it leaves what was there as it was.
pub struct Rebuild {
    /// Of the group: its state and its snapshots.
    group_dir: PathBuf,
    state_dir: PathBuf,
    number: u64,
    generation: Generation,
    batch: WriteBatch,
}

impl Rebuild {
    /// Begins a state for a group in a data directory, whose lock the caller holds and whose stores
    /// nobody has open.
    ///
    /// # Errors
    /// When the device fails.
    pub fn begin(data_dir: &Path, group: GroupId, tuning: &Tuning) -> Result<Self, Error> {
        let group_dir = data_dir.join("groups").join(group.to_string());
        let state_dir = group_dir.join("state");
        create_dir_durable(&state_dir)?;
        let number = generation::next_number(&state_dir)?;
        let budget = Budget::new(tuning);
        let options = budget.state_options();
        let generation = Generation::open(&state_dir, number, &options, budget.failures())?;
        Ok(Self { group_dir, state_dir, number, generation, batch: WriteBatch::default() })
    }

    /// Adds a row of the tables. Each key comes once.
    ///
    /// # Errors
    /// When the device fails.
    pub fn put(&mut self, key: &[u8], value: &[u8]) -> Result<(), Error> {
        self.batch.put(table_key(key), value);
        if self.batch.size_in_bytes() >= BATCH_BYTES {
            self.write()?;
        }
        Ok(())
    }

    /// Puts it in the place of what was there; durable when it returns. Snapshots go, because they
    /// are older, and may be as damaged as the state was.
    ///
    /// # Errors
    /// When the device fails. Then the next start finds the old state, or this one.
    pub fn finish(mut self, meta: &AppliedMeta) -> Result<(), Error> {
        if let Some(applied) = meta.applied {
            self.batch.put(APPLIED_KEY, codec::encode(&applied));
        }
        self.batch.put(MEMBERSHIP_KEY, codec::encode(&meta.membership));
        self.write()?;
        let Self { group_dir, state_dir, number, generation, .. } = self;
        generation.flush()?;
        sync_dir(&generation.dir.path)?;
        sync_dir(&state_dir)?;
        drop(generation);
        generation::write_pointer(
            &state_dir,
            Pointer { generation: number, installed: meta.applied },
        )?;
        remove_others(&state_dir, number)?;
        remove_dir(&group_dir.join("snapshots"))?;
        sync_dir(&group_dir)
    }

    fn write(&mut self) -> Result<(), Error> {
        let mut options = WriteOptions::default();
        options.disable_wal(true);
        let batch = std::mem::take(&mut self.batch);
        let path = &self.generation.dir.path;
        self.generation.db.write_opt(batch, &options).map_err(|error| copy_error(path, error))
    }
}
