//! What `scripts/bench-guard` counts the instructions of: parts of the hot path, each a fixed
//! amount of work on one thread, without disk, time or chance (but for the seed of the bus's hash
//! tables, which shows in the last digits). The argument names the part; without one it says which
//! there are.
//!
//! A part prepares first, without being counted: only what [`measured`] calls is.

#[allow(dead_code, reason = "each benchmark uses a part of it")]
mod setup;

use quorate_bus::{Interest, Selector};
use quorate_proto::v1::{PipelineRequest, PipelineResponse};
use quorate_state::Batch;
use quorate_state::codec::{decode_batch, encode_batch};
use quorate_state::glob::Pattern;
use setup::{
    Client, InMemory, Incoming, Replica, Worker, Writer, channels, encode, lock_cycle, patterns,
    request, response,
};
use std::hint::black_box;
use std::io::{self, Write};
use std::thread;

type Part = (&'static str, fn());
type Work<'a> = dyn FnMut() -> usize + Send + 'a;

const PARTS: &[Part] = &[
    ("apply-kv", apply_kv),
    ("apply-cache", apply_cache),
    ("apply-lock", apply_lock),
    ("apply-queue", apply_queue),
    ("codec-encode", codec_encode),
    ("codec-decode", codec_decode),
    ("patterns-glob", patterns_glob),
    ("patterns-table", patterns_table),
    ("frames-encode", frames_encode),
    ("frames-decode", frames_decode),
];

/// Runs what is counted: callgrind knows this function by its name. It returns what `work` does, so
/// that it comes back here: a jump to the work would end the counting at once.
#[inline(never)]
fn measured(work: &mut Work<'_>) -> usize {
    black_box(work())
}

/// Does the work twice and counts the second time, so that it finds the allocator as it leaves it. On
/// a thread of its own for the same reason: there the allocator has a heap of its own, and what the
/// preparation freed in the other one, which changes with all that is not measured, is not in it.
fn second_time(work: &mut Work<'_>) -> usize {
    let twice = || {
        work();
        measured(work)
    };
    thread::scope(|scope| scope.spawn(twice).join()).expect("the work does not panic")
}

/// Keys that are set beforehand. Few: under valgrind all of it takes many times as long as elsewhere.
const KEYS: usize = 5_000;

fn filled() -> (InMemory, Writer) {
    let mut replica = InMemory::new();
    let writer = Writer::fill(&mut replica, KEYS, 1);
    (replica, writer)
}

/// Commands of the entries of one time: a few entries of many, and many of one.
fn sizes() -> impl Iterator<Item = usize> {
    [1; 500].into_iter().chain([64; 25])
}

const COMMANDS: usize = 500 + 64 * 25;

/// Entries for both times.
fn entries(writer: &mut Writer) -> Vec<Batch> {
    sizes().chain(sizes()).map(|commands| writer.sets(commands)).collect()
}

fn apply_kv() {
    let (mut replica, mut writer) = filled();
    let entries = entries(&mut writer);
    let mut times = entries.chunks(entries.len() / 2);
    let outcomes = second_time(&mut || {
        let entries = times.next().expect("there are two").iter();
        entries.map(|entry| replica.apply(entry).outcomes.len()).sum()
    });
    assert_eq!(outcomes, COMMANDS);
}

/// The first time sets the entries, the second time replaces them.
fn apply_cache() {
    let (mut replica, mut writer) = filled();
    let sets: Vec<_> = (0..KEYS * 2).map(|_| writer.cache_set()).collect();
    let mut sets = sets.into_iter();
    let outcomes = second_time(&mut || {
        sets.by_ref().take(KEYS).map(|set| replica.apply_one(set).outcomes.len()).sum()
    });
    assert_eq!(outcomes, KEYS);
}

fn apply_lock() {
    let (mut replica, _) = filled();
    let mut client = Client::open(&mut replica);
    second_time(&mut || (0..1_000).map(|_| lock_cycle(&mut replica, &mut client)).count());
}

fn apply_queue() {
    let (mut replica, _) = filled();
    let mut worker = Worker::attach(&mut replica);
    second_time(&mut || (0..1_000).map(|_| worker.cycle(&mut replica)).count());
}

fn codec_encode() {
    let entries = entries(&mut Writer::fill(&mut InMemory::new(), 100, 1));
    let bytes = second_time(&mut || entries.iter().map(|entry| encode_batch(entry).len()).sum());
    assert!(bytes > 0);
}

fn codec_decode() {
    let entries = entries(&mut Writer::fill(&mut InMemory::new(), 100, 1));
    let encoded: Vec<_> = entries.iter().map(encode_batch).collect();
    let decode = |bytes| decode_batch(bytes).expect("it was just encoded");
    let commands =
        second_time(&mut || encoded.iter().map(|bytes| decode(bytes).commands.len()).sum());
    assert_eq!(commands, COMMANDS * 2);
}

fn patterns_glob() {
    let glob = |text: &String| Pattern::parse(text.as_bytes()).expect("it is well-formed");
    let (texts, names) = (patterns(1_000), channels(1_000));
    let found = second_time(&mut || {
        let all: Vec<_> = texts.iter().map(glob).collect();
        let matching =
            |name: &String| all.iter().filter(|one| one.matches(name.as_bytes())).count();
        names.iter().map(matching).sum()
    });
    assert!(found >= names.len());
}

fn patterns_table() {
    let selector = |text: &String| Selector::parse(text).expect("it is well-formed");
    let selectors: Vec<_> = patterns(10_000).iter().map(selector).collect();
    let names = channels(10_000);
    let found = second_time(&mut || {
        let mut table = Interest::default();
        for one in &selectors {
            table.insert("", one, 1);
        }
        let mut found = 0;
        for name in names.iter().cycle().take(10_000) {
            table.matches("", name, |subscribers| found += subscribers);
        }
        for one in &selectors {
            table.remove("", one);
        }
        found
    });
    assert!(found >= 10_000);
}

fn frames_encode() {
    // Encoding takes them.
    let both_times = sizes().chain(sizes()).map(|calls| (request(calls), response(calls)));
    let mut messages = both_times.collect::<Vec<_>>().into_iter();
    let bytes = second_time(&mut || {
        let messages = messages.by_ref().take(sizes().count());
        messages.map(|(request, response)| encode(request).len() + encode(response).len()).sum()
    });
    assert!(bytes > 0);
}

fn frames_decode() {
    let requests = |calls| Incoming::<PipelineRequest>::new(encode(request(calls)));
    let responses = |calls| Incoming::<PipelineResponse>::new(encode(response(calls)));
    let mut incoming =
        [(1, 500), (64, 25)].map(|(calls, times)| (requests(calls), responses(calls), times));
    let decoded = second_time(&mut || {
        let mut decoded = 0;
        for (requests, responses, times) in &mut incoming {
            for _ in 0..*times {
                decoded += requests.decode().calls.len() + responses.decode().answers.len();
            }
        }
        decoded
    });
    assert_eq!(decoded, COMMANDS * 2);
}

fn main() {
    let name = std::env::args().nth(1);
    // What cargo says to every benchmark.
    let Some(name) = name.filter(|name| name != "--bench") else {
        let names = PARTS.iter().map(|(name, _)| *name).collect::<Vec<_>>().join("\n");
        writeln!(io::stdout(), "{names}").expect("somebody reads it");
        return;
    };
    let part = PARTS.iter().find(|(part, _)| *part == name);
    let (_, run) = part.expect("there is such a part; without an argument they are listed");
    run();
}
