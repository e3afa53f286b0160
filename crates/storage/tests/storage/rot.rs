//! Damage that comes while a node runs: in a file that is read later, in a snapshot that is sent.

use crate::snapshot::{fill, send};
use crate::support::{GROUP, append, entries, rows, tuning};
use quorate_storage::snapshot::{Snapshot, SnapshotFile};
use quorate_storage::{Error, Stores};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

fn open(dir: &Path) -> Stores {
    Stores::open(dir, GROUP, &tuning()).expect("it opens")
}

/// The largest table file below a directory.
fn table(dir: &Path) -> PathBuf {
    let mut tables: Vec<PathBuf> = Vec::new();
    for item in std::fs::read_dir(dir).expect("readable") {
        let path = item.expect("readable").path();
        if path.is_dir() {
            tables.push(table(&path));
        } else if path.extension().is_some_and(|ending| ending == "sst") {
            tables.push(path);
        }
    }
    tables.into_iter().max_by_key(|path| path.metadata().map_or(0, |data| data.len())).expect("one")
}

/// Flips a bit where rows are, in place: hard links have it, too.
fn rot(path: &Path) {
    let file = std::fs::File::options().read(true).write(true).open(path).expect("it opens");
    let mut byte = [0];
    file.read_exact_at(&mut byte, 20).expect("readable");
    file.write_all_at(&[byte[0] ^ 4], 20).expect("written");
}

fn name(path: &Path) -> String {
    path.file_name().expect("a file").to_string_lossy().into_owned()
}

/// The number of the file of this name in a snapshot.
fn number(snapshot: &dyn Snapshot, name: &str) -> usize {
    snapshot.files().iter().position(|file| file.name == name).expect("it is in the snapshot")
}

/// A read on behalf of a client can't stop the node; somebody else hears of it.
#[tokio::test]
async fn damage_that_a_read_finds_is_told_and_noted() {
    let dir = tempfile::tempdir().expect("a dir");
    let mut stores = open(dir.path());
    append(&*stores.log, entries(1, 0..=1));
    fill(&mut stores, 1);
    stores.snapshots.build().expect("it is in table files");
    drop(stores);
    let stores = open(dir.path());
    let path = table(&dir.path().join("groups/1/state"));
    rot(&path);
    let early = tokio::time::timeout(Duration::from_millis(1), stores.failures.first()).await;
    assert!(early.is_err(), "nothing was read yet");
    let view = stores.state.reader().view();
    let found = view.tables.get(&(1_u64 << 32).to_be_bytes());
    let told = found.expect_err("the row is not served").to_string();
    let noted = tokio::time::timeout(Duration::from_secs(30), stores.failures.first()).await;
    assert_eq!(noted.expect("it is noted"), told);
    assert!(told.contains(&name(&path)) && told.contains("cluster repair"), "{told}");
}

/// Only the snapshot's own copy is damaged: another snapshot takes its place.
#[test]
fn a_damaged_snapshot_is_noticed_before_it_is_sent_and_replaced() {
    let (dir, other) = (tempfile::tempdir().expect("a dir"), tempfile::tempdir().expect("a dir"));
    let mut stores = open(dir.path());
    fill(&mut stores, 1);
    let old = stores.snapshots.build().expect("taken");
    let path = table(&dir.path().join("groups/1/snapshots"));
    let content = std::fs::read(&path).expect("readable");
    std::fs::remove_file(&path).expect("no link to the state any more");
    std::fs::write(&path, content).expect("written");
    rot(&path);
    let file = number(&*old, &name(&path));
    let error = old.check(file).expect_err("it is damaged");
    assert!(matches!(error, Error::CorruptCopy { .. }), "{error}");
    assert!(error.to_string().contains(&path.display().to_string()), "{error}");
    (0..old.files().len()).filter(|other| *other != file).for_each(|other| {
        old.check(other).expect("it is whole");
    });

    // As long as nothing was applied since, it would be taken for the newest.
    let new = stores.snapshots.renew().expect("the state is whole");
    assert_eq!(new.meta(), old.meta());
    (0..new.files().len()).for_each(|file| new.check(file).expect("it is whole"));
    let target = open(other.path());
    send(&*stores.snapshots.current().expect("there is one"), &*target.snapshots);
}

/// The file is one of the state's as well: there is nothing to take another snapshot of.
#[test]
fn a_snapshot_that_shares_its_damage_with_the_state_is_not_replaced() {
    let dir = tempfile::tempdir().expect("a dir");
    let mut stores = open(dir.path());
    fill(&mut stores, 1);
    let old = stores.snapshots.build().expect("taken");
    let path = table(&dir.path().join("groups/1/state"));
    rot(&path);
    old.check(number(&*old, &name(&path))).expect_err("it is damaged");
    let error = stores.snapshots.renew().err().expect("the state is damaged");
    assert!(matches!(error, Error::CorruptCopy { .. }), "{error}");
    assert!(error.to_string().contains(&path.display().to_string()), "{error}");
}

/// It was damaged when its checksums were taken, so that they fit.
#[test]
fn a_snapshot_that_was_taken_of_damaged_files_is_not_received() {
    let (dir, other) = (tempfile::tempdir().expect("a dir"), tempfile::tempdir().expect("a dir"));
    let mut stores = open(dir.path());
    fill(&mut stores, 1);
    let snapshot = stores.snapshots.build().expect("taken");
    let path = table(&dir.path().join("groups/1/snapshots"));
    rot(&path);
    let damaged = number(&*snapshot, &name(&path));
    let content = std::fs::read(&path).expect("readable");
    let mut files: Vec<SnapshotFile> = snapshot.files().to_vec();
    files[damaged].crc32c = crc32c::crc32c(&content);

    let mut target = open(other.path());
    fill(&mut target, 0);
    let before = rows(&*target.state.reader().view().tables);
    let mut receiver =
        target.snapshots.receive(snapshot.meta().clone(), files.clone()).expect("it is taken");
    for file in receiver.missing() {
        let len = usize::try_from(files[file].len).expect("small");
        let piece = snapshot.read(file, 0, len).expect("readable");
        receiver.write(file, 0, &piece).expect("it is what was announced");
    }
    let error = receiver.finish().err().expect("its rows can't be read");
    assert!(matches!(error, Error::CorruptCopy { .. }), "{error}");
    assert!(error.to_string().contains(&name(&path)), "{error}");
    assert!(target.snapshots.current().is_none());
    assert_eq!(rows(&*target.state.reader().view().tables), before);
}
