//! Measures what the bounds of [`quorate_state::limits`] come to in time, over tables in memory:
//! `cargo run --release -p quorate-state --example bounds`.

#![expect(
    clippy::disallowed_types,
    clippy::print_stdout,
    reason = "it measures time, and tells what it found"
)]

use bytes::Bytes;
use quorate_state::limits::{
    DELETE_PATTERN_KEYS_MAX, ENTRY_COMMANDS_MAX, LOCK_HOLDERS_MAX, SESSION_OWNED_MAX, TICKETS_MAX,
};
use quorate_state::query::{KvList, KvShow, kv_list, next_deadline_ms};
use quorate_state::{
    Attachment, Batch, Caller, Command, Envelope, Fatal, FencingToken, GroupId, KeySelector,
    KvDeletePattern, KvIncrement, KvSet, LockAcquire, LockRelease, LockRequest, LogIndex, Machine,
    MemoryTables, Operation, Outcome, Sequence, SessionId, SessionOpen, Share, Stamp, Transaction,
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
        self.apply_as(commands.into_iter().map(|command| (Caller::Anonymous, command)).collect())
    }

    fn session(&mut self) -> Result<Session, Fatal> {
        let open = Command::SessionOpen(SessionOpen { ttl_ms: 60_000 });
        match self.apply(vec![open])?.0[..] {
            [Outcome::SessionOpen { id, .. }] => Ok(Session { id, sequence: 0 }),
            ref other => Err(Fatal::Invariant(format!("{other:?}"))),
        }
    }

    fn apply_as(
        &mut self,
        commands: Vec<(Caller, Command)>,
    ) -> Result<(Vec<Outcome>, Duration), Fatal> {
        self.index += 1;
        let envelope =
            |(caller, command)| Envelope { namespace: String::new(), caller, guard: None, command };
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

/// Transactions that touch a lock which as many hold and wait for as may, and a session that owns
/// as much as it may: what they changed has to be put back when they are refused.
fn put_back(refused: bool) -> Result<(), Fatal> {
    const LOCK: &str = "lock";
    let mut group = Group::new(None)?;
    let acquire = |name: String, wait_ms| {
        let share = Share::Permit { of: u32::try_from(LOCK_HOLDERS_MAX).unwrap_or(u32::MAX) };
        let request = LockRequest { name, share, ttl_ms: 60_000, wait_ms };
        Command::LockAcquire(LockAcquire { request, attachment: Attachment::default() })
    };
    let mut holder = group.session()?;
    let others = (LOCK_HOLDERS_MAX as u64..SESSION_OWNED_MAX).map(|n| format!("{n:01024}"));
    let names: Vec<_> = (0..LOCK_HOLDERS_MAX).map(|_| LOCK.to_owned()).chain(others).collect();
    for names in names.chunks(ENTRY_COMMANDS_MAX) {
        let asked = names.iter().map(|name| (holder.next(), acquire(name.clone(), 0)));
        group.apply_as(asked.collect())?;
    }
    for _ in 0..TICKETS_MAX / 500 {
        let mut waiter = group.session()?;
        let asked = (0..500).map(|_| (waiter.next_waiting(), acquire(LOCK.to_owned(), 60_000)));
        group.apply_as(asked.collect())?;
    }
    let transaction = |token| {
        let release = LockRelease { name: LOCK.to_owned(), token: FencingToken(token) };
        let mut then = vec![Operation::LockRelease(release)];
        if refused {
            let key = "user.00000000".into();
            then.push(Operation::KvIncrement(KvIncrement { key, by: 1 }));
        }
        Command::Transaction(Transaction { then, ..Transaction::default() })
    };
    let took = group.apply((1..=ENTRY_COMMANDS_MAX as u64).map(transaction).collect())?.1;
    let came_to = if refused { "are refused" } else { "go through" };
    let what =
        format!("{ENTRY_COMMANDS_MAX} transactions on a lock that many want, which {came_to}");
    report(&what, "entry", &[took]);
    Ok(())
}

/// A session and its requests so far.
struct Session {
    id: SessionId,
    sequence: u64,
}

impl Session {
    /// Its next request; those before it are done with.
    fn next(&mut self) -> Caller {
        self.sequence += 1;
        let sequence = Sequence(self.sequence);
        Caller::Session { id: self.id, sequence, floor: sequence }
    }

    /// Its next request, beside those that wait.
    fn next_waiting(&mut self) -> Caller {
        self.sequence += 1;
        Caller::Session { id: self.id, sequence: Sequence(self.sequence), floor: Sequence(1) }
    }
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
    list("*0*0*0*0*0*0*0*x*")?;
    put_back(false)?;
    put_back(true)
}
