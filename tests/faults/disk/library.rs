//! The library between a node and its disk (`disk_faults.cpp`): what it noted, and what it is to do.

use quorate_testkit::process::{NodeId, Options};
use quorate_tests::processes::preload;
use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::PathBuf;
use tempfile::TempDir;

/// A call on a kind of file: somewhere that a disk can fail.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Point {
    pub(super) call: String,
    pub(super) kind: String,
}

impl fmt::Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.call, self.kind)
    }
}

/// How it fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// This call, and no other: a sector that can't be written.
    Once,
    /// All such calls from then on: a part of the device is gone.
    On,
    /// All calls that take room from then on: the disk is full.
    Full,
}

impl Fault {
    /// What the library calls it, after the error it makes.
    fn words(self) -> &'static str {
        match self {
            Self::Once => "EIO once",
            Self::On => "EIO on",
            Self::Full => "ENOSPC full",
        }
    }

    /// What the system calls the error.
    pub(super) fn text(self) -> &'static str {
        match self {
            Self::Once | Self::On => "Input/output error",
            Self::Full => "No space left on device",
        }
    }
}

/// The libraries of a cluster's nodes, and their files.
pub(super) struct Disks {
    directory: TempDir,
}

impl Disks {
    /// Puts the library between each node and its disk.
    pub(super) fn below(mut options: Options, nodes: u64) -> (Self, Options) {
        let directory = tempfile::tempdir().expect("a directory can be made");
        options = options.env("LD_PRELOAD", preload("faults/disk_faults.cpp", directory.path()));
        let disks = Self { directory };
        for id in 1..=nodes {
            options = options
                // As the cluster calls it, in whose directory the node is started.
                .node_env(id, "DISK_FAULTS_BELOW", format!("node-{id}"))
                .node_env(id, "DISK_FAULTS_JOURNAL", disks.file("journal", id))
                .node_env(id, "DISK_FAULTS_PLAN", disks.file("plan", id))
                .node_env(id, "DISK_FAULTS_FREE", disks.file("free", id));
        }
        (disks, options)
    }

    fn file(&self, name: &str, id: NodeId) -> PathBuf {
        self.directory.path().join(format!("{name}-{id}"))
    }

    /// Lets the nth call at a point fail, counted from now on.
    pub(super) fn plan(&self, id: NodeId, point: &Point, nth: u64, fault: Fault) {
        let Point { call, kind } = point;
        let text = format!("{call} {kind} {nth} {}\n", fault.words());
        // By a rename: the node must not read half of it.
        let new = self.file("new-plan", id);
        fs::write(&new, text).expect("a plan can be written");
        fs::rename(new, self.file("plan", id)).expect("a plan can be put in its place");
    }

    /// The disk is well again.
    pub(super) fn mend(&self, id: NodeId) {
        // There may be none.
        let _ = fs::remove_file(self.file("plan", id));
    }

    /// What the disk says to be free from now on; for none the truth.
    pub(super) fn say_free(&self, id: NodeId, bytes: Option<u64>) {
        let file = self.file("free", id);
        match bytes {
            Some(bytes) => {
                let new = self.file("new-free", id);
                fs::write(&new, bytes.to_string()).expect("a number can be written");
                fs::rename(new, file).expect("a number can be put in its place");
            }
            None => fs::remove_file(file).expect("it said something"),
        }
    }

    /// How much was noted up to now.
    pub(super) fn noted(&self, id: NodeId) -> u64 {
        fs::metadata(self.file("journal", id)).map_or(0, |data| data.len())
    }

    /// What was noted behind that, whole lines of it.
    fn since(&self, id: NodeId, from: u64) -> String {
        let mut text = String::new();
        let mut file = fs::File::open(self.file("journal", id)).expect("there is a journal");
        file.seek(SeekFrom::Start(from)).expect("a file has positions");
        file.read_to_string(&mut text).expect("a journal is text");
        text.truncate(text.rfind('\n').map_or(0, |end| end + 1));
        text
    }

    /// How often each point was reached since.
    pub(super) fn reached(&self, id: NodeId, from: u64) -> BTreeMap<Point, u64> {
        let mut points = BTreeMap::new();
        for line in self.since(id, from).lines() {
            let (call, kind) = line.split_once(' ').expect("a call and a kind of file");
            let point = Point { call: call.to_owned(), kind: kind.to_owned() };
            *points.entry(point).or_default() += 1;
        }
        points
    }

    /// Whether a call was made to fail since.
    pub(super) fn failed(&self, id: NodeId, from: u64) -> bool {
        self.since(id, from).lines().any(|line| line.starts_with("FAIL "))
    }
}
