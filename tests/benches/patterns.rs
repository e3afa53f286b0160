//! What it costs to find who wants a message: one glob against one name, a list of 10, 1 000 and
//! 100 000 of them one after the other, and the bus's table with as many, which is asked and changed.
//! Each name is matched by one or two patterns.
//!
//! `cargo bench --locked --workspace --bench patterns`

#[allow(dead_code, reason = "each benchmark uses a part of it")]
mod setup;

use criterion::{Criterion, Throughput};
use quorate_bus::{Interest, Selector};
use quorate_state::glob::Pattern;
use setup::{channels, patterns};
use std::hint::black_box;

fn glob(text: &str) -> Pattern {
    Pattern::parse(text.as_bytes()).expect("the pattern is well-formed")
}

fn selector(text: &str) -> Selector {
    Selector::parse(text).expect("the pattern is well-formed")
}

fn one_glob(criterion: &mut Criterion) {
    let name = b"shop.4711.orders.2026-11.done";
    let mut group = criterion.benchmark_group("patterns/one");
    for (kind, text) in [
        ("exact", "shop.4711.orders.2026-11.done"),
        ("prefix", "shop.4711.*"),
        ("suffix", "*.done"),
        ("middle", "shop.*.orders.*.done"),
        ("class", "shop.[0-9][0-9]*.orders.????-[01]?.*"),
    ] {
        let pattern = glob(text);
        assert!(pattern.matches(name));
        group.bench_function(format!("parse/{kind}"), |bencher| {
            bencher.iter(|| glob(black_box(text)));
        });
        group.bench_function(format!("match/{kind}"), |bencher| {
            bencher.iter(|| pattern.matches(black_box(name)));
        });
    }
    group.finish();
}

fn many(criterion: &mut Criterion, count: usize) {
    let names = channels(count);
    let mut next = names.iter().cycle();
    let mut name = || next.next().expect("they come round again");
    let mut group = criterion.benchmark_group("patterns/many");

    let list: Vec<Pattern> = patterns(count).iter().map(|text| glob(text)).collect();
    group.throughput(Throughput::Elements(count as u64));
    group.bench_function(format!("list_match/{count}"), |bencher| {
        bencher.iter(|| {
            let name = name().as_bytes();
            list.iter().filter(|pattern| pattern.matches(name)).count()
        });
    });

    let mut table = Interest::default();
    for text in patterns(count) {
        table.insert("", &selector(&text), 1_u32);
    }
    group.throughput(Throughput::Elements(1));
    group.bench_function(format!("table_match/{count}"), |bencher| {
        bencher.iter(|| {
            let mut found = 0;
            table.matches("", name(), |subscribers| found += subscribers);
            found
        });
    });
    let more = ["shop.new.orders", "shop.new.*", "*.new.failed", "shop.new.*.done"].map(selector);
    let mut more = more.iter().cycle();
    group.bench_function(format!("table_insert_remove/{count}"), |bencher| {
        bencher.iter(|| {
            let one = more.next().expect("they come round again");
            table.insert("", one, 1);
            table.remove("", one)
        });
    });
    group.finish();
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    one_glob(&mut criterion);
    for count in [10, 1_000, 100_000] {
        many(&mut criterion, count);
    }
    criterion.final_summary();
}
