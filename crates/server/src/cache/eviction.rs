//! Eviction: the leader chooses, the log decides, so all replicas hold the same entries.
//!
//! The second-chance algorithm (F. Corbató, *A Paging Experiment with the Multics System*, 1968): a
//! hand goes around the entries in the order of their keys, and takes those that were not read since
//! it came by last, as all nodes tell ([`Accesses`]). It comes near to least recently used without a
//! row to write for each read. What was written since the hand's last turn is spared as well, as if
//! it had been read; when that leaves too little, only what was read is, and then nothing.
//!
//! It begins when the cache is nine tenths full and ends at 85 %: in the room between that and the
//! bound, writes go on while it works. At the bound they are refused until it has made room.

use super::accesses::{Accesses, hash};
use crate::metrics::Counters;
use bytes::Bytes;
use quorate_consensus::Replica;
use quorate_state::query::{self, CacheCandidate};
use quorate_state::{CacheEvict, CacheVictim, Caller, Command, Envelope, Fatal, Outcome, Revision};
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// How often the leader looks how full the cache is. At 50 MB/s of writes, a tenth of 256 MiB fills
/// in five of them.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Parts of a hundred of the bound.
const BEGIN_AT: u64 = 90;
const END_AT: u64 = 85;
/// Victims in a command: its entry is applied in some milliseconds.
const VICTIMS_MAX: usize = 500;
/// Entries looked at in one view.
const LOOKED_AT: usize = 1_000;
/// How long what was read is remembered at least: some times as long as nodes take to tell of it.
const REMEMBERED: Duration = Duration::from_secs(5);
/// How long a proposal may take.
const PROPOSAL: Duration = Duration::from_secs(5);

/// What the hand spares.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Mercy {
    ReadOrNew,
    Read,
    None,
}

/// The hand.
struct Hand {
    /// The last entry it has looked at; none at the beginning.
    at: Option<Bytes>,
    mercy: Mercy,
    /// The newest write when it began this turn, and the one before.
    began: Revision,
    began_before: Revision,
    /// Entries it took since it was at the beginning.
    taken: u64,
}

/// Evicts for as long as the server runs, whenever this node leads.
pub(crate) async fn evict(
    replica: Replica,
    accesses: Arc<Accesses>,
    counters: Arc<Counters>,
    stop: CancellationToken,
) {
    let mut hand = Hand::new();
    let mut every = tokio::time::interval(LOOK_EVERY);
    every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = every.tick() => {}
            () = stop.cancelled() => return,
        }
        accesses.turn_after(REMEMBERED);
        if replica.leads_in().is_none() {
            continue;
        }
        if let Err(fatal) = make_room(&replica, &accesses, &counters, &mut hand).await {
            tracing::warn!(%fatal, "the cache can't be read to make room in it");
        }
    }
}

/// Evicts until there is room, if there is little.
async fn make_room(
    replica: &Replica,
    accesses: &Accesses,
    counters: &Counters,
    hand: &mut Hand,
) -> Result<(), Fatal> {
    let part = |usage: &query::CacheUsage, part: u64| usage.bytes_max / 100 * part;
    let group = replica.group();
    let usage = query::cache_usage(&*replica.stale().tables, group)?;
    if usage.bytes < part(&usage, BEGIN_AT) {
        return Ok(());
    }
    loop {
        let view = replica.stale();
        let usage = query::cache_usage(&*view.tables, group)?;
        let Some(too_many) = usage.bytes.checked_sub(part(&usage, END_AT)).filter(|over| *over > 0)
        else {
            return Ok(());
        };
        let newest = query::revision(&*view.tables, group)?;
        let look = || query::cache_candidates(&*view.tables, group, hand.at.as_deref(), LOOKED_AT);
        let found = crate::grpc::blocking(look)?;
        let last = found.candidates.last().map(|last| last.id.clone());
        let victims = hand.choose(found.candidates, accesses, too_many);
        if found.cursor.is_none() && hand.has_passed(last.as_ref()) {
            hand.turn(newest);
        }
        if victims.is_empty() {
            // Looking is not waited for by anybody; others get their turn.
            tokio::task::yield_now().await;
            continue;
        }
        let envelope = Envelope {
            namespace: String::new(),
            caller: Caller::Anonymous,
            guard: None,
            command: Command::CacheEvict(CacheEvict { victims }),
        };
        match replica.propose(envelope, PROPOSAL).await {
            Ok(committed) => {
                if let Outcome::CacheEvict { evicted } = committed.outcome {
                    counters.cache.evicted.add(evicted);
                }
            }
            // Another may lead by now; whoever does begins anew.
            Err(_) => return Ok(()),
        }
        if replica.leads_in().is_none() {
            return Ok(());
        }
    }
}

impl Hand {
    fn new() -> Self {
        Self {
            at: None,
            mercy: Mercy::ReadOrNew,
            began: Revision(0),
            began_before: Revision(0),
            taken: 0,
        }
    }

    /// Whether it has looked at the last of the candidates it was given: it may have had enough before.
    fn has_passed(&self, last: Option<&Bytes>) -> bool {
        last.is_none() || self.at.as_ref() == last
    }

    /// The next victims, until they are enough; moves on behind the last one that was looked at.
    fn choose(
        &mut self,
        candidates: Vec<CacheCandidate>,
        accesses: &Accesses,
        enough_bytes: u64,
    ) -> Vec<CacheVictim> {
        let (mut victims, mut bytes) = (Vec::new(), 0);
        for candidate in candidates {
            if victims.len() >= VICTIMS_MAX || bytes >= enough_bytes {
                break;
            }
            if candidate.dead || !self.spares(&candidate, accesses) {
                bytes += candidate.bytes;
                self.taken += 1;
                let (id, mod_revision) = (candidate.id.clone(), candidate.mod_revision);
                victims.push(CacheVictim { id, mod_revision });
            }
            self.at = Some(candidate.id);
        }
        victims
    }

    fn spares(&self, candidate: &CacheCandidate, accesses: &Accesses) -> bool {
        if self.mercy == Mercy::None {
            return false;
        }
        if self.mercy == Mercy::ReadOrNew && candidate.mod_revision > self.began_before {
            return true;
        }
        query::cache_id_parts(&candidate.id)
            .is_some_and(|(namespace, key)| accesses.knows(hash(namespace, key)))
    }

    /// Begins at the first entry again. A turn that took nothing was too merciful.
    fn turn(&mut self, newest: Revision) {
        self.mercy = match (self.taken, self.mercy) {
            (1.., _) => Mercy::ReadOrNew,
            (0, Mercy::ReadOrNew) => Mercy::Read,
            (0, Mercy::Read | Mercy::None) => Mercy::None,
        };
        self.at = None;
        self.taken = 0;
        self.began_before = self.began;
        self.began = newest;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate(key: &str, revision: u64) -> CacheCandidate {
        let id = query::cache_id("", key.as_bytes()).unwrap();
        CacheCandidate { id, mod_revision: Revision(revision), bytes: 10, dead: false }
    }

    fn keys(victims: &[CacheVictim]) -> Vec<&str> {
        let key = |victim| -> &CacheVictim { victim };
        victims
            .iter()
            .map(key)
            .map(|victim| {
                std::str::from_utf8(query::cache_id_parts(&victim.id).unwrap().1).unwrap()
            })
            .collect()
    }

    #[test]
    fn the_hand_spares_what_was_read_or_is_new_until_that_leaves_nothing() {
        let accesses = Accesses::default();
        accesses.told(&[hash("", b"read")]);
        let all = || vec![candidate("new", 50), candidate("old", 5), candidate("read", 5)];
        let mut hand = Hand::new();
        hand.turn(Revision(10));
        hand.turn(Revision(20));
        hand.mercy = Mercy::ReadOrNew;
        assert_eq!(keys(&hand.choose(all(), &accesses, u64::MAX)), ["old"]);
        assert_eq!(hand.at, Some(candidate("read", 5).id));

        let rest = || vec![candidate("new", 50), candidate("read", 5)];
        hand.turn(Revision(30));
        assert!(hand.choose(rest(), &accesses, u64::MAX).is_empty());
        hand.turn(Revision(30));
        assert_eq!(hand.mercy, Mercy::Read);
        assert_eq!(keys(&hand.choose(rest(), &accesses, u64::MAX)), ["new"]);
        hand.turn(Revision(30));
        assert!(hand.choose(vec![candidate("read", 5)], &accesses, 1).is_empty());
        hand.turn(Revision(30));
        hand.choose(vec![candidate("read", 5)], &accesses, 1);
        hand.mercy = Mercy::None;
        assert_eq!(keys(&hand.choose(vec![candidate("read", 5)], &accesses, 1)), ["read"]);
    }

    #[test]
    fn it_takes_no_more_than_is_needed_and_goes_on_behind_it() {
        let accesses = Accesses::default();
        let mut hand = Hand::new();
        hand.mercy = Mercy::None;
        let all = vec![candidate("a", 1), candidate("b", 1), candidate("c", 1)];
        assert_eq!(keys(&hand.choose(all, &accesses, 15)), ["a", "b"]);
        assert_eq!(hand.at, Some(candidate("b", 1).id));
        let mut dead = candidate("d", 1);
        dead.dead = true;
        hand.mercy = Mercy::ReadOrNew;
        assert_eq!(keys(&hand.choose(vec![dead], &accesses, 15)), ["d"], "nobody can read it");
    }

    /// As a replica answers: what lies behind the hand.
    fn behind(hand: &Hand, all: &[&str]) -> Vec<CacheCandidate> {
        let all = all.iter().map(|key| candidate(key, 1));
        all.filter(|one| hand.at.as_ref().is_none_or(|at| one.id > *at)).collect()
    }

    #[test]
    fn it_goes_round_and_does_not_begin_anew_where_it_had_enough() {
        let accesses = Accesses::default();
        let mut hand = Hand::new();
        let all = ["a", "b", "c", "d"];
        let mut taken = String::new();
        for _ in 0..8 {
            hand.mercy = Mercy::None;
            let candidates = behind(&hand, &all);
            let last = candidates.last().map(|last| last.id.clone());
            taken.extend(keys(&hand.choose(candidates, &accesses, 10)));
            if hand.has_passed(last.as_ref()) {
                hand.turn(Revision(9));
            }
        }
        assert_eq!(taken, "abcdabcd");
        // Nothing is left behind it.
        hand.at = Some(candidate("z", 1).id);
        assert!(hand.has_passed(None));
    }
}
