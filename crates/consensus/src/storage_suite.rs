//! openraft's own conformance suite over this crate's adapters, on both kinds of stores.

use crate::levels::Levels;
use crate::log_adapter::LogAdapter;
use crate::machine_adapter::{MachineAdapter, MachineParts};
use crate::types::TypeConfig;
use openraft::StorageError;
use openraft::testing::log::{StoreBuilder, Suite};
use quorate_state::{FeatureLevel, GroupId, LogIndex};
use quorate_storage::log::Synced;
use quorate_storage::memory::{DiskModel, MemoryDisk};
use quorate_storage::{Stores, Tuning};
use std::sync::Arc;
use tempfile::TempDir;
use tokio::sync::{broadcast, watch};

fn adapters(stores: Stores) -> (LogAdapter, MachineAdapter) {
    let Stores { log, state, snapshots, offload, .. } = stores;
    // The suite applies entries that it never appended. Only here is the log said to have
    // everything on disk; that apply waits for it is shown by the kill tests.
    let (synced, _) = watch::channel(Synced::Through(Some(LogIndex(u64::MAX))));
    let machine = MachineAdapter::open(MachineParts {
        group: GroupId(0),
        state,
        snapshots,
        offload,
        synced: synced.subscribe(),
        applied: watch::channel(0).0,
        told: broadcast::channel(16).0,
        times: Arc::default(),
        snapshot_times: Arc::default(),
        asides: Arc::default(),
        levels: Arc::new(Levels::new(FeatureLevel::NEWEST, FeatureLevel::FIRST)),
        milestones: Arc::default(),
    })
    .expect("fresh stores open");
    // The receiver keeps its last value when the sender goes.
    (LogAdapter::new(log, Arc::default()), machine)
}

struct Rocks;

impl StoreBuilder<TypeConfig, LogAdapter, MachineAdapter, TempDir> for Rocks {
    async fn build(
        &self,
    ) -> Result<(TempDir, LogAdapter, MachineAdapter), StorageError<TypeConfig>> {
        let dir = TempDir::new().expect("a temporary directory");
        let tuning = Tuning { log_memtable_bytes: 1 << 20, ..Tuning::default() };
        let stores = Stores::open(dir.path(), GroupId(0), &tuning).expect("fresh stores open");
        let (log, machine) = adapters(stores);
        Ok((dir, log, machine))
    }
}

struct Memory;

impl StoreBuilder<TypeConfig, LogAdapter, MachineAdapter, ()> for Memory {
    async fn build(&self) -> Result<((), LogAdapter, MachineAdapter), StorageError<TypeConfig>> {
        let disk = MemoryDisk::new(DiskModel::immediate());
        let (log, machine) =
            adapters(Stores::memory(&disk, GroupId(0)).expect("fresh stores open"));
        Ok(((), log, machine))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rocksdb_stores_pass_the_suite() {
    Suite::test_all(Rocks).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_stores_pass_the_suite() {
    Suite::test_all(Memory).await.unwrap();
}
