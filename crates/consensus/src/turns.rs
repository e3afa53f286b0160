//! Who is next: weighed items of many lanes, by turns, so that a lane with much to do delays the
//! others little. Pure; knows neither time nor I/O.
//!
//! Virtual time, as in fair queueing (Demers, Keshav, Shenker 1989; Bennett, Zhang, *WF2Q+*, 1997): a
//! lane's run of items begins and is due where it would if all lanes were served a byte at a time. Of
//! the runs that would have begun the one that is due first goes first. Round robin, the simpler way,
//! has rounds as long as the largest items of all lanes together: with thirty lanes of a megabyte each
//! a small item waits for thirty megabytes. Here it waits for hardly more than the item that is being
//! served. That a run must have begun matters: without it lanes are served ahead of their time, and
//! whoever comes then waits until the others have caught up, for three of the largest items and more.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::hash::Hash;

/// What of a lane goes in one piece, one item at least. Small enough that many lanes get into one
/// entry of the log; large enough that answers, which are told by runs, remain few.
const RUN: usize = 16 << 10;
/// Lanes without items of which it is remembered how much they had. Beyond it the one that is square
/// again first is forgotten, and comes back as a new one.
const REMEMBERED_MAX: usize = 4_096;
/// Virtual time is counted in parts of a weight, because it is divided by the number of lanes.
const PARTS: u64 = 256;

/// Items of lanes `K`, each with a weight. In each lane they keep their order.
pub(crate) struct Turns<K, T> {
    lanes: HashMap<K, Lane<T>>,
    /// Lanes with items whose next run has not begun, by when it does. The lane that is served is
    /// neither here nor among those.
    later: BTreeSet<(u64, K)>,
    /// Lanes with items whose next run has begun, by when it is due.
    begun: BTreeSet<(u64, K)>,
    /// Lanes without items that had more than their share, by when they are square.
    ahead: BTreeSet<(u64, K)>,
    /// The lane that is served.
    turn: Option<K>,
    /// Virtual time: how far a lane is that always had something to do.
    now: u64,
    len: usize,
}

struct Lane<T> {
    items: VecDeque<(usize, T)>,
    /// Items of the run that is under way, or due next.
    run: usize,
    /// When that run is due, or the last one was.
    due: u64,
}

impl<K, T> Default for Turns<K, T> {
    fn default() -> Self {
        Self {
            lanes: HashMap::new(),
            later: BTreeSet::new(),
            begun: BTreeSet::new(),
            ahead: BTreeSet::new(),
            turn: None,
            now: 0,
            len: 0,
        }
    }
}

impl<K: Copy + Ord + Hash, T> Turns<K, T> {
    /// Items that wait.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Puts an item behind the others of its lane.
    pub(crate) fn push(&mut self, key: K, weight: usize, item: T) {
        self.len += 1;
        let new = || Lane { items: VecDeque::new(), run: 0, due: self.now };
        let lane = self.lanes.entry(key).or_insert_with(new);
        lane.items.push_back((weight, item));
        if lane.run == 0 && self.turn != Some(key) {
            self.ahead.remove(&(lane.due, key));
            let begins = lane.due.max(self.now);
            lane.plan(begins);
            self.later.insert((begins, key));
        }
    }

    /// The next item, if there is room for its weight.
    pub(crate) fn next(&mut self, has_room: impl FnOnce(usize) -> bool) -> Option<T> {
        let key = match self.turn {
            Some(key) => key,
            None => self.take_turn()?,
        };
        let lane = self.lanes.get_mut(&key)?;
        if !has_room(lane.items.front()?.0) {
            return None;
        }
        let (_, item) = lane.items.pop_front()?;
        lane.run -= 1;
        self.len -= 1;
        if lane.run == 0 {
            self.end_turn(key);
        }
        Some(item)
    }

    fn take_turn(&mut self) -> Option<K> {
        let lanes = (self.later.len() + self.begun.len()) as u64;
        if self.begun.is_empty() {
            // Nobody would be served by now: time passes to the next who is.
            self.now = self.now.max(self.later.first()?.0);
        }
        while let Some((begins, key)) = self.later.first().copied()
            && begins <= self.now
        {
            self.later.pop_first();
            self.begun.insert((self.lanes.get(&key)?.due, key));
        }
        let (_, key) = self.begun.pop_first()?;
        // As far as each lane gets of this run.
        self.now = self.now.saturating_add(self.lanes.get(&key)?.run_weight() / lanes);
        self.turn = Some(key);
        Some(key)
    }

    fn end_turn(&mut self, key: K) {
        self.turn = None;
        if self.len == 0 {
            // Nobody waited for what somebody else had too much.
            *self = Self::default();
            return;
        }
        let Some(lane) = self.lanes.get_mut(&key) else { return };
        if lane.items.is_empty() {
            self.ahead.insert((lane.due, key));
        } else {
            let begins = lane.due;
            lane.plan(begins);
            self.later.insert((begins, key));
        }
        while let Some((due, key)) = self.ahead.first().copied()
            && (due <= self.now || self.ahead.len() > REMEMBERED_MAX)
        {
            self.ahead.pop_first();
            self.lanes.remove(&key);
        }
    }
}

impl<T> Lane<T> {
    /// Plans the next run, which begins at this virtual time.
    fn plan(&mut self, begins: u64) {
        let mut weight = 0;
        for (next, _) in &self.items {
            if self.run > 0 && weight + next > RUN {
                break;
            }
            weight += next;
            self.run += 1;
        }
        self.due = begins.saturating_add(self.run_weight());
    }

    fn run_weight(&self) -> u64 {
        let weights = self.items.iter().take(self.run).map(|(weight, _)| *weight as u64);
        // What weighs nothing would never let time pass.
        weights.map(|weight| weight.max(1) * PARTS).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    /// The largest command there is weighs about so much.
    const LARGEST: usize = 1 << 20;

    fn weight() -> impl Strategy<Value = usize> {
        prop_oneof![4 => 100..2_000_usize, 1 => 2_000..100_000_usize, 1 => 100_000..=LARGEST]
    }

    /// Lanes that always have two items waiting, of their own weights in turn.
    struct Busy {
        turns: Turns<usize, (usize, usize)>,
        weights: Vec<Vec<usize>>,
        pushed: Vec<usize>,
    }

    impl Busy {
        fn new(weights: Vec<Vec<usize>>) -> Self {
            let pushed = vec![0; weights.len()];
            let mut busy = Self { turns: Turns::default(), weights, pushed };
            for lane in 0..busy.weights.len() {
                busy.push(lane);
                busy.push(lane);
            }
            busy
        }

        fn push(&mut self, lane: usize) {
            let weights = &self.weights[lane];
            let weight = weights[self.pushed[lane] % weights.len()];
            self.pushed[lane] += 1;
            self.turns.push(lane, weight, (lane, weight));
        }

        /// Serves the next item, and lets its lane have another one.
        fn serve(&mut self) -> (usize, usize) {
            let (lane, weight) = self.turns.next(|_| true).expect("all have something to do");
            if lane < self.weights.len() {
                self.push(lane);
            }
            (lane, weight)
        }
    }

    /// The weights of the items of so many lanes.
    fn lanes(lanes: std::ops::Range<usize>) -> impl Strategy<Value = Vec<Vec<usize>>> {
        prop::collection::vec(prop::collection::vec(weight(), 1..5), lanes)
    }

    proptest! {
        #[test]
        fn everything_comes_out_once_and_each_lane_in_its_order(
            steps in prop::collection::vec((0..12_u64, weight(), 0..4_usize), 1..400),
        ) {
            let mut turns = Turns::default();
            let mut waiting: BTreeMap<u64, VecDeque<usize>> = BTreeMap::new();
            for (number, (lane, weight, takes)) in steps.iter().enumerate() {
                turns.push(*lane, *weight, number);
                waiting.entry(*lane).or_default().push_back(number);
                // At the end everything.
                let takes = if number + 1 == steps.len() { usize::MAX } else { *takes };
                for _ in 0..takes.min(turns.len()) {
                    let number = turns.next(|_| true).expect("something waits");
                    let lane = waiting.get_mut(&steps[number].0).and_then(VecDeque::pop_front);
                    prop_assert_eq!(lane, Some(number));
                }
            }
            prop_assert!(turns.is_empty());
            prop_assert!(waiting.values().all(VecDeque::is_empty));
        }

        #[test]
        fn lanes_that_are_always_busy_get_the_same_whatever_their_items_weigh(
            weights in lanes(2..24),
        ) {
            let mut busy = Busy::new(weights);
            let mut got = vec![0; busy.weights.len()];
            for _ in 0..2_000 {
                let (lane, weight) = busy.serve();
                got[lane] += weight;
                let (least, most) = (got.iter().min(), got.iter().max());
                // Each may be one item behind, or one ahead.
                prop_assert!(most.unwrap() - least.unwrap() <= 2 * LARGEST, "{got:?}");
            }
        }

        #[test]
        fn who_asks_for_little_waits_for_little(
            weights in lanes(1..40),
            asks in prop::collection::vec((100..2_000_usize, 0..50_usize), 1..60),
        ) {
            let mut busy = Busy::new(weights);
            let little = busy.weights.len();
            let largest = busy.weights.iter().flatten().copied().max().unwrap_or(0).max(RUN);
            for (weight, pause) in asks {
                for _ in 0..pause {
                    busy.serve();
                }
                busy.turns.push(little, weight, (little, weight));
                let mut waited = 0;
                while let (lane, weight) = busy.serve() && lane != little {
                    waited += weight;
                }
                // What is being served, and those that were due within the bytes that are asked for.
                let bound = largest + 2 * (weight + RUN) * little;
                prop_assert!(waited <= bound, "waited for {waited} of {little} lanes");
            }
        }

        #[test]
        fn no_crowd_of_newcomers_starves_a_lane(
            heavy in 10_000..=LARGEST,
            crowd in 1..50_usize,
            weight in 100..5_000_usize,
        ) {
            let mut turns = Turns::default();
            // As many wait at any time, each of them for the first time.
            let mut newcomers = 1_u64..;
            for newcomer in newcomers.by_ref().take(crowd) {
                turns.push(newcomer, weight, (newcomer, weight));
            }
            turns.push(0, heavy, (0, heavy));
            let mut waited = 0;
            for newcomer in newcomers {
                let (lane, weight) = turns.next(|_| true).expect("something waits");
                if lane == 0 {
                    break;
                }
                waited += weight;
                // Its share is one of all lanes'.
                prop_assert!(waited <= (crowd + 2) * (heavy + RUN), "{waited}");
                turns.push(newcomer, weight, (newcomer, weight));
            }
        }
    }

    #[test]
    fn a_lane_goes_by_runs_and_what_has_no_room_stays_the_next() {
        let mut turns = Turns::default();
        for item in 0..40 {
            turns.push('a', 1 << 10, ('a', item));
            turns.push('b', 1 << 10, ('b', item));
        }
        let run = RUN >> 10;
        assert!(turns.next(|weight| weight < 1 << 10).is_none());
        let order: Vec<_> = std::iter::from_fn(|| turns.next(|_| true)).map(|(k, _)| k).collect();
        // The first run of each was planned when it had one item.
        assert_eq!(order[0], 'a');
        let runs: Vec<_> = order.chunk_by(|one, other| one == other).map(<[char]>::len).collect();
        assert!(runs.iter().skip(2).take(4).all(|length| *length == run), "{runs:?}");
        assert_eq!(order.len(), 80);
    }

    #[test]
    fn lanes_that_are_gone_are_forgotten() {
        let mut turns = Turns::default();
        // Something always waits, so nothing is forgotten for want of work.
        turns.push(0, 1, ());
        for lane in 1..100_000_u64 {
            turns.push(lane, LARGEST, ());
            assert!(turns.next(|_| true).is_some());
            let kept = turns.lanes.len();
            assert!(kept <= REMEMBERED_MAX + 2, "{kept} lanes are remembered");
        }
    }
}
