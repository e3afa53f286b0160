//! What happens when. Drawn from a seed, kept as JSON lines, read again from them: a plan that found
//! something is cut down by hand, and run as often as it takes.

use anyhow::{Context as _, Result, ensure};
use rand::rngs::StdRng;
use rand::seq::SliceRandom as _;
use rand::{RngExt as _, SeedableRng as _};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::time::Duration;

/// Whom a fault is about; found out when it happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Who {
    /// The leader, or anyone when nobody leads.
    Leader,
    /// Anyone else.
    Follower,
    /// As many as can be missed, the leader among them or not.
    Minority,
    /// So many that the others are no majority.
    Majority,
    /// All of them.
    All,
}

/// Who can't reach whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Shape {
    /// The leader reaches nobody.
    LeaderAlone,
    /// Somebody else reaches nobody.
    FollowerAlone,
    /// Two parts, one of them a majority.
    Halves,
    /// Two parts, and one node that is in both.
    Bridge,
    /// Each is heard by one neighbour alone.
    Ring,
    /// The leader hears the others, and they don't hear it.
    LeaderUnheard,
    /// The others hear the leader, and it does not hear them.
    LeaderDeaf,
    /// The leader is alone, and is not, again and again.
    Flapping,
    /// Clients don't reach the leader.
    ClientsFromLeader,
}

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    /// Processes end without a word (SIGKILL), and start again.
    Kill(Who),
    /// Processes stand still (SIGSTOP), and go on.
    Pause(Who),
    /// Packets are lost.
    Partition(Shape),
    /// What a node sends and is sent comes late, in another order, twice, or not at all.
    Slow {
        /// Whose.
        who: Who,
        /// At least so late.
        delay_ms: u64,
        /// And up to so much later.
        jitter_ms: u64,
        /// So many of a thousand packets are lost.
        lost_permille: u32,
        /// So many of a thousand come twice.
        doubled_permille: u32,
    },
    /// A wall clock is set.
    Clock {
        /// Whose.
        who: Who,
        /// By so much.
        by_ms: i64,
    },
    /// Each sync takes longer.
    SlowDisk {
        /// Whose.
        who: Who,
        /// By so much.
        by_ms: u64,
    },
    /// There is no room left.
    FullDisk(Who),
    /// Syncs fail.
    FailingDisk(Who),
    /// A new node takes a node's place.
    Replace(Who),
    /// One more node joins; when it is over, one leaves.
    Grow,
    /// One node after the other ends in order, and starts again.
    RollingRestart,
    /// Nothing: all must be well, and soon.
    Calm,
}

impl Fault {
    /// What it is called in tables.
    #[must_use]
    pub fn kind(&self) -> String {
        match self {
            Self::Kill(who) => format!("kill {}", word(who)),
            Self::Pause(who) => format!("pause {}", word(who)),
            Self::Partition(shape) => format!("partition {}", word(shape)),
            Self::Slow { .. } => "slow, lossy links".to_owned(),
            Self::Clock { .. } => "clock jump".to_owned(),
            Self::SlowDisk { .. } => "slow disk".to_owned(),
            Self::FullDisk(_) => "full disk".to_owned(),
            Self::FailingDisk(_) => "failing disk".to_owned(),
            Self::Replace(_) => "member replaced".to_owned(),
            Self::Grow => "member added and removed".to_owned(),
            Self::RollingRestart => "rolling restart".to_owned(),
            Self::Calm => "calm".to_owned(),
        }
    }

    /// Whether it needs a network or a disk of its own for each node.
    #[must_use]
    pub fn needs_hosts(&self) -> bool {
        !matches!(
            self,
            Self::Kill(_)
                | Self::Pause(_)
                | Self::Replace(_)
                | Self::Grow
                | Self::RollingRestart
                | Self::Calm
        )
    }
}

/// The name of a variant, as it is written in plans.
fn word(value: &impl Serialize) -> String {
    let text = serde_json::to_string(value).expect("a plain enum");
    text.trim_matches('"').replace('_', " ")
}

/// A fault, from when and how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Since the work began, in milliseconds.
    pub at_ms: u64,
    /// In milliseconds; what can't be told beforehand, as a change of members, ends when it does.
    pub lasts_ms: u64,
    /// What goes wrong.
    pub fault: Fault,
}

/// Everything that happens in a run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// In the order in which they begin.
    pub events: Vec<Event>,
}

/// Before anything happens.
const QUIET_MS: u64 = 3_000;
/// All is well for so long, from time to time: whoever has to recover must be done in the first ten
/// seconds of it, and then nothing is excused any more.
const CALM_MS: u64 = 18_000;
/// From one calm to the next, at most.
const BUSY_MS: u64 = 70_000;
/// Between the ends and beginnings of faults, at most.
const GAP_MS_MAX: u64 = 2_500;
const HOUR_MS: i64 = 3_600_000;

impl Plan {
    /// Faults of all kinds for so long. All kinds come equally often, as cards of a deck that is shuffled
    /// anew when it is through; the rarer ones are fewer in the deck.
    #[must_use]
    pub fn draw(seed: u64, lasts: Duration, hosts: bool) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let end_ms = u64::try_from(lasts.as_millis()).unwrap_or(u64::MAX);
        let (mut events, mut deck) = (Vec::new(), Vec::new());
        let (mut at_ms, mut calm_at_ms) = (QUIET_MS, QUIET_MS + BUSY_MS);
        while at_ms < end_ms {
            if at_ms >= calm_at_ms {
                events.push(Event { at_ms, lasts_ms: CALM_MS, fault: Fault::Calm });
                at_ms += CALM_MS;
                calm_at_ms = at_ms + BUSY_MS;
                continue;
            }
            if deck.is_empty() {
                deck = full_deck();
                // What it needs does not hang on the choices it makes.
                deck.retain(|card| hosts || !card(&mut StdRng::seed_from_u64(0)).0.needs_hosts());
                deck.shuffle(&mut rng);
            }
            let Some(card) = deck.pop() else { break };
            let (fault, lasts_ms) = card(&mut rng);
            events.push(Event { at_ms, lasts_ms, fault });
            // One of three begins while the one before is under way.
            if !rng.random_ratio(1, 3) {
                at_ms += lasts_ms;
            }
            at_ms += rng.random_range(100..=GAP_MS_MAX);
        }
        Self { events }
    }

    /// Reads a plan; empty lines and such that begin with `#` are passed over.
    ///
    /// # Errors
    /// With the line that is no event, or is out of order.
    pub fn parse(text: &str) -> Result<Self> {
        let lines = text.lines().zip(1..).filter(|(line, _)| {
            let line = line.trim_start();
            !line.is_empty() && !line.starts_with('#')
        });
        let mut events: Vec<Event> = Vec::new();
        for (line, number) in lines {
            let event: Event = serde_json::from_str(line)
                .with_context(|| format!("line {number} of the plan is no event"))?;
            let before = events.last().map_or(0, |event| event.at_ms);
            ensure!(
                before <= event.at_ms,
                "line {number} of the plan is earlier than the one before"
            );
            events.push(event);
        }
        Ok(Self { events })
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for event in &self.events {
            let line = serde_json::to_string(event).map_err(|_| fmt::Error)?;
            writeln!(f, "{line}")?;
        }
        Ok(())
    }
}

type Card = fn(&mut StdRng) -> (Fault, u64);

/// A time between these, in which each order of magnitude is as likely as another.
fn between(rng: &mut StdRng, least_ms: u64, most_ms: u64) -> u64 {
    let (least, most) = ((least_ms as f64).ln(), (most_ms as f64).ln());
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "between two of them"
    )]
    let ms = rng.random_range(least..=most).exp() as u64;
    ms
}

fn full_deck() -> Vec<Card> {
    let kills: [(Card, usize); 5] = [
        (|rng| (Fault::Kill(Who::Leader), between(rng, 50, 4_000)), 7),
        (|rng| (Fault::Kill(Who::Follower), between(rng, 50, 8_000)), 5),
        (|rng| (Fault::Kill(Who::Minority), between(rng, 50, 4_000)), 1),
        (|rng| (Fault::Kill(Who::Majority), between(rng, 50, 2_000)), 2),
        (|rng| (Fault::Kill(Who::All), between(rng, 50, 1_000)), 2),
    ];
    let pauses: [(Card, usize); 4] = [
        (|rng| (Fault::Pause(Who::Leader), between(rng, 100, 4_000)), 4),
        (|rng| (Fault::Pause(Who::Leader), between(rng, 4_000, 60_000)), 1),
        (|rng| (Fault::Pause(Who::Follower), between(rng, 100, 8_000)), 2),
        (|rng| (Fault::Pause(Who::All), between(rng, 100, 2_000)), 1),
    ];
    let partitions: [(Card, usize); 9] = [
        (|rng| (Fault::Partition(Shape::LeaderAlone), between(rng, 300, 8_000)), 3),
        (|rng| (Fault::Partition(Shape::FollowerAlone), between(rng, 300, 8_000)), 2),
        (|rng| (Fault::Partition(Shape::Halves), between(rng, 300, 8_000)), 2),
        (|rng| (Fault::Partition(Shape::Bridge), between(rng, 300, 6_000)), 2),
        (|rng| (Fault::Partition(Shape::Ring), between(rng, 300, 6_000)), 1),
        (|rng| (Fault::Partition(Shape::LeaderUnheard), between(rng, 300, 6_000)), 2),
        (|rng| (Fault::Partition(Shape::LeaderDeaf), between(rng, 300, 6_000)), 2),
        (|rng| (Fault::Partition(Shape::Flapping), between(rng, 1_000, 6_000)), 1),
        (|rng| (Fault::Partition(Shape::ClientsFromLeader), between(rng, 300, 4_000)), 1),
    ];
    let rest: [(Card, usize); 8] = [
        (draw_slow, 3),
        (draw_clock, 3),
        (|rng| (slow_disk(rng, Who::Leader), between(rng, 500, 6_000)), 2),
        (|rng| (slow_disk(rng, Who::All), between(rng, 500, 4_000)), 1),
        (|rng| (Fault::FullDisk(either(rng)), between(rng, 500, 5_000)), 3),
        (|rng| (Fault::FailingDisk(either(rng)), between(rng, 500, 3_000)), 2),
        (|rng| (Fault::Replace(either(rng)), 0), 5),
        (|rng| (Fault::Grow, between(rng, 100, 4_000)), 2),
    ];
    let restarts: [(Card, usize); 1] = [(|_| (Fault::RollingRestart, 0), 1)];
    let all = kills.into_iter().chain(pauses).chain(partitions).chain(rest).chain(restarts);
    all.flat_map(|(card, times)| std::iter::repeat_n(card, times)).collect()
}

fn either(rng: &mut StdRng) -> Who {
    if rng.random_ratio(1, 2) { Who::Leader } else { Who::Follower }
}

fn slow_disk(rng: &mut StdRng, who: Who) -> Fault {
    Fault::SlowDisk { who, by_ms: between(rng, 20, 1_500) }
}

fn draw_slow(rng: &mut StdRng) -> (Fault, u64) {
    let fault = Fault::Slow {
        who: if rng.random_ratio(1, 3) { Who::All } else { either(rng) },
        delay_ms: between(rng, 1, 300),
        jitter_ms: between(rng, 1, 100),
        lost_permille: rng.random_range(0..=100),
        doubled_permille: rng.random_range(0..=50),
    };
    (fault, between(rng, 1_000, 8_000))
}

/// Often there and back again.
fn draw_clock(rng: &mut StdRng) -> (Fault, u64) {
    let by_ms =
        *[-HOUR_MS, HOUR_MS, -2_000, 2_000, 300_000].get(rng.random_range(0..5)).unwrap_or(&0);
    let who = if rng.random_ratio(1, 3) { Who::All } else { either(rng) };
    (Fault::Clock { who, by_ms }, between(rng, 500, 20_000))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    const LONG: Duration = Duration::from_secs(1_200);

    #[test]
    fn a_seed_always_draws_the_same_and_another_one_something_else() {
        assert_eq!(Plan::draw(1, LONG, true), Plan::draw(1, LONG, true));
        assert_ne!(Plan::draw(1, LONG, true), Plan::draw(2, LONG, true));
    }

    #[test]
    fn what_is_printed_is_what_is_read() {
        let plan = Plan::draw(3, LONG, true);
        assert_eq!(Plan::parse(&format!("# by hand\n\n{plan}")).unwrap(), plan);
        let wrong = Plan::parse("{\"at_ms\":1}").unwrap_err().to_string();
        assert!(wrong.contains("line 1"), "{wrong}");
        let text = Plan::draw(3, LONG, true).to_string();
        let backwards: Vec<_> = text.lines().rev().collect();
        assert!(Plan::parse(&backwards.join("\n")).is_err());
    }

    #[test]
    fn every_kind_comes_in_a_long_run_and_the_simple_ones_without_hosts() {
        let kinds = |hosts| -> BTreeSet<String> {
            let events = Plan::draw(5, LONG, hosts).events;
            events.iter().map(|event| event.fault.kind()).collect()
        };
        // 5 kills, 3 pauses, 9 partitions, links, clock, 3 of disks, 2 of members, restarts, calm.
        assert_eq!(kinds(true).len(), 26, "{:?}", kinds(true));
        assert_eq!(kinds(false).len(), 12, "{:?}", kinds(false));
    }
}
