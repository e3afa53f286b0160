//! Draws what goes wrong in a run, and when.

use super::members::{Change, Planned};
use super::net::{CLIENT_HOSTS, NODES};
use super::plan::{Event, Fault, Who};
use super::planted::{Needs, Planted};
use rand::RngExt;
use rand::SeedableRng;
use rand::rngs::StdRng;
use std::time::Duration;

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

pub(super) fn draw_events(
    seed: u64,
    planted: Planted,
    heal_at: Duration,
    nodes: usize,
) -> Vec<Event> {
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
        let fault = draw_fault(&mut rng, nodes);
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

fn draw_fault(rng: &mut StdRng, nodes: usize) -> Fault {
    let node = rng.random_range(0..nodes);
    let other = (node + rng.random_range(1..nodes)) % nodes;
    if nodes > NODES.len() && rng.random_ratio(1, 5) {
        return if rng.random_ratio(1, 2) { Fault::Split(node, other) } else { Fault::Ring };
    }
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

pub(super) fn draw_lock_events(
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
pub(super) fn draw_lock_fault(rng: &mut StdRng) -> (Fault, Duration) {
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

pub(super) fn draw_wall_jump(rng: &mut StdRng) -> (Fault, Duration) {
    (Fault::WallJump(Who::Leader, *pick(rng, &[-HOUR_MS, HOUR_MS])), Duration::ZERO)
}

/// Disks that fail, have no room, or take long: a few in a run.
pub(super) fn draw_disk_events(rng: &mut StdRng, heal_at: Duration, nodes: usize) -> Vec<Event> {
    let mut events = Vec::new();
    let mut at = ms(2_500);
    loop {
        at += ms(rng.random_range(500..=5_000));
        if at >= heal_at {
            return events;
        }
        let node = Who::Node(rng.random_range(0..nodes));
        let one = if rng.random_ratio(1, 2) { Who::Leader } else { node };
        let fault = match rng.random_range(0..3) {
            0 => Fault::FailingDisk(one),
            1 => Fault::FullDisk(*pick(rng, &[one, one, Who::All])),
            _ => Fault::SlowDisk(one, rng.random_range(20..=400)),
        };
        let lasts = ms(rng.random_range(200..=4_000));
        events.push(Event { at, lasts, fault });
    }
}

/// Two at most: a node that is away while all it knew are replaced can't find those who took their
/// places.
pub(super) fn draw_changes(rng: &mut StdRng, heal_at: Duration) -> Vec<Planned> {
    let latest = u64::try_from(heal_at.as_millis()).unwrap_or(u64::MAX);
    let mut changes: Vec<_> = (0..rng.random_range(1..=2))
        .map(|_| {
            let which = rng.random_range(0..NODES.len());
            let change = match rng.random_ratio(1, 2) {
                true => Change::Replace { which },
                false => Change::GrowAndShrink { stays: ms(rng.random_range(0..=3_000)), which },
            };
            Planned { at: ms(rng.random_range(2_500..=latest.max(2_500))), change }
        })
        .collect();
    changes.sort_by_key(|change| change.at);
    changes
}

pub(super) fn pick<'a, T>(rng: &mut StdRng, choices: &'a [T]) -> &'a T {
    &choices[rng.random_range(0..choices.len())]
}
