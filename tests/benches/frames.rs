//! What it costs to encode and to decode a message of the pipeline, with the codec that the services
//! use: 1 and 64 calls that set a key to 256 bytes, and as many answers to reads of such keys. To
//! encode takes the message and frees it; what was decoded is freed, too.
//!
//! `cargo bench --locked --workspace --bench frames`

#[allow(dead_code, reason = "each benchmark uses a part of it")]
mod setup;

use criterion::{BatchSize, Criterion, Throughput};
use prost::Message;
use setup::{Incoming, encode, request, response};

fn both_ways<T: Message + Clone + Default + 'static>(
    criterion: &mut Criterion,
    kind: &str,
    calls: usize,
    message: &T,
) {
    let bytes = encode(message.clone());
    let mut incoming = Incoming::<T>::new(bytes.clone());
    let mut group = criterion.benchmark_group(format!("frames/{kind}"));
    group.throughput(Throughput::Bytes(bytes.len() as u64));
    group.bench_function(format!("encode/{calls}"), |bencher| {
        // The bytes are freed each time, as when they are sent: they hold a buffer of 8 KiB.
        let encode = |message| drop(encode(message));
        bencher.iter_batched(|| message.clone(), encode, BatchSize::SmallInput);
    });
    group.bench_function(format!("decode/{calls}"), |bencher| {
        bencher.iter(|| drop(incoming.decode()));
    });
    group.finish();
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    for calls in [1, 64] {
        both_ways(&mut criterion, "request", calls, &request(calls));
        both_ways(&mut criterion, "response", calls, &response(calls));
    }
    criterion.final_summary();
}
