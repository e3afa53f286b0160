//! Kill -9 of a process that writes, truncates, purges, applies and flushes, over and over on
//! one directory. `QUORATE_STORAGE_KILL_ROUNDS` sets how often (100).
//!
//! The child prints each change before it makes it and each completion when it comes. After its
//! death the log must be what the changes had made of it up to some point, at or behind the last
//! one that was completed; and the state must not be ahead of it.
//!
//! What a kill takes is what the process had not yet handed to the kernel; what the kernel has not
//! handed to the device survives it. The child applies by a copy of the rule that consensus has
//! (`machine_adapter`); what becomes of a node without the rule is shown by the simulation.

use crate::support::{GROUP, all, at, entry, meta, rows, seed, shown, tuning};
use quorate_state::{LogIndex, LogPosition, Term};
use quorate_storage::log::rocks::RocksLog;
use quorate_storage::log::{LogStore, Synced};
use quorate_storage::state::StateStore;
use quorate_storage::state::rocks::RocksState;
use quorate_storage::{Budget, Stores, Tuning};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};

/// Where the child works; its absence makes the child's test do nothing.
const DIR: &str = "QUORATE_STORAGE_KILL_DIR";
/// The child's seed; its terms begin at the round times 1 000.
const SEED: &str = "QUORATE_STORAGE_KILL_SEED";
const ROUND: &str = "QUORATE_STORAGE_KILL_ROUND";
const LEN_MAX: usize = 3_000;
const ROUNDS_DEFAULT: u64 = 100;

/// Memtables so small that they are flushed, and write-ahead logs replaced, all the time.
fn small() -> Tuning {
    Tuning { log_memtable_bytes: 96 << 10, state_memtable_bytes: 64 << 10, ..tuning() }
}

/// A change, as the child prints it.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Change {
    Write { term: u64, first: u64, last: u64 },
    Truncate { keep: LogPosition },
    Purge { through: LogPosition },
    Vote { number: u64 },
}

/// What the log holds: where it begins, its entries' terms by index, and the vote.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Model {
    purged: Option<LogPosition>,
    terms: BTreeMap<u64, u64>,
    vote: Option<u64>,
}

impl Model {
    fn apply(&mut self, change: &Change) {
        match change {
            Change::Write { term, first, last } => {
                self.terms.extend((*first..=*last).map(|index| (index, *term)));
            }
            Change::Truncate { keep } => drop(self.terms.split_off(&(keep.index.0 + 1))),
            Change::Purge { through } => {
                self.terms = self.terms.split_off(&(through.index.0 + 1));
                self.purged = Some(*through);
            }
            Change::Vote { number } => self.vote = Some(*number),
        }
    }

    fn of(log: &dyn LogStore) -> Self {
        let entries = all(log);
        for (found, position) in
            shown(&entries).into_iter().zip(crate::support::positions(&entries))
        {
            let written = shown(&[entry(position, LEN_MAX)]).remove(0);
            assert_eq!(found, written, "entry {position} is not what was written");
        }
        Self {
            purged: log.bounds().purged,
            terms: entries.iter().map(|it| (it.position.index.0, it.position.term.0)).collect(),
            vote: log
                .vote()
                .expect("readable")
                .map(|vote| u64::from_be_bytes(vote.as_ref().try_into().expect("eight bytes"))),
        }
    }
}

fn say(line: &str) {
    // One write per line, so that lines of two threads do not mix.
    let line = format!("@{line}\n");
    let mut stdout = std::io::stdout();
    if stdout.write_all(line.as_bytes()).and_then(|()| stdout.flush()).is_err() {
        // The parent has gone, so nobody is left to end this process.
        std::process::exit(1);
    }
}

/// What the parent runs and kills. It ends only by that.
#[test]
fn child() {
    let Some(dir) = std::env::var_os(DIR) else { return };
    let number = |name| std::env::var(name).expect("set by the parent").parse().expect("a number");
    let (seed, round): (u64, u64) = (number(SEED), number(ROUND));
    let dir = Path::new(&dir);
    let budget = Budget::new(&small());
    let log = RocksLog::open(&dir.join("log"), &budget).expect("the log opens");
    let log = log.group(GROUP).expect("the log opens");
    let state = dir.join("groups").join(GROUP.to_string()).join("state");
    let state = RocksState::open(&state, &budget).expect("the state opens");
    Child { log, state, rng: StdRng::seed_from_u64(seed), changes: 0, term: round * 1_000 }.run();
}

struct Child {
    log: std::sync::Arc<dyn LogStore>,
    state: RocksState,
    rng: StdRng,
    changes: u64,
    term: u64,
}

impl Child {
    fn run(mut self) {
        let applied = self.state.applied().applied;
        let committed = self.log.committed().expect("readable").max(applied);
        let mut committed = committed.map(|at| at.index.0);
        loop {
            match self.rng.random_range(0..10) {
                0..5 => self.write(),
                5 => self.truncate(committed),
                6 => self.vote(),
                7 => committed = self.commit(committed),
                8 => committed = self.hold(committed),
                _ => self.purge(),
            }
            self.apply(committed);
        }
    }

    fn last(&self) -> Option<LogPosition> {
        self.log.bounds().last
    }

    fn announce(
        &mut self,
        change: &str,
    ) -> impl FnOnce(Result<(), quorate_storage::Error>) + use<> {
        let number = self.changes;
        self.changes += 1;
        say(change);
        move |result: Result<(), quorate_storage::Error>| {
            result.expect("the disk works");
            say(&format!("done {number}"));
        }
    }

    fn write(&mut self) {
        let first = self.last().map_or(0, |last| last.index.0 + 1);
        let last = first + self.rng.random_range(0..8);
        let term = self.term;
        let done = self.announce(&format!("write {term} {first} {last}"));
        let entries = (first..=last).map(|index| entry(at(term, index), LEN_MAX)).collect();
        self.log.append(entries, Box::new(done)).expect("accepted");
    }

    /// Never what is committed.
    fn truncate(&mut self, committed: Option<u64>) {
        let (Some(last), Some(committed)) = (self.last(), committed) else { return };
        if committed >= last.index.0 {
            return;
        }
        let keep = self.rng.random_range(committed..last.index.0);
        let keep = match self.log.bounds().purged {
            Some(purged) if purged.index.0 == keep => purged,
            _ => {
                let read = self.log.read(LogIndex(keep), LogIndex(keep + 1), 0);
                read.expect("readable")[0].position
            }
        };
        drop(self.announce(&format!("truncate {} {}", keep.term, keep.index)));
        self.log.truncate_after(Some(keep)).expect("cut");
        self.term += 1;
        // At once, and often flushed before it is synced.
        self.write();
        if self.rng.random() {
            self.state.flush().expect("flushed");
        }
    }

    fn vote(&mut self) {
        let number = self.changes;
        let done = self.announce(&format!("vote {number}"));
        let vote = number.to_be_bytes().to_vec().into();
        self.log.save_vote(vote, Box::new(done)).expect("accepted");
    }

    /// Up to any entry, synced here or not: a majority may have it elsewhere.
    fn commit(&mut self, committed: Option<u64>) -> Option<u64> {
        let last = self.last()?.index.0;
        let index = self.rng.random_range(committed.unwrap_or(0)..=last);
        let position = match self.log.bounds().purged {
            Some(purged) if purged.index.0 >= index => return committed,
            _ => {
                self.log.read(LogIndex(index), LogIndex(index + 1), 0).expect("readable")[0]
                    .position
            }
        };
        self.log.save_committed(Some(position)).expect("saved");
        Some(index)
    }

    /// Keeps the device from syncing, by a completion that does not return, while writes are
    /// accepted and the state is flushed: what a full memtable does at any time. Killed in
    /// here, the process has written nothing of it to the log's file.
    fn hold(&mut self, mut committed: Option<u64>) -> Option<u64> {
        let (release, held) = std::sync::mpsc::channel::<()>();
        say("hold");
        let number = self.changes;
        let done = self.announce(&format!("vote {number}"));
        let vote = number.to_be_bytes().to_vec().into();
        let blocks = move |result: Result<(), quorate_storage::Error>| {
            done(result);
            // Until the other end is dropped.
            let _ = held.recv();
        };
        self.log.save_vote(vote, Box::new(blocks)).expect("accepted");
        for _ in 0..3 {
            if self.rng.random() {
                self.truncate(committed);
            }
            self.write();
            committed = self.commit(committed);
            self.apply(committed);
            self.state.flush().expect("flushed");
            say("flushed");
        }
        say("release");
        drop(release);
        committed
    }

    /// Only what is flushed into the state.
    fn purge(&mut self) {
        let Some(applied) = self.state.applied().applied else { return };
        if self.rng.random_range(0..4) > 0 || self.log.bounds().purged >= Some(applied) {
            return;
        }
        self.state.flush().expect("flushed");
        drop(self.announce(&format!("purge {} {}", applied.term, applied.index)));
        self.log.purge(applied).expect("purged");
    }

    /// The rule this test is about: nothing enters the state that is not synced here.
    fn apply(&mut self, committed: Option<u64>) {
        let synced = match &*self.log.synced().borrow() {
            Synced::Through(index) => *index,
            Synced::Failed(reason) => panic!("the log failed: {reason}"),
        };
        let to = committed.map(LogIndex).min(synced);
        let from = self.state.applied().applied.map_or(0, |applied| applied.index.0 + 1);
        let Some(to) = to.filter(|to| to.0 >= from) else { return };
        for entry in
            self.log.read(LogIndex(from), LogIndex(to.0 + 1), usize::MAX).expect("readable")
        {
            let LogPosition { term, index } = entry.position;
            let mut txn = self.state.begin();
            txn.as_txn().put(&index.0.to_be_bytes(), &term.0.to_be_bytes());
            txn.commit(&meta(term.0, index.0)).expect("committed");
        }
    }
}

/// What a child said until it was killed.
#[derive(Default)]
struct Said {
    /// In their order.
    changes: Vec<Change>,
    /// How many of them were certainly on disk.
    done: usize,
    /// Whether it kept the device from syncing then.
    held: bool,
}

fn parse(lines: &[String]) -> Said {
    let Said { mut changes, mut done, mut held } = Said::default();
    for line in lines {
        let words: Vec<&str> = line.split(' ').collect();
        let number = |word: usize| words[word].parse::<u64>().expect("a number");
        let position = || LogPosition { term: Term(number(1)), index: LogIndex(number(2)) };
        match words[0] {
            "write" => {
                changes.push(Change::Write { term: number(1), first: number(2), last: number(3) });
            }
            "truncate" => changes.push(Change::Truncate { keep: position() }),
            "purge" => changes.push(Change::Purge { through: position() }),
            "hold" => held = true,
            "release" => held = false,
            // Only something to be killed at.
            "flushed" => {}
            "vote" => changes.push(Change::Vote { number: number(1) }),
            "done" => done = done.max(usize::try_from(number(1)).expect("small") + 1),
            other => panic!("the child said {other:?}"),
        }
    }
    Said { changes, done, held }
}

/// Runs the child until it has said so many lines, and kills it: all it said.
fn run_child(dir: &Path, seed: u64, round: u64, lines_max: usize) -> Vec<String> {
    let mut child = Command::new(std::env::current_exe().expect("this test"))
        .args(["kill::child", "--exact", "--nocapture", "--test-threads=1"])
        .env(DIR, dir)
        .env(SEED, seed.to_string())
        .env(ROUND, round.to_string())
        .stdout(Stdio::piped())
        .spawn()
        .expect("it starts");
    let mut lines = Vec::new();
    let mut killed = false;
    let output = BufReader::new(child.stdout.take().expect("it is piped"));
    for line in output.split(b'\n') {
        let line = String::from_utf8(line.expect("readable")).expect("plain text");
        // What the test harness says has no mark; the harness may leave its line open.
        if let Some((_, said)) = line.split_once('@') {
            lines.push(said.to_owned());
        }
        if lines.len() >= lines_max && !killed {
            child.kill().expect("it runs");
            killed = true;
        }
    }
    let status = child.wait().expect("it has ended");
    assert!(killed, "the child ended by itself, {status}; its last words: {:?}", lines.last());
    // The last line may be half a line.
    lines
}

#[test]
fn a_killed_node_opens_with_everything_acknowledged() {
    let rounds = std::env::var("QUORATE_STORAGE_KILL_ROUNDS");
    let rounds: u64 = rounds.map_or(ROUNDS_DEFAULT, |rounds| rounds.parse().expect("a number"));
    assert!(rounds > 0, "no round shows nothing");
    let seed = seed("a_killed_node_opens_with_everything_acknowledged");
    let mut rng = StdRng::seed_from_u64(seed);
    let dir = tempfile::tempdir().expect("a temporary directory");
    let mut before = Model::default();
    let (mut acknowledged, mut lost, mut held_rounds, mut applied_max) = (0, 0, 0, None);
    for round in 1..=rounds {
        let lines_max = rng.random_range(1..400);
        let lines = run_child(dir.path(), rng.random(), round, lines_max);
        let Said { changes, done, held } = parse(&lines);
        held_rounds += u64::from(held);
        let stores = Stores::open(dir.path(), GROUP, &small())
            .unwrap_or_else(|error| panic!("round {round}: {error}; seed {seed}"));
        let found = Model::of(&*stores.log);

        // The log is what some prefix of the changes made of it, and that has all that was done.
        let mut model = before.clone();
        changes[..done].iter().for_each(|change| model.apply(change));
        let mut more = changes[done..].iter();
        let mut matched = model == found;
        while !matched && let Some(change) = more.next() {
            model.apply(change);
            matched = model == found;
        }
        assert!(
            matched,
            "round {round}: after {done} of {changes:?}\nthe log holds {found:?}\nseed {seed}"
        );
        lost += more.len();
        acknowledged += done;

        // The state is not ahead of it, which opening has checked, and is that of its entries.
        let applied = stores.state.applied().applied;
        assert!(applied <= stores.log.bounds().last, "round {round}, seed {seed}");
        assert!(found.purged.map(|at| at.index) <= applied.map(|at| at.index));
        let view = stores.state.reader().view();
        assert_eq!(view.applied, applied);
        let rows = rows(&*view.tables);
        let count = applied.map_or(0, |applied| applied.index.0 + 1);
        assert_eq!(rows.len() as u64, count, "round {round}, seed {seed}");
        for (index, (key, term)) in (0_u64..).zip(&rows) {
            assert_eq!(key[..], index.to_be_bytes(), "round {round}, seed {seed}");
            if let Some(logged) = found.terms.get(&index) {
                assert_eq!(term[..], logged.to_be_bytes(), "round {round}, seed {seed}");
            }
        }
        applied_max = applied_max.max(applied);
        before = found;
    }
    eprintln!(
        "{acknowledged} changes acknowledged, {lost} unfinished ones lost, {held_rounds} of {rounds} \
         kills while the device was kept from syncing; applied {applied_max:?}"
    );
    assert!(acknowledged > 0 && applied_max.is_some(), "the children did nothing, seed {seed}");
    // Every third kill or so falls into a hold, and takes what was written since.
    if rounds >= ROUNDS_DEFAULT {
        assert!(held_rounds > 0, "no child was killed while its device was held, seed {seed}");
        assert!(lost > 0, "no kill took anything, so recovery had nothing to do, seed {seed}");
    }
}
