//! What is known of the cluster by now: the newest look at each part, the one before, what follows from
//! the difference, and what failed since.

use super::look::Look;
use super::seen::{Cache, Channel, Cluster, Listed, Lock, Node, Queue, Session};
use quorate_client::Error;
use std::time::Duration;
use tokio::time::Instant;

/// A part of what is looked at, which is asked for on its own.
#[derive(Debug)]
pub(super) struct Part<T> {
    newest: Option<Taken<T>>,
    before: Option<Taken<T>>,
    failed: Option<Error>,
}

#[derive(Debug)]
struct Taken<T> {
    at: Instant,
    value: T,
}

impl<T> Default for Part<T> {
    fn default() -> Self {
        Self { newest: None, before: None, failed: None }
    }
}

impl<T> Part<T> {
    /// It was asked for again. What fails leaves what was known before.
    pub(super) fn take(&mut self, at: Instant, answer: Result<T, Error>) {
        match answer {
            Ok(value) => {
                self.before = self.newest.replace(Taken { at, value });
                self.failed = None;
            }
            Err(error) => self.failed = Some(error),
        }
    }

    /// Forgets everything, because something else is asked for now.
    pub(super) fn forget(&mut self) {
        *self = Self::default();
    }

    /// What is known.
    pub(super) fn value(&self) -> Option<&T> {
        self.newest.as_ref().map(|newest| &newest.value)
    }

    /// Why the newest look failed, and for how long what is known has not been seen.
    pub(super) fn failed(&self, now: Instant) -> Option<(&Error, Option<Duration>)> {
        let age = self.newest.as_ref().map(|newest| now.saturating_duration_since(newest.at));
        self.failed.as_ref().map(|error| (error, age))
    }

    /// The two newest looks, and what passed between them.
    fn both(&self) -> Option<(&T, &T, Duration)> {
        let (before, now) = (self.before.as_ref()?, self.newest.as_ref()?);
        Some((&before.value, &now.value, now.at.saturating_duration_since(before.at)))
    }
}

/// Everything that is looked at.
#[derive(Debug, Default)]
pub(super) struct Picture {
    pub(super) cluster: Part<Cluster>,
    pub(super) queues: Part<Listed<Queue>>,
    pub(super) locks: Part<Listed<Lock>>,
    pub(super) cache: Part<Cache>,
    pub(super) bus: Part<Listed<Channel>>,
    pub(super) sessions: Part<Listed<Session>>,
}

impl Picture {
    /// The cluster was looked at once more.
    pub(super) fn take(&mut self, look: Look) {
        let Look { at, cluster, queues, locks, cache, bus, sessions } = look;
        fn take<T>(part: &mut Part<T>, at: Instant, answer: Option<Result<T, Error>>) {
            if let Some(answer) = answer {
                part.take(at, answer);
            }
        }
        take(&mut self.cluster, at, Some(cluster));
        take(&mut self.queues, at, queues);
        take(&mut self.locks, at, locks);
        take(&mut self.cache, at, cache);
        take(&mut self.bus, at, bus);
        take(&mut self.sessions, at, sessions);
    }

    /// How much one of a node's counters grew in a second; none until it has been seen twice.
    pub(super) fn node_rate(&self, node: u64, counter: &str) -> Option<f64> {
        let (before, now, passed) = self.cluster.both()?;
        let count = |cluster: &Cluster| counter_of(cluster.node(node)?, counter);
        Some(per_second(count(before)?, count(now)?, passed))
    }

    /// The same of all nodes together that have been seen twice.
    pub(super) fn rate(&self, counter: &str) -> Option<f64> {
        let nodes = &self.cluster.value()?.nodes;
        let rates = nodes.iter().filter_map(|node| self.node_rate(node.id, counter));
        // A sum of nothing is not nothing a second.
        rates.reduce(|sum, rate| sum + rate)
    }

    /// What the nodes have counted together since each started; none when no node tells it.
    pub(super) fn total(&self, counter: &str) -> Option<u64> {
        let nodes = &self.cluster.value()?.nodes;
        let counts = nodes.iter().filter_map(|node| counter_of(node, counter));
        counts.reduce(u64::saturating_add)
    }

    /// How much something of a queue grew in a second.
    pub(super) fn queue_rate(&self, name: &str, of: fn(&Queue) -> u64) -> Option<f64> {
        let (before, now, passed) = self.queues.both()?;
        let find = |listed: &Listed<Queue>| {
            // Lists come in the order of their names.
            let at = listed.items.binary_search_by(|queue| queue.queue.as_str().cmp(name)).ok()?;
            listed.items.get(at).map(of)
        };
        Some(per_second(find(before)?, find(now)?, passed))
    }

    /// Messages of a channel in a second. None for one whose numbers began anew, and for patterns,
    /// which have none.
    pub(super) fn channel_rate(&self, pattern: &str) -> Option<f64> {
        let (before, now, passed) = self.bus.both()?;
        let find = |listed: &Listed<Channel>| {
            let mut all = listed.items.iter();
            all.find(|channel| channel.pattern == pattern).map(|channel| channel.last_sequence)
        };
        let (before, now) = (find(before)?, find(now)?);
        (now > 0 && now >= before).then(|| per_second(before, now, passed))
    }
}

impl Cluster {
    /// A member.
    pub(super) fn node(&self, id: u64) -> Option<&Node> {
        self.nodes.iter().find(|node| node.id == id)
    }
}

/// One of a node's counters.
pub(super) fn counter_of(node: &Node, counter: &str) -> Option<u64> {
    node.counters.as_ref()?.get(counter).copied()
}

/// How much a count grew in a second. One that is less than before counts from 0: the node has been
/// started anew, or the queue made anew.
fn per_second(before: u64, now: u64, passed: Duration) -> f64 {
    let grown = now.checked_sub(before).unwrap_or(now);
    grown as f64 / passed.as_secs_f64().max(0.001)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::top::seen::{Counters, cluster};

    fn failure() -> Error {
        Error::Unavailable { reason: "NO_LEADER".to_owned(), message: "nobody leads".to_owned() }
    }

    fn look(at: Instant, cluster: Result<Cluster, Error>) -> Look {
        let (queues, locks, cache, bus, sessions) = (None, None, None, None, None);
        Look { at, cluster, queues, locks, cache, bus, sessions }
    }

    fn counting(counts: &[(u64, u64)]) -> Cluster {
        let mut seen = cluster();
        for node in &mut seen.nodes {
            let count = counts.iter().find(|(id, _)| *id == node.id).map(|(_, count)| *count);
            node.counters = count.map(|count| Counters::from([("requests_ok".to_owned(), count)]));
        }
        seen
    }

    #[test]
    fn rates_are_differences_over_the_time_between_two_looks() {
        let begun = Instant::now();
        let mut picture = Picture::default();
        picture.take(look(begun, Ok(counting(&[(1, 100), (2, 50)]))));
        assert_eq!((picture.rate("requests_ok"), picture.total("requests_ok")), (None, Some(150)));
        let later = begun + Duration::from_secs(2);
        picture.take(look(later, Ok(counting(&[(1, 300), (2, 60)]))));
        assert_eq!(picture.node_rate(1, "requests_ok"), Some(100.0));
        assert_eq!(picture.node_rate(2, "requests_ok"), Some(5.0));
        assert_eq!(picture.rate("requests_ok"), Some(105.0));
        assert_eq!(picture.total("requests_ok"), Some(360));
        // Nobody has heard of the one, or of the other.
        assert_eq!(picture.node_rate(3, "requests_ok"), None);
        assert_eq!((picture.rate("made_up"), picture.total("made_up")), (None, None));
        // A node that was started anew counts from 0, and one that is silent is left out.
        picture.take(look(later + Duration::from_secs(1), Ok(counting(&[(1, 40)]))));
        assert_eq!(picture.rate("requests_ok"), Some(40.0));
    }

    #[test]
    fn what_fails_leaves_what_was_known_and_says_how_old_it_is() {
        let begun = Instant::now();
        let mut picture = Picture::default();
        picture.take(look(begun, Err(failure())));
        let (error, age) = picture.cluster.failed(begun).expect("it failed");
        assert_eq!((error, age), (&failure(), None));
        picture.take(look(begun, Ok(counting(&[(1, 100)]))));
        assert!(picture.cluster.failed(begun).is_none());
        let later = begun + Duration::from_secs(4);
        picture.take(look(later, Err(failure())));
        let (_, age) = picture.cluster.failed(later).expect("it failed");
        assert_eq!(age, Some(Duration::from_secs(4)));
        assert_eq!(picture.cluster.value().map(|cluster| cluster.term), Some(41));
        // The difference is over the whole time that nothing was seen.
        picture.take(look(begun + Duration::from_secs(10), Ok(counting(&[(1, 200)]))));
        assert!(picture.cluster.failed(later).is_none());
        assert_eq!(picture.rate("requests_ok"), Some(10.0));
    }

    #[test]
    fn rates_of_queues_and_channels_go_by_their_names() {
        let begun = Instant::now();
        let later = begun + Duration::from_secs(2);
        let queues = |pushed: &[(&str, u64)]| Listed {
            items: pushed
                .iter()
                .map(|(name, pushed)| Queue {
                    queue: (*name).to_owned(),
                    pushed: *pushed,
                    ..Queue::default()
                })
                .collect(),
            ..Listed::default()
        };
        let mut picture = Picture::default();
        picture.queues.take(begun, Ok(queues(&[("a", 10), ("b", 100)])));
        picture.queues.take(later, Ok(queues(&[("a", 20), ("b", 300), ("c", 7)])));
        assert_eq!(picture.queue_rate("a", |queue| queue.pushed), Some(5.0));
        assert_eq!(picture.queue_rate("b", |queue| queue.pushed), Some(100.0));
        assert_eq!(picture.queue_rate("c", |queue| queue.pushed), None);
        let channels = |last: &[(&str, u64)]| Listed {
            items: last
                .iter()
                .map(|(pattern, last)| Channel {
                    pattern: (*pattern).to_owned(),
                    last_sequence: *last,
                    ..Channel::default()
                })
                .collect(),
            ..Listed::default()
        };
        picture.bus.take(begun, Ok(channels(&[("a", 10), ("b", 10), ("x.*", 0)])));
        picture.bus.take(later, Ok(channels(&[("a", 40), ("b", 4), ("x.*", 0)])));
        assert_eq!(picture.channel_rate("a"), Some(15.0));
        // A new leader counts anew, and a pattern has no numbers.
        assert_eq!((picture.channel_rate("b"), picture.channel_rate("x.*")), (None, None));
    }
}
