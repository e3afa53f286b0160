//! What a seed stands for: the machines, the network, the faults and when they happen. Drawn before
//! the run, so that it can be printed whatever becomes of it.

use super::net::{CLIENT_HOSTS, NODES};
use super::planted::{Needs, Planted};
use quorate_consensus::SnapshotRule;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::fmt;
use std::ops::RangeInclusive;
use std::time::Duration;

/// Seeds of the generators of one run. Each part has its own, so that a change to one does not
/// change what the others draw.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seeds {
    pub(super) network: u64,
    pub(super) consensus: u64,
    pub(super) workload: u64,
    machines: u64,
    faults: u64,
}

impl Seeds {
    fn of(seed: u64) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        Self {
            network: rng.random(),
            consensus: rng.random(),
            workload: rng.random(),
            machines: rng.random(),
            faults: rng.random(),
        }
    }
}

/// One machine.
#[derive(Clone, Debug)]
pub(super) struct MachinePlan {
    pub(super) seed: u64,
    pub(super) sync_delay: RangeInclusive<Duration>,
    pub(super) state_flush_one_in: u32,
    pub(super) wall_skew_ms: i64,
}

/// Which nodes a fault is about; found out when it happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Who {
    /// The leader, or the first node when nobody leads.
    Leader,
    /// This one.
    Node(usize),
    /// All but this one.
    AllBut(usize),
    /// All of them.
    All,
}

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// Processes end without a word of their own; the kernel closes their connections.
    Kill(Who),
    /// The power fails: nobody is told anything.
    PowerFailure(Who),
    /// A process is asked to stop.
    Stop(Who),
    /// A node loses its peers, and its clients too if so.
    Isolate(Who, bool),
    /// Packets from the first to the second node are lost, not those back.
    OneWay(usize, usize),
    /// The other two nodes lose each other.
    Bridge(usize),
    /// A host of clients loses a node.
    CutClients(usize, Who),
    /// Packets between two nodes wait until it is over.
    Hold(usize, usize),
    /// Packets between two nodes take this many milliseconds.
    Slow(usize, usize, u64),
    /// A node's wall clock is set by this many milliseconds.
    WallJump(Who, i64),
}

/// A fault, from when and how long.
#[derive(Clone, Copy, Debug)]
pub(super) struct Event {
    pub(super) at: Duration,
    pub(super) lasts: Duration,
    pub(super) fault: Fault,
}

/// Everything that is drawn before the run.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) seeds: Seeds,
    pub(super) planted: Planted,
    pub(super) tick: Duration,
    pub(super) latency_max: Duration,
    pub(super) machines: Vec<MachinePlan>,
    pub(super) snapshots: SnapshotRule,
    pub(super) events: Vec<Event>,
    /// When everything is repaired, and the cluster must recover.
    pub(super) heal_at: Duration,
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

impl Plan {
    pub(super) fn draw(seed: u64, planted: Planted) -> Self {
        Self::draw_for(seed, planted, 20_000..=45_000, draw_events)
    }

    /// Of a run with clients that contend for locks: shorter, and mostly about the leader.
    pub(super) fn draw_of_locks(seed: u64, planted: Planted) -> Self {
        Self::draw_for(seed, planted, 12_000..=24_000, |seed, _, heal_at| {
            draw_lock_events(seed, heal_at, draw_lock_fault)
        })
    }

    /// Of a run with jobs: as with locks in two of three, about everything in the others.
    pub(super) fn draw_of_jobs(seed: u64, planted: Planted) -> Self {
        Self::draw_for(seed, planted, 12_000..=24_000, |seed, planted, heal_at| match seed % 3 {
            0 => draw_events(seed, planted, heal_at),
            _ => draw_lock_events(seed, heal_at, draw_lock_fault),
        })
    }

    /// Of a run with transactions: about everything, and shorter.
    pub(super) fn draw_of_transactions(seed: u64, planted: Planted) -> Self {
        Self::draw_for(seed, planted, 8_000..=18_000, draw_events)
    }

    /// Of a run with a backup and a restore: about everything, and shorter.
    pub(super) fn draw_of_restores(seed: u64, planted: Planted) -> Self {
        Self::draw_for(seed, planted, 8_000..=16_000, draw_events)
    }

    /// Of a run with watches: about everything; snapshots are large, so there are few.
    pub(super) fn draw_of_watches(seed: u64, planted: Planted) -> Self {
        let mut plan = Self::draw_for(seed, planted, 12_000..=20_000, draw_events);
        plan.snapshots =
            SnapshotRule { log_bytes: 24 << 20, keep_entries: 50, ..SnapshotRule::default() };
        plan
    }

    /// As [`Plan::draw_of_locks`], but nothing happens except that the leader's wall clock is set an
    /// hour forward and back, again and again.
    pub(super) fn draw_of_wall_jumps(seed: u64) -> Self {
        Self::draw_for(seed, Planted::Nothing, 20_000..=20_000, |seed, _, heal_at| {
            draw_lock_events(seed, heal_at, draw_wall_jump)
        })
    }

    /// A quiet cluster, for what a scenario makes happen by itself; `tick` is how exact its times are.
    pub(super) fn quiet(seed: u64, tick: Duration, lasts: Duration) -> Self {
        let mut plan = Self::draw_for(seed, Planted::Nothing, 0..=0, |_, _, _| Vec::new());
        plan.tick = tick;
        plan.latency_max = ms(5);
        plan.heal_at = lasts;
        for machine in &mut plan.machines {
            machine.sync_delay = Duration::from_micros(100)..=ms(3);
        }
        plan
    }

    fn draw_for(
        seed: u64,
        planted: Planted,
        heal_at_ms: RangeInclusive<u64>,
        events: impl FnOnce(u64, Planted, Duration) -> Vec<Event>,
    ) -> Self {
        let seeds = Seeds::of(seed);
        let mut rng = StdRng::seed_from_u64(seeds.machines);
        let slow = rng.random_range(0..12_usize);
        let machines = (0..NODES.len())
            .map(|node| MachinePlan {
                seed: rng.random(),
                sync_delay: match planted.needs() {
                    Needs::LongSyncs => ms(1_000)..=ms(2_000),
                    Needs::OneSlowDisk if slow % NODES.len() == node => ms(50)..=ms(200),
                    _ if slow == node => ms(5)..=ms(60),
                    _ => Duration::from_micros(100)..=ms(3),
                },
                state_flush_one_in: match planted.needs() {
                    Needs::LongSyncs => 0,
                    _ => *pick(&mut rng, &[4, 16, 64]),
                },
                wall_skew_ms: rng.random_range(-5_000..=5_000),
            })
            .collect();
        let small =
            SnapshotRule { log_bytes: 64 << 10, keep_entries: 50, ..SnapshotRule::default() };
        let many = rng.random_ratio(1, 2) || planted.needs() == Needs::ManySnapshots;
        let snapshots = if many { small } else { SnapshotRule::default() };
        let tick = ms(rng.random_range(2..=4));
        let latency_max = ms(*pick(&mut rng, &[2, 5, 10, 30]));
        let heal_at = ms(rng.random_range(heal_at_ms));
        let events = events(seeds.faults, planted, heal_at);
        Self { seeds, planted, tick, latency_max, machines, snapshots, events, heal_at }
    }
}

fn draw_events(seed: u64, planted: Planted, heal_at: Duration) -> Vec<Event> {
    let mut rng = StdRng::seed_from_u64(seed);
    if planted.needs() == Needs::LongSyncs {
        let fault = Fault::PowerFailure(Who::All);
        return vec![Event { at: heal_at / 2, lasts: ms(500), fault }];
    }
    let mut events = Vec::new();
    // Most clusters are formed in peace; some are disturbed from the first moment.
    let mut at = if rng.random_ratio(1, 4) { ms(1) } else { ms(2_500) };
    // How busy this run is.
    let gap_ms = *pick(&mut rng, &[800, 2_000, 5_000]);
    loop {
        at += ms(rng.random_range(1..=gap_ms));
        if at >= heal_at {
            return events;
        }
        let fault = draw_fault(&mut rng);
        let lasts = match fault {
            Fault::WallJump(..) => Duration::ZERO,
            _ if rng.random_ratio(1, 5) => ms(rng.random_range(5_000..=12_000)),
            _ => ms(rng.random_range(50..=4_000)),
        };
        events.push(Event { at, lasts, fault });
        // Now and then the next one comes while this one lasts.
        if rng.random_ratio(2, 3) {
            at += lasts;
        }
    }
}

fn draw_fault(rng: &mut StdRng) -> Fault {
    let node = rng.random_range(0..NODES.len());
    let other = (node + rng.random_range(1..NODES.len())) % NODES.len();
    let one = if rng.random_ratio(1, 2) { Who::Leader } else { Who::Node(node) };
    let some = *pick(rng, &[one, one, one, Who::AllBut(node), Who::All]);
    match rng.random_range(0..20) {
        0..=4 => Fault::Kill(some),
        5..=7 => Fault::PowerFailure(some),
        8 => Fault::Stop(one),
        9..=11 => Fault::Isolate(one, rng.random_ratio(1, 2)),
        12..=13 => Fault::OneWay(node, other),
        14 => Fault::Bridge(node),
        15 => Fault::CutClients(rng.random_range(0..CLIENT_HOSTS.len()), one),
        16..=17 => Fault::Hold(node, other),
        18 => Fault::Slow(node, other, rng.random_range(20..=300)),
        _ => Fault::WallJump(Who::Node(node), rng.random_range(-600_000..=600_000)),
    }
}

/// An hour, by which wall clocks jump in runs with locks: no lease may notice.
const HOUR_MS: i64 = 3_600_000;

fn draw_lock_events(
    seed: u64,
    heal_at: Duration,
    draw: impl Fn(&mut StdRng) -> (Fault, Duration),
) -> Vec<Event> {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut events = Vec::new();
    let mut at = ms(3_000);
    let gap_ms = *pick(&mut rng, &[800, 2_000, 4_000]);
    loop {
        at += ms(rng.random_range(1..=gap_ms));
        if at >= heal_at {
            return events;
        }
        let (fault, lasts) = draw(&mut rng);
        events.push(Event { at, lasts, fault });
        if rng.random_ratio(2, 3) {
            at += lasts;
        }
    }
}

/// Mostly a leader that is replaced while clients still reach it: who held a lock through it must
/// not think so for longer than the others do.
fn draw_lock_fault(rng: &mut StdRng) -> (Fault, Duration) {
    let node = rng.random_range(0..NODES.len());
    let other = (node + rng.random_range(1..NODES.len())) % NODES.len();
    let most = *pick(rng, &[Who::AllBut(node), Who::All]);
    let fault = match rng.random_range(0..22) {
        0..=5 => Fault::Isolate(Who::Leader, false),
        6 => Fault::Isolate(Who::Leader, true),
        7..=9 => Fault::Kill(Who::Leader),
        10 => Fault::PowerFailure(Who::Leader),
        11 => Fault::Kill(most),
        12 => Fault::PowerFailure(most),
        13 => Fault::Stop(Who::Leader),
        14 => Fault::OneWay(node, other),
        15..=16 => Fault::Hold(node, other),
        17 => Fault::Slow(node, other, rng.random_range(20..=300)),
        18..=19 => {
            let who = *pick(rng, &[Who::Leader, Who::All]);
            Fault::CutClients(rng.random_range(0..CLIENT_HOSTS.len()), who)
        }
        _ => return draw_wall_jump(rng),
    };
    let lasts = match rng.random_ratio(1, 5) {
        true => rng.random_range(4_000..=9_000),
        false => rng.random_range(50..=3_000),
    };
    (fault, ms(lasts))
}

fn draw_wall_jump(rng: &mut StdRng) -> (Fault, Duration) {
    (Fault::WallJump(Who::Leader, *pick(rng, &[-HOUR_MS, HOUR_MS])), Duration::ZERO)
}

fn pick<'a, T>(rng: &mut StdRng, choices: &'a [T]) -> &'a T {
    &choices[rng.random_range(0..choices.len())]
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "planted {}; steps of {:?}, latency up to {:?}, a snapshot every {} KiB of log",
            self.planted,
            self.tick,
            self.latency_max,
            self.snapshots.log_bytes >> 10
        )?;
        for (host, machine) in NODES.iter().zip(&self.machines) {
            writeln!(
                f,
                "{host}: syncs take {:?}, wall clock off by {} ms",
                machine.sync_delay, machine.wall_skew_ms
            )?;
        }
        for Event { at, lasts, fault } in &self.events {
            writeln!(f, "at {at:>10?} for {lasts:>9?}: {fault:?}")?;
        }
        write!(f, "at {:>10?}: everything is repaired", self.heal_at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_always_draws_the_same_and_another_one_something_else() {
        let drawn = |seed| Plan::draw(seed, Planted::Nothing).to_string();
        assert_eq!(drawn(1), drawn(1));
        assert_ne!(drawn(1), drawn(2));
    }

    #[test]
    fn every_kind_of_fault_is_drawn() {
        let mut kinds = std::collections::BTreeSet::new();
        for seed in 0..50 {
            for event in Plan::draw(seed, Planted::Nothing).events {
                let name = format!("{:?}", event.fault);
                kinds.insert(name.split('(').next().unwrap().to_owned());
            }
        }
        assert_eq!(kinds.len(), 10, "{kinds:?}");
    }
}
