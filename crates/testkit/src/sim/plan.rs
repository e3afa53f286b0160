//! What a seed stands for: the machines, the network, the faults and when they happen. Drawn before
//! the run, so that it can be printed whatever becomes of it.

use super::draw::{
    draw_changes, draw_disk_events, draw_events, draw_lock_events, draw_lock_fault, draw_wall_jump,
    pick,
};
use super::members::{Change, Planned};
use super::net::{HOSTS, NODES};
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
    more: u64,
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
            more: rng.random(),
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
    /// This one of those at work.
    Node(usize),
    /// All but this one of those at work.
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
    /// The other nodes fall into two halves that lose each other; this one reaches both.
    Bridge(usize),
    /// A host of clients loses a node.
    CutClients(usize, Who),
    /// Packets between two nodes wait until it is over.
    Hold(usize, usize),
    /// Packets between two nodes take this many milliseconds.
    Slow(usize, usize, u64),
    /// These two lose all others, not each other.
    Split(usize, usize),
    /// Each node reaches only those beside it.
    Ring,
    /// A disk answers with errors, until the process has ended and is started again.
    FailingDisk(Who),
    /// A disk has no room.
    FullDisk(Who),
    /// Syncs take up to this many milliseconds.
    SlowDisk(Who, u64),
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
    /// How many of the machines found the cluster; the others stand by until they are to join.
    pub(super) founders: usize,
    pub(super) machines: Vec<MachinePlan>,
    pub(super) snapshots: SnapshotRule,
    pub(super) events: Vec<Event>,
    /// Changes of members, one after the other.
    pub(super) changes: Vec<Planned>,
    /// When everything is repaired, and the cluster must recover.
    pub(super) heal_at: Duration,
}

/// Nodes of a cluster that is larger than usual.
const NODES_OF_LARGE: usize = 5;
/// Machines that stand by, where members change.
const STANDING_BY: usize = HOSTS.len() - NODES_OF_LARGE;

/// How much of what can be there a kind of run is made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scope {
    /// Three nodes, whose disks are slow at most.
    Three,
    /// In some runs five nodes, disks that fail or have no room, and changes of members.
    Any,
}

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

impl Plan {
    pub(super) fn draw(seed: u64, planted: Planted) -> Self {
        Self::draw_for(seed, planted, Scope::Any, 20_000..=45_000, draw_events)
    }

    /// Of a run with clients that contend for locks: shorter, and mostly about the leader.
    pub(super) fn draw_of_locks(seed: u64, planted: Planted) -> Self {
        Self::draw_for(seed, planted, Scope::Three, 12_000..=24_000, |seed, _, heal_at, _| {
            draw_lock_events(seed, heal_at, draw_lock_fault)
        })
    }

    /// Of a run with jobs: as with locks in two of three, about everything in the others.
    pub(super) fn draw_of_jobs(seed: u64, planted: Planted) -> Self {
        let three = Scope::Three;
        Self::draw_for(seed, planted, three, 12_000..=24_000, |seed, planted, heal_at, nodes| {
            match seed % 3 {
                0 => draw_events(seed, planted, heal_at, nodes),
                _ => draw_lock_events(seed, heal_at, draw_lock_fault),
            }
        })
    }

    /// Of a run with transactions: about everything, and shorter.
    pub(super) fn draw_of_transactions(seed: u64, planted: Planted) -> Self {
        Self::draw_for(seed, planted, Scope::Any, 8_000..=18_000, draw_events)
    }

    /// Of a run with the work of chaos: about everything.
    pub(super) fn draw_of_work(seed: u64, planted: Planted) -> Self {
        Self::draw_for(seed, planted, Scope::Any, 12_000..=24_000, draw_events)
    }

    /// Of a run with a backup and a restore: about everything, and shorter.
    pub(super) fn draw_of_restores(seed: u64, planted: Planted) -> Self {
        Self::draw_for(seed, planted, Scope::Three, 8_000..=16_000, draw_events)
    }

    /// Of a run with watches: about everything; snapshots are large, so there are few.
    pub(super) fn draw_of_watches(seed: u64, planted: Planted) -> Self {
        let mut plan = Self::draw_for(seed, planted, Scope::Any, 12_000..=20_000, draw_events);
        plan.snapshots =
            SnapshotRule { log_bytes: 24 << 20, keep_entries: 50, ..SnapshotRule::default() };
        plan
    }

    /// As [`Plan::draw_of_locks`], but nothing happens except that the leader's wall clock is set an
    /// hour forward and back, again and again.
    pub(super) fn draw_of_wall_jumps(seed: u64) -> Self {
        let (nothing, three) = (Planted::Nothing, Scope::Three);
        Self::draw_for(seed, nothing, three, 20_000..=20_000, |seed, _, heal_at, _| {
            draw_lock_events(seed, heal_at, draw_wall_jump)
        })
    }

    /// The leader is replaced from 4 s on, and loses its peers at some moment of that.
    pub(super) fn of_a_leader_cut_off(at: Duration) -> Self {
        let mut plan = Self::quiet(1, ms(4), ms(8_700));
        let standing_by = plan.machines[0].clone();
        plan.machines.push(MachinePlan { seed: 4, ..standing_by });
        let fault = Fault::Isolate(Who::Leader, false);
        plan.events = vec![Event { at, lasts: ms(4_000), fault }];
        plan.changes = vec![Planned { at: ms(4_000), change: Change::ReplaceLeader }];
        plan
    }

    /// A quiet cluster, for what a scenario makes happen by itself; `tick` is how exact its times are.
    pub(super) fn quiet(seed: u64, tick: Duration, lasts: Duration) -> Self {
        let (nothing, three) = (Planted::Nothing, Scope::Three);
        let mut plan = Self::draw_for(seed, nothing, three, 0..=0, |_, _, _, _| Vec::new());
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
        scope: Scope,
        heal_at_ms: RangeInclusive<u64>,
        events: impl FnOnce(u64, Planted, Duration, usize) -> Vec<Event>,
    ) -> Self {
        let seeds = Seeds::of(seed);
        let mut more = StdRng::seed_from_u64(seeds.more);
        // A fault that is planted is looked for where little else is in its way.
        let mut any = |one_in| {
            scope == Scope::Any && planted == Planted::Nothing && more.random_ratio(1, one_in)
        };
        let (large, disks, changing) = (any(4), any(3), any(3));
        let founders = if large { NODES_OF_LARGE } else { NODES.len() };
        let standing_by = if changing { STANDING_BY } else { 0 };
        let mut rng = StdRng::seed_from_u64(seeds.machines);
        let slow = rng.random_range(0..12_usize);
        let mut machines: Vec<_> = (0..NODES.len())
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
        machines.extend((NODES.len()..founders + standing_by).map(|_| MachinePlan {
            seed: more.random(),
            sync_delay: Duration::from_micros(100)..=ms(3),
            state_flush_one_in: 16,
            wall_skew_ms: more.random_range(-5_000..=5_000),
        }));
        let mut events = events(seeds.faults, planted, heal_at, founders);
        if disks {
            events.extend(draw_disk_events(&mut more, heal_at, founders));
            events.sort_by_key(|event| event.at);
        }
        let changes = if changing { draw_changes(&mut more, heal_at) } else { Vec::new() };
        Self {
            seeds,
            planted,
            tick,
            latency_max,
            founders,
            machines,
            snapshots,
            events,
            changes,
            heal_at,
        }
    }
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
        for (nth, (host, machine)) in HOSTS.iter().zip(&self.machines).enumerate() {
            let stands_by = if nth < self.founders { "" } else { "stands by, " };
            writeln!(
                f,
                "{host}: {stands_by}syncs take {:?}, wall clock off by {} ms",
                machine.sync_delay, machine.wall_skew_ms
            )?;
        }
        for Event { at, lasts, fault } in &self.events {
            writeln!(f, "at {at:>10?} for {lasts:>9?}: {fault:?}")?;
        }
        for Planned { at, change } in &self.changes {
            writeln!(f, "at {at:>10?}, or once the one before is done: {change:?}")?;
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
        for seed in 0..200 {
            for event in Plan::draw(seed, Planted::Nothing).events {
                let name = format!("{:?}", event.fault);
                kinds.insert(name.split('(').next().unwrap().to_owned());
            }
        }
        assert_eq!(kinds.len(), 15, "{kinds:?}");
    }

    #[test]
    fn some_clusters_are_large_and_some_change() {
        let plans = || (0..200).map(|seed| Plan::draw(seed, Planted::Nothing));
        assert!(plans().any(|plan| plan.founders == NODES_OF_LARGE && plan.changes.is_empty()));
        assert!(plans().any(|plan| plan.founders == NODES.len() && !plan.changes.is_empty()));
        assert!(plans().all(|plan| plan.machines.len() <= HOSTS.len()));
    }
}
