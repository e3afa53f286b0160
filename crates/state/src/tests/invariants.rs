//! The checker finds each relation broken: one planted fault each.

mod access;
mod cache;
mod queues;

use crate::keys::{self, Clock, DeadlineKind};
use crate::rows::{
    self, Answer, AnswerRow, HistoryChange, HistoryRow, KvRow, LockRow, SessionRow, TicketRow,
};
use crate::testing::GROUP;
use crate::{
    Attachment, Batch, Caller, Command, DeleteCause, Envelope, Fatal, HistoryPosition, KvSet,
    LockAcquire, LockRequest, LogIndex, Machine, MemoryTables, Outcome, Read, Revision, Sequence,
    SessionId, SessionOpen, Share, Stamp, TicketId, Txn, codec, history, invariants,
};

const SESSION: SessionId = SessionId(1 << 12);

/// Waits for the lock `l`, which its session holds already.
const TICKET: TicketId = TicketId(6 << 12);

/// A session with answers, a key of its own with a ttl, an idempotency key, a lock that is held and
/// waited for.
fn sound() -> (MemoryTables, Machine) {
    let set = |ttl_ms| {
        Command::KvSet(KvSet {
            key: "k".into(),
            value: "v".into(),
            ttl_ms,
            expect: Default::default(),
            owner: ttl_ms.map(|_| SESSION),
        })
    };
    let acquire = || {
        let (name, share) = ("l".to_owned(), Share::Exclusive);
        let request = LockRequest { name, share, ttl_ms: 1_000, wait_ms: 1_000 };
        Command::LockAcquire(LockAcquire { request, attachment: Attachment::default() })
    };
    let numbered = |sequence| Caller::Session {
        id: SESSION,
        sequence: Sequence(sequence),
        floor: Sequence(2),
    };
    let entries = [
        (Caller::Anonymous, Command::SessionOpen(SessionOpen { ttl_ms: 10_000 })),
        (numbered(2), set(None)),
        (numbered(5), set(Some(10_000))),
        (Caller::Idempotency { key: "x".into() }, Command::Tick),
        (numbered(8), acquire()),
        (numbered(9), acquire()),
    ];
    let mut tables = MemoryTables::default();
    let mut machine = Machine::open(GROUP, &tables).unwrap();
    for (index, (caller, command)) in (1..).zip(entries) {
        let envelope = Envelope { namespace: String::new(), caller, guard: None, command };
        let stamp = Stamp { lease_ms: 100, wall_ms: 100 };
        let batch = Batch { stamp, commands: vec![envelope] };
        machine.apply(&mut tables, LogIndex(index), &batch).unwrap();
    }
    (tables, machine)
}

fn answers(sequences: &[u64]) -> Vec<u8> {
    codec::encode(&AnswerRow { answers: recent(sequences) })
}

fn recent(sequences: &[u64]) -> Vec<Answer> {
    let answer = |sequence: &u64| Answer {
        sequence: Sequence(*sequence),
        request_hash: 0,
        outcome: Outcome::Done,
    };
    sequences.iter().map(answer).collect()
}

fn session_row(ttl_ms: u64, floor: u64, recent: Vec<Answer>) -> SessionRow {
    SessionRow { ttl_ms, remaining_ms: None, floor: Sequence(floor), recent }
}

fn change_lock(tables: &mut MemoryTables, change: impl FnOnce(&mut LockRow)) {
    let key = keys::lock(GROUP, "", "l");
    let mut row: LockRow = rows::decode("lock row", &tables.get(&key).unwrap().unwrap()).unwrap();
    change(&mut row);
    tables.put(&key, &codec::encode(&row));
}

fn change_ticket(tables: &mut MemoryTables, change: impl FnOnce(&mut TicketRow)) {
    let key = keys::ticket(GROUP, TICKET);
    let mut row: TicketRow =
        rows::decode("ticket row", &tables.get(&key).unwrap().unwrap()).unwrap();
    change(&mut row);
    tables.put(&key, &codec::encode(&row));
}

#[test]
fn sound_tables_pass() {
    let (tables, machine) = sound();
    invariants::check(&tables, GROUP).unwrap();
    machine.check(&tables).unwrap();
}

/// Puts an event of the key `k` there, and keeps the accounts right.
fn event(tables: &mut MemoryTables, (revision, event): (u64, u32), version: Option<u64>) {
    let key = keys::history(GROUP, HistoryPosition { revision: Revision(revision), event });
    let change = match version {
        None => HistoryChange::Delete(DeleteCause::Deleted),
        Some(version) => HistoryChange::Set {
            version,
            create_revision: Revision(2 << 12),
            ttl_ms: None,
            value: b"v",
        },
    };
    let row = HistoryRow { id: keys::id(&keys::kv(GROUP, "", b"k")), change }.encode();
    let mut meta = rows::history_meta(tables, GROUP).unwrap();
    let before = tables.get(&key).unwrap().map(|row| history::counted_bytes(&key, &row));
    meta.bytes = meta.bytes + history::counted_bytes(&key, &row) - before.unwrap_or(0);
    tables.put(&keys::history_meta(GROUP), &codec::encode(&meta));
    tables.put(&key, &row);
}

type Plant = fn(&mut MemoryTables);

#[test]
fn planted_faults_are_found() {
    let faults: [(&str, Plant); 33] = [
        ("no table has the key", |t| t.put(&[0, 0, 0, 1, 200], b"")),
        ("undecodable", |t| t.put(&keys::kv(GROUP, "", b"k"), b"\xff\xff")),
        ("sessions counted", |t| {
            let mut meta = rows::meta(t, GROUP).unwrap();
            meta.sessions += 1;
            t.put(&keys::meta(GROUP), &codec::encode(&meta));
        }),
        ("idempotency keys counted", |t| {
            let mut meta = rows::meta(t, GROUP).unwrap();
            meta.idempotency_keys -= 1;
            t.put(&keys::meta(GROUP), &codec::encode(&meta));
        }),
        ("belongs to nothing", |t| {
            let other = keys::kv(GROUP, "", b"other");
            t.put(&keys::deadline(GROUP, Clock::Lease, 10_100, DeadlineKind::Kv, &other), b"");
        }),
        ("is missing", |t| {
            let key = keys::kv(GROUP, "", b"k");
            t.delete(&keys::deadline(GROUP, Clock::Lease, 10_100, DeadlineKind::Kv, &key));
        }),
        ("has a value", |t| {
            let key = keys::kv(GROUP, "", b"k");
            t.put(&keys::deadline(GROUP, Clock::Lease, 10_100, DeadlineKind::Kv, &key), b"x");
        }),
        ("has the row", |t| {
            let row = KvRow {
                version: 0,
                create_revision: Revision(1),
                mod_revision: Revision(1),
                deadline_ms: None,
                owner: None,
                value: b"",
            };
            t.put(&keys::kv(GROUP, "", b"new"), &row.encode());
        }),
        ("has the row", |t| {
            let row = KvRow {
                version: 1,
                create_revision: Revision(1),
                mod_revision: Revision(1 << 40),
                deadline_ms: None,
                owner: None,
                value: b"",
            };
            t.put(&keys::kv(GROUP, "", b"new"), &row.encode());
        }),
        ("opened in the future", |t| {
            let row = session_row(1_000, 1, Vec::new());
            t.put(&keys::session(GROUP, SessionId(1 << 50)), &codec::encode(&row));
        }),
        ("beyond its window", |t| {
            t.put(&keys::session_answer(GROUP, SESSION, LogIndex(4)), &answers(&[2_000]));
        }),
        ("answered 5 twice", |t| {
            t.put(&keys::session_answer(GROUP, SESSION, LogIndex(4)), &answers(&[1, 5]));
        }),
        ("below its floor", |t| {
            let row = session_row(10_000, 3, recent(&[2, 5]));
            t.put(&keys::session(GROUP, SESSION), &codec::encode(&row));
        }),
        ("sessions own {}", |t| {
            let key = keys::kv(GROUP, "", b"k");
            t.delete(&keys::session_key(GROUP, SESSION, &key));
        }),
        ("by SESSION_KEY, and", |t| {
            let key = keys::kv(GROUP, "", b"other");
            t.put(&keys::session_key(GROUP, SESSION, &key), b"");
        }),
        ("which it could have", |t| change_lock(t, |lock| lock.holders.clear())),
        ("tickets wait for the lock", |t| change_lock(t, |lock| lock.waiters = 2)),
        ("has the holder", |t| change_lock(t, |lock| lock.holders[0].token.0 = 2)),
        ("has the holder", |t| {
            change_lock(t, |lock| lock.holders[0].session = SessionId(9));
        }),
        ("has the holder", |t| {
            change_lock(t, |lock| {
                let mut second = lock.holders[0].clone();
                second.token.0 += 1;
                lock.holders.push(second);
            });
        }),
        ("nobody who wants it", |t| {
            t.put(&keys::lock(GROUP, "", "m"), &codec::encode(&LockRow::default()));
        }),
        ("has the row", |t| change_ticket(t, |ticket| ticket.sequence = Sequence(1))),
        ("has the row", |t| change_ticket(t, |ticket| ticket.session = SessionId(9))),
        ("is not there", |t| {
            change_ticket(t, |ticket| ticket.name = "m".to_owned());
            change_lock(t, |lock| lock.waiters = 0);
        }),
        ("floor has passed", |t| {
            t.put(&keys::session_answer(GROUP, SESSION, LogIndex(4)), &answers(&[1]));
        }),
        ("bytes of history counted", |t| {
            let mut meta = rows::history_meta(t, GROUP).unwrap();
            meta.bytes += 1;
            t.put(&keys::history_meta(GROUP), &codec::encode(&meta));
        }),
        ("comes after", |t| event(t, (2 << 12, 2), Some(2))),
        ("comes after", |t| event(t, (9 << 12, 0), Some(2))),
        ("comes after", |t| {
            let mut meta = rows::history_meta(t, GROUP).unwrap();
            meta.trimmed = HistoryPosition::behind(Revision(2 << 12));
            t.put(&keys::history_meta(GROUP), &codec::encode(&meta));
        }),
        ("has the id", |t| {
            let change = HistoryChange::Delete(DeleteCause::Deleted);
            let position = HistoryPosition { revision: Revision(3 << 12), event: 0 };
            t.put(&keys::history(GROUP, position), &HistoryRow { id: &[9], change }.encode());
        }),
        ("has the row", |t| event(t, (3 << 12, 0), Some(0))),
        ("the newest event", |t| event(t, (3 << 12, 0), Some(3))),
        ("has no event", |t| {
            let row = KvRow {
                version: 1,
                create_revision: Revision(3 << 12),
                mod_revision: Revision(3 << 12),
                deadline_ms: None,
                owner: None,
                value: b"",
            };
            t.put(&keys::kv(GROUP, "", b"new"), &row.encode());
        }),
    ];
    for (expected, plant) in faults {
        let (mut tables, _) = sound();
        plant(&mut tables);
        let error = invariants::check(&tables, GROUP).unwrap_err().to_string();
        assert!(error.contains(expected), "expected {expected:?}, found: {error}");
    }
}

#[test]
fn answers_without_a_session_are_found() {
    let (mut tables, _) = sound();
    tables.put(&keys::session_answer(GROUP, SessionId(9), LogIndex(4)), &answers(&[1]));
    let error = invariants::check(&tables, GROUP).unwrap_err().to_string();
    assert!(error.contains("session 9 is not open"), "{error}");
}

#[test]
fn a_machine_that_disagrees_with_its_tables_is_found() {
    let disagreements: [Plant; 8] = [
        |t| t.put(&keys::digest(GROUP), &codec::encode(&1_u64)),
        |t| event(t, (3 << 12, 1), None),
        |t| t.put(&keys::session_answer(GROUP, SESSION, LogIndex(4)), &answers(&[7])),
        |t| {
            let row = session_row(10_000, 3, recent(&[5]));
            t.put(&keys::session(GROUP, SESSION), &codec::encode(&row));
        },
        |t| {
            let row = session_row(10_000, 2, recent(&[5]));
            t.put(&keys::session(GROUP, SESSION), &codec::encode(&row));
        },
        |t| change_lock(t, |lock| lock.holders[0].ttl_ms = 5),
        |t| change_ticket(t, |ticket| ticket.attachment = None),
        // Earlier than the machine believes: it would not look in time.
        |t| {
            let key = keys::kv(GROUP, "", b"k");
            t.put(&keys::deadline(GROUP, Clock::Lease, 50, DeadlineKind::Kv, &key), b"");
        },
    ];
    for plant in disagreements {
        let (mut tables, machine) = sound();
        plant(&mut tables);
        let error = machine.check(&tables).unwrap_err();
        assert!(matches!(error, Fatal::Invariant(_)), "{error}");
    }
}
