//! What the tests share: entries whose content follows from their position, waiting for
//! completions, and both kinds of storage behind one name.

use bytes::Bytes;
use quorate_state::{
    Batch, Caller, Command, EntryBody, Envelope, GroupId, KvSet, LogIndex, LogPosition, Member,
    Membership, NodeId, Read, Stamp, StoredMembership, Term,
};
use quorate_storage::log::{Completion, LogEntry, LogStore, Payload, Synced};
use quorate_storage::memory::{DiskModel, MemoryDisk};
use quorate_storage::state::{AppliedMeta, StateStore};
use quorate_storage::{Stores, Tuning};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::ops::{ControlFlow, RangeInclusive};
use std::path::Path;
use std::sync::mpsc::{Receiver, channel};
use tempfile::TempDir;

pub(crate) const GROUP: GroupId = GroupId(1);

pub(crate) fn at(term: u64, index: u64) -> LogPosition {
    LogPosition { term: Term(term), index: LogIndex(index) }
}

/// The value that the entry at this position sets: its length and bytes follow from it.
pub(crate) fn value_of(position: LogPosition, len_max: usize) -> Vec<u8> {
    let mut rng = StdRng::seed_from_u64(position.term.0 << 32 | position.index.0);
    let len = rng.random_range(0..=len_max);
    (0..len).map(|_| rng.random()).collect()
}

/// An entry with one command, which follows from its position.
pub(crate) fn entry(position: LogPosition, len_max: usize) -> LogEntry {
    let command = Command::KvSet(KvSet {
        key: Bytes::from(position.index.0.to_be_bytes().to_vec()),
        value: Bytes::from(value_of(position, len_max)),
        ttl_ms: None,
        expect: quorate_state::Expect::Any,
        owner: None,
    });
    let batch = Batch {
        stamp: Stamp { lease_ms: position.index.0, wall_ms: position.term.0 },
        commands: vec![Envelope {
            namespace: String::new(),
            caller: Caller::Anonymous,
            guard: None,
            command,
        }],
    };
    LogEntry { position, payload: Payload::Commands(EntryBody::new(&batch)) }
}

pub(crate) fn entries(term: u64, indexes: RangeInclusive<u64>) -> Vec<LogEntry> {
    indexes.map(|index| entry(at(term, index), 100)).collect()
}

/// What entries hold, in a form that can be compared.
pub(crate) fn shown(entries: &[LogEntry]) -> Vec<(LogPosition, Bytes)> {
    entries
        .iter()
        .map(|entry| match &entry.payload {
            Payload::Blank => (entry.position, Bytes::from_static(b"blank")),
            Payload::Commands(body) => {
                body.batch().expect("it decodes");
                (entry.position, body.encoded().clone())
            }
            Payload::Membership(membership) => {
                (entry.position, Bytes::from(format!("{membership:?}")))
            }
        })
        .collect()
}

pub(crate) fn positions(entries: &[LogEntry]) -> Vec<LogPosition> {
    entries.iter().map(|entry| entry.position).collect()
}

/// All entries the log holds.
pub(crate) fn all(log: &dyn LogStore) -> Vec<LogEntry> {
    log.read(LogIndex(0), LogIndex(u64::MAX), usize::MAX).expect("the log is readable")
}

/// A completion, and where its result arrives.
pub(crate) fn completion() -> (Completion, Receiver<Result<(), String>>) {
    let (sender, receiver) = channel();
    let done = move |result: Result<(), quorate_storage::Error>| {
        // Whoever dropped the receiver does not care.
        let _ = sender.send(result.map_err(|error| error.to_string()));
    };
    (Box::new(done), receiver)
}

/// Appends, and waits until it is on disk.
pub(crate) fn append(log: &dyn LogStore, entries: Vec<LogEntry>) {
    let (done, result) = completion();
    log.append(entries, done).expect("the log accepts it");
    result.recv().expect("it is completed").expect("it is on disk");
}

/// Saves a vote, and waits until it is on disk: then everything before it is, too.
pub(crate) fn vote(log: &dyn LogStore, vote: &[u8]) {
    let (done, result) = completion();
    log.save_vote(Bytes::copy_from_slice(vote), done).expect("the log accepts it");
    result.recv().expect("it is completed").expect("it is on disk");
}

pub(crate) fn synced(log: &dyn LogStore) -> Option<u64> {
    match &*log.synced().borrow() {
        Synced::Through(index) => index.map(|index| index.0),
        Synced::Failed(reason) => panic!("the log has failed: {reason}"),
    }
}

pub(crate) fn membership(index: u64) -> StoredMembership {
    let member = Member {
        uuid: u128::from(index),
        peer_addr: format!("peer-{index}:1"),
        client_addr: String::from("client:2"),
    };
    StoredMembership {
        position: Some(at(1, index)),
        membership: Membership {
            voters: vec![[NodeId(1)].into()],
            nodes: [(NodeId(1), member)].into(),
        },
    }
}

pub(crate) fn meta(term: u64, index: u64) -> AppliedMeta {
    AppliedMeta { applied: Some(at(term, index)), membership: membership(3) }
}

/// Commits one transaction that sets these keys.
pub(crate) fn put(state: &mut dyn StateStore, meta: &AppliedMeta, pairs: &[(&[u8], &[u8])]) {
    let mut txn = state.begin();
    pairs.iter().for_each(|(key, value)| txn.as_txn().put(key, value));
    txn.commit(meta).expect("the state accepts it");
}

/// All rows.
pub(crate) fn rows(tables: &(impl Read + ?Sized)) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut rows = Vec::new();
    tables
        .scan(&[], &[0xff; 64], &mut |key, value| {
            rows.push((key.to_vec(), value.to_vec()));
            ControlFlow::Continue(())
        })
        .expect("the tables are readable");
    rows
}

/// Small caches and steps, so that tests get past them.
pub(crate) fn tuning() -> Tuning {
    Tuning { tail_cache_bytes: 64 << 10, purge_step_entries: 10, ..Tuning::default() }
}

/// Storage of one kind that outlives what is opened on it.
pub(crate) enum Place {
    Rocks(TempDir),
    Memory(MemoryDisk),
}

impl Place {
    /// One of each kind.
    pub(crate) fn both() -> [Self; 2] {
        [Self::rocks(), Self::Memory(MemoryDisk::new(DiskModel::immediate()))]
    }

    pub(crate) fn rocks() -> Self {
        Self::Rocks(tempfile::tempdir().expect("a temporary directory"))
    }

    /// Opens it; what was opened before is closed.
    pub(crate) fn open(&self) -> Stores {
        self.try_open().expect("it opens")
    }

    pub(crate) fn try_open(&self) -> Result<Stores, quorate_storage::Error> {
        match self {
            Self::Rocks(dir) => Stores::open(dir.path(), GROUP, &tuning()),
            Self::Memory(disk) => {
                disk.close();
                Stores::memory(disk, GROUP)
            }
        }
    }
}

/// The directory in a copy of which something may be damaged.
pub(crate) fn copy_dir(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a directory");
    for item in std::fs::read_dir(from).expect("readable") {
        let item = item.expect("readable");
        let target = to.join(item.file_name());
        if item.file_type().expect("readable").is_dir() {
            copy_dir(&item.path(), &target);
        } else {
            std::fs::copy(item.path(), target).expect("copied");
        }
    }
}

/// The seed of a random test; prints how to run it again.
pub(crate) fn seed(test: &str) -> u64 {
    // At target/<profile>/deps/<test>-<hash>. In another target directory RocksDB would be compiled
    // anew.
    let test_program = std::env::current_exe().expect("a running program has a file");
    let target = test_program.ancestors().nth(3).expect("it is in a target directory");
    quorate_state::testing::seed(&format!(
        "CARGO_TARGET_DIR='{}' cargo test --release --locked --workspace --test storage -- {test}",
        target.display()
    ))
}

/// A length in memory.
pub(crate) fn len(number: u64) -> usize {
    usize::try_from(number).expect("it fits in memory")
}
