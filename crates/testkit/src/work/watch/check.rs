//! What watchers saw of keys that others changed, and what of that can't be. Pure.

use crate::work::calls::Fate;
use serde::Serialize;
use std::collections::BTreeMap;

/// A change of one key: its value and version, or that it is gone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Change {
    pub(super) key: String,
    pub(super) set: Option<(String, u64)>,
}

/// What a watcher was handed, or did, in its order.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Seen {
    /// It listed all keys, at a revision, and goes on behind it.
    Listed { revision: u64, keys: Vec<(String, String, u64)> },
    /// It began another watch, behind what it had seen.
    Moved { revision: u64 },
    /// Changes of one or more revisions, each with its own, and how far it is with them.
    Changes { changes: Vec<(u64, Change)>, revision: u64 },
}

/// What somebody wrote: values of several keys at once, none for a deletion.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Write {
    pub(super) changes: Vec<(String, Option<String>)>,
    pub(super) fate: Fate,
}

#[derive(Clone, Debug, Default)]
pub(super) struct History {
    pub(super) writes: Vec<Write>,
    /// Of each watcher.
    pub(super) seen: Vec<Vec<Seen>>,
}

/// Of each revision, all changes in their order.
type Revisions = BTreeMap<u64, Vec<Change>>;

/// A stretch that a watcher saw without a break: everything behind the first revision, up to the last.
struct Stretch {
    watcher: usize,
    behind: u64,
    upto: u64,
}

impl History {
    /// What can't be, a line each.
    pub(super) fn check(&self) -> Vec<String> {
        let mut breaches = Vec::new();
        let mut all = Revisions::new();
        let mut stretches = Vec::new();
        let mut of_watchers = Vec::new();
        for (watcher, seen) in self.seen.iter().enumerate() {
            of_watchers.push(follow(watcher, seen, &mut stretches, &mut breaches));
        }
        for (watcher, own) in of_watchers.iter().enumerate() {
            for (revision, changes) in own {
                let known = all.entry(*revision).or_insert_with(|| changes.clone());
                if known != changes {
                    breaches.push(format!(
                        "at {revision} watcher {watcher} saw {changes:?}, and others {known:?}"
                    ));
                }
            }
        }
        for Stretch { watcher, behind, upto } in &stretches {
            if behind >= upto {
                continue;
            }
            for (revision, changes) in all.range(behind + 1..=*upto) {
                if !of_watchers[*watcher].contains_key(revision) {
                    breaches.push(format!(
                        "watcher {watcher} missed {changes:?} at {revision}; it saw everything from \
                         {behind} to {upto}"
                    ));
                }
            }
        }
        self.writes_are_seen(&all, &stretches, &mut breaches);
        breaches
    }

    /// What was acknowledged is where it was acknowledged, what failed is nowhere, and nothing else is
    /// anywhere.
    fn writes_are_seen(&self, all: &Revisions, stretches: &[Stretch], breaches: &mut Vec<String>) {
        let mut writes: BTreeMap<(&str, &str), &Write> = BTreeMap::new();
        for write in &self.writes {
            for (key, value) in &write.changes {
                if let Some(value) = value {
                    writes.insert((key, value), write);
                }
            }
            let Fate::At(revision) = write.fate else { continue };
            if !stretches.iter().any(|one| one.behind < revision && revision <= one.upto) {
                continue;
            }
            let at = all.get(&revision).map_or(&[][..], Vec::as_slice);
            let told: Vec<_> = at.iter().map(|change| (&change.key, value_of(change))).collect();
            let wanted: Vec<_> =
                write.changes.iter().map(|(key, value)| (key, value.as_deref())).collect();
            if told != wanted {
                breaches.push(format!("at {revision} was written {wanted:?}, and seen {told:?}"));
            }
        }
        let mut values: BTreeMap<&str, u64> = BTreeMap::new();
        for (revision, changes) in all {
            for change in changes {
                let Some(value) = value_of(change) else { continue };
                let wrong = match writes.get(&(&change.key[..], value)) {
                    None => "nobody wrote it",
                    Some(write) if write.fate == Fate::Not => "writing it certainly failed",
                    Some(write) if write.changes.len() != changes.len() => "it is torn",
                    Some(_) => "",
                };
                if !wrong.is_empty() {
                    breaches.push(format!("at {revision} was seen {change:?}, and {wrong}"));
                }
                if let Some(before) = values.insert(value, *revision)
                    && before != *revision
                {
                    breaches.push(format!("{value} was set at {before} and at {revision}"));
                }
            }
        }
    }
}

fn value_of(change: &Change) -> Option<&str> {
    change.set.as_ref().map(|(value, _)| &value[..])
}

/// Follows a watcher: revisions only grow, none is torn, each key's versions follow each other, and
/// what it listed is what it had come to.
fn follow(
    watcher: usize,
    seen: &[Seen],
    stretches: &mut Vec<Stretch>,
    breaches: &mut Vec<String>,
) -> Revisions {
    let mut own = Revisions::new();
    let mut keys: BTreeMap<String, (String, u64)> = BTreeMap::new();
    // Up to where it has seen everything, and from where on without a break.
    let (mut done, mut since): (u64, Option<u64>) = (0, None);
    let mut tell = |what: String| breaches.push(format!("watcher {watcher}: {what}"));
    for event in seen {
        match event {
            Seen::Listed { revision, keys: listed } => {
                let listed: BTreeMap<_, _> = listed
                    .iter()
                    .map(|(k, v, version)| (k.clone(), (v.clone(), *version)))
                    .collect();
                // What was listed where it had come to is what it had come to.
                if since.is_some() && *revision == done && listed != keys {
                    tell(format!("at {done} it has {keys:?}, and there is {listed:?}"));
                }
                if *revision < done {
                    tell(format!("it listed at {revision}, after it had seen {done}"));
                }
                if let Some(behind) = since {
                    stretches.push(Stretch { watcher, behind, upto: done });
                }
                (keys, done, since) = (listed, *revision, Some(*revision));
            }
            Seen::Moved { revision } => {
                if *revision != done {
                    tell(format!("it moved at {revision}, and was at {done}"));
                }
            }
            Seen::Changes { changes, revision } => {
                let before = done;
                for (at, change) in changes {
                    // Of one revision nothing comes later than the rest.
                    if *at <= before || *at > *revision || own.range(at + 1..).next().is_some() {
                        tell(format!("{change:?} of {at} came after {before}, up to {revision}"));
                    }
                    match &change.set {
                        Some((value, version)) => {
                            let old = keys.insert(change.key.clone(), (value.clone(), *version));
                            let old = old.map_or(0, |(_, version)| version);
                            if *version != old + 1 {
                                tell(format!("at {at} {change:?} follows version {old}"));
                            }
                        }
                        None if keys.remove(&change.key).is_none() => {
                            tell(format!("at {at} {change:?}, and there was no such key"));
                        }
                        None => {}
                    }
                    own.entry(*at).or_default().push(change.clone());
                }
                if *revision < done {
                    tell(format!("it went back from {done} to {revision}"));
                }
                done = *revision;
            }
        }
    }
    if let Some(behind) = since {
        stretches.push(Stretch { watcher, behind, upto: done });
    }
    own
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(key: &str, value: &str, version: u64) -> Change {
        Change { key: key.to_owned(), set: Some((value.to_owned(), version)) }
    }

    fn gone(key: &str) -> Change {
        Change { key: key.to_owned(), set: None }
    }

    fn write(changes: &[(&str, Option<&str>)], fate: Fate) -> Write {
        let owned =
            |(key, value): &(&str, Option<&str>)| ((*key).to_owned(), value.map(str::to_owned));
        Write { changes: changes.iter().map(owned).collect(), fate }
    }

    fn changes(changes: &[(u64, Change)], revision: u64) -> Seen {
        Seen::Changes { changes: changes.to_vec(), revision }
    }

    fn listed(keys: &[(&str, &str, u64)], revision: u64) -> Seen {
        let owned = |(key, value, version): &(&str, &str, u64)| {
            ((*key).to_owned(), (*value).to_owned(), *version)
        };
        Seen::Listed { revision, keys: keys.iter().map(owned).collect() }
    }

    /// Two watchers of five writes, one of which failed and one is unknown, and happened.
    fn right() -> History {
        History {
            writes: vec![
                write(&[("a", Some("1"))], Fate::At(10)),
                write(&[("a", Some("2")), ("b", Some("2"))], Fate::At(12)),
                write(&[("a", Some("3"))], Fate::Not),
                write(&[("a", Some("4"))], Fate::Unknown),
                write(&[("b", None)], Fate::At(15)),
            ],
            seen: vec![
                vec![
                    listed(&[], 9),
                    changes(&[(10, set("a", "1", 1))], 10),
                    changes(&[(12, set("a", "2", 2)), (12, set("b", "2", 1))], 13),
                    Seen::Moved { revision: 13 },
                    changes(&[(14, set("a", "4", 3)), (15, gone("b"))], 15),
                    listed(&[("a", "4", 3)], 15),
                ],
                vec![
                    listed(&[("a", "1", 1)], 11),
                    changes(&[(12, set("a", "2", 2)), (12, set("b", "2", 1))], 12),
                    changes(&[(14, set("a", "4", 3))], 14),
                    changes(&[(15, gone("b"))], 16),
                ],
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
    fn what_was_committed_is_right() {
        assert_eq!(right().check(), Vec::<String>::new());
        let mut compacted = right();
        compacted.seen[1].truncate(1);
        compacted.seen[1].push(listed(&[("a", "4", 3)], 15));
        assert_eq!(compacted.check(), Vec::<String>::new());
    }

    #[test]
    fn a_gap_is_found() {
        let without = changes(&[(15, gone("b"))], 15);
        finds(|history| history.seen[0][4] = without, "watcher 0 missed");
        finds(|history| drop(history.seen[1].remove(2)), "watcher 1 missed");
        finds(|history| history.seen[0][5] = listed(&[("a", "5", 4)], 15), "there is {\"a\"");
        let lost = write(&[("c", Some("9"))], Fate::At(13));
        finds(|history| history.writes.push(lost), "was written [(\"c\"");
    }

    #[test]
    fn a_duplicate_is_found() {
        let again = changes(&[(14, set("a", "4", 3))], 15);
        finds(|history| history.seen[1].insert(3, again), "came after 14");
        finds(|history| history.writes[0].fate = Fate::At(14), "was written");
        let twice = |history: &mut History| {
            for (seen, from) in history.seen.iter_mut().zip([4, 2]) {
                seen.truncate(from);
                seen.push(changes(&[(14, set("a", "2", 3))], 15));
            }
        };
        finds(twice, "was set at 12 and at 14");
    }

    #[test]
    fn going_back_is_found() {
        finds(|history| history.seen[1].swap(2, 3), "came after 16");
        finds(|history| history.seen[0][2] = changes(&[], 8), "it went back from 10 to 8");
        let mixed = changes(&[(15, gone("b")), (14, set("a", "4", 3))], 15);
        finds(|history| history.seen[0][4] = mixed, "came after 13");
    }

    #[test]
    fn another_order_is_found() {
        let swapped = changes(&[(12, set("b", "2", 1)), (12, set("a", "2", 2))], 12);
        finds(|history| history.seen[1][1] = swapped, "and others");
    }

    #[test]
    fn what_was_not_written_is_found() {
        let change = |value| changes(&[(14, set("a", value, 3)), (15, gone("b"))], 15);
        finds(|history| history.seen[0][4] = change("7"), "nobody wrote it");
        finds(|history| history.seen[0][4] = change("3"), "certainly failed");
        let torn = changes(&[(12, set("a", "2", 2))], 13);
        finds(|history| history.seen[0][2] = torn, "it is torn");
    }
}
