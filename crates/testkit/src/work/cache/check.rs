//! What was seen of a cache, and what of that can't be. Pure.

use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// How long a builder may take: the lease it is given.
pub(super) const BUILD_LEASE: Duration = Duration::from_secs(1);
/// How long what is built is fresh.
pub(super) const TTL: Duration = Duration::from_millis(250);
/// How much later it may still be read while the cluster is well.
pub(super) const LATE_MAX: Duration = Duration::from_secs(1);
/// While reads and changes succeed at least so often, and reads as fast, the cluster is well: what expires
/// goes by a change of its own.
pub(super) const PULSE: Duration = Duration::from_millis(400);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Fate {
    Done,
    Not,
    Unknown,
}

/// What a value says: which it is, and what was the truth when it was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Value {
    /// No other value has it.
    pub(super) number: u64,
    /// How often what the key is about has changed by then.
    pub(super) truth: u64,
}

/// A value that was to be stored, by a set or by a builder.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Made {
    pub(super) key: String,
    pub(super) value: Value,
    pub(super) begun: Duration,
    pub(super) ended: Duration,
    pub(super) fate: Fate,
    /// Whether it has a ttl.
    pub(super) expires: bool,
}

/// What a key is about changed, and whoever did it has set, deleted or invalidated it since. Each key is
/// one caller's to change, one change after the other.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Changed {
    pub(super) key: String,
    /// From now on.
    pub(super) truth: u64,
    pub(super) ended: Duration,
    pub(super) fate: Fate,
}

/// A builder at work.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Build {
    pub(super) key: String,
    /// Before it asked for the task.
    pub(super) asked: Duration,
    pub(super) begun: Duration,
    pub(super) ended: Duration,
}

/// What a read has to see of what was acknowledged before it began.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Sees {
    All,
    /// What its own client did; of a key that nobody else changes.
    Own,
    /// Nothing that is known here.
    Something,
}

#[derive(Clone, Debug, Serialize)]
pub(super) struct Read {
    pub(super) key: String,
    pub(super) begun: Duration,
    pub(super) ended: Duration,
    pub(super) sees: Sees,
    pub(super) value: Option<Value>,
}

#[derive(Clone, Debug, Default)]
pub(super) struct History {
    pub(super) made: Vec<Made>,
    pub(super) changed: Vec<Changed>,
    pub(super) builds: Vec<Build>,
    pub(super) reads: Vec<Read>,
}

impl History {
    /// What can't be, a line each.
    pub(super) fn check(&self) -> Vec<String> {
        let mut breaches = Vec::new();
        self.one_builds(&mut breaches);
        let made: BTreeMap<u64, &Made> =
            self.made.iter().map(|made| (made.value.number, made)).collect();
        // Of each key, when which truth was acknowledged. Each is larger than the one before.
        let mut acknowledged: BTreeMap<&str, Vec<(Duration, u64)>> = BTreeMap::new();
        for changed in self.changed.iter().filter(|changed| changed.fate == Fate::Done) {
            let of = acknowledged.entry(&changed.key).or_default();
            of.push((changed.ended, changed.truth));
        }
        acknowledged.values_mut().for_each(|of| of.sort_unstable());
        let quick = |read: &&Read| read.sees == Sees::All && read.ended - read.begun < PULSE;
        let mut pulse: Vec<Duration> =
            self.reads.iter().filter(quick).map(|read| read.ended).collect();
        pulse.sort_unstable();
        let done = self.changed.iter().filter(|changed| changed.fate == Fate::Done);
        let mut changes: Vec<Duration> = done.map(|changed| changed.ended).collect();
        changes.sort_unstable();
        for read in &self.reads {
            let Some(value) = read.value else { continue };
            let made = made.get(&value.number);
            let wrong = match made {
                None => "nobody made it",
                Some(made) if made.key != read.key || made.value != value => "it is another's",
                Some(made) if made.fate == Fate::Not => "it was certainly not stored",
                Some(made) if made.begun > read.ended => "it was made only later",
                Some(_) => "",
            };
            if !wrong.is_empty() {
                breaches.push(format!("{read:?}: {wrong}"));
            }
            if read.sees != Sees::Something {
                let before = acknowledged.get(&read.key[..]).map_or(&[][..], Vec::as_slice);
                let before = before.iter().take_while(|(ended, _)| *ended < read.begun).last();
                if let Some((ended, truth)) = before.filter(|(_, truth)| *truth > value.truth) {
                    breaches.push(format!(
                        "{read:?}: it changed to {truth}, acknowledged at {ended:?}"
                    ));
                }
            }
            if let Some(made) = made.filter(|made| made.expires && made.fate == Fate::Done)
                && read.sees == Sees::All
                && read.begun > made.ended + TTL + LATE_MAX
                && [&pulse, &changes].iter().all(|pulse| is_well(pulse, made.ended, read.begun))
            {
                breaches.push(format!(
                    "{read:?}: its ttl of {TTL:?} was over; it was stored by {:?}",
                    made.ended
                ));
            }
        }
        breaches
    }

    /// While one builds under a lease that can't be over, nobody else does. Only of keys that nobody
    /// changes: a change ends the lease.
    fn one_builds(&self, breaches: &mut Vec<String>) {
        let changed: BTreeSet<&str> = self.changed.iter().map(|changed| &changed.key[..]).collect();
        let mut of: BTreeMap<&str, Vec<&Build>> = BTreeMap::new();
        for build in &self.builds {
            if !changed.contains(&build.key[..]) {
                of.entry(&build.key).or_default().push(build);
            }
        }
        for builds in of.values_mut() {
            builds.sort_by_key(|build| build.begun);
            for (place, one) in builds.iter().enumerate() {
                let until = one.ended.min(one.asked + BUILD_LEASE);
                let others = builds[place + 1..].iter();
                let meanwhile = others.take_while(|other| other.begun < until);
                // What comes so late that its own lease may have been over before this one was given is
                // of no use, but nobody could have told it.
                for other in meanwhile.filter(|other| other.asked + BUILD_LEASE > one.begun) {
                    breaches.push(format!("two build at once: {one:?} and {other:?}"));
                }
            }
        }
    }
}

/// Whether reads succeeded all the time.
fn is_well(pulse: &[Duration], from: Duration, until: Duration) -> bool {
    let begin = pulse.partition_point(|at| *at < from);
    let end = pulse.partition_point(|at| *at <= until);
    let times = pulse[begin..end].iter().copied().chain([until]);
    let mut last = from;
    for at in times {
        if at - last > PULSE {
            return false;
        }
        last = at;
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn made(number: u64, truth: u64, begun: u64, fate: Fate) -> Made {
        let (begun, ended) = (at(begun), at(begun + 10));
        let value = Value { number, truth };
        Made { key: "k".to_owned(), value, begun, ended, fate, expires: false }
    }

    fn changed(truth: u64, ended: u64, fate: Fate) -> Changed {
        Changed { key: "k".to_owned(), truth, ended: at(ended), fate }
    }

    fn read(begun: u64, value: Option<(u64, u64)>) -> Read {
        let value = value.map(|(number, truth)| Value { number, truth });
        let (begun, ended) = (at(begun), at(begun + 5));
        Read { key: "k".to_owned(), begun, ended, sees: Sees::All, value }
    }

    fn build(asked: u64, begun: u64, ended: u64) -> Build {
        Build { key: "b".to_owned(), asked: at(asked), begun: at(begun), ended: at(ended) }
    }

    /// A value that expires, stored at 10, and reads and changes of another key all the time until then.
    fn expiring(last: u64) -> History {
        let value = Made { key: "b".to_owned(), expires: true, ..made(9, 0, 0, Fate::Done) };
        let mut reads: Vec<Read> = (0..last).step_by(100).map(|at| read(at, None)).collect();
        reads.push(Read { key: "b".to_owned(), ..read(last, Some((9, 0))) });
        let changed = (0..last).step_by(100).map(|at| changed(at, at, Fate::Done)).collect();
        History { made: vec![value], reads, changed, ..History::default() }
    }

    fn right() -> History {
        History {
            made: vec![
                made(1, 0, 0, Fate::Done),
                made(2, 1, 20, Fate::Done),
                made(3, 1, 30, Fate::Not),
                made(4, 2, 50, Fate::Unknown),
            ],
            changed: vec![
                changed(1, 15, Fate::Done),
                changed(2, 45, Fate::Done),
                changed(3, 80, Fate::Unknown),
            ],
            builds: vec![
                build(0, 5, 300),
                build(0, 301, 1_700),
                // Its lease is over by then.
                build(400, 1_100, 1_200),
                Build { key: "k".to_owned(), ..build(0, 0, 50) },
                Build { key: "k".to_owned(), ..build(0, 40, 90) },
            ],
            reads: vec![
                read(12, Some((1, 0))),
                read(14, Some((1, 0))),
                read(16, None),
                read(40, Some((2, 1))),
                read(60, Some((4, 2))),
                read(99, Some((4, 2))),
                Read { sees: Sees::Something, ..read(70, Some((2, 1))) },
            ],
        }
    }

    #[track_caller]
    fn finds(change: impl FnOnce(&mut History), part: &str) {
        let mut history = right();
        change(&mut history);
        let breaches = history.check();
        assert!(breaches.iter().any(|breach| breach.contains(part)), "{breaches:?}");
    }

    #[test]
    fn what_may_be_is_not_found() {
        assert_eq!(right().check(), Vec::<String>::new());
        assert_eq!(expiring(1_200).check(), Vec::<String>::new());
    }

    #[test]
    fn a_stale_value_is_found() {
        finds(|history| history.reads.push(read(16, Some((1, 0)))), "changed to 1");
        let own = Read { sees: Sees::Own, ..read(90, Some((2, 1))) };
        finds(|history| history.reads.push(own), "changed to 2");
    }

    #[test]
    fn an_invented_value_is_found() {
        finds(|history| history.reads.push(read(60, Some((7, 2)))), "nobody made it");
        finds(|history| history.reads.push(read(60, Some((4, 3)))), "another's");
        finds(|history| history.reads.push(read(44, Some((3, 1)))), "certainly not stored");
        finds(|history| history.reads.push(read(14, Some((2, 1)))), "only later");
    }

    #[test]
    fn two_builders_at_once_are_found() {
        finds(|history| history.builds.push(build(100, 200, 250)), "two build at once");
        finds(|history| history.builds.push(build(200, 900, 950)), "two build at once");
    }

    #[test]
    fn one_who_comes_too_late_with_its_task_is_not_found() {
        let of = |builds: [Build; 2]| History { builds: builds.into(), ..History::default() };
        let late = of([build(2_900, 3_000, 3_100), build(500, 3_050, 3_060)]);
        assert_eq!(late.check(), Vec::<String>::new());
        let in_time = of([build(2_900, 3_000, 3_100), build(2_100, 3_050, 3_060)]);
        assert_eq!(in_time.check().len(), 1);
    }

    #[test]
    fn a_value_that_outlives_its_ttl_is_found() {
        let breaches = expiring(1_400).check();
        assert!(breaches.iter().any(|breach| breach.contains("was over")), "{breaches:?}");
        // Nobody knows how the cluster was meanwhile.
        let mut unwell = expiring(1_400);
        unwell.reads.retain(|read| read.begun < at(300) || read.begun > at(800));
        assert_eq!(unwell.check(), Vec::<String>::new());
        // Nothing could be changed, so nothing could expire either.
        let mut stuck = expiring(1_400);
        stuck.changed.retain(|changed| changed.ended < at(300) || changed.ended > at(800));
        assert_eq!(stuck.check(), Vec::<String>::new());
    }
}
