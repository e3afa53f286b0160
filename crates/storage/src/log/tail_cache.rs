//! The newest entries, decoded, in memory: what replication and apply read.
//!
//! openraft reads every entry back once to apply it and once per follower. Served from here those
//! reads touch no disk and decode nothing twice, because clones of an entry share its payload.

use super::{LogEntry, Payload, record};
use bytes::Bytes;
use quorate_state::{
    Attachment, Batch, Command, Condition, EntryBody, Envelope, HeldLock, JobId, LogIndex, NewJob,
    Operation, QueueRedrive, Redriven, SessionId, TicketId, Transaction,
};
use std::collections::VecDeque;
use std::sync::Arc;

/// Memory of a node in a membership, with its addresses, at most.
const NODE_BYTES: usize = 1 << 10;
/// Memory that a decoded command takes for each of its byte strings, beside the bytes: what the
/// allocator adds, and a counter once it is shared.
const STRING_OVERHEAD_BYTES: usize = 64;
/// Byte strings of a step of a transaction, at most: a key and a value.
const STEP_STRINGS: usize = 2;
/// Byte strings of a job, at most, headers apart: payload, content type, group and dedupe key.
const JOB_STRINGS: usize = 4;
/// Byte strings of a command, at most: namespace, idempotency key, guard, and two of its own. A
/// command with more needs a line in [`decoded_bytes`].
const STRINGS: usize = 5;
/// Memory of a lock in a list of them, beside its names' bytes.
const HELD_LOCK_BYTES: usize = size_of::<HeldLock>() + 2 * STRING_OVERHEAD_BYTES;

/// Consecutive entries at the end of a log, bounded in bytes.
#[derive(Debug)]
pub(crate) struct TailCache {
    entries: VecDeque<Cached>,
    bytes: usize,
    bytes_max: usize,
}

/// An entry as the cache keeps it, and the memory it takes.
#[derive(Debug)]
pub(crate) struct Cached {
    entry: LogEntry,
    bytes: usize,
}

impl Cached {
    /// Copies an entry. What was proposed here or came from a peer consists of slices of the
    /// requests it came in, and a small slice keeps a large buffer.
    ///
    /// The copy is decoded here and not when it is applied, once in either case: only then is
    /// known what it takes. A command of 30 bytes takes 400 in memory.
    pub(crate) fn copy(entry: &LogEntry) -> Self {
        let mut bytes = 2 * size_of::<Self>();
        let payload = match &entry.payload {
            Payload::Blank => Payload::Blank,
            Payload::Membership(membership) => {
                bytes += NODE_BYTES * membership.nodes.len();
                Payload::Membership(membership.clone())
            }
            Payload::Commands(body) => {
                let body = EntryBody::from_encoded(Bytes::copy_from_slice(body.encoded()));
                bytes += size_of::<EntryBody>() + STRING_OVERHEAD_BYTES + body.encoded().len();
                // Nothing is kept of what does not decode; whoever applies it says so.
                bytes += body.batch().map_or(0, |batch| decoded_bytes(batch, body.encoded().len()));
                Payload::Commands(Arc::new(body))
            }
        };
        Self { entry: LogEntry { position: entry.position, payload }, bytes }
    }
}

/// Memory of a decoded batch, at most: its byte strings are no longer together than its encoding.
fn decoded_bytes(batch: &Batch, encoded_len: usize) -> usize {
    let lists = batch.commands.iter().map(|envelope| match &envelope.command {
        // Numbers take up to 8 times as much as encoded, and only here are there many.
        Command::SessionExpire(expire) => expire.ids.capacity() * size_of::<SessionId>(),
        Command::Transaction(transaction) => {
            let Transaction { conditions, then, otherwise } = transaction;
            let operations = then.capacity() + otherwise.capacity();
            let pushed = then.iter().chain(otherwise).map(|operation| match operation {
                Operation::QueuePush(push) => jobs_bytes(&push.jobs, push.jobs.capacity()),
                _ => 0,
            });
            conditions.capacity() * (size_of::<Condition>() + STEP_STRINGS * STRING_OVERHEAD_BYTES)
                + operations * (size_of::<Operation>() + STEP_STRINGS * STRING_OVERHEAD_BYTES)
                + pushed.sum::<usize>()
        }
        Command::LockDetach(detach) => {
            detach.calls.capacity() * size_of::<(TicketId, Attachment)>()
        }
        Command::LockExpire(expire) => expire.locks.capacity() * HELD_LOCK_BYTES,
        Command::LeaseCheckpoint(checkpoint) => {
            checkpoint.sessions.capacity() * size_of::<(SessionId, Option<u64>)>()
                + checkpoint.locks.capacity() * (HELD_LOCK_BYTES + size_of::<Option<u64>>())
        }
        Command::QueuePush(push) => jobs_bytes(&push.jobs, push.jobs.capacity()),
        // The job itself is in the command; it has more strings than others.
        Command::SchedulePut(put) => jobs_bytes(std::slice::from_ref(&put.job), 1),
        Command::QueueRedrive(QueueRedrive { which: Redriven::Jobs(ids), .. }) => {
            ids.capacity() * size_of::<JobId>()
        }
        _ => 0,
    });
    encoded_len
        + batch.commands.capacity() * size_of::<Envelope>()
        + batch.commands.len() * STRINGS * STRING_OVERHEAD_BYTES
        + lists.sum::<usize>()
}

/// Memory of jobs in a list with room for so many.
fn jobs_bytes(jobs: &[NewJob], room: usize) -> usize {
    let headers = jobs.iter().map(|job| {
        job.headers.capacity() * (size_of::<(String, Bytes)>() + 2 * STRING_OVERHEAD_BYTES)
    });
    room * (size_of::<NewJob>() + JOB_STRINGS * STRING_OVERHEAD_BYTES) + headers.sum::<usize>()
}

impl TailCache {
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self { entries: VecDeque::new(), bytes: 0, bytes_max }
    }

    /// Adds an entry that follows the last one.
    pub(crate) fn push(&mut self, cached: Cached) {
        debug_assert!(
            self.entries.back().is_none_or(|last| {
                last.entry.position.index.0 + 1 == cached.entry.position.index.0
            }),
            "the tail cache holds consecutive entries"
        );
        self.bytes += cached.bytes;
        self.entries.push_back(cached);
        while self.bytes > self.bytes_max {
            let Some(oldest) = self.entries.pop_front() else { return };
            self.bytes -= oldest.bytes;
        }
    }

    /// Forgets what lies behind `keep` (everything for none).
    pub(crate) fn truncate_after(&mut self, keep: Option<LogIndex>) {
        while let Some(last) = self.entries.back() {
            if keep.is_some_and(|keep| last.entry.position.index <= keep) {
                return;
            }
            self.bytes -= last.bytes;
            self.entries.pop_back();
        }
    }

    /// Forgets what lies at or before `through`.
    pub(crate) fn purge(&mut self, through: LogIndex) {
        while let Some(first) = self.entries.front() {
            if first.entry.position.index > through {
                return;
            }
            self.bytes -= first.bytes;
            self.entries.pop_front();
        }
    }

    /// The entry at `index`, if it is here.
    pub(crate) fn get(&self, index: LogIndex) -> Option<&LogEntry> {
        let first = self.entries.front()?.entry.position.index.0;
        let offset = index.0.checked_sub(first)?;
        self.entries.get(usize::try_from(offset).ok()?).map(|cached| &cached.entry)
    }

    /// The entries of `from <= index < to`, as many as fit in `bytes_max` but at least one. None
    /// when it does not hold the range's beginning; `to` may lie no further than the log's end.
    pub(crate) fn read(
        &self,
        from: LogIndex,
        to: LogIndex,
        bytes_max: usize,
    ) -> Option<Vec<LogEntry>> {
        let first = self.entries.front()?.entry.position.index.0;
        let offset = usize::try_from(from.0.checked_sub(first)?).ok()?;
        if offset >= self.entries.len() {
            return None;
        }
        let mut out = Vec::new();
        let mut bytes = 0;
        for Cached { entry, .. } in self.entries.range(offset..) {
            if entry.position.index >= to {
                break;
            }
            bytes += record::weight(entry);
            if bytes > bytes_max && !out.is_empty() {
                break;
            }
            out.push(entry.clone());
        }
        Some(out)
    }

    #[cfg(test)]
    fn held(&self) -> (Option<u64>, Option<u64>, usize) {
        let index = |cached: &Cached| cached.entry.position.index.0;
        (self.entries.front().map(index), self.entries.back().map(index), self.bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use quorate_state::{
        Caller, Expect, KvSet, LogPosition, QueuePush, Repeats, SchedulePut, SessionExpire, Stamp,
        Term, codec::encode_batch,
    };

    fn entry(index: u64, payload: Payload) -> LogEntry {
        LogEntry { position: LogPosition { term: Term(1), index: LogIndex(index) }, payload }
    }

    fn blank(index: u64) -> LogEntry {
        entry(index, Payload::Blank)
    }

    fn cost(entry: &LogEntry) -> usize {
        Cached::copy(entry).bytes
    }

    fn filled(range: std::ops::Range<u64>, bytes_max: usize) -> TailCache {
        let mut cache = TailCache::new(bytes_max);
        range.for_each(|index| cache.push(Cached::copy(&blank(index))));
        cache
    }

    fn indexes(entries: Option<Vec<LogEntry>>) -> Option<Vec<u64>> {
        entries.map(|entries| entries.iter().map(|entry| entry.position.index.0).collect())
    }

    #[test]
    fn it_keeps_the_newest_that_fit() {
        let one = cost(&blank(0));
        assert_eq!(filled(0..10, 3 * one).held(), (Some(7), Some(9), 3 * one));
        // Not even one fits: it stays empty instead of growing past its bound.
        assert_eq!(filled(0..10, one - 1).held(), (None, None, 0));
    }

    #[test]
    fn it_serves_ranges_that_begin_inside() {
        let cache = filled(5..10, 1 << 20);
        let read = |from, to, bytes| indexes(cache.read(LogIndex(from), LogIndex(to), bytes));
        assert_eq!(read(4, 8, 1 << 20), None);
        assert_eq!(read(5, 8, 1 << 20), Some(vec![5, 6, 7]));
        assert_eq!(read(8, 10, 1 << 20), Some(vec![8, 9]));
        assert_eq!(read(10, 12, 1 << 20), None);
        // At least one, however small the bound.
        assert_eq!(read(6, 10, 0), Some(vec![6]));
        assert_eq!(read(6, 10, 2 * record::weight(&blank(6))), Some(vec![6, 7]));
    }

    #[test]
    fn both_ends_are_cut() {
        let mut cache = filled(0..10, 1 << 20);
        cache.truncate_after(Some(LogIndex(6)));
        cache.purge(LogIndex(2));
        let one = cost(&blank(0));
        assert_eq!(cache.held(), (Some(3), Some(6), 4 * one));
        assert_eq!(cache.get(LogIndex(2)).map(|entry| entry.position.index.0), None);
        assert_eq!(cache.get(LogIndex(3)).map(|entry| entry.position.index.0), Some(3));
        cache.truncate_after(None);
        assert_eq!(cache.held(), (None, None, 0));
        cache.push(Cached::copy(&blank(40)));
        assert_eq!(cache.held(), (Some(40), Some(40), one));
    }

    fn commands(commands: Vec<Command>) -> LogEntry {
        let commands = commands
            .into_iter()
            .map(|command| Envelope {
                namespace: String::new(),
                caller: Caller::Anonymous,
                guard: None,
                command,
            })
            .collect();
        let batch = Batch { stamp: Stamp::default(), commands };
        entry(0, Payload::Commands(Arc::new(EntryBody::new(batch))))
    }

    fn set(value: Bytes) -> Command {
        let key = Bytes::from_static(b"key");
        Command::KvSet(KvSet { key, value, ttl_ms: None, expect: Expect::Any, owner: None })
    }

    fn batch(entry: &LogEntry) -> &Batch {
        let Payload::Commands(body) = &entry.payload else { panic!("{entry:?} has no commands") };
        body.batch().expect("it decodes")
    }

    /// Small commands are many times their encoding once they are decoded.
    #[test]
    fn it_charges_what_an_entry_takes_decoded() {
        let value = Bytes::from_static(b"value");
        let many = commands(vec![set(value); 500]);
        let encoded = encode_batch(batch(&many)).len();
        assert!(encoded < 500 * 20, "{encoded} bytes are not small");
        // Two strings each, in chunks of at least 32 bytes.
        let least = encoded + 500 * (size_of::<Envelope>() + 2 * 32);
        assert!((least..4 * least).contains(&cost(&many)), "{} for {least}", cost(&many));
        // A large value counts twice, encoded and decoded, and hardly more.
        let large = commands(vec![set(Bytes::from(vec![7; 100_000]))]);
        assert!((200_000..202_000).contains(&cost(&large)), "{}", cost(&large));
        // One byte each in the encoding.
        let ids = (0..200).map(SessionId).collect();
        let expire = commands(vec![Command::SessionExpire(SessionExpire { ids })]);
        assert!(cost(&expire) >= 200 * 8, "{}", cost(&expire));
        // Four bytes each in the encoding.
        let get = Operation::KvGet { key: Bytes::from_static(b"k") };
        let absent = Condition::KvAbsent { key: Bytes::from_static(b"k") };
        let transaction = commands(vec![Command::Transaction(Transaction {
            conditions: vec![absent; 100],
            then: vec![get.clone(); 100],
            otherwise: vec![get; 100],
        })]);
        let least = 100 * (size_of::<Condition>() + 2 * size_of::<Operation>() + 3 * 32);
        assert!(
            (least..4 * least).contains(&cost(&transaction)),
            "{} for {least}",
            cost(&transaction)
        );
        // Some ten bytes each in the encoding, and two for each header.
        let headers = vec![(String::new(), Bytes::new()); 16];
        let job = NewJob { headers, ..NewJob::default() };
        let push = || QueuePush { queue: "q".to_owned(), jobs: vec![job.clone(); 100] };
        let least = 100 * (size_of::<NewJob>() + 16 * size_of::<(String, Bytes)>());
        let transaction = |then, otherwise| {
            Command::Transaction(Transaction { conditions: Vec::new(), then, otherwise })
        };
        let put = |number: u64| {
            Command::SchedulePut(SchedulePut {
                name: number.to_string(),
                queue: "q".to_owned(),
                job: job.clone(),
                repeats: Repeats::Every { ms: 1_000 },
                next_wall_ms: None,
            })
        };
        for pushes in [
            vec![Command::QueuePush(push())],
            vec![transaction(vec![Operation::QueuePush(push())], Vec::new())],
            vec![transaction(Vec::new(), vec![Operation::QueuePush(push())])],
            (0..100).map(put).collect(),
        ] {
            let what = format!("{:.20?}", pushes[0]);
            let cost = cost(&commands(pushes));
            assert!((least..8 * least).contains(&cost), "{cost} for {least}: {what}");
        }
    }

    /// A value that is a slice of a large buffer does not keep the buffer.
    #[test]
    fn it_keeps_copies() {
        let buffer = Bytes::from(vec![7; 100_000]);
        let proposed = commands(vec![set(buffer.slice(..10))]);
        let cached = Cached::copy(&proposed);
        assert_eq!(batch(&cached.entry), batch(&proposed));
        drop(proposed);
        assert!(buffer.is_unique(), "the cache holds a slice of it");
    }

    #[test]
    fn what_does_not_decode_is_kept_as_it_is() {
        let garbage = Arc::new(EntryBody::from_encoded(Bytes::from_static(b"garbage")));
        let cached = Cached::copy(&entry(0, Payload::Commands(garbage)));
        let Payload::Commands(body) = cached.entry.payload else { panic!("it had commands") };
        assert_eq!(body.encoded(), &b"garbage"[..]);
        body.batch().expect_err("it is garbage");
    }
}
