//! What subscribers were handed of what publishers sent, and what of that can't be. Pure.

use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Epoch and position: the order of all messages.
pub(super) type Place = (u64, u64);

/// One publish, of one message or of several together. Each publisher makes one after the other.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Published {
    pub(super) publisher: u64,
    pub(super) begun: Duration,
    /// Channel and payload, which no other message has.
    pub(super) messages: Vec<(String, String)>,
    pub(super) fate: Fate,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Fate {
    /// Where each of them is.
    At(Vec<Place>),
    Not,
    Unknown,
}

/// What a subscriber was handed, in its order.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Seen {
    /// It subscribed, which was confirmed then.
    Began {
        at: Duration,
    },
    Message {
        place: Place,
        channel: String,
        payload: String,
    },
    /// So many are missing; none: nobody knows how many.
    Gap {
        missed: Option<u64>,
    },
}

/// A subscriber, and all it was handed.
#[derive(Clone, Debug)]
pub(super) struct Subscriber {
    pub(super) pattern: &'static str,
    /// Whether it shares its messages with the others that do.
    pub(super) shares: bool,
    pub(super) seen: Vec<Seen>,
}

#[derive(Clone, Debug, Default)]
pub(super) struct History {
    pub(super) published: Vec<Published>,
    pub(super) subscribers: Vec<Subscriber>,
}

/// A message, as it is known from whoever published or got it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Known<'a> {
    channel: &'a str,
    payload: &'a str,
}

/// What is missing before the next message is excused by so many that were counted, and by gaps that
/// nobody can count.
#[derive(Default)]
struct Excuses {
    counted: u64,
    uncounted: u64,
}

/// Whether a subscription takes a channel. The patterns of this workload have one `*` at most.
pub(super) fn takes(pattern: &str, channel: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == channel,
        Some((before, after)) => {
            channel.len() >= before.len() + after.len()
                && channel.starts_with(before)
                && channel.ends_with(after)
        }
    }
}

impl History {
    /// What can't be, a line each.
    pub(super) fn check(&self) -> Vec<String> {
        let mut breaches = Vec::new();
        // When the publish of each payload began.
        let mut sent: BTreeMap<&str, (Duration, &Published)> = BTreeMap::new();
        for published in &self.published {
            let messages = published.messages.iter();
            sent.extend(messages.map(|(_, payload)| (&payload[..], (published.begun, published))));
        }
        let known = self.known(&sent, &mut breaches);
        self.publishers_are_in_order(&mut breaches);
        let mut shared = BTreeSet::new();
        for (number, subscriber) in self.subscribers.iter().enumerate() {
            let mut tell = |what: String| {
                breaches.push(format!("subscriber {number} of {}: {what}", subscriber.pattern));
            };
            subscriber.check(&known, &sent, &mut tell);
            if !subscriber.shares {
                continue;
            }
            for seen in &subscriber.seen {
                if let Seen::Message { place, payload, .. } = seen
                    && !shared.insert(*place)
                {
                    tell(format!("{payload} at {place:?} went to another of its group as well"));
                }
            }
        }
        breaches
    }

    /// All messages by their places: there is one at each, and each has one.
    fn known<'a>(
        &'a self,
        sent: &BTreeMap<&str, (Duration, &Published)>,
        breaches: &mut Vec<String>,
    ) -> BTreeMap<Place, Known<'a>> {
        let mut known: BTreeMap<Place, Known<'_>> = BTreeMap::new();
        let told = self.published.iter().flat_map(|published| {
            let places = match &published.fate {
                Fate::At(places) => &places[..],
                Fate::Not | Fate::Unknown => &[],
            };
            let messages = places.iter().zip(&published.messages);
            messages.map(|(place, (channel, payload))| (*place, Known { channel, payload }))
        });
        let seen = self.subscribers.iter().flat_map(|subscriber| &subscriber.seen);
        let seen = seen.filter_map(|seen| match seen {
            Seen::Message { place, channel, payload } => Some((*place, Known { channel, payload })),
            Seen::Began { .. } | Seen::Gap { .. } => None,
        });
        let mut places: BTreeMap<&str, Place> = BTreeMap::new();
        for (place, message) in told.chain(seen) {
            let before = places.insert(message.payload, place).filter(|before| *before != place);
            if let Some(before) = before {
                breaches.push(format!("{} is at {before:?} and at {place:?}", message.payload));
            }
            match sent.get(message.payload) {
                None => breaches.push(format!("nobody published {message:?}, at {place:?}")),
                Some((_, by)) if by.fate == Fate::Not => {
                    breaches.push(format!("{message:?} at {place:?} was certainly not published"));
                }
                Some(_) => {}
            }
            let before = known.insert(place, message.clone()).filter(|before| *before != message);
            if let Some(before) = before {
                breaches.push(format!("at {place:?} is {before:?}, and {message:?}"));
            }
        }
        known
    }

    /// What one published later is later, and what was published together is together.
    fn publishers_are_in_order(&self, breaches: &mut Vec<String>) {
        let mut last: BTreeMap<u64, Place> = BTreeMap::new();
        for published in &self.published {
            let Fate::At(places) = &published.fate else { continue };
            let (Some(first), Some(end)) = (places.first(), places.last()) else { continue };
            let is_together =
                places.iter().zip(first.1..).all(|(place, at)| *place == (first.0, at));
            if !is_together {
                breaches.push(format!("not together: {published:?}"));
            }
            let before = last.insert(published.publisher, *end);
            if before.is_some_and(|before| before >= *first) {
                breaches.push(format!("after {before:?} of the same publisher: {published:?}"));
            }
        }
    }
}

impl Subscriber {
    fn check(
        &self,
        known: &BTreeMap<Place, Known<'_>>,
        sent: &BTreeMap<&str, (Duration, &Published)>,
        tell: &mut impl FnMut(String),
    ) {
        let mut last: Option<Place> = None;
        // Of a subscription that has had no message yet: since when it is one.
        let mut began: Option<Duration> = None;
        let mut excuses = Excuses::default();
        for seen in &self.seen {
            let (place, channel, payload) = match seen {
                Seen::Began { at } => {
                    (began, excuses) = (Some(*at), Excuses::default());
                    continue;
                }
                Seen::Gap { missed: Some(missed) } => {
                    excuses.counted += missed;
                    continue;
                }
                Seen::Gap { missed: None } => {
                    excuses.uncounted += 1;
                    continue;
                }
                Seen::Message { place, channel, payload } => (*place, channel, payload),
            };
            if !takes(self.pattern, channel) {
                tell(format!("it was handed {payload} of {channel}"));
            }
            if last >= Some(place) {
                tell(format!("{payload} at {place:?} came after {last:?}"));
            }
            if !self.shares {
                match (began, last) {
                    (None, Some(last)) if last < place => {
                        self.missing_is_told(known, last, place, &excuses, tell);
                    }
                    (Some(at), _) => {
                        let all = known.range(..place).filter(|(_, one)| {
                            let sent = sent.get(one.payload).is_some_and(|(begun, _)| *begun > at);
                            sent && takes(self.pattern, one.channel)
                        });
                        let missing = all.count();
                        if missing > 0 && excuses.counted + excuses.uncounted == 0 {
                            tell(format!("{missing} are missing since {at:?}, before {place:?}"));
                        }
                    }
                    _ => {}
                }
            }
            (last, began, excuses) = (Some(place), None, Excuses::default());
        }
    }

    /// Between two messages.
    fn missing_is_told(
        &self,
        known: &BTreeMap<Place, Known<'_>>,
        last: Place,
        place: Place,
        Excuses { counted, uncounted }: &Excuses,
        tell: &mut impl FnMut(String),
    ) {
        let between: Vec<_> = known.range(last..place).skip(1).map(|(_, one)| one).collect();
        let missing = between.iter().filter(|one| takes(self.pattern, one.channel)).count() as u64;
        if missing > 0 && counted + uncounted == 0 {
            tell(format!(
                "{missing} are missing between {last:?} and {place:?}, and there is no gap"
            ));
        } else if last.0 != place.0 && *uncounted == 0 {
            tell(format!(
                "nobody can count what is between {last:?} and {place:?}, and it was counted"
            ));
        } else if last.0 == place.0 && *uncounted == 0 {
            // Of some nobody knows the channel: their publishers were not told, and nobody saw them.
            let unseen = place.1 - last.1 - 1 - between.len() as u64;
            if !(missing..=missing + unseen).contains(counted) {
                tell(format!(
                    "{counted} were counted, {missing} are missing between {last:?} and {place:?}, of \
                     {unseen} nobody knows"
                ));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn published(begun: u64, messages: &[(&str, &str)], fate: Fate) -> Published {
        let owned =
            |(channel, payload): &(&str, &str)| ((*channel).to_owned(), (*payload).to_owned());
        let messages = messages.iter().map(owned).collect();
        Published { publisher: 0, begun: Duration::from_millis(begun), messages, fate }
    }

    fn at(places: &[Place]) -> Fate {
        Fate::At(places.to_vec())
    }

    fn message(place: Place, channel: &str, payload: &str) -> Seen {
        Seen::Message { place, channel: channel.to_owned(), payload: payload.to_owned() }
    }

    fn began() -> Seen {
        Seen::Began { at: Duration::from_millis(10) }
    }

    /// One subscriber of everything, with gaps; one of one room; and two that share.
    fn right() -> History {
        let one = |seen| Subscriber { pattern: "*", shares: false, seen };
        let shares = |seen| Subscriber { pattern: "*", shares: true, seen };
        let room = |seen| Subscriber { pattern: "room.*", shares: false, seen };
        History {
            published: vec![
                published(5, &[("room.1", "a")], at(&[(1, 1)])),
                published(15, &[("room.1", "b"), ("hall.1", "c")], at(&[(1, 2), (1, 3)])),
                published(20, &[("room.2", "d")], Fate::Unknown),
                published(30, &[("room.1", "e")], Fate::Not),
                published(40, &[("room.2", "f")], at(&[(1, 6)])),
                published(50, &[("room.2", "g")], at(&[(3, 1)])),
            ],
            subscribers: vec![
                one(vec![
                    began(),
                    message((1, 2), "room.1", "b"),
                    message((1, 3), "hall.1", "c"),
                    Seen::Gap { missed: Some(1) },
                    message((1, 6), "room.2", "f"),
                    Seen::Gap { missed: None },
                    message((3, 1), "room.2", "g"),
                ]),
                room(vec![
                    began(),
                    Seen::Gap { missed: Some(1) },
                    message((1, 4), "room.2", "d"),
                    message((1, 6), "room.2", "f"),
                    Seen::Gap { missed: None },
                ]),
                shares(vec![began(), message((1, 2), "room.1", "b")]),
                shares(vec![
                    began(),
                    message((1, 3), "hall.1", "c"),
                    message((3, 1), "room.2", "g"),
                ]),
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

    fn of(history: &mut History, subscriber: usize) -> &mut Vec<Seen> {
        &mut history.subscribers[subscriber].seen
    }

    #[test]
    fn messages_and_gaps_in_order_are_right() {
        assert_eq!(right().check(), Vec::<String>::new());
    }

    #[test]
    fn a_silent_loss_is_found() {
        finds(|history| drop(of(history, 0).remove(3)), "and there is no gap");
        finds(|history| drop(of(history, 0).remove(1)), "1 are missing since 10ms");
        finds(|history| drop(of(history, 0).remove(5)), "and it was counted");
        finds(|history| drop(of(history, 1).remove(1)), "1 are missing since 10ms");
    }

    #[test]
    fn a_wrong_count_is_found() {
        finds(|history| of(history, 0)[3] = Seen::Gap { missed: Some(9) }, "9 were counted");
    }

    #[test]
    fn a_doubled_message_is_found() {
        let again = message((1, 3), "hall.1", "c");
        finds(|history| of(history, 0).insert(3, again), "c at (1, 3) came after Some((1, 3))");
        let elsewhere = message((3, 2), "room.2", "g");
        finds(|history| of(history, 0).push(elsewhere), "g is at (3, 1) and at (3, 2)");
        let shared = message((1, 3), "hall.1", "c");
        finds(|history| of(history, 2).push(shared), "went to another of its group");
    }

    #[test]
    fn another_order_is_found() {
        finds(|history| of(history, 0).swap(1, 2), "b at (1, 2) came after");
        finds(|history| history.published.swap(1, 4), "of the same publisher");
        let apart = at(&[(1, 2), (1, 5)]);
        finds(|history| history.published[1].fate = apart, "not together");
        finds(|history| of(history, 1)[2] = message((1, 6), "room.2", "d"), "at (1, 6) is");
    }

    #[test]
    fn an_invented_message_is_found() {
        finds(|history| of(history, 0).push(message((3, 9), "room.1", "z")), "nobody published");
        finds(|history| of(history, 0).push(message((3, 9), "room.1", "e")), "certainly not");
        let strange = message((3, 1), "hall.1", "g");
        finds(|history| of(history, 1).push(strange), "it was handed g of hall.1");
    }
}
