//! The whole cluster in one thread, in simulated time: three or five nodes with all of their consensus,
//! gRPC services and stores, their clients, and everything that can go wrong between them. All of
//! it follows from one number, the seed.
//!
//! # How a seed is run, and run again
//! [`run`] gives each seed a thread of its own. From the seed it draws a plan (machines, network,
//! faults and their times), and seeds every generator that the run uses: turmoil's, tokio's (the
//! workspace is built with `--cfg tokio_unstable` for that), consensus's, the clients', the disks'.
//! So the same build and the same seed give the same run, event for event; [`Report::trace`] is
//! a hash of all that was seen, and a test compares two runs of one seed. A failing test prints the
//! command:
//!
//! ```text
//! QUORATE_SIM_SEED=17 cargo test --release --locked --workspace --test simulation
//! ```
//!
//! # What is checked
//! - Histories of get, set, compare-and-set and delete on five keys, and of two counters, are
//!   linearizable ([`crate::history`]).
//! - Counters hold every acknowledged increment once, and no other one twice.
//! - A key with a ttl is there until its time, counted from before it was written; afterwards it
//!   goes.
//! - `invariants`: one leader per term, nothing goes back, the same index has the same state
//!   everywhere, the lease clock grows and never runs ahead of time.
//! - Locks, jobs in queues, transactions, watches, restores and rolling upgrades, in runs of their own:
//!   see `locks`, `jobs`, `transactions`, `watches`, `restores` and `upgrade`.
//! - All ten kinds of work of [`crate::chaos`], bus, cache and outbox among them: see `work`.
//! - When everything is repaired a write succeeds within [`RECOVERY_MAX`], and all nodes come to
//!   hold the same state, down to a checksum over all of it.
//! - No node fails for good, refuses to start, or panics.
//!
//! # What is simulated
//! Time; TCP (turmoil): latency, partitions in one or both directions, packets held and released;
//! disks that forget what was not synced, with a random part of it kept, that fail, have no room, or take
//! long; members that are replaced, come and go; kills, at which the kernel
//! closes connections, and power failures, at which nobody is told; wall clocks that are off and
//! jump; snapshots so frequent that a node that was away needs one.
//!
//! # What is not
//! RocksDB and its files, threads, and real sockets: `process` has those. Crashes fall between
//! the steps of a few milliseconds in which each host runs by itself, not within one. A connection
//! that lost a packet is dead: there is no retransmission, so every lasting cut ends all connections
//! across it (held packets are the other case). Packets come twice nowhere: TCP hands each byte on once,
//! so what a service can get twice are requests that are sent again, and those come in all runs. Clocks
//! of unequal speed. Five nodes, failing and full disks, and changes of members are not in the runs with
//! locks, jobs, restores and upgrades.

mod clients;
mod cluster;
mod course;
mod draw;
mod faults;
mod following;
mod invariants;
mod jobs;
mod journal;
mod locks;
mod members;
mod net;
mod plan;
mod planted;
#[cfg(feature = "planted-faults")]
mod proof;
mod report;
mod restores;
mod seeds;
mod stage;
mod story_kind;
mod transactions;
mod upgrade;
mod verdict;
mod watches;
mod work;
mod workload;
mod workload_books;

pub use faults::Injected;
pub use jobs::{JobCounts, run_jobs};
pub use locks::{Counts, Dead, Failovers, run_failovers, run_locks, run_queue, run_wall_jumps};
pub use planted::Planted;
#[cfg(feature = "planted-faults")]
pub use proof::{Case, Caught, Missed, cases, prove};
#[cfg(feature = "planted-faults")]
pub use quorate_state::planted::Fault;
pub use report::Report;
pub use restores::run_restores;
pub use seeds::run_seeds;
pub use story_kind::{StoryKind, UnknownStory};
pub use transactions::run_transactions;
pub use upgrade::{Upgraded, run_upgrade};
pub use watches::run_watches;
pub use work::run_work;

use journal::Journal;
use plan::Plan;
use stage::{Ended, Stage};
use std::path::Path;
use std::time::{Duration, SystemTime};
use workload::Registers;

/// How long the first write may take when everything is repaired.
pub const RECOVERY_MAX: Duration = Duration::from_secs(10);
/// How long the rest may take from there: calls under way, catching up, ttls.
const SETTLING_MAX: Duration = Duration::from_secs(40);
/// Between two looks at the invariants.
const LOOK: Duration = Duration::from_millis(20);
/// Simulated sockets: segments each may have on its way, and connections that wait to be accepted.
const TCP_CAPACITY: usize = 8_192;
/// Bytes of stack for a run: futures nest deeply.
const STACK_BYTES: usize = 16 << 20;

/// Runs a seed of [`StoryKind::Registers`] in a thread of its own, and keeps history and journal in `directory` if it fails.
///
/// # Panics
/// When no thread can be started, and in a build in which a seed would not repeat itself.
#[must_use]
pub fn run(seed: u64, planted: Planted, directory: &Path) -> Report {
    let judge = |report: &mut Report, journal: &Journal, ended| {
        verdict::judge(report, journal, &ended, directory);
    };
    in_a_thread(KV_TEST, seed, Plan::draw(seed, planted), simulate, judge)
}

/// As [`run`], where the leader of three nodes is replaced from 4 s on, and loses its peers at some moment of
/// that.
#[must_use]
pub fn run_leader_cut_off(at: Duration, directory: &Path) -> Report {
    let judge = |report: &mut Report, journal: &Journal, ended| {
        verdict::judge(report, journal, &ended, directory);
    };
    let seed = u64::try_from(at.as_millis()).unwrap_or(u64::MAX);
    in_a_thread(CUT_OFF_TEST, seed, Plan::of_a_leader_cut_off(at), simulate, judge)
}

/// The test of that.
const CUT_OFF_TEST: &str = "a_leader_that_is_cut_off_while_it_is_replaced_ends_by_itself";
/// The test that runs a seed again.
const KV_TEST: &str = "seeds_with_kills_and_partitions_keep_every_promise";

/// Random numbers and the simulated world live in the thread, so each run starts afresh.
fn in_a_thread<E: Send + 'static>(
    test: &'static str,
    seed: u64,
    plan: Plan,
    simulate: impl FnOnce(&Plan, &Journal) -> E + Send + 'static,
    judge: impl FnOnce(&mut Report, &Journal, E),
) -> Report {
    if !cfg!(tokio_unstable) {
        panic!(
            "built without `--cfg tokio_unstable`, so the runtime's own choices do not follow the \
             seed: unset RUSTFLAGS, which replaces what .cargo/config.toml sets, or add it there"
        );
    }
    let journal = Journal::default();
    let (planted, text) = (plan.planted, plan.to_string());
    let mut report = Report { test, seed, planted, plan: text, ..Report::default() };
    let thread_journal = journal.clone();
    let thread = std::thread::Builder::new()
        .name(format!("seed-{seed}"))
        .stack_size(STACK_BYTES)
        .spawn(move || {
            quorate_consensus::runtime::seed_this_thread(plan.seeds.consensus);
            planted.plant_on_this_thread();
            simulate(&plan, &thread_journal)
        })
        .expect("a thread can be started");
    match thread.join() {
        Ok(ended) => judge(&mut report, &journal, ended),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no text");
            report.problems = journal.problems();
            report.problems.push(format!("panicked: {text}"));
            report.journal = journal.lines();
        }
    }
    report
}

fn world<'a>(plan: &Plan) -> turmoil::Sim<'a> {
    turmoil::Builder::new()
        .rng_seed(plan.seeds.network)
        .epoch(SystemTime::UNIX_EPOCH)
        .tick_duration(plan.tick)
        .simulation_duration(plan.heal_at + RECOVERY_MAX + SETTLING_MAX * 2)
        .tcp_capacity(TCP_CAPACITY)
        .min_message_latency(Duration::ZERO)
        .max_message_latency(plan.latency_max)
        .enable_random_order()
        .build()
}

fn simulate(plan: &Plan, journal: &Journal) -> Ended<Registers> {
    let mut stage = Stage::new(plan, journal, Registers::new(journal));
    workload::start(&mut stage, plan);
    let settled = stage.run_to_end(plan, |stage| workload::audit(stage, plan));
    stage.end(settled)
}
