//! Measures what the bounds of [`quorate_state::limits`] come to in time, over tables in memory:
//! `cargo run --release -p quorate-state --example bounds`.

#![expect(
    clippy::disallowed_types,
    clippy::print_stdout,
    reason = "it measures time, and tells what it found"
)]

use bytes::Bytes;
use quorate_state::limits::{DELETE_PATTERN_KEYS_MAX, ENTRY_COMMANDS_MAX};
use quorate_state::query::{KvList, KvShow, kv_list, next_deadline_ms};
use quorate_state::{
    Batch, Caller, Command, Envelope, Fatal, GroupId, KeySelector, KvDeletePattern, KvSet,
    LogIndex, Machine, MemoryTables, Outcome, Stamp,
};
use std::time::{Duration, Instant};

const GROUP: GroupId = GroupId(1);
const KEYS: usize = 100_000;

struct Group {
    tables: MemoryTables,
    machine: Machine,
    index: u64,
    lease_ms: u64,
}

impl Group {
    /// So many keys, all with the same ttl.
    fn new(ttl_ms: Option<u64>) -> Result<Self, Fatal> {
        let tables = MemoryTables::default();
        let machine = Machine::open(GROUP, &tables)?;
        let mut group = Self { tables, machine, index: 0, lease_ms: 0 };
        let numbers: Vec<usize> = (0..KEYS).collect();
        for numbers in numbers.chunks(ENTRY_COMMANDS_MAX) {
            let set = |number: &usize| {
                let key = format!("user.{number:08}").into();
                let value = Bytes::from(vec![b'v'; 100]);
                Command::KvSet(KvSet {
                    key,
                    value,
                    ttl_ms,
                    expect: Default::default(),
                    owner: None,
                })
            };
            group.apply(numbers.iter().map(set).collect())?;
        }
        Ok(group)
    }

    fn apply(&mut self, commands: Vec<Command>) -> Result<(Vec<Outcome>, Duration), Fatal> {
        self.index += 1;
        let envelope = |command| Envelope {
            namespace: String::new(),
            caller: Caller::Anonymous,
            guard: None,
            command,
        };
        let batch = Batch {
            stamp: Stamp { lease_ms: self.lease_ms, wall_ms: 0 },
            commands: commands.into_iter().map(envelope).collect(),
        };
        let begun = Instant::now();
        let applied = self.machine.apply(&mut self.tables, LogIndex(self.index), &batch)?;
        Ok((applied.outcomes, begun.elapsed()))
    }
}

fn expiry() -> Result<(), Fatal> {
    let mut group = Group::new(Some(1_000))?;
    group.lease_ms = 1_000;
    let mut entries = Vec::new();
    while next_deadline_ms(&group.tables, GROUP, 0..=group.lease_ms)?.is_some() {
        entries.push(group.apply(vec![Command::Tick])?.1);
    }
    report(&format!("{KEYS} keys due at once"), "entries", &entries);
    Ok(())
}

fn delete_pattern() -> Result<(), Fatal> {
    let mut group = Group::new(Some(1_000))?;
    let mut entries = Vec::new();
    let mut after = None;
    loop {
        let selector = KeySelector::Pattern("user.*".into());
        let keys_max = DELETE_PATTERN_KEYS_MAX as u64;
        let delete = KvDeletePattern { selector, after, keys_max };
        let (outcomes, took) = group.apply(vec![Command::KvDeletePattern(delete)])?;
        entries.push(took);
        match outcomes.into_iter().next() {
            Some(Outcome::KvDeletePattern { cursor: Some(cursor), .. }) => after = Some(cursor),
            _ => break,
        }
    }
    report(&format!("{KEYS} keys deleted by a pattern"), "entries", &entries);
    Ok(())
}

fn list(pattern: &'static str) -> Result<(), Fatal> {
    let group = Group::new(None)?;
    let Ok(selection) = KeySelector::Pattern(pattern.into()).select() else { return Ok(()) };
    let mut pages = Vec::new();
    let mut after: Option<Bytes> = None;
    loop {
        let begun = Instant::now();
        let list = KvList {
            after: after.as_deref(),
            show: KvShow::Count,
            items_max: usize::MAX,
            bytes_max: usize::MAX,
        };
        let page = kv_list(&group.tables, GROUP, "", &selection, &list)?;
        pages.push(begun.elapsed());
        after = page.cursor;
        if after.is_none() {
            break;
        }
    }
    report(&format!("{KEYS} keys held against {pattern:.20}"), "pages", &pages);
    Ok(())
}

fn report(what: &str, parts: &str, took: &[Duration]) {
    let whole: Duration = took.iter().sum();
    let longest = took.iter().max().copied().unwrap_or_default();
    println!("{what}: {} {parts}, {whole:.1?} in all, the longest {longest:.1?}", took.len());
}

fn main() -> Result<(), Fatal> {
    expiry()?;
    delete_pattern()?;
    list("user.*")?;
    list("*7")?;
    list("*0*0*0*0*0*0*0*x*")
}
