//! What it costs to append an entry to the log in RocksDB, of 1 and 64 commands that set keys to 256
//! bytes.
//!
//! - `append`: until the call returns. The flusher thread syncs at the same time and is not waited
//!   for, unless its queue is full.
//! - `append_synced`: until the completion says that the entry is on disk. That is the disk under
//!   `TMPDIR`, and little else.
//!
//! `cargo bench --locked --workspace --bench log`

#[allow(dead_code, reason = "each benchmark uses a part of it")]
mod setup;

use criterion::{BatchSize, Criterion, Throughput};
use quorate_state::{Batch, EntryBody, LogIndex, LogPosition, Term};
use quorate_storage::log::{Completion, LogEntry, LogStore, Payload};
use quorate_storage::{Storage, Tuning};
use setup::{GROUP, InMemory, Writer};
use std::sync::mpsc;

/// So many entries stay in the log when the old ones go: some ten MiB of them, as behind a snapshot.
const KEPT: u64 = 1_000;

/// What comes before an append: the entry is encoded, as the proposer does, and old ones go.
fn prepare(log: &dyn LogStore, batch: Batch) -> Payload {
    let bounds = log.bounds();
    let index = |position: Option<LogPosition>| position.map_or(0, |position| position.index.0);
    let last = index(bounds.last);
    if last - index(bounds.purged) > 2 * KEPT {
        let through = LogPosition { term: Term(1), index: LogIndex(last - KEPT) };
        log.purge(through).expect("the disk takes it");
    }
    Payload::Commands(EntryBody::new(&batch))
}

fn append(log: &dyn LogStore, payload: Payload, done: Completion) {
    let index = LogIndex(log.bounds().last.map_or(0, |last| last.index.0 + 1));
    let position = LogPosition { term: Term(1), index };
    log.append(vec![LogEntry { position, payload }], done).expect("the disk takes it");
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    let directory = tempfile::tempdir().expect("there is a place for temporary files");
    let storage = Storage::open(directory.path(), &Tuning::default()).expect("it is empty");
    let log = &*storage.log(GROUP).expect("it is empty");
    let mut writer = Writer::fill(&mut InMemory::new(), 1_000, 1);
    let mut group = criterion.benchmark_group("log");
    for commands in [1, 64] {
        group.throughput(Throughput::Elements(commands as u64));
        group.bench_function(format!("append/{commands}"), |bencher| {
            let prepare = || prepare(log, writer.sets(commands));
            let append = |payload| append(log, payload, Box::new(|synced| synced.expect("synced")));
            bencher.iter_batched(prepare, append, BatchSize::SmallInput);
        });
        let (tell, told) = mpsc::channel();
        group.bench_function(format!("append_synced/{commands}"), |bencher| {
            let prepare = || prepare(log, writer.sets(commands));
            let append = |payload| {
                let tell = tell.clone();
                append(log, payload, Box::new(move |synced| tell.send(synced).expect("we listen")));
                told.recv().expect("it is told once").expect("the disk takes it");
            };
            bencher.iter_batched(prepare, append, BatchSize::SmallInput);
        });
    }
    group.finish();
    criterion.final_summary();
}
