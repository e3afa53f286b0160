//! What stops a node, and is never an outcome.

use crate::limits::ENTRY_COMMANDS_MAX;
use crate::testing::GROUP;
use crate::{
    Batch, Caller, Command, Envelope, Fatal, FeatureLevel, FeatureLevelRaise, KvIncrement,
    LogIndex, Machine, MemoryTables, Outcome, Read, Sequence, SessionId, SessionOpen, TableError,
    Txn, keys,
};
use std::ops::ControlFlow;

fn batch(commands: Vec<Command>) -> Batch {
    let envelope = |command| Envelope {
        namespace: String::new(),
        caller: Caller::Anonymous,
        guard: None,
        command,
    };
    Batch { commands: commands.into_iter().map(envelope).collect(), ..Batch::default() }
}

fn increment() -> Command {
    Command::KvIncrement(KvIncrement { key: "n".into(), by: 1 })
}

#[test]
fn an_entry_with_too_many_commands() {
    let mut tables = MemoryTables::default();
    let mut machine = Machine::open(GROUP, &tables).unwrap();
    let largest = batch(vec![Command::Tick; ENTRY_COMMANDS_MAX]);
    assert_eq!(
        machine.apply(&mut tables, LogIndex(1), &largest).unwrap().outcomes,
        vec![Outcome::Done; ENTRY_COMMANDS_MAX]
    );
    let before = tables.len();
    let too_large = batch(vec![increment(); ENTRY_COMMANDS_MAX + 1]);
    let error = machine.apply(&mut tables, LogIndex(2), &too_large).unwrap_err();
    assert!(matches!(error, Fatal::Invariant(_)), "{error}");
    assert_eq!(tables.len(), before, "nothing of it was applied");
}

#[test]
fn an_entry_that_was_applied_before() {
    let mut tables = MemoryTables::default();
    let mut machine = Machine::open(GROUP, &tables).unwrap();
    machine.apply(&mut tables, LogIndex(5), &batch(vec![increment()])).unwrap();
    for index in [5, 4] {
        let error = machine.apply(&mut tables, LogIndex(index), &batch(vec![increment()]));
        assert!(matches!(error, Err(Fatal::Invariant(_))), "{error:?}");
    }
    machine.apply(&mut tables, LogIndex(6), &batch(vec![increment()])).unwrap();
}

#[test]
fn the_first_entry_may_have_any_index() {
    let mut tables = MemoryTables::default();
    let mut machine = Machine::open(GROUP, &tables).unwrap();
    machine.apply(&mut tables, LogIndex(0), &batch(vec![increment()])).unwrap();
}

#[test]
fn rows_that_do_not_decode() {
    let mut tables = MemoryTables::default();
    let mut machine = Machine::open(GROUP, &tables).unwrap();
    tables.put(&keys::kv(GROUP, "", b"n"), b"\xff\xff");
    let error = machine.apply(&mut tables, LogIndex(1), &batch(vec![increment()])).unwrap_err();
    assert!(matches!(&error, Fatal::Codec { what, .. } if what == "key-value row"), "{error}");

    for key in [keys::meta(GROUP), keys::digest(GROUP), keys::session(GROUP, SessionId(1))] {
        let mut tables = MemoryTables::default();
        tables.put(&key, b"\xff\xff");
        let error = Machine::open(GROUP, &tables).unwrap_err();
        assert!(matches!(error, Fatal::Codec { .. }), "{error}");
    }
}

#[test]
fn keys_that_no_table_has() {
    let broken = [
        [&keys::session(GROUP, SessionId(1))[..], b"x"].concat(),
        keys::session_answer(GROUP, SessionId(1), LogIndex(1)),
        keys::deadlines_from(GROUP, keys::Clock::Lease, 5),
    ];
    for key in broken {
        let mut tables = MemoryTables::default();
        tables.put(&key, b"");
        let error = Machine::open(GROUP, &tables).unwrap_err();
        assert!(matches!(error, Fatal::Invariant(_)), "{key:?}: {error}");
    }
}

/// A remembered answer whose row is gone must not be taken for a request never seen.
#[test]
fn an_answer_that_is_missing() {
    let mut tables = MemoryTables::default();
    let mut machine = Machine::open(GROUP, &tables).unwrap();
    let open = batch(vec![Command::SessionOpen(SessionOpen { ttl_ms: 10_000 })]);
    machine.apply(&mut tables, LogIndex(1), &open).unwrap();
    let id = SessionId(1 << 12);
    // So many that they get a row of their own.
    let mut numbered = batch(vec![increment(); 100]);
    for (sequence, envelope) in (1..).map(Sequence).zip(&mut numbered.commands) {
        envelope.caller = Caller::Session { id, sequence, floor: Sequence(1) };
    }
    machine.apply(&mut tables, LogIndex(2), &numbered).unwrap();
    tables.delete(&keys::session_answer(GROUP, id, LogIndex(2)));
    let error = machine.apply(&mut tables, LogIndex(3), &numbered).unwrap_err();
    assert!(matches!(error, Fatal::Invariant(_)), "{error}");
}

/// The leader has asked all members before, so this one is of an older build than it was then.
#[test]
fn a_cluster_that_is_further_than_this_build() {
    let raise = |level| {
        batch(vec![Command::FeatureLevelRaise(FeatureLevelRaise { level: FeatureLevel(level) })])
    };
    let mut tables = MemoryTables::default();
    let mut machine = Machine::open_knowing(GROUP, &tables, FeatureLevel(5)).unwrap();
    let error = machine.apply(&mut tables, LogIndex(1), &raise(6)).unwrap_err();
    let mut machine = Machine::open_knowing(GROUP, &tables, FeatureLevel(5)).unwrap();
    let too_new = Fatal::FeatureLevel { level: FeatureLevel(6), newest: FeatureLevel(5) };
    assert_eq!(error.to_string(), too_new.to_string());
    machine.apply(&mut tables, LogIndex(1), &raise(5)).unwrap();
    assert_eq!(machine.feature_level(), FeatureLevel(5));
    Machine::open_knowing(GROUP, &tables, FeatureLevel(5)).unwrap();
    // Before all else: that build could not read the other rows either.
    tables.put(&keys::meta(GROUP), b"of a newer build");
    let error = Machine::open_knowing(GROUP, &tables, FeatureLevel(4)).unwrap_err();
    assert!(matches!(error, Fatal::FeatureLevel { .. }), "{error}");
    assert!(error.to_string().contains("feature level 5"), "{error}");
    assert!(error.to_string().contains("knows up to 4: upgrade this node"), "{error}");
}

struct Failing;

impl Read for Failing {
    fn get(&self, _: &[u8]) -> Result<Option<Vec<u8>>, TableError> {
        Err(TableError("the disk is gone".to_owned()))
    }

    fn scan(
        &self,
        _: &[u8],
        _: &[u8],
        _: &mut dyn FnMut(&[u8], &[u8]) -> ControlFlow<()>,
    ) -> Result<(), TableError> {
        Err(TableError("the disk is gone".to_owned()))
    }
}

impl Txn for Failing {
    fn put(&mut self, _: &[u8], _: &[u8]) {}
    fn delete(&mut self, _: &[u8]) {}
}

#[test]
fn tables_that_fail() {
    let error = Machine::open(GROUP, &Failing).unwrap_err();
    assert_eq!(error.to_string(), "state tables failed: the disk is gone");
    let mut machine = Machine::open(GROUP, &MemoryTables::default()).unwrap();
    let error = machine.apply(&mut Failing, LogIndex(1), &batch(vec![increment()])).unwrap_err();
    assert!(matches!(error, Fatal::Table(_)), "{error}");
}
