//! The disk in memory: what a crash takes, in what order, and that nobody writes from before one.

use crate::support::{
    GROUP, append, at, completion, entries, meta, positions, put, rows, seed, synced,
};
use quorate_state::{GroupId, LogIndex};
use quorate_storage::Stores;
use quorate_storage::log::{LogBounds, LogStore, Synced};
use quorate_storage::memory::{DiskModel, MemoryDisk};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::time::Duration;

/// Syncs take a second of a clock that stands still until everybody waits.
fn slow() -> MemoryDisk {
    let second = Duration::from_secs(1);
    MemoryDisk::new(DiskModel { sync_delay: Some(second..=second), ..DiskModel::immediate() })
}

fn all(log: &dyn LogStore) -> Vec<quorate_state::LogPosition> {
    positions(&crate::support::all(log))
}

#[tokio::test(start_paused = true)]
async fn a_crash_takes_what_was_not_synced() {
    let disk = slow();
    let log = disk.log(GROUP);
    let (done, first) = completion();
    log.append(entries(1, 0..=4), done).expect("accepted");
    assert_eq!(all(&*log).len(), 5, "readable before it is synced");
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    first.try_recv().expect("completed").expect("on disk");
    // In the middle of the second sync.
    let (done, second) = completion();
    log.truncate_after(Some(at(1, 2))).expect("cut");
    log.append(entries(2, 3..=9), done).expect("accepted");
    tokio::time::sleep(Duration::from_millis(500)).await;
    disk.crash();
    second.try_recv().expect("answered").expect_err("it is lost");
    let (done, third) = completion();
    log.append(entries(2, 10..=10), done).expect_err("cut off");
    third.try_recv().expect_err("not called");

    let log = disk.log(GROUP);
    assert_eq!(all(&*log), positions(&entries(1, 0..=4)));
    assert_eq!(synced(&*log), Some(4));
    // The task of the old epoch wakes up and must leave the new one alone.
    let (done, fourth) = completion();
    log.append(entries(3, 5..=5), done).expect("accepted");
    tokio::time::sleep(Duration::from_millis(700)).await;
    assert_eq!(synced(&*log), Some(4));
    fourth.try_recv().expect_err("its own sync is not finished");
    tokio::time::sleep(Duration::from_millis(700)).await;
    fourth.try_recv().expect("completed").expect("on disk");
    assert_eq!(synced(&*log), Some(5));
}

#[tokio::test(start_paused = true)]
async fn one_sync_serves_all_that_wait() {
    let disk = slow();
    let logs = [disk.log(GroupId(1)), disk.log(GroupId(2))];
    let mut waiting = Vec::new();
    for index in 0..50 {
        for log in &logs {
            let (done, result) = completion();
            log.append(entries(1, index..=index), done).expect("accepted");
            waiting.push(result);
        }
        if index == 0 {
            // Let the first sync begin.
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
    tokio::time::sleep(Duration::from_secs(5)).await;
    for result in waiting {
        result.try_recv().expect("completed").expect("on disk");
    }
    assert_eq!(logs[0].counters().syncs, 2);
    assert_eq!(logs[0].counters().entries, 100);
}

/// A truncation whose sync is still open lowers the watermark, and an older sync that comes back
/// then does not raise it.
#[tokio::test(start_paused = true)]
async fn an_older_sync_does_not_raise_the_watermark_past_a_truncation() {
    let disk = slow();
    let log = disk.log(GROUP);
    let (done, _) = completion();
    log.append(entries(1, 0..=9), done).expect("accepted");
    tokio::time::sleep(Duration::from_millis(500)).await;
    log.truncate_after(Some(at(1, 5))).expect("cut");
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(synced(&*log), None, "entries 0 to 9 are on disk, but their sync is void");
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(synced(&*log), Some(5));
}

#[tokio::test(start_paused = true)]
async fn a_failing_disk_fails_everybody() {
    let disk = slow();
    let log = disk.log(GROUP);
    let mut watch = log.synced();
    let (done, result) = completion();
    log.append(entries(1, 0..=0), done).expect("accepted");
    disk.fail("no space left on device");
    let error = result.try_recv().expect("answered").expect_err("it failed");
    assert!(error.contains("no space left"), "{error}");
    watch.changed().await.expect("told");
    assert!(matches!(&*watch.borrow(), Synced::Failed(reason) if reason.contains("no space")));
    let (done, _) = completion();
    log.append(entries(1, 1..=1), done).expect_err("it has failed");
    disk.crash();
    assert_eq!(disk.log(GROUP).bounds(), LogBounds::default());
}

/// Its runtime is gone, the disk is not: the next write starts a sync of its own.
#[test]
fn a_disk_outlives_its_runtime() {
    let disk = slow();
    let run = |index: u64, seconds: u64| {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .expect("a runtime");
        runtime.block_on(async {
            let log = disk.log(GROUP);
            let (done, _) = completion();
            log.append(entries(1, index..=index), done).expect("accepted");
            tokio::time::sleep(Duration::from_secs(seconds)).await;
        });
    };
    run(0, 0);
    assert_eq!(synced(&*disk.log(GROUP)), None);
    run(1, 2);
    assert_eq!(synced(&*disk.log(GROUP)), Some(1));
}

/// The power fails after a snapshot was installed and before the log that contradicts it was cut
/// on disk, and again right after the start that cuts it.
#[tokio::test(start_paused = true)]
async fn an_install_is_finished_as_often_as_it_takes() {
    let source = MemoryDisk::new(DiskModel::immediate());
    let mut source = Stores::memory(&source, GROUP).expect("it opens");
    put(&mut *source.state, &meta(2, 7), &[(b"a", b"7")]);
    let snapshot = source.snapshots.build().expect("built");

    let disk = slow();
    let mut stores = Stores::memory(&disk, GROUP).expect("it opens");
    let (done, _) = completion();
    stores.log.append(entries(1, 0..=9), done).expect("accepted");
    tokio::time::sleep(Duration::from_secs(5)).await;
    put(&mut *stores.state, &meta(1, 3), &[]);
    stores.log.truncate_after(Some(at(1, 3))).expect("cut");
    stores.state.install(crate::snapshot::send(&*snapshot, &*stores.snapshots)).expect("installed");
    stores.log.purge(at(2, 7)).expect("purged");
    for _ in 0..3 {
        disk.crash();
        assert_eq!(all(&*disk.log(GROUP)), positions(&entries(1, 0..=9)), "the cut was not synced");
        let stores = Stores::memory(&disk, GROUP).expect("it opens");
        assert_eq!(stores.state.applied(), meta(2, 7));
        let bounds = LogBounds { purged: Some(at(2, 7)), last: Some(at(2, 7)) };
        assert_eq!(stores.log.bounds(), bounds);
    }
    let stores = Stores::memory(&disk, GROUP).expect("it opens");
    let (done, result) = completion();
    stores.log.append(entries(3, 8..=8), done).expect("accepted");
    tokio::time::sleep(Duration::from_secs(5)).await;
    result.try_recv().expect("completed").expect("on disk");
    disk.crash();
    assert_eq!(all(&*disk.log(GROUP)), [at(3, 8)]);
    Stores::memory(&disk, GROUP).expect("it opens");
}

#[test]
fn the_state_falls_back_to_its_last_flush() {
    let disk = MemoryDisk::new(DiskModel::immediate());
    let mut stores = Stores::memory(&disk, GROUP).expect("it opens");
    append(&*stores.log, entries(1, 0..=9));
    put(&mut *stores.state, &meta(1, 3), &[(b"a", b"3")]);
    stores.snapshots.build().expect("built: that flushes");
    put(&mut *stores.state, &meta(1, 7), &[(b"a", b"7")]);
    disk.crash();
    stores.state.begin().commit(&meta(1, 8)).expect_err("cut off");
    stores.snapshots.build().err().expect("cut off");
    let stores = Stores::memory(&disk, GROUP).expect("it opens");
    assert_eq!(stores.state.applied(), meta(1, 3));
    assert_eq!(rows(&*stores.state.reader().view().tables), [(b"a".to_vec(), b"3".to_vec())]);
    assert_eq!(*stores.snapshots.current().expect("it stays").meta(), meta(1, 3));
}

/// Random appends, truncations, votes and crashes: what was acknowledged is always there, what
/// is there was always written, and both follow from the seed alone.
#[test]
fn acknowledged_writes_survive_any_crash() {
    let seed = seed("acknowledged_writes_survive_any_crash");
    let runs: Vec<Vec<String>> = (0..2).map(|_| random_run(seed)).collect();
    assert_eq!(runs[0], runs[1], "the same seed must give the same run");
}

fn random_run(seed: u64) -> Vec<String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let mut rng = StdRng::seed_from_u64(seed);
        let disk = MemoryDisk::new(DiskModel::seeded(seed));
        let mut trace = Vec::new();
        let mut term = 0;
        for _ in 0..30 {
            term += 1;
            let log = disk.log(GROUP);
            let mut waiting = Vec::new();
            let mut acknowledged = log.bounds().last;
            for _ in 0..rng.random_range(1..20) {
                let last = log.bounds().last.map(|last| last.index.0);
                let next = last.map_or(0, |last| last + 1);
                if next > 0 && rng.random_range(0..5) == 0 {
                    let keep = log.read(LogIndex(rng.random_range(0..next)), LogIndex(next), 0);
                    let keep = keep.expect("readable")[0].position;
                    log.truncate_after(Some(keep)).expect("cut");
                    acknowledged = acknowledged.min(Some(keep));
                    waiting.clear();
                    term += 1;
                    continue;
                }
                let end = next + rng.random_range(0..4);
                let (done, result) = completion();
                log.append(entries(term, next..=end), done).expect("accepted");
                waiting.push((at(term, end), result));
                tokio::time::sleep(Duration::from_micros(rng.random_range(0..3_000))).await;
                while let Some((end, result)) = waiting.first()
                    && let Ok(result) = result.try_recv()
                {
                    result.expect("the disk works");
                    acknowledged = Some(*end);
                    waiting.remove(0);
                }
            }
            let before = all(&*log);
            disk.crash();
            let after = all(&*disk.log(GROUP));
            trace.push(format!("{acknowledged:?} {after:?}"));
            if let Some(acknowledged) = acknowledged {
                // An open truncation may come undone, so what is there may be longer.
                assert!(
                    after.len() as u64 > acknowledged.index.0,
                    "{acknowledged} was acknowledged, {after:?} is there; seed {seed}"
                );
                let index = crate::support::len(acknowledged.index.0);
                assert_eq!(after[..=index], before[..=index], "seed {seed}");
            }
        }
        trace
    })
}
