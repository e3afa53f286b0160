//! What it costs to apply an entry: `Machine::apply` over 100 000 keys, on tables in memory and on
//! RocksDB, whose commit is part of it. All commands come in a session; values have 256 bytes. The
//! history is full, so that each entry also trims it, as on a node that has run for an hour.
//!
//! `cargo bench --locked --workspace --bench apply`; see there
//! for the config. After `--` a part of a name selects, `kv_set` say. The files of RocksDB are where
//! `TMPDIR` says.

#[allow(dead_code, reason = "each benchmark uses a part of it")]
mod setup;

use criterion::{BatchSize, Criterion, Throughput};
use quorate_state::{Applied, Batch, LogIndex, LogPosition, Machine, Term};
use quorate_storage::state::rocks::RocksState;
use quorate_storage::state::{AppliedMeta, StateStore};
use quorate_storage::{Budget, Tuning};
use setup::{Client, GROUP, InMemory, Replica, Worker, Writer, lock_cycle};
use tempfile::TempDir;

const KEYS: usize = 100_000;
/// So often each key is set beforehand: after two, the history has more than the 64 MiB it keeps.
const TIMES: usize = 2;

/// A machine over a state in RocksDB: an entry is one batch. A loaded node takes up to 64 into one.
struct OnDisk {
    machine: Machine,
    state: RocksState,
    meta: AppliedMeta,
    // Behind the state, which is closed before its directory goes.
    _directory: TempDir,
}

impl OnDisk {
    fn new() -> Self {
        let directory = tempfile::tempdir().expect("there is a place for temporary files");
        let budget = Budget::new(&Tuning::default());
        let state = RocksState::open(directory.path(), &budget).expect("it is empty");
        let view = state.reader().view();
        let machine = Machine::open(GROUP, view.tables.as_ref()).expect("it is empty");
        Self { machine, state, meta: AppliedMeta::default(), _directory: directory }
    }
}

impl Replica for OnDisk {
    fn apply(&mut self, batch: &Batch) -> Applied {
        let index = LogIndex(self.meta.applied.map_or(1, |last| last.index.0 + 1));
        let mut txn = self.state.begin();
        let applied = self.machine.apply(txn.as_txn(), index, batch);
        self.meta.applied = Some(LogPosition { term: Term(1), index });
        txn.commit(&self.meta).expect("the disk takes it");
        applied.expect("the entry is well-formed")
    }
}

fn on(criterion: &mut Criterion, tables: &str, replica: &mut dyn Replica) {
    let mut writer = Writer::fill(replica, KEYS, TIMES);
    let mut group = criterion.benchmark_group(format!("apply/{tables}"));
    for commands in [1, 64] {
        group.throughput(Throughput::Elements(commands as u64));
        group.bench_function(format!("kv_set/{commands}"), |bencher| {
            let entry = || writer.sets(commands);
            bencher.iter_batched_ref(entry, |entry| replica.apply(entry), BatchSize::SmallInput);
        });
    }
    // The others are one or two entries of one command each.
    group.throughput(Throughput::Elements(1));
    group.bench_function("cache_set", |bencher| {
        let entry = || writer.cache_set();
        bencher.iter_batched(entry, |entry| replica.apply_one(entry), BatchSize::SmallInput);
    });
    let mut client = Client::open(replica);
    group.bench_function("lock_acquire_release", |bencher| {
        bencher.iter(|| lock_cycle(replica, &mut client));
    });
    let mut worker = Worker::attach(replica);
    group.bench_function("queue_push_ack", |bencher| bencher.iter(|| worker.cycle(replica)));
    group.finish();
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    on(&mut criterion, "memory", &mut InMemory::new());
    on(&mut criterion, "rocksdb", &mut OnDisk::new());
    criterion.final_summary();
}
