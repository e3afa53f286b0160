//! Runs golden scripts: `testscripts/<area>/*`, one story per file, a comment before each step.
//!
//! Each script runs twice, the second time with the tables reopened and the machine derived again
//! after every entry. What is printed and what is stored must be equal, byte for byte, and every
//! invariant must hold after every entry.
//!
//! Words, beside one for each command of the machine (`set`, `del`, `del-pattern`, `incr`,
//! `incr-float`, `txn`, `lock`, `queue`, `consumer`, `schedule`, `cache`, `session`, `checkpoint`,
//! `publish`, `cluster`, `access`, `tick`; see
//! `script.rs`), each of which is an entry of its own:
//!
//! | word | what it does |
//! |---|---|
//! | `advance 500ms` | moves both clocks of the entries to come |
//! | `clock lease=.. wall=..` | puts them somewhere, also back |
//! | `batch` ... `apply` | makes one entry of the commands between |
//! | `apply-again` | applies the commands of the last entry once more, as a new entry |
//! | `set-many 1500 ttl=..` | sets so many keys, 500 to an entry |
//! | `pretend sessions=.. idempotency-keys=.. jobs=.. schedules=.. cache-builds=.. cache-tags=.. access-tokens=.. access-roles=.. access-subjects=..` | changes the counters, to come near a limit |
//! | `list "a*" after=.. items=.. bytes=.. show=keys` | a page, also by `prefix=`, `show=count` |
//! | `history "a*" "b*" key=.. from=r1.0 bytes=.. values=no` | all pages of the changes of these keys |
//! | `read-txn "exists a" "get a" else "get b"` | a transaction as a query |
//! | `lock-info l`, `locks "a*" items=..`, `ticket r3.0`, `lock-leases` | queries of locks |
//! | `queue-info q`, `queues "a*" items=..`, `job q 7`, `jobs q items=.. after=.. show=ready`, `peek q`, `pull-info 9` | queries of queues |
//! | `access-token 7`, `access-role r`, `access-subject s`, `access-tokens`, `access-roles`, `access-subjects` | queries of who may do what |
//! | `cache-get k`, `cache-build-info k`, `cache-usage`, `cache-candidates after=k max=..` | queries of the cache |
//! | `get k`, `clocks`, `revision`, `next-deadline`, `sessions`, `member 1`, `level` | queries |
//! | `dump` | all rows; `events`: all events so far |
//!
//! `a@1025` stands for 1025 times the letter `a`. Revisions print as `r<entry>.<position>`. After
//! each entry follow its events and the rows it changed, `+` written and `-` deleted.
//!
//! `UPDATE_GOLDENFILES=1` writes what was printed into the scripts; read the difference.

mod queries;

use super::render::{self, Names};
use super::script::{self, millis, positional};
use super::{GROUP, Tables, read};
use crate::limits::ENTRY_COMMANDS_MAX;
use crate::rows::{AccessMetaRow, CacheMetaRow, MetaRow, QueuesMetaRow};
use crate::{
    Applied, Batch, Caller, Command, Envelope, Event, Expect, FeatureLevel, KvSet, LogIndex,
    Machine, Outcome, Read, SessionId, Stamp, TableError, Txn, codec, invariants, keys, query,
    rows,
};
use std::collections::BTreeMap;
use std::error::Error;
use std::fmt::Write as _;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

/// More changed rows than this are counted by table, not listed; likewise a history's in a dump.
const CHANGES_SHOWN_MAX: usize = 20;

/// Commands in an entry of `set-many`.
const MANY_PER_ENTRY: usize = 500;
/// The newest feature level that the machines of scripts know, whatever the build does.
const KNOWN: FeatureLevel = FeatureLevel(3);

type Text = Result<String, Box<dyn Error>>;

/// The areas that have scripts.
pub const AREAS: [&str; 10] =
    ["access", "cache", "clock", "cluster", "dedupe", "history", "kv", "lock", "queue", "session"];

/// Runs every script of an area over tables that `make` makes.
///
/// # Panics
/// When a script does not print what it says it does, or differently with reopened tables, or an
/// invariant breaks, or the area has no scripts.
pub fn run_area<T: Tables>(area: &str, mut make: impl FnMut() -> T) {
    let scripts = scripts(area);
    assert!(!scripts.is_empty(), "area {area} has no scripts");
    for path in scripts {
        let text = std::fs::read_to_string(&path).expect("a script is readable");
        let mut run = |reopens: bool| {
            let mut runner = Runner::new(make(), reopens);
            let printed = goldenscript::generate(&mut runner, &text)
                .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            (printed, runner.trail)
        };
        let (kept, reopened) = (run(false), run(true));
        assert_eq!(kept.0, reopened.0, "{}: printed with reopened tables", path.display());
        assert_eq!(kept.1, reopened.1, "{}: stored with reopened tables", path.display());
        goldenscript::run(&mut Runner::new(make(), false), &path)
            .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    }
}

fn scripts(area: &str) -> Vec<PathBuf> {
    let area = Path::new(env!("CARGO_MANIFEST_DIR")).join("testscripts").join(area);
    let mut paths: Vec<PathBuf> = std::fs::read_dir(&area)
        .unwrap_or_else(|error| panic!("{}: {error}", area.display()))
        .map(|entry| entry.expect("a directory is readable").path())
        .collect();
    paths.sort();
    paths
}

struct Runner<T> {
    tables: T,
    machine: Machine,
    /// Whether tables and machine come back anew after each entry.
    reopens: bool,
    index: LogIndex,
    stamp: Stamp,
    sessions: BTreeMap<String, SessionId>,
    names: Names,
    /// Commands since `batch`, with the names of the sessions they open.
    held: Option<Vec<(Envelope, Option<String>)>>,
    last: Vec<Envelope>,
    events: Vec<Event>,
    /// Digest and checksum after each entry.
    trail: Vec<(u64, u64)>,
    /// Whether the counters are made up, so that the invariants do not hold.
    pretends: bool,
}

impl<T: Tables> goldenscript::Runner for Runner<T> {
    type Command = goldenscript::Command;

    fn run(&mut self, line: &goldenscript::Command, _: &goldenscript::Context) -> Text {
        if let Some((envelope, name)) = script::envelope(line, &self.sessions)? {
            if let Some(held) = &mut self.held {
                held.push((envelope, name));
                return Ok(String::new());
            }
            return self.entry(vec![(envelope, name)]);
        }
        let mut args = line.consume_args();
        let text = match line.name.as_str() {
            "advance" => {
                let by_ms = millis(positional(&mut args, "time")?)?;
                self.stamp.lease_ms += by_ms;
                self.stamp.wall_ms += by_ms;
                String::new()
            }
            "clock" => {
                self.stamp.lease_ms = args.take_key("lease").map_or(Ok(0), millis)?;
                self.stamp.wall_ms = args.take_key("wall").map_or(Ok(0), millis)?;
                String::new()
            }
            "batch" => {
                self.held = Some(Vec::new());
                String::new()
            }
            "apply" => {
                let held = self.held.take().ok_or("apply without batch")?;
                self.entry(held)?
            }
            "apply-again" => {
                let again = self.last.clone();
                self.entry(again.into_iter().map(|envelope| (envelope, None)).collect())?
            }
            "set-many" => {
                let count = positional(&mut args, "count")?.parse()?;
                let ttl_ms = args.take_key("ttl").map(millis).transpose()?;
                self.set_many(count, ttl_ms)?
            }
            "pretend" => {
                let mut meta = read(&self.tables, |view| rows::meta(view, GROUP))?;
                let mut queues = read(&self.tables, |view| rows::queues_meta(view, GROUP))?;
                let mut cache = read(&self.tables, |view| rows::cache_meta(view, GROUP))?;
                let mut access = read(&self.tables, |view| rows::access_meta(view, GROUP))?;
                for (what, counter) in [
                    ("sessions", &mut meta.sessions),
                    ("idempotency-keys", &mut meta.idempotency_keys),
                    ("jobs", &mut queues.jobs),
                    ("schedules", &mut queues.schedules),
                    ("cache-builds", &mut cache.builds),
                    ("cache-tags", &mut cache.tags),
                    ("access-tokens", &mut access.tokens),
                    ("access-roles", &mut access.roles),
                    ("access-subjects", &mut access.subjects),
                ] {
                    if let Some(said) = args.take_key(what) {
                        *counter = said.parse()?;
                    }
                }
                self.pretend(&meta, &queues, &cache, &access)?
            }
            "events" => self.events.iter().map(|e| render::event(e, &self.names) + "\n").collect(),
            "dump" => self.dump()?,
            _ => self.query(line, &mut args)?,
        };
        args.reject_next()?;
        Ok(text)
    }
}

impl<T: Tables> Runner<T> {
    fn new(tables: T, reopens: bool) -> Self {
        let machine = read(&tables, |view| Machine::open_knowing(GROUP, view, KNOWN))
            .expect("new tables open");
        Self {
            tables,
            machine,
            reopens,
            index: LogIndex(0),
            stamp: Stamp::default(),
            sessions: BTreeMap::new(),
            names: Names::new(),
            held: None,
            last: Vec::new(),
            events: Vec::new(),
            trail: Vec::new(),
            pretends: false,
        }
    }

    /// Applies one entry and says what came of it.
    fn entry(&mut self, requests: Vec<(Envelope, Option<String>)>) -> Text {
        let (envelopes, names): (Vec<_>, Vec<_>) = requests.into_iter().unzip();
        let (applied, changes) = self.apply(&envelopes)?;
        self.last = envelopes;
        for (outcome, name) in applied.outcomes.iter().zip(names) {
            if let (Outcome::SessionOpen { id, .. }, Some(name)) = (outcome, name) {
                self.names.entry(*id).or_insert_with(|| name.clone());
                self.sessions.insert(name, *id);
            }
        }
        let mut text = String::new();
        for (position, outcome) in applied.outcomes.iter().enumerate() {
            if applied.outcomes.len() > 1 {
                write!(text, "{position}: ")?;
            }
            writeln!(text, "{}", render::outcome(outcome, &self.names))?;
        }
        for event in &applied.events {
            writeln!(text, "{}", render::event(event, &self.names))?;
        }
        self.events.extend(applied.events);
        self.write_changes(&mut text, &changes)?;
        Ok(text)
    }

    fn apply(&mut self, envelopes: &[Envelope]) -> Result<(Applied, Changes), Box<dyn Error>> {
        self.index.0 += 1;
        let batch = Batch { stamp: self.stamp, commands: envelopes.to_vec() };
        let mut result = None;
        let mut changes = Changes::new();
        let (machine, index) = (&mut self.machine, self.index);
        self.tables.transact(&mut |txn| {
            let mut tap = Tap { inner: txn, changes: Changes::new() };
            let applied = machine.apply(&mut tap, index, &batch);
            let commits = applied.is_ok();
            changes = std::mem::take(&mut tap.changes);
            result = Some(applied);
            commits
        });
        let applied = result.expect("a transaction runs what it is given")?;
        if self.reopens {
            self.tables.reopen();
            self.machine = read(&self.tables, |view| Machine::open_knowing(GROUP, view, KNOWN))?;
        }
        self.check()?;
        Ok((applied, changes))
    }

    fn check(&mut self) -> Result<(), Box<dyn Error>> {
        let (machine, pretends) = (&self.machine, self.pretends);
        let marks = read(&self.tables, |view| {
            machine.check(view)?;
            if !pretends {
                invariants::check(view, GROUP)?;
            }
            Ok::<_, crate::Fatal>((query::digest(view, GROUP)?, query::checksum(view, GROUP)?))
        })?;
        self.trail.push(marks);
        Ok(())
    }

    fn write_changes(&self, text: &mut String, changes: &Changes) -> Result<(), Box<dyn Error>> {
        let mut counts: BTreeMap<(&str, &str), usize> = BTreeMap::new();
        let mut lines = Vec::new();
        for (key, value) in changes {
            let table = render::table(GROUP, key);
            if table == "meta" {
                // Changes with every entry; `dump` shows it.
                continue;
            }
            match value {
                Some(value) => {
                    *counts.entry((table, "+")).or_default() += 1;
                    lines.push(format!("+ {}", render::row(GROUP, key, value, &self.names)?));
                }
                None => {
                    *counts.entry((table, "-")).or_default() += 1;
                    lines.push(format!("- {}", render::key(GROUP, key, &self.names)));
                }
            }
        }
        if lines.len() > CHANGES_SHOWN_MAX {
            for ((table, sign), count) in counts {
                writeln!(text, "{sign} {table}: {count} rows")?;
            }
            return Ok(());
        }
        for line in lines {
            writeln!(text, "{line}")?;
        }
        Ok(())
    }

    fn set_many(&mut self, count: usize, ttl_ms: Option<u64>) -> Text {
        const { assert!(MANY_PER_ENTRY <= ENTRY_COMMANDS_MAX) };
        let numbers: Vec<usize> = (0..count).collect();
        let mut entries = 0;
        for numbers in numbers.chunks(MANY_PER_ENTRY) {
            let set = |number: &usize| Envelope {
                namespace: String::new(),
                caller: Caller::Anonymous,
                guard: None,
                command: Command::KvSet(KvSet {
                    key: format!("many-{number:06}").into(),
                    value: "v".into(),
                    ttl_ms,
                    expect: Expect::Any,
                    owner: None,
                }),
            };
            let envelopes: Vec<Envelope> = numbers.iter().map(set).collect();
            self.apply(&envelopes)?;
            entries += 1;
        }
        Ok(format!("{count} keys set in {entries} entries"))
    }

    fn pretend(
        &mut self,
        meta: &MetaRow,
        queues: &QueuesMetaRow,
        cache: &CacheMetaRow,
        access: &AccessMetaRow,
    ) -> Text {
        self.tables.transact(&mut |txn| {
            txn.put(&keys::meta(GROUP), &codec::encode(meta));
            txn.put(&keys::queues_meta(GROUP), &codec::encode(queues));
            txn.put(&keys::cache_meta(GROUP), &codec::encode(cache));
            txn.put(&keys::access_meta(GROUP), &codec::encode(access));
            true
        });
        self.machine = read(&self.tables, |view| Machine::open_knowing(GROUP, view, KNOWN))?;
        self.pretends = true;
        Ok(String::new())
    }

    fn dump(&self) -> Text {
        let (from, to) = keys::group_range(GROUP);
        read(&self.tables, |view| {
            let mut text = String::new();
            let mut events = Vec::new();
            let mut result = Ok(());
            view.scan(&from, &to, &mut |key, value| {
                match render::row(GROUP, key, value, &self.names) {
                    Ok(row) if render::table(GROUP, key) == "history" => events.push(row + "\n"),
                    Ok(row) => text += &(row + "\n"),
                    Err(error) => result = Err(error),
                }
                ControlFlow::Continue(())
            })?;
            match events.len() {
                count if count > CHANGES_SHOWN_MAX => writeln!(text, "history: {count} rows")?,
                _ => text += &events.concat(),
            }
            result.map(|()| text)
        })
    }
}

/// The last write of each key: a value, or none for a delete.
type Changes = BTreeMap<Vec<u8>, Option<Vec<u8>>>;

/// Listens to what is written.
struct Tap<'a> {
    inner: &'a mut dyn Txn,
    changes: Changes,
}

impl Read for Tap<'_> {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, TableError> {
        self.inner.get(key)
    }

    fn scan(
        &self,
        from: &[u8],
        to: &[u8],
        visit: &mut dyn FnMut(&[u8], &[u8]) -> ControlFlow<()>,
    ) -> Result<(), TableError> {
        self.inner.scan(from, to, visit)
    }
}

impl Txn for Tap<'_> {
    fn put(&mut self, key: &[u8], value: &[u8]) {
        self.changes.insert(key.to_vec(), Some(value.to_vec()));
        self.inner.put(key, value);
    }

    fn delete(&mut self, key: &[u8]) {
        self.changes.insert(key.to_vec(), None);
        self.inner.delete(key);
    }
}
