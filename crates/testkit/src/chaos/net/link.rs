//! What the network does to packets from one host to another.

use rand::RngExt as _;
use rand::rngs::SmallRng;
use std::time::Duration;

/// A direction between two hosts. The way back is another one.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Link {
    /// Everything is lost.
    pub(crate) cut: bool,
    /// How long a packet takes, at least.
    pub(crate) delay_ms: u64,
    /// How much longer it may take; so later ones may come before it.
    pub(crate) jitter_ms: u64,
    /// So many of a thousand packets are lost.
    pub(crate) lost_permille: u32,
    /// So many of a thousand come twice.
    pub(crate) doubled_permille: u32,
}

impl Link {
    /// When copies of a packet arrive, counted from now: none, one or two.
    pub(crate) fn carry(&self, rng: &mut SmallRng) -> impl Iterator<Item = Duration> + use<> {
        let mut happens = |permille| permille > 0 && rng.random_range(0..1_000) < permille;
        let copies = match () {
            () if self.cut || happens(self.lost_permille) => 0,
            () if happens(self.doubled_permille) => 2,
            () => 1,
        };
        let (delay_ms, jitter_ms) = (self.delay_ms, self.jitter_ms);
        let mut takes = || match jitter_ms {
            0 => delay_ms,
            most => delay_ms + rng.random_range(0..=most),
        };
        let times: [u64; 2] = [takes(), takes()];
        times.into_iter().take(copies).map(Duration::from_millis)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng as _;

    fn carried(link: Link, packets: usize) -> Vec<Vec<u128>> {
        let mut rng = SmallRng::seed_from_u64(1);
        let times = |_| link.carry(&mut rng).map(|at| at.as_millis()).collect();
        (0..packets).map(times).collect()
    }

    #[test]
    fn a_good_link_carries_everything_once_and_at_once() {
        assert_eq!(carried(Link::default(), 3), vec![vec![0]; 3]);
    }

    #[test]
    fn a_link_that_is_cut_carries_nothing() {
        let link = Link { cut: true, doubled_permille: 1_000, ..Link::default() };
        assert_eq!(carried(link, 3), vec![Vec::<u128>::new(); 3]);
    }

    #[test]
    fn a_bad_link_loses_doubles_and_reorders() {
        let link = Link {
            delay_ms: 10,
            jitter_ms: 20,
            lost_permille: 100,
            doubled_permille: 100,
            ..Link::default()
        };
        let all = carried(link, 10_000);
        let count = |copies| all.iter().filter(|times| times.len() == copies).count();
        assert!((800..1_200).contains(&count(0)), "{} were lost", count(0));
        assert!((700..1_100).contains(&count(2)), "{} came twice", count(2));
        assert!(all.iter().flatten().all(|at| (10..=30).contains(at)));
        assert!(!all.iter().flatten().is_sorted(), "none was overtaken");
    }
}
