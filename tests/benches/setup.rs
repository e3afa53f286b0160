//! What the benchmarks work on. No clock and no chance: it is the same in every run, so that runs
//! can be compared.

use bytes::Bytes;
use futures::{FutureExt, stream};
use http_body::{Body, Frame};
use prost::Message;
use quorate_proto::codec::BoundedCodec;
use quorate_proto::v1::{
    GetResponse, KvEntry, Origin, PipelineAnswer, PipelineCall, PipelineRequest, PipelineResponse,
    SetRequest, pipeline_answer, pipeline_call,
};
use quorate_state::{
    Applied, AssignedJob, Attachment, Batch, CacheSet, Caller, Command, ConsumerAttach, Envelope,
    Event, Expect, GroupId, JobId, KvSet, LeasedJob, LockAcquire, LockRelease, LockRequest,
    LogIndex, Machine, MemoryTables, NewJob, Outcome, QueueAck, QueuePush, Sequence, SessionId,
    SessionOpen, Share, Stamp,
};
use std::convert::Infallible;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};
use tonic::Streaming;
use tonic::codec::{Codec, EncodeBody};

/// The one group there is.
pub(crate) const GROUP: GroupId = GroupId(1);
/// Time stands still: nothing runs out while it is measured.
const STAMP: Stamp = Stamp { lease_ms: 1_000, wall_ms: 1_700_000_000_000 };
/// From one key to the next; it divides no number of keys, so that all of them have their turn.
const STRIDE: usize = 7_919;
/// Far beyond what is measured.
const TTL_MS: u64 = 3_600_000;

/// The bytes of a value, a payload.
pub(crate) fn value() -> Bytes {
    Bytes::from(vec![b'v'; 256])
}

/// Something that applies one entry after the other.
pub(crate) trait Replica {
    /// Applies an entry, and makes it visible.
    fn apply(&mut self, batch: &Batch) -> Applied;

    /// Applies an entry of one command.
    fn apply_one(&mut self, envelope: Envelope) -> Applied {
        let applied = self.apply(&Batch { stamp: STAMP, commands: vec![envelope] });
        let refused = matches!(applied.outcomes[..], [Outcome::Rejected(_)]);
        assert!(!refused, "refusals are not what is to be measured: {applied:?}");
        applied
    }
}

/// A machine over tables in memory, without copies for readers.
pub(crate) struct InMemory {
    machine: Machine,
    tables: MemoryTables,
    entries: u64,
}

impl InMemory {
    pub(crate) fn new() -> Self {
        let tables = MemoryTables::default();
        let machine = Machine::open(GROUP, &tables).expect("empty tables can be opened");
        Self { machine, tables, entries: 0 }
    }
}

impl Replica for InMemory {
    fn apply(&mut self, batch: &Batch) -> Applied {
        self.entries += 1;
        let applied = self.machine.apply(&mut self.tables, LogIndex(self.entries), batch);
        applied.expect("the entry is well-formed")
    }
}

/// A client that sends in a session, as the Rust client does: what it has no answer for yet is
/// remembered with the session, and written with each entry.
pub(crate) struct Client {
    session: SessionId,
    sequence: u64,
    floor: u64,
}

impl Client {
    pub(crate) fn open(replica: &mut dyn Replica) -> Self {
        let open = Command::SessionOpen(SessionOpen { ttl_ms: TTL_MS });
        let applied = replica.apply_one(envelope(Caller::Anonymous, open));
        let [Outcome::SessionOpen { id, .. }] = applied.outcomes[..] else {
            panic!("a session opens: {applied:?}")
        };
        Self { session: id, sequence: 0, floor: 1 }
    }

    /// The only command of an entry.
    fn one(&mut self, command: Command) -> Envelope {
        self.hear_answers();
        self.next(command)
    }

    /// One of the commands that follow since the client heard answers.
    fn next(&mut self, command: Command) -> Envelope {
        self.sequence += 1;
        let (sequence, floor) = (Sequence(self.sequence), Sequence(self.floor));
        envelope(Caller::Session { id: self.session, sequence, floor }, command)
    }

    fn hear_answers(&mut self) {
        self.floor = self.sequence + 1;
    }
}

fn envelope(caller: Caller, command: Command) -> Envelope {
    Envelope { namespace: String::new(), caller, guard: None, command }
}

/// Writes to a fixed set of keys.
pub(crate) struct Writer {
    client: Client,
    keys: Vec<Bytes>,
    value: Bytes,
    next: usize,
}

impl Writer {
    /// Sets each of so many keys, so many times.
    pub(crate) fn fill(replica: &mut dyn Replica, keys: usize, times: usize) -> Self {
        let client = Client::open(replica);
        let keys = (0..keys).map(|key| Bytes::from(format!("user:{key:08}:profile"))).collect();
        let mut writer = Self { client, keys, value: value(), next: 0 };
        let mut left = writer.keys.len() * times;
        while left > 0 {
            let commands = left.min(256);
            let applied = replica.apply(&writer.sets(commands));
            assert!(matches!(applied.outcomes[..], [Outcome::KvSet { .. }, ..]), "{applied:?}");
            left -= commands;
        }
        writer
    }

    /// An entry that sets the next keys.
    pub(crate) fn sets(&mut self, commands: usize) -> Batch {
        self.client.hear_answers();
        let commands = (0..commands).map(|_| {
            let command = Command::KvSet(KvSet {
                key: self.next_key(),
                value: self.value.clone(),
                ttl_ms: None,
                expect: Expect::Any,
                owner: None,
            });
            self.client.next(command)
        });
        Batch { commands: commands.collect(), stamp: STAMP }
    }

    /// A command that sets an entry of the cache.
    pub(crate) fn cache_set(&mut self) -> Envelope {
        let command = Command::CacheSet(CacheSet {
            key: self.next_key(),
            value: self.value.clone(),
            // The deadline moves each time, as it does when time goes on.
            ttl_ms: Some(TTL_MS + self.client.sequence % 60_000),
            stale_for_ms: 0,
            tags: vec!["profiles".to_owned()],
        });
        self.client.one(command)
    }

    fn next_key(&mut self) -> Bytes {
        self.next = (self.next + STRIDE) % self.keys.len();
        self.keys[self.next].clone()
    }
}

/// Takes a lock and gives it back: two entries.
pub(crate) fn lock_cycle(replica: &mut dyn Replica, client: &mut Client) {
    let name = "orders/nightly".to_owned();
    let (share, ttl_ms, wait_ms) = (Share::Exclusive, 30_000, 0);
    let request = LockRequest { name: name.clone(), share, ttl_ms, wait_ms };
    let acquire = LockAcquire { request, attachment: Attachment::default() };
    let applied = replica.apply_one(client.one(Command::LockAcquire(acquire)));
    let [Outcome::LockAcquire { token, .. }] = applied.outcomes[..] else {
        panic!("the lock is free: {applied:?}")
    };
    let release = Command::LockRelease(LockRelease { name, token });
    replica.apply_one(client.one(release));
}

/// A queue with a consumer.
pub(crate) struct Worker {
    client: Client,
    payload: Bytes,
}

impl Worker {
    pub(crate) fn attach(replica: &mut dyn Replica) -> Self {
        let mut client = Client::open(replica);
        let attach = Command::ConsumerAttach(ConsumerAttach {
            queue: Self::queue(),
            consumer: None,
            session: Some(client.session),
            window: 16,
            attachment: Attachment::default(),
        });
        replica.apply_one(client.one(attach));
        Self { client, payload: value() }
    }

    fn queue() -> String {
        "mails".to_owned()
    }

    /// Pushes a job, which is delivered at once, and acknowledges it: two entries.
    pub(crate) fn cycle(&mut self, replica: &mut dyn Replica) {
        let job = NewJob { payload: self.payload.clone(), ..NewJob::default() };
        let push = QueuePush { queue: Self::queue(), jobs: vec![job] };
        let applied = replica.apply_one(self.client.one(Command::QueuePush(push)));
        let assigned = applied.events.iter().find_map(|event| match event {
            Event::JobAssigned { job, .. } => Some(job),
            _ => None,
        });
        let &AssignedJob { id, lease, .. } = assigned.expect("the consumer has room for it");
        assert_ne!(id, JobId(0));
        let ack = QueueAck { job: LeasedJob { queue: Self::queue(), id, lease } };
        replica.apply_one(self.client.one(Command::QueueAck(ack)));
    }
}

/// So many patterns of a bus: of each shop a channel, all with one beginning, all with one ending,
/// and some that only the matcher can tell.
pub(crate) fn patterns(count: usize) -> Vec<String> {
    let pattern = |number: usize| {
        let shop = number / 4;
        match number % 4 {
            0 => format!("shop.{shop}.orders"),
            1 => format!("shop.{shop}.*"),
            2 => format!("*.{shop}.failed"),
            _ => format!("shop.{shop}.*.done"),
        }
    };
    (0..count).map(pattern).collect()
}

/// Channels that one or two of so many patterns match, all over their range.
pub(crate) fn channels(patterns: usize) -> Vec<String> {
    let channel = |number: usize| {
        let shop = number * STRIDE % patterns.div_ceil(4);
        match number % 3 {
            0 => format!("shop.{shop}.orders"),
            1 => format!("shop.{shop}.orders.done"),
            _ => format!("worker.{shop}.failed"),
        }
    };
    (0..256).map(channel).collect()
}

/// A message of a pipeline with so many writes.
pub(crate) fn request(calls: usize) -> PipelineRequest {
    let call = |id| {
        let set = SetRequest {
            origin: Some(Origin {
                session_id: 4_096,
                sequence: id,
                floor: 1,
                ..Default::default()
            }),
            key: Bytes::from(format!("user:{id:08}:profile")),
            value: value(),
            ..SetRequest::default()
        };
        let request = Some(pipeline_call::Request::KvSet(set));
        PipelineCall { id, timeout_ms: 5_000, request, ..Default::default() }
    };
    PipelineRequest { calls: (1..).map(call).take(calls).collect(), cancelled: Vec::new() }
}

/// A message of a pipeline with the answers of so many reads.
pub(crate) fn response(answers: usize) -> PipelineResponse {
    let answer = |id| {
        let entry = KvEntry {
            key: Bytes::from(format!("user:{id:08}:profile")),
            value: value(),
            version: 7,
            ..KvEntry::default()
        };
        let get = GetResponse { entry: Some(entry), revision: 1 << 30, group_id: 1 };
        PipelineAnswer { id, answer: Some(pipeline_answer::Answer::KvGet(get)) }
    };
    PipelineResponse { answers: (1..).map(answer).take(answers).collect(), ..Default::default() }
}

/// The bytes of a message as they go into a stream, gRPC's header included.
pub(crate) fn encode<T: Message + Default + 'static>(message: T) -> Bytes {
    let encoder = BoundedCodec::<T, T>::default().encoder();
    let mut body = pin!(EncodeBody::new_client(encoder, stream::iter([Ok(message)]), None, None));
    match body.as_mut().poll_frame(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(Some(Ok(frame))) => frame.into_data().expect("a message is data"),
        _ => panic!("a message that is there is encoded at once"),
    }
}

/// A stream that brings the same message again and again.
pub(crate) struct Incoming<T>(Streaming<T>);

impl<T: Message + Default + 'static> Incoming<T> {
    /// Of the bytes of the message.
    pub(crate) fn new(bytes: Bytes) -> Self {
        let decoder = BoundedCodec::<T, T>::default().decoder();
        Self(Streaming::new_request(decoder, Repeated(bytes), None, None))
    }

    /// Takes the message from the bytes once more.
    pub(crate) fn decode(&mut self) -> T {
        let message = self.0.message().now_or_never().expect("the bytes are there");
        message.expect("it was encoded by the same codec").expect("the stream does not end")
    }
}

struct Repeated(Bytes);

impl Body for Repeated {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        _context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(Some(Ok(Frame::data(self.0.clone()))))
    }
}
