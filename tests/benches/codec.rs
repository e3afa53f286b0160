//! What it costs to encode and to decode an entry of the log: `encode_batch` and `decode_batch` of
//! 1 and 64 commands that set keys to 256 bytes.
//!
//! `cargo bench --locked --workspace --bench codec`

#[allow(dead_code, reason = "each benchmark uses a part of it")]
mod setup;

use criterion::{Criterion, Throughput};
use quorate_state::codec::{decode_batch, encode_batch};
use setup::{InMemory, Writer};
use std::hint::black_box;

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    let mut writer = Writer::fill(&mut InMemory::new(), 1_000, 1);
    let mut group = criterion.benchmark_group("codec");
    for commands in [1, 64] {
        let batch = writer.sets(commands);
        let encoded = encode_batch(&batch);
        group.throughput(Throughput::Bytes(encoded.len() as u64));
        group.bench_function(format!("encode_batch/{commands}"), |bencher| {
            bencher.iter(|| encode_batch(black_box(&batch)));
        });
        group.bench_function(format!("decode_batch/{commands}"), |bencher| {
            bencher.iter(|| decode_batch(black_box(&encoded)).expect("it was just encoded"));
        });
    }
    group.finish();
    criterion.final_summary();
}
