//! The codec of all services: protobuf, with a bound on how many fields a message may have.
//!
//! A field of a few bytes can become a struct of a few hundred in memory. The bound on a message's
//! bytes alone would let two megabytes grow to two hundred.

use crate::inspect;
use crate::v1::{
    BusPublishAllRequest, BusPublishRequest, BusReplyRequest, BusRequestRequest, CacheFillRequest,
    CacheSetRequest, PipelineRequest, PushRequest, PutScheduleRequest, TxnRequest,
};
use prost::Message;
use std::any::TypeId;
use std::marker::PhantomData;
use tonic::Status;
use tonic::codec::{BufferSettings, Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic_prost::{ProstCodec, ProstDecoder};

/// Fields of a message, repeated ones counted each time. The largest of ours has one for each of
/// 1 024 calls or 2 048 forwarded requests.
pub const FIELDS_MAX: usize = 4_096;

/// What a stream's buffers have at first, each; enough for a request or an answer.
const BUFFER_BYTES: usize = 1 << 10;
/// Bytes of messages after which the connection gets them, as tonic's own codec has it.
const YIELD_BYTES: usize = 32 << 10;

/// Fields of all requests in one message of a pipeline, and of what they repeat deeper: there a
/// request is two messages deep, and some repeat fields of their own, as jobs, tags and headers do.
/// The Rust client sends 128 KiB in a message, which can't hold as many; in memory they are some ten
/// megabytes.
pub const CALL_FIELDS_MAX: usize = 65_536;

/// The way from a message to others inside it: the numbers of the fields that lead there.
type Path = &'static [u64];

/// What of a [`PushRequest`] is counted besides its own fields: those of `jobs`.
const OF_PUSH: &[Path] = &[&[4]];
/// Likewise of a [`TxnRequest`], in `then` and in `otherwise`: those of each `queue_push`, which are
/// its jobs, and those of these; those of the policy of each `cache_set`, of each
/// `cache_invalidate_tags`, and of the content of each `bus_publish`.
const OF_TXN: &[Path] = &[
    &[4, 23],
    &[4, 23, 2],
    &[4, 25, 3],
    &[4, 27],
    &[4, 28, 2],
    &[5, 23],
    &[5, 23, 2],
    &[5, 25, 3],
    &[5, 27],
    &[5, 28, 2],
];
/// Likewise of a [`PutScheduleRequest`]: those of `job`.
const OF_SCHEDULE: &[Path] = &[&[5]];
/// Likewise of a [`CacheSetRequest`]: those of `policy`, which are tags.
const OF_CACHE_SET: &[Path] = &[&[5]];
/// Likewise of a [`CacheFillRequest`].
const OF_CACHE_FILL: &[Path] = &[&[6]];
/// Likewise of a [`BusPublishRequest`], a [`BusRequestRequest`] and a [`BusReplyRequest`]: those of
/// `content`, which are headers.
const OF_BUS: &[Path] = &[&[3]];
/// Likewise of a [`BusPublishAllRequest`]: those of `messages`, and of the content of each.
const OF_BUS_ALL: &[Path] = &[&[2], &[2, 2]];

/// Where a message holds others that fill memory with few bytes.
fn deep_in<U: 'static>() -> &'static [Path] {
    let of = TypeId::of::<U>();
    if of == TypeId::of::<PushRequest>() {
        OF_PUSH
    } else if of == TypeId::of::<TxnRequest>() {
        OF_TXN
    } else if of == TypeId::of::<PutScheduleRequest>() {
        OF_SCHEDULE
    } else if of == TypeId::of::<CacheSetRequest>() {
        OF_CACHE_SET
    } else if of == TypeId::of::<CacheFillRequest>() {
        OF_CACHE_FILL
    } else if of == TypeId::of::<BusPublishRequest>()
        || of == TypeId::of::<BusRequestRequest>()
        || of == TypeId::of::<BusReplyRequest>()
    {
        OF_BUS
    } else if of == TypeId::of::<BusPublishAllRequest>() {
        OF_BUS_ALL
    } else {
        &[]
    }
}

/// As [`deep_in`], of a request by its number in `PipelineCall`.
fn deep_in_call(kind: u64) -> &'static [Path] {
    match kind {
        64 => OF_TXN,
        96 => OF_PUSH,
        114 => OF_SCHEDULE,
        129 => OF_CACHE_SET,
        135 => OF_CACHE_FILL,
        144..=146 => OF_BUS,
        150 => OF_BUS_ALL,
        _ => &[],
    }
}

/// Encodes `T`, decodes `U`.
#[derive(Clone, Debug)]
pub struct BoundedCodec<T, U>(PhantomData<(T, U)>);

impl<T, U> Default for BoundedCodec<T, U> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<T, U> Codec for BoundedCodec<T, U>
where
    T: Message + Send + 'static,
    U: Message + Default + Send + 'static,
{
    type Encode = T;
    type Decode = U;
    type Encoder = ExactEncoder<T>;
    type Decoder = BoundedDecoder<U>;

    fn encoder(&mut self) -> Self::Encoder {
        ExactEncoder(PhantomData)
    }

    fn decoder(&mut self) -> Self::Decoder {
        BoundedDecoder(ProstCodec::<T, U>::raw_decoder(buffers()))
    }
}

/// A stream has two buffers for as long as it lasts, and a node has ten thousands of streams that are
/// silent most of the time.
fn buffers() -> BufferSettings {
    BufferSettings::new(BUFFER_BYTES, YIELD_BYTES)
}

/// Makes room for a message, then encodes it: small buffers need not grow in steps.
#[derive(Clone, Debug)]
pub struct ExactEncoder<T>(PhantomData<T>);

impl<T: Message> Encoder for ExactEncoder<T> {
    type Item = T;
    type Error = Status;

    fn encode(&mut self, message: T, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.reserve(message.encoded_len());
        message.encode(buffer).map_err(|error| Status::internal(error.to_string()))
    }

    fn buffer_settings(&self) -> BufferSettings {
        buffers()
    }
}

/// Counts, then decodes.
#[derive(Clone, Debug)]
pub struct BoundedDecoder<U>(ProstDecoder<U>);

impl<U: Message + Default + 'static> Decoder for BoundedDecoder<U> {
    type Item = U;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<U>, Status> {
        use prost::bytes::Buf as _;
        // A message is contiguous in here; if it ever were not, its first piece bounds nothing, so
        // that is refused rather than trusted.
        if buffer.chunk().len() < buffer.remaining() {
            return Err(Status::internal("a message came in pieces"));
        }
        check::<U>(buffer.chunk())?;
        let message = self.0.decode(buffer)?;
        if let Some(message) = &message {
            inspect::see(message)?;
        }
        Ok(message)
    }

    fn buffer_settings(&self) -> BufferSettings {
        self.0.buffer_settings()
    }
}

/// Decodes a message as [`BoundedDecoder`] does, from bytes that no connection brought.
///
/// # Errors
/// As that refuses it, or as it is malformed.
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub fn decode<U: Message + Default + 'static>(bytes: &prost::bytes::Bytes) -> Result<U, Status> {
    check::<U>(bytes)?;
    U::decode(bytes.clone()).map_err(|error| Status::internal(error.to_string()))
}

/// Refuses a message of a kind that would take more memory than its bytes let expect.
fn check<U: 'static>(bytes: &[u8]) -> Result<(), Status> {
    let refused = |message: String| Err(Status::invalid_argument(message));
    if !within(bytes, FIELDS_MAX) {
        return refused(format!(
            "the message has more than {FIELDS_MAX} fields; send less at once"
        ));
    }
    if TypeId::of::<U>() == TypeId::of::<PipelineRequest>() && !calls_within(bytes, CALL_FIELDS_MAX)
    {
        return refused(format!(
            "the calls of the message have more than {CALL_FIELDS_MAX} fields; send less at once"
        ));
    }
    if fields_at(bytes, deep_in::<U>(), CALL_FIELDS_MAX + 1) > CALL_FIELDS_MAX {
        return refused(format!(
            "what is in the message has more than {CALL_FIELDS_MAX} fields; send less at once"
        ));
    }
    Ok(())
}

/// Whether a message has at most `max` fields. What is malformed is left to the decoder.
fn within(bytes: &[u8], max: usize) -> bool {
    Fields(bytes).nth(max).is_none()
}

/// Whether the requests of a [`PipelineRequest`], and what they hold, have at most `max` fields
/// together.
fn calls_within(bytes: &[u8], max: usize) -> bool {
    // Whatever is bytes in these two levels is a message.
    let calls = Fields(bytes).filter_map(|(_, call)| call);
    let requests = calls.flat_map(Fields).filter_map(|(kind, request)| Some((kind, request?)));
    let mut left = max;
    for (kind, request) in requests {
        let fields = Fields(request).take(left + 1).count();
        let deeper = fields_at(request, deep_in_call(kind), left + 1);
        match left.checked_sub(fields + deeper) {
            Some(rest) => left = rest,
            None => return false,
        }
    }
    true
}

/// How many fields the messages have together that paths lead to, counted up to `enough` or a little
/// beyond.
fn fields_at(message: &[u8], paths: &[Path], enough: usize) -> usize {
    let mut count = 0;
    for path in paths {
        if count < enough {
            count += fields_along(message, path, enough - count);
        }
    }
    count
}

fn fields_along(message: &[u8], path: &[u64], enough: usize) -> usize {
    let Some((next, rest)) = path.split_first() else {
        return Fields(message).take(enough).count();
    };
    let mut count = 0;
    for (number, holds) in Fields(message) {
        if number == *next
            && let Some(inner) = holds
        {
            count += fields_along(inner, rest, enough - count);
        }
        if count >= enough {
            break;
        }
    }
    count
}

/// The fields of a message: their numbers, and of those that are bytes or a message what they hold.
/// Ends where something is malformed.
struct Fields<'a>(&'a [u8]);

impl<'a> Iterator for Fields<'a> {
    type Item = (u64, Option<&'a [u8]>);

    fn next(&mut self) -> Option<Self::Item> {
        let tag = varint(&mut self.0)?;
        let number = tag >> 3;
        let (length, holds) = match tag & 7 {
            0 => {
                varint(&mut self.0);
                return Some((number, None));
            }
            1 => (8, false),
            2 => (varint(&mut self.0).unwrap_or(u64::MAX), true),
            5 => (4, false),
            _ => (u64::MAX, false),
        };
        let split = usize::try_from(length).ok().and_then(|at| self.0.split_at_checked(at));
        let Some((field, rest)) = split else {
            self.0 = &[];
            return None;
        };
        self.0 = rest;
        Some((number, holds.then_some(field)))
    }
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for (at, byte) in bytes.iter().enumerate().take(10) {
        value |= u64::from(byte & 0x7f) << (7 * at).min(63);
        if byte & 0x80 == 0 {
            *bytes = &bytes[at + 1..];
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::v1;

    fn frame(calls: usize) -> Vec<u8> {
        let call = v1::PipelineCall { id: 300, timeout_ms: 7, ..Default::default() };
        v1::PipelineRequest { calls: vec![call; calls], cancelled: Vec::new() }.encode_to_vec()
    }

    #[test]
    fn fields_are_counted() {
        for calls in [0, 1, 2, 99] {
            let frame = frame(calls);
            assert!(within(&frame, calls), "{calls}");
            assert!(calls == 0 || !within(&frame, calls - 1), "{calls}");
        }
        // All kinds of fields: varint, 64 bits, bytes, 32 bits.
        let kinds = [0x08, 0x96, 0x01, 0x11, 1, 2, 3, 4, 5, 6, 7, 8, 0x1a, 1, 9, 0x25, 1, 2, 3, 4];
        assert!(within(&kinds, 4) && !within(&kinds, 3));
    }

    #[test]
    fn the_smallest_fields_that_fit_a_message_are_too_many() {
        let calls = vec![v1::PipelineCall::default(); 1 << 20];
        let empty = v1::PipelineRequest { calls, cancelled: Vec::new() };
        let bytes = empty.encode_to_vec();
        assert_eq!(bytes.len(), 2 << 20);
        assert!(!within(&bytes, FIELDS_MAX));
    }

    #[test]
    fn the_steps_of_transactions_are_counted_wherever_they_are() {
        let transaction = |steps| v1::TxnRequest {
            then: vec![v1::TxnOperation::default(); steps],
            ..v1::TxnRequest::default()
        };
        let frame = |calls, steps| {
            let request = Some(v1::pipeline_call::Request::TxnCommit(transaction(steps)));
            let call = v1::PipelineCall { id: 300, timeout_ms: 7, request, ..Default::default() };
            let cancelled = vec![1, 2, 3];
            v1::PipelineRequest { calls: vec![call; calls], cancelled }.encode_to_vec()
        };
        assert!(!within(&transaction(FIELDS_MAX + 1).encode_to_vec(), FIELDS_MAX));
        for (calls, steps) in [(0, 0), (1, 0), (1, 7), (8, 128)] {
            let frame = frame(calls, steps);
            assert!(calls_within(&frame, calls * steps), "{calls} {steps}");
            let fewer = (calls * steps).checked_sub(1);
            assert!(fewer.is_none_or(|fewer| !calls_within(&frame, fewer)), "{calls} {steps}");
        }
        // Two megabytes of the smallest there are.
        assert!(!calls_within(&frame(1, 1 << 20), CALL_FIELDS_MAX));
    }

    fn jobs(jobs: usize, headers: usize) -> Vec<v1::NewJob> {
        let headers = vec![v1::JobHeader::default(); headers];
        let job = v1::NewJob { payload: vec![0x0a; 99].into(), headers, ..Default::default() };
        vec![job; jobs]
    }

    fn push(pushed: Vec<v1::NewJob>) -> PushRequest {
        PushRequest { jobs: pushed, ..Default::default() }
    }

    fn transaction(pushed: Vec<v1::NewJob>, otherwise: bool) -> TxnRequest {
        use v1::txn_operation::Operation;
        let pushed = v1::TxnQueuePush { jobs: pushed, ..Default::default() };
        let pushed = v1::TxnOperation { operation: Some(Operation::QueuePush(pushed)) };
        let read = v1::TxnOperation { operation: Some(Operation::KvGet(v1::TxnKvGet::default())) };
        match otherwise {
            false => TxnRequest { then: vec![read, pushed], ..Default::default() },
            true => TxnRequest { otherwise: vec![pushed, read], ..Default::default() },
        }
    }

    fn schedule(job: Option<v1::NewJob>) -> PutScheduleRequest {
        PutScheduleRequest { job, ..Default::default() }
    }

    /// How many fields of jobs are counted in a request, besides its own.
    fn counted<U: Message + 'static>(request: &U) -> usize {
        fields_at(&request.encode_to_vec(), deep_in::<U>(), usize::MAX)
    }

    #[test]
    fn the_fields_of_jobs_are_counted_wherever_they_are_pushed() {
        use v1::pipeline_call::Request;
        let frame = |request| {
            let request = Some(request);
            let call = v1::PipelineCall { id: 300, timeout_ms: 7, request, ..Default::default() };
            v1::PipelineRequest { calls: vec![call], cancelled: Vec::new() }.encode_to_vec()
        };
        let exactly = |frame: &[u8], fields: usize| {
            assert!(calls_within(frame, fields), "{fields}");
            assert!(!calls_within(frame, fields - 1), "{fields}");
        };
        for (count, headers) in [(1, 0), (1, 7), (128, 64)] {
            let pushed = || jobs(count, headers);
            let fields = count * (1 + headers);
            assert_eq!(counted(&push(pushed())), fields);
            // In a pipeline each job is also a field of its request.
            exactly(&frame(Request::QueuePush(push(pushed()))), count + fields);
            for otherwise in [false, true] {
                // Each job is a field, too, of a step, of which there are two.
                let transaction = transaction(pushed(), otherwise);
                assert_eq!(counted(&transaction), count + fields);
                exactly(&frame(Request::TxnCommit(transaction)), 2 + count + fields);
            }
            let schedule = schedule(pushed().pop());
            assert_eq!(counted(&schedule), 1 + headers);
            exactly(&frame(Request::QueuePutSchedule(schedule)), 1 + 1 + headers);
        }
        assert_eq!(counted(&v1::AckRequest { job_id: 7, lease: 8, ..Default::default() }), 0);
        // As much as two megabytes hold of them, counted no further than needed.
        let many = || jobs(1, 1 << 20);
        assert!(!calls_within(&frame(Request::QueuePush(push(many()))), CALL_FIELDS_MAX));
        let empty = || vec![v1::NewJob::default(); 1 << 20];
        assert!(counted(&transaction(empty(), false)) > CALL_FIELDS_MAX);
        let transaction = Request::TxnCommit(transaction(empty(), true));
        assert!(!calls_within(&frame(transaction), CALL_FIELDS_MAX));
        let schedule = schedule(many().pop());
        assert!(counted(&schedule) > CALL_FIELDS_MAX);
        let enough = CALL_FIELDS_MAX + 1;
        assert_eq!(fields_at(&schedule.encode_to_vec(), OF_SCHEDULE, enough), enough);
        assert!(!calls_within(&frame(Request::QueuePutSchedule(schedule)), CALL_FIELDS_MAX));
    }

    #[test]
    fn a_request_that_holds_too_many_fields_is_not_decoded() {
        fn checked<U: Message + 'static>(request: &U) -> Result<(), Status> {
            check::<U>(&request.encode_to_vec())
        }
        let many = || jobs(1, CALL_FIELDS_MAX);
        let tags = || {
            let tags = vec![String::new(); CALL_FIELDS_MAX + 1];
            Some(v1::CachePolicy { tags, ..Default::default() })
        };
        let headers = || {
            let headers = vec![v1::BusHeader::default(); CALL_FIELDS_MAX + 1];
            Some(v1::BusContent { headers, ..Default::default() })
        };
        for checked in [
            checked(&push(many())),
            checked(&transaction(many(), false)),
            checked(&transaction(many(), true)),
            checked(&schedule(many().pop())),
            checked(&v1::CacheSetRequest { policy: tags(), ..Default::default() }),
            checked(&v1::CacheFillRequest { policy: tags(), ..Default::default() }),
            checked(&v1::BusPublishRequest { content: headers(), ..Default::default() }),
            checked(&v1::BusPublishAllRequest {
                messages: vec![v1::BusOutgoing { content: headers(), ..Default::default() }],
                ..Default::default()
            }),
            checked(&v1::BusRequestRequest { content: headers(), ..Default::default() }),
            checked(&v1::BusReplyRequest { content: headers(), ..Default::default() }),
        ] {
            let status = checked.unwrap_err();
            assert_eq!(status.code(), tonic::Code::InvalidArgument);
            assert!(status.message().contains("send less"), "{}", status.message());
        }
        checked(&push(jobs(128, 64))).unwrap();
        checked(&transaction(jobs(128, 64), false)).unwrap();
        checked(&schedule(jobs(1, 64).pop())).unwrap();
    }

    #[test]
    fn garbage_ends_the_count_and_never_panics() {
        let mut state = 7_u64;
        for length in 0..2_000 {
            let garbage: Vec<u8> = (0..length % 40)
                .map(|_| {
                    state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    (state >> 33) as u8
                })
                .collect();
            within(&garbage, 16);
            calls_within(&garbage, 16);
            for paths in [OF_PUSH, OF_TXN, OF_SCHEDULE] {
                fields_at(&garbage, paths, 16);
            }
        }
        assert!(within(&[0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01], 1));
    }
}
