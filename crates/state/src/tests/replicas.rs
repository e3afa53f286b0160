//! Replicas that apply the same entries agree, however they group them into transactions and
//! however often they start anew; and the digest tells when they did not apply the same.

use super::{property, requests};
use crate::testing::GROUP;
use crate::{
    Applied, Batch, Caller, Command, Envelope, KvIncrement, LogIndex, Machine, MemoryTables, Read,
    query,
};
use proptest::collection::vec;
use proptest::prelude::*;

/// Applies `entries`, so many to a transaction as `groups` says in turn. A group of 0 drops a
/// transaction of three entries instead, as a crash would, and opens again what was committed.
fn replica(entries: &[Batch], groups: &[usize]) -> (Vec<Applied>, MemoryTables) {
    let mut committed = MemoryTables::default();
    let mut machine = Machine::open(GROUP, &committed).unwrap();
    let mut applied = Vec::new();
    let mut groups = groups.iter().copied().cycle();
    while applied.len() < entries.len() {
        let group = groups.next().unwrap_or(1);
        let from = applied.len();
        let mut txn = committed.clone();
        let to = entries.len().min(from + if group == 0 { 3 } else { group });
        let outcomes: Vec<Applied> = (from..to)
            .map(|at| machine.apply(&mut txn, LogIndex(at as u64 + 1), &entries[at]).unwrap())
            .collect();
        if group == 0 {
            machine = Machine::open(GROUP, &committed).unwrap();
        } else {
            committed = txn;
            applied.extend(outcomes);
        }
    }
    machine.check(&committed).unwrap();
    (applied, committed)
}

fn marks(tables: &dyn Read) -> (u64, u64) {
    (query::digest(tables, GROUP).unwrap(), query::checksum(tables, GROUP).unwrap())
}

#[test]
fn replicas_agree_however_they_commit() {
    let groups = vec(0..5usize, 1..8)
        .prop_filter("commits something", |groups| groups.iter().any(|group| *group > 0));
    let drawn = (requests::entries(), groups);
    property("replicas_agree_however_they_commit", 500, &drawn, |(entries, groups)| {
        // One replica tells what the sessions are called; the others get its entries.
        let mut author = requests::Author::default();
        let mut tables = MemoryTables::default();
        let mut machine = Machine::open(GROUP, &tables).unwrap();
        let mut batches = Vec::new();
        let mut applied = Vec::new();
        for (index, entry) in (1..).zip(&entries) {
            let batch = author.batch(entry);
            let outcome = machine.apply(&mut tables, LogIndex(index), &batch).unwrap();
            author.learn(&outcome);
            batches.push(batch);
            applied.push(outcome);
        }
        let (other_applied, other_tables) = replica(&batches, &groups);
        prop_assert_eq!(&applied, &other_applied);
        prop_assert_eq!(marks(&tables), marks(&other_tables));
        Ok(())
    });
}

fn increments(by: &[i64]) -> Vec<Batch> {
    let batch = |by: &i64| Batch {
        commands: vec![Envelope {
            namespace: String::new(),
            caller: Caller::Anonymous,
            guard: None,
            command: Command::KvIncrement(KvIncrement { key: "n".into(), by: *by }),
        }],
        ..Batch::default()
    };
    by.iter().map(batch).collect()
}

/// Both end with the same rows, but for the digest: it remembers the way there.
#[test]
fn digests_differ_when_histories_do() {
    let (_, one) = replica(&increments(&[1, 2, 0]), &[1]);
    let (_, other) = replica(&increments(&[2, 1, 0]), &[1]);
    let value = |tables| query::kv_get(tables, GROUP, "", b"n").unwrap();
    assert_eq!(value(&one), value(&other));
    assert_ne!(marks(&one).0, marks(&other).0);
}

#[test]
fn checksums_see_every_row_of_the_group_and_no_other() {
    use crate::Txn;
    let (_, tables) = replica(&increments(&[1]), &[1]);
    let (_, before) = marks(&tables);
    let mut changed = tables.clone();
    changed.put(&crate::keys::kv(GROUP, "", b"z"), b"");
    assert_ne!(marks(&changed).1, before);
    let mut other_group = tables;
    other_group.put(&crate::keys::kv(crate::GroupId(2), "", b"z"), b"");
    other_group.put(&crate::keys::kv(crate::GroupId(0), "", b"z"), b"");
    assert_eq!(marks(&other_group).1, before);
}
