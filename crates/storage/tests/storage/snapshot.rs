//! What every snapshot store does, on both; and what RocksDB's leaves on disk.

use crate::support::{GROUP, Place, append, at, entries, len, meta, put, rows, tuning};
use quorate_storage::snapshot::{Snapshot, SnapshotFile, SnapshotReceiver, SnapshotStore};
use quorate_storage::{Error, Stores};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A state that is large enough for several files on both.
pub(crate) fn fill(stores: &mut Stores, index: u64) {
    let value = vec![7; 1_000];
    let keys: Vec<Vec<u8>> =
        (0..100_u64).map(|key| (index << 32 | key).to_be_bytes().to_vec()).collect();
    let pairs: Vec<(&[u8], &[u8])> = keys.iter().map(|key| (&key[..], &value[..])).collect();
    put(&mut *stores.state, &meta(1, index), &pairs);
}

fn send_file(from: &dyn Snapshot, to: &mut dyn SnapshotReceiver, file: usize) -> Result<(), Error> {
    let len = from.files()[file].len;
    let mut offset = 0;
    while offset < len {
        let piece = from.read(file, offset, 777).expect("readable");
        to.write(file, offset, &piece)?;
        offset += piece.len() as u64;
    }
    Ok(())
}

pub(crate) fn send(from: &dyn Snapshot, to: &dyn SnapshotStore) -> Arc<dyn Snapshot> {
    let mut receiver = to.receive(from.meta().clone(), from.files().to_vec()).expect("it is taken");
    for file in receiver.missing() {
        send_file(from, &mut *receiver, file).expect("it fits");
    }
    receiver.finish().expect("it is whole")
}

/// Pairs of places of one kind: a snapshot travels from the first to the second.
pub(crate) fn pairs() -> [(Place, Place); 2] {
    let ([a, b], [c, d]) = (Place::both(), Place::both());
    [(a, c), (b, d)]
}

#[test]
fn a_snapshot_travels_and_replaces_the_state() {
    for (here, there) in pairs() {
        let mut source = here.open();
        fill(&mut source, 5);
        let snapshot = source.snapshots.build().expect("built");
        assert_eq!(*snapshot.meta(), meta(1, 5));
        let expected = rows(&*source.state.reader().view().tables);
        // It stays as it is while the state goes on.
        fill(&mut source, 6);

        let mut target = there.open();
        put(&mut *target.state, &meta(1, 1), &[(b"old", b"row")]);
        let reader = target.state.reader();
        let old = reader.view();
        assert!(target.snapshots.current().is_none());
        let received = send(&*snapshot, &*target.snapshots);
        assert_eq!(received.meta(), snapshot.meta());
        assert_eq!(received.files(), snapshot.files());
        assert_eq!(*target.snapshots.current().expect("it is current").meta(), meta(1, 5));
        target.state.install(received).expect("installed");
        assert_eq!(target.state.applied(), meta(1, 5));
        // The same reader, the new state; the old view is the old state.
        assert_eq!(reader.view().applied, Some(at(1, 5)));
        assert_eq!(rows(&*reader.view().tables), expected);
        assert_eq!(rows(&*old.tables), [(b"old".to_vec(), b"row".to_vec())]);
        drop((old, target, reader));
        // The log is behind an installed snapshot until it is purged: that is no contradiction.
        let mut target = there.open();
        assert_eq!(target.state.applied(), meta(1, 5));
        assert_eq!(rows(&*target.state.reader().view().tables), expected);
        assert_eq!(*target.snapshots.current().expect("kept").meta(), meta(1, 5));
        target.log.purge(at(1, 5)).expect("purged");
        append(&*target.log, entries(1, 6..=6));
        fill(&mut target, 6);
        drop(target);
        assert_eq!(there.open().state.applied(), meta(1, 6));
    }
}

#[test]
fn a_transfer_goes_on_with_the_files_that_are_missing() {
    for (here, there) in pairs() {
        let mut source = here.open();
        fill(&mut source, 5);
        let snapshot = source.snapshots.build().expect("built");
        let count = snapshot.files().len();
        let receive = |target: &Stores| {
            let files = snapshot.files().to_vec();
            target.snapshots.receive(snapshot.meta().clone(), files).expect("it is taken")
        };
        let target = there.open();
        let mut first = receive(&target);
        // An empty file needs no piece.
        let empty = |file: &usize| snapshot.files()[*file].len == 0;
        let all: Vec<usize> = (0..count).filter(|file| !empty(file)).collect();
        assert_eq!(first.missing(), all);
        let [half, sent, ..] = all[..] else { panic!("{all:?} are too few for this test") };
        send_file(&*snapshot, &mut *first, sent).expect("it fits");
        // Half a file does not count.
        first.write(half, 0, &snapshot.read(half, 0, 1).expect("readable")).expect("it fits");
        drop(first);
        let left: Vec<usize> = all.iter().copied().filter(|file| *file != sent).collect();
        let mut second = receive(&target);
        assert_eq!(second.missing(), left);
        // A later transfer takes over from one that still runs.
        let third = receive(&target);
        assert_eq!(third.missing(), left);
        send_file(&*snapshot, &mut *second, half).expect_err("the third has begun");
        second.finish().err().expect("the third has begun");
        drop((third, target));
        // Also after a restart.
        let target = there.open();
        let mut fourth = receive(&target);
        assert_eq!(fourth.missing(), left);
        fourth.write(sent, 0, b"x").expect_err("it is complete");
        for file in left {
            send_file(&*snapshot, &mut *fourth, file).expect("it fits");
        }
        fourth.finish().expect("it is whole");
        assert_eq!(*target.snapshots.current().expect("current").meta(), meta(1, 5));
    }
}

/// Transfers that begin at once.
const RECEIVERS: usize = 16;

/// A node that was sent two snapshots at once stopped, because the room beside the first was asked for
/// where the second had just removed it. With that fault in place most runs of this fail, not all.
#[test]
fn transfers_that_begin_at_once_take_over_from_each_other_and_nothing_fails() {
    for (here, there) in pairs() {
        let mut source = here.open();
        fill(&mut source, 5);
        let snapshot = source.snapshots.build().expect("built");
        let target = there.open();
        let left = AtomicUsize::new(RECEIVERS);
        std::thread::scope(|scope| {
            for number in 0..RECEIVERS as u64 {
                let (snapshots, files, left) = (&target.snapshots, snapshot.files(), &left);
                scope.spawn(move || {
                    let taken = (0..4_000).try_for_each(|_| {
                        let at = meta(1, 10 + number);
                        snapshots.receive(at, files.to_vec()).map(drop)
                    });
                    left.fetch_sub(1, Ordering::Relaxed);
                    taken.expect("all are taken");
                });
            }
            // Between two steps of one of them another one gets to run only on a busy machine.
            for _ in 0..RECEIVERS / 2 {
                scope.spawn(|| {
                    while left.load(Ordering::Relaxed) > 0 {
                        std::hint::spin_loop();
                    }
                });
            }
        });
    }
}

#[test]
fn wrong_pieces_are_refused_and_a_damaged_file_is_sent_again() {
    for (here, there) in pairs() {
        let mut source = here.open();
        fill(&mut source, 5);
        let snapshot = source.snapshots.build().expect("built");
        let files = snapshot.files().to_vec();
        let target = there.open();
        let mut receiver =
            target.snapshots.receive(snapshot.meta().clone(), files.clone()).expect("taken");
        let big = (0..files.len()).max_by_key(|file| files[*file].len).expect("there are some");
        receiver.write(files.len(), 0, b"x").expect_err("no such file");
        receiver.write(big, 1, b"x").expect_err("not from its beginning");
        receiver.write(big, 0, &vec![0; len(files[big].len) + 1]).expect_err("too long");
        receiver.write(big, 0, b"x").expect("a first piece");
        receiver.write(big, 2, b"x").expect_err("a piece is missing");
        let error = receiver
            .write(big, 0, &vec![0; len(files[big].len)])
            .expect_err("other bytes than announced");
        assert!(error.to_string().contains("sent again"), "{error}");
        assert!(receiver.missing().contains(&big));
        for file in receiver.missing() {
            send_file(&*snapshot, &mut *receiver, file).expect("it fits");
        }
        receiver.finish().expect("it is whole");

        // One that is not what it was announced to be, though every file is.
        let mut receiver =
            target.snapshots.receive(meta(1, 99), files.clone()).expect("it can't be known yet");
        for file in receiver.missing() {
            send_file(&*snapshot, &mut *receiver, file).expect("it fits");
        }
        receiver.finish().err().expect("it ends at 5, not at 99");
        assert_eq!(*target.snapshots.current().expect("current").meta(), meta(1, 5));

        let bad = SnapshotFile { name: String::from("../x"), len: 1, crc32c: 0 };
        target.snapshots.receive(meta(1, 5), vec![bad]).err().expect("not a plain name");
        let receiver = target.snapshots.receive(snapshot.meta().clone(), files).expect("taken");
        receiver.finish().err().expect("everything is missing");
    }
}

#[test]
fn the_newest_snapshot_is_kept_and_those_in_use() {
    for place in Place::both() {
        let mut stores = place.open();
        fill(&mut stores, 1);
        let first = stores.snapshots.build().expect("built");
        let same = stores.snapshots.build().expect("built");
        assert_eq!(first.meta(), same.meta());
        fill(&mut stores, 2);
        let second = stores.snapshots.build().expect("built");
        assert_eq!(*second.meta(), meta(1, 2));
        let current = stores.snapshots.current().expect("there is one");
        assert_eq!(current.meta(), second.meta());
        // Still readable, though superseded.
        for (number, file) in first.files().iter().enumerate() {
            let content = first.read(number, 0, len(file.len)).expect("readable");
            assert_eq!(crc32c::crc32c(&content), file.crc32c);
            assert_eq!(first.read(number, file.len, 10).expect("its end").len(), 0);
        }
        // An older one may come in late, and does not become current.
        let late = send(&*first, &*stores.snapshots);
        assert_eq!(late.meta(), first.meta());
        let current = stores.snapshots.current().expect("there is one");
        assert_eq!(current.meta(), second.meta());
    }
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(dir)
        .expect("readable")
        .map(|item| item.expect("readable").file_name().into_string().expect("plain"))
        .collect();
    names.sort();
    names
}

fn rocks() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let group = dir.path().join("groups/1");
    (dir, group)
}

#[test]
fn superseded_directories_are_removed_once_nobody_uses_them() {
    let (dir, group) = rocks();
    let mut stores = Stores::open(dir.path(), GROUP, &tuning()).expect("it opens");
    let snapshots = group.join("snapshots");
    fill(&mut stores, 1);
    let first = stores.snapshots.build().expect("built");
    fill(&mut stores, 2);
    let second = stores.snapshots.build().expect("built");
    assert_eq!(names(&snapshots).len(), 2, "the first is in use");
    drop(first);
    assert_eq!(names(&snapshots).len(), 1);
    let view = stores.state.reader().view();
    stores.state.install(second).expect("installed");
    assert_eq!(names(&group.join("state")), ["CURRENT", "gen-000001", "gen-000002"]);
    drop(view);
    assert_eq!(names(&group.join("state")), ["CURRENT", "gen-000002"]);
}

/// What a crash may leave of an install and of a snapshot, at each step.
#[test]
fn leftovers_of_a_crash_are_removed_at_the_next_start() {
    let (dir, group) = rocks();
    let open = || Stores::open(dir.path(), GROUP, &tuning());
    let mut stores = open().expect("it opens");
    append(&*stores.log, entries(1, 0..=9));
    fill(&mut stores, 5);
    stores.snapshots.build().expect("built");
    drop(stores);
    let state = group.join("state");
    let snapshots = group.join("snapshots");
    let current = names(&snapshots);

    // A new generation that was being filled; one that was whole but not pointed to; a pointer
    // that was being written; snapshots that were being taken or came in.
    std::fs::create_dir(state.join("gen-000002")).expect("created");
    std::fs::write(state.join("gen-000002/000004.sst"), b"half").expect("written");
    crate::support::copy_dir(&state.join("gen-000001"), &state.join("gen-000003"));
    std::fs::write(state.join("CURRENT.tmp"), b"half").expect("written");
    std::fs::create_dir_all(snapshots.join("building/files")).expect("created");
    std::fs::write(snapshots.join("building/files/CURRENT"), b"half").expect("written");
    std::fs::create_dir_all(snapshots.join("incoming-0badcafe/files")).expect("created");
    let mut stores = open().expect("it opens");
    assert_eq!(stores.state.applied(), meta(1, 5));
    assert!(!state.join("gen-000002").exists() && !state.join("gen-000003").exists());
    assert!(!snapshots.join("building").exists());
    assert_eq!(*stores.snapshots.current().expect("kept").meta(), meta(1, 5));
    // A transfer goes on or gives way to the next one.
    fill(&mut stores, 6);
    let other = tempfile::tempdir().expect("a temporary directory");
    let target = Stores::open(other.path(), GROUP, &tuning()).expect("it opens");
    let newer = stores.snapshots.build().expect("built");
    send(&*newer, &*target.snapshots);
    drop((newer, stores, target));
    assert_ne!(names(&snapshots), current);

    // A pointer that was moved but whose old generation was not removed yet.
    let mut stores = open().expect("it opens");
    let snapshot = stores.snapshots.current().expect("there is one");
    stores.state.install(snapshot).expect("installed");
    drop(stores);
    crate::support::copy_dir(&state.join("gen-000002"), &state.join("gen-000001"));
    assert_eq!(open().expect("it opens").state.applied(), meta(1, 6));
    assert_eq!(
        names(&state),
        ["CURRENT", "CURRENT.tmp", "gen-000002"][..]
            .iter()
            .copied()
            .filter(|name| state.join(name).exists())
            .collect::<Vec<_>>()
    );
}

#[test]
fn a_lost_pointer_or_generation_is_told_not_guessed() {
    let (dir, group) = rocks();
    let open = || Stores::open(dir.path(), GROUP, &tuning());
    let mut stores = open().expect("it opens");
    append(&*stores.log, entries(1, 0..=9));
    fill(&mut stores, 5);
    let snapshot = stores.snapshots.build().expect("built");
    stores.state.install(snapshot).expect("installed");
    drop(stores);
    let refused = || open().err().expect("it must not open").to_string();
    let pointer = group.join("state/CURRENT");
    let content = std::fs::read(&pointer).expect("readable");
    let mut damaged = content.clone();
    damaged[2] ^= 1;
    std::fs::write(&pointer, damaged).expect("written");
    assert!(refused().contains("state/CURRENT: checksum mismatch"), "{}", refused());
    std::fs::remove_file(&pointer).expect("removed");
    assert!(refused().contains("missing beside an existing state"), "{}", refused());
    std::fs::write(&pointer, content).expect("written");
    std::fs::rename(group.join("state/gen-000002"), group.join("gone")).expect("moved");
    assert!(refused().contains("gen-000002"), "{}", refused());
    // The library leaves an empty directory behind when it finds none.
    std::fs::remove_dir_all(group.join("state/gen-000002")).expect("removed");
    std::fs::rename(group.join("gone"), group.join("state/gen-000002")).expect("moved");
    drop(open().expect("it opens again"));
    let snapshots = group.join("snapshots");
    let snapshot = snapshots.join(&names(&snapshots)[0]);
    std::fs::remove_file(snapshot.join("manifest")).expect("removed");
    assert!(refused().contains("lost its manifest"), "{}", refused());
}
