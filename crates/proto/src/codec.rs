//! The codec of all services: protobuf, with a bound on how many fields a message may have.
//!
//! A field of a few bytes can become a struct of a few hundred in memory. The bound on a message's
//! bytes alone would let two megabytes grow to two hundred.

use crate::v1::{PipelineRequest, PushRequest};
use prost::Message;
use std::any::TypeId;
use std::marker::PhantomData;
use tonic::Status;
use tonic::codec::{BufferSettings, Codec, DecodeBuf, Decoder};
use tonic_prost::{ProstCodec, ProstDecoder, ProstEncoder};

/// Fields of a message, repeated ones counted each time. The largest of ours has one for each of
/// 1 024 calls or 2 048 forwarded requests.
pub const FIELDS_MAX: usize = 4_096;

/// Fields of all requests in one message of a pipeline, and of all jobs that are pushed: there a
/// request is two messages deep, and some repeat fields of their own, as jobs do. The Rust client
/// sends 128 KiB in a message, which can't hold as many; in memory they are some ten megabytes.
pub const CALL_FIELDS_MAX: usize = 65_536;

/// The number of `PipelineCall.queue_push`.
const QUEUE_PUSH: u64 = 96;
/// The number of `PushRequest.jobs`.
const JOBS: u64 = 4;

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
    type Encoder = ProstEncoder<T>;
    type Decoder = BoundedDecoder<U>;

    fn encoder(&mut self) -> Self::Encoder {
        ProstCodec::<T, U>::default().encoder()
    }

    fn decoder(&mut self) -> Self::Decoder {
        BoundedDecoder(ProstDecoder::default())
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
        if !within(buffer.chunk(), FIELDS_MAX) {
            return Err(Status::invalid_argument(format!(
                "the message has more than {FIELDS_MAX} fields; send less at once"
            )));
        }
        if TypeId::of::<U>() == TypeId::of::<PipelineRequest>()
            && !calls_within(buffer.chunk(), CALL_FIELDS_MAX)
        {
            return Err(Status::invalid_argument(format!(
                "the calls of the message have more than {CALL_FIELDS_MAX} fields; send less at once"
            )));
        }
        if TypeId::of::<U>() == TypeId::of::<PushRequest>()
            && job_fields(buffer.chunk()).nth(CALL_FIELDS_MAX).is_some()
        {
            return Err(Status::invalid_argument(format!(
                "the jobs have more than {CALL_FIELDS_MAX} fields; push less at once"
            )));
        }
        self.0.decode(buffer)
    }

    fn buffer_settings(&self) -> BufferSettings {
        self.0.buffer_settings()
    }
}

/// Whether a message has at most `max` fields. What is malformed is left to the decoder.
fn within(bytes: &[u8], max: usize) -> bool {
    Fields(bytes).nth(max).is_none()
}

/// Whether the requests of a [`PipelineRequest`], and the jobs they push, have at most `max` fields
/// together.
fn calls_within(bytes: &[u8], max: usize) -> bool {
    // Whatever is bytes in these two levels is a message.
    let calls = Fields(bytes).filter_map(|(_, call)| call);
    let requests = calls.flat_map(Fields).filter_map(|(kind, request)| Some((kind, request?)));
    let fields = requests.flat_map(|(kind, request)| {
        let jobs = job_fields(if kind == QUEUE_PUSH { request } else { &[] });
        Fields(request).chain(jobs)
    });
    fields.take(max + 1).count() <= max
}

/// The fields of all jobs of a [`PushRequest`].
fn job_fields(push: &[u8]) -> impl Iterator<Item = (u64, Option<&[u8]>)> {
    let jobs = Fields(push).filter_map(|(number, job)| job.filter(|_| number == JOBS));
    jobs.flat_map(Fields)
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
        let call = v1::PipelineCall { id: 300, timeout_ms: 7, request: None };
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
            let call = v1::PipelineCall { id: 300, timeout_ms: 7, request };
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

    #[test]
    fn the_fields_of_jobs_are_counted_wherever_they_are_pushed() {
        let push = |jobs, headers| {
            let headers = vec![v1::JobHeader::default(); headers];
            let job = v1::NewJob { payload: vec![0x0a; 99].into(), headers, ..Default::default() };
            PushRequest { jobs: vec![job; jobs], ..Default::default() }
        };
        let frame = |push| {
            let request = Some(v1::pipeline_call::Request::QueuePush(push));
            let call = v1::PipelineCall { id: 300, timeout_ms: 7, request };
            v1::PipelineRequest { calls: vec![call], cancelled: Vec::new() }.encode_to_vec()
        };
        for (jobs, headers) in [(1, 0), (1, 7), (128, 64)] {
            let fields = jobs * (1 + headers);
            assert_eq!(job_fields(&push(jobs, headers).encode_to_vec()).count(), fields);
            // In a pipeline each job is also a field of its request.
            let frame = frame(push(jobs, headers));
            assert!(calls_within(&frame, jobs + fields), "{jobs} {headers}");
            assert!(!calls_within(&frame, jobs + fields - 1), "{jobs} {headers}");
        }
        assert!(!calls_within(&frame(push(1, 1 << 20)), CALL_FIELDS_MAX));
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
            job_fields(&garbage).count();
        }
        assert!(within(&[0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01], 1));
    }
}
