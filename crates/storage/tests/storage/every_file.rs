//! One flipped bit in each kind of file of a data directory: it is told, with the file and the way out
//! that fits, or it changes nothing.

use crate::snapshot::fill;
use crate::support::{GROUP, append, at, copy_dir, entries, entry, seed, shown, tuning};
use bytes::Bytes;
use quorate_state::{LogPosition, NodeId};
use quorate_storage::identity::{Directory, Identity, Opener};
use quorate_storage::{Error, Stores};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};

/// Entries of the log that each round appends.
const ROUND_ENTRIES: u64 = 200;
/// Flips in each file.
const FLIPS: usize = 12;

/// All that a node finds when it starts.
struct Found {
    identity: Identity,
    vote: Option<Bytes>,
    entries: Vec<(LogPosition, Bytes)>,
    applied: Option<LogPosition>,
    rows: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Found {
    /// What is not as in the other one.
    fn differs(&self, other: &Self) -> Vec<&'static str> {
        [
            ("identity", self.identity == other.identity),
            ("vote", self.vote == other.vote),
            ("entries", self.entries == other.entries),
            ("position", self.applied == other.applied),
            ("rows", self.rows == other.rows),
        ]
        .into_iter()
        .filter_map(|(part, same)| (!same).then_some(part))
        .collect()
    }
}

fn find(dir: &Path) -> Result<Found, Error> {
    let directory = Directory::open(dir, Opener::Node(NodeId(1)))?;
    let stores = Stores::open(dir, GROUP, &tuning())?;
    if let Some(snapshot) = stores.snapshots.current() {
        // As it is before it is sent.
        (0..snapshot.files().len()).try_for_each(|file| snapshot.check(file))?;
    }
    let log = &*stores.log;
    let last = log.bounds().last.map_or(0, |last| last.index.0 + 1);
    let entries =
        log.read(quorate_state::LogIndex(0), quorate_state::LogIndex(last), usize::MAX)?;
    let view = stores.state.reader().view();
    let mut found = Vec::new();
    let scanned = view.tables.scan(&[], &[0xff; 64], &mut |key, value| {
        found.push((key.to_vec(), value.to_vec()));
        std::ops::ControlFlow::Continue(())
    });
    // As the node that stops says it.
    scanned.map_err(|error| Error::Invariant(error.to_string()))?;
    Ok(Found {
        identity: directory.identity().clone(),
        vote: log.vote()?,
        entries: shown(&entries),
        applied: view.applied,
        rows: found,
    })
}

/// A directory with something in each kind of file: table files, files of values and a write-ahead log, a state that
/// was installed, a snapshot that was taken since.
fn filled() -> tempfile::TempDir {
    let (live, left) = (tempfile::tempdir().expect("a dir"), tempfile::tempdir().expect("a dir"));
    let mut directory = Directory::open(live.path(), Opener::Node(NodeId(1))).expect("it opens");
    directory.set_cluster("0123456789abcdef").expect("stored");
    for round in 0..2 {
        let mut stores = Stores::open(live.path(), GROUP, &tuning()).expect("it opens");
        let first = ROUND_ENTRIES * round;
        for index in first..first + ROUND_ENTRIES {
            append(&*stores.log, vec![entry(at(1, index), 2_000)]);
        }
        crate::support::vote(&*stores.log, format!("vote {round}").as_bytes());
        fill(&mut stores, first + 30);
        let snapshot = stores.snapshots.build().expect("taken");
        if round == 0 {
            stores.state.install(snapshot).expect("installed");
        }
        // Most of what is in the log's files of the first round is still of use. And the log begins behind
        // the state of that round: one that lost what came since would be noticed, and not replayed.
        stores.log.purge(at(1, 10 + 25 * round)).expect("purged");
        // As a crash leaves it.
        if round == 1 {
            append(&*stores.log, entries(2, 2 * ROUND_ENTRIES..=2 * ROUND_ENTRIES + 9));
            copy_dir(live.path(), left.path());
        }
    }
    left
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for item in std::fs::read_dir(dir).expect("readable") {
        let path = item.expect("readable").path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found.sort();
    found
}

/// Whose damage the other nodes of the cluster can mend.
fn is_copy(name: &str) -> bool {
    name.starts_with("groups/")
}

#[test]
fn a_flipped_bit_in_any_file_is_told_with_the_file_and_the_way_out_or_changes_nothing() {
    let seed = seed("a_flipped_bit_in_any_file_is_told");
    let mut rng = StdRng::seed_from_u64(seed);
    let dir = filled();
    let whole = {
        let copy = tempfile::tempdir().expect("a dir");
        copy_dir(dir.path(), copy.path());
        find(copy.path()).expect("it is whole")
    };
    assert!(whole.entries.len() == 374 && whole.rows.len() == 200, "{}", whole.rows.len());
    let mut told: BTreeMap<String, usize> = BTreeMap::new();
    for path in files(dir.path()) {
        let name = path.strip_prefix(dir.path()).expect("below it").display().to_string();
        let content = std::fs::read(&path).expect("readable");
        told.insert(name.clone(), 0);
        for _ in 0..FLIPS.min(content.len() * 8) {
            let bit = rng.random_range(0..content.len() * 8);
            let copy = tempfile::tempdir().expect("a dir");
            copy_dir(dir.path(), copy.path());
            let mut damaged = content.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            std::fs::write(copy.path().join(&name), damaged).expect("written");
            let context = format!("bit {bit} of {name}, seed {seed}");
            match find(copy.path()) {
                Ok(found) => {
                    let differs = found.differs(&whole);
                    assert!(differs.is_empty(), "{context}: it is served, with other {differs:?}");
                }
                Err(error) => {
                    let text = error.to_string();
                    // A length that is too long looks like the torn end of the file. What is missing
                    // then is told of the log or the group as a whole. And RocksDB tells damage of what
                    // a table says of itself as that of its MANIFEST, and that of a value without its file,
                    // so the database is what is named.
                    let torn = name.ends_with(".log") || name.contains("MANIFEST");
                    let place = match torn {
                        true if is_copy(&name) => "groups/1",
                        true => "log/db",
                        false if name.ends_with(".sst") || name.ends_with(".blob") => {
                            name.rsplit_once('/').map_or(&*name, |(database, _)| database)
                        }
                        false => &*name,
                    };
                    assert!(text.contains(place), "{context}: {text}");
                    let way_out = if is_copy(&name) { "cluster repair" } else { "cluster replace" };
                    assert!(
                        text.contains(way_out) || text.contains("identity.json is damaged"),
                        "{context}: {text}"
                    );
                    *told.entry(name.clone()).or_default() += 1;
                }
            }
        }
    }
    let shown = told.iter().map(|(name, told)| format!("{told:2} of {FLIPS} told: {name}"));
    let shown = shown.collect::<Vec<_>>().join("\n");
    // The test runner shows it for a failure.
    let _ = std::io::stdout().write_all(format!("{shown}\n").as_bytes());
    let count = |part: &str| {
        let of = told.iter().filter(|(name, _)| name.contains(part));
        of.map(|(_, told)| told).sum::<usize>()
    };
    // Not read, or a second copy: they do not matter, and nothing is told.
    for harmless in ["LOCK", "state/gen-000002/OPTIONS-", "log/db/OPTIONS-", "gen-000002/IDENTITY"]
    {
        assert_eq!(count(harmless), 0, "{harmless}\n{shown}");
    }
    // Each of these is looked at.
    for kind in ["identity.json", "log/db/MANIFEST", "log/db/CURRENT", "groups/1/state/CURRENT"] {
        assert!(count(kind) > FLIPS / 2, "{kind}\n{shown}");
    }
    for kind in ["gen-000002/MANIFEST", "gen-000002/CURRENT", "gen-000002/0", "manifest", "files/"]
    {
        assert!(count(kind) > FLIPS / 2, "{kind}\n{shown}");
    }
    assert!(count(".log") > FLIPS / 2 && count("log/db/0") > FLIPS / 2, "{shown}");
    // A part of it is purged.
    assert!(count(".blob") > FLIPS / 3, "{shown}");
}
