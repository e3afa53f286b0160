//! The search for an order, on one key.
//!
//! Terms: an operation is *placed* when the search has given it a position in the order. It is a
//! *candidate* for the next position when no operation that returned before its invocation is still
//! to be placed. A *configuration* is the set of placed operations with the state they lead to.
//!
//! The search goes from configuration to configuration, and from none twice. An order is found when
//! all answered operations are placed. Those with an unknown outcome need not be, which makes them
//! the hard part; so:
//! - They are not placed where they change nothing, since leaving them out is as good.
//! - Of equal ones the earliest comes first, since it can stand wherever a later one can.
//! - Of two configurations that differ only in the unknown operations they have used, one that used
//!   more is not looked at: it can do nothing that the other can't.
//! - Configurations that used more of them than others needed to come as far are looked at last.
//!   Otherwise a wrong turn, mended by unknown operations, would be followed until they run out, far
//!   away from where it was taken.

use super::super::event::Outcome;
use super::super::model::Model;
use super::bits::Bits;
use super::marks::Marks;
use super::unknown::Unknown;
use super::{Bounds, Op, Undecided, Verdict, Violation};
use std::collections::HashMap;

/// When no order was found, one search more is made without the look ahead of marks, for an
/// explanation that a reader follows more easily; it may cost this many steps.
const EXPLANATION_STEPS_MAX: u64 = 1_000_000;

/// `operations` are those of one key, by invocation, without failed ones.
pub(super) fn check_key<M: Model>(
    key: &str,
    operations: Vec<&Op<M>>,
    bounds: &Bounds,
) -> Verdict<M::Op, M::Ret> {
    let mut search = Search::<M>::new(operations.clone(), true);
    let reason = match search.run(bounds) {
        Ok(true) => return Verdict::Linearizable { steps: search.steps },
        Ok(false) => None,
        Err(reason) => Some(reason),
    };
    let mut explanation = Search::<M>::new(operations, false);
    let steps_max = EXPLANATION_STEPS_MAX.min(bounds.steps_max);
    // Whether it came to its end or to its bound, the one that came further tells more.
    let _ = explanation.run(&Bounds { steps_max, ..*bounds });
    if explanation.furthest.rank >= search.furthest.rank {
        search = explanation;
    }
    let furthest = search.violation(key);
    match reason {
        None => Verdict::Violation(Box::new(furthest)),
        Some(reason) => Verdict::Undecided(Box::new(Undecided { reason, furthest })),
    }
}

/// An operation, by its index among its kind.
#[derive(Clone, Copy)]
enum Placed {
    Answered(usize),
    Unknown(usize),
}

/// Part of the tree of orders that were tried.
struct Node {
    parent: Option<usize>,
    /// What comes after the order of the parent.
    placed: Box<[Placed]>,
}

/// A configuration that is still to be looked at.
struct Configuration<S> {
    state: S,
    answered: Bits,
    unknown: Bits,
    answered_count: usize,
    unknown_count: usize,
    node: usize,
}

/// The node that came furthest.
#[derive(Default)]
struct Furthest {
    /// Position of the return that has to be explained next, then how many operations are placed.
    rank: (u64, usize),
    node: usize,
    misfit: usize,
}

/// Which answered operations are placed, and the state.
type Key<M> = (Bits, <M as Model>::State);

struct Search<'a, M: Model> {
    answered: Vec<&'a Op<M>>,
    unknown: Unknown<'a, M>,
    marks: Marks<M>,

    nodes: Vec<Node>,
    /// By how many unknown operations they have used in excess of `fewest_unknown`; the last of
    /// each is looked at first.
    open: Vec<Vec<Configuration<M::State>>>,
    /// For each number of answered operations, with how few unknown ones it was reached.
    fewest_unknown: Vec<usize>,
    /// For each the sets of unknown operations that were used to come there, none in another.
    visited: HashMap<Key<M>, Vec<Bits>>,
    bytes: usize,
    steps: u64,
    furthest: Furthest,
}

impl<'a, M: Model> Search<'a, M> {
    fn new(operations: Vec<&'a Op<M>>, look_ahead: bool) -> Self {
        let (answered, unknown): (Vec<_>, Vec<_>) =
            operations.into_iter().partition(|o| matches!(o.outcome, Outcome::Ok(_)));
        let mut marks = Marks::new(&answered);
        let unknown = Unknown::new(unknown, &marks);
        marks.add_unknown(&unknown.ops);
        if !look_ahead {
            marks = Marks::new(&[]);
        }
        let fewest_unknown = vec![usize::MAX; answered.len() + 1];
        Self {
            answered,
            unknown,
            marks,
            nodes: Vec::new(),
            open: Vec::new(),
            fewest_unknown,
            visited: HashMap::new(),
            bytes: 0,
            steps: 0,
            furthest: Furthest::default(),
        }
    }

    /// Whether there is an order, or which bound was met.
    fn run(&mut self, bounds: &Bounds) -> Result<bool, String> {
        let start = Configuration {
            state: M::init(),
            answered: Bits::default(),
            unknown: Bits::default(),
            answered_count: 0,
            unknown_count: 0,
            node: 0,
        };
        let mut found = self.add(start, None, Vec::new());
        while !found {
            let Some(configuration) = self.open.iter_mut().find_map(Vec::pop) else {
                return Ok(false);
            };
            found = self.look_at(&configuration);
            if self.steps > bounds.steps_max {
                let max = bounds.steps_max;
                return Err(format!(
                    "it took more than {max} steps; raise steps_max or record less"
                ));
            }
            if self.bytes > bounds.memory_bytes_max {
                let max = bounds.memory_bytes_max;
                return Err(format!(
                    "it took more than {max} bytes; raise memory_bytes_max or record less"
                ));
            }
        }
        Ok(true)
    }

    /// Adds all configurations that one placement leads to. Says whether one is complete.
    fn look_at(&mut self, from: &Configuration<M::State>) -> bool {
        let (candidates, first_return) = self.candidates(&from.answered);
        let mut found = false;
        for index in 0..self.unknown.ops.len() {
            let operation = self.unknown.operations[index];
            let waits = self.unknown.earlier_equal[index]
                .is_some_and(|earlier| !from.unknown.contains(earlier));
            if waits || from.unknown.contains(index) || operation.invoked > first_return {
                continue;
            }
            self.steps += 1;
            let state = M::step(&from.state, &self.unknown.ops[index], None)
                .expect("a model lets every operation with an unknown answer happen");
            if state != from.state {
                found |= self.place(from, Placed::Unknown(index), state);
            }
        }
        // The last that is added is the first that is looked at: the candidate invoked first.
        for index in candidates.into_iter().rev() {
            if let Some(state) = self.step(&from.state, index) {
                found |= self.place(from, Placed::Answered(index), state);
            }
        }
        found
    }

    /// The answered operations that may be placed next, by invocation, and the position of the
    /// first return that is to be explained.
    fn candidates(&self, placed: &Bits) -> (Vec<usize>, u64) {
        let mut first_return = u64::MAX;
        let mut candidates = Vec::new();
        for index in placed.missing() {
            match self.answered.get(index) {
                Some(operation) if operation.invoked < first_return => {
                    first_return = first_return.min(returned(operation));
                    candidates.push(index);
                }
                _ => break,
            }
        }
        (candidates, first_return)
    }

    /// The state after an answered operation, if its answer fits.
    fn step(&mut self, state: &M::State, index: usize) -> Option<M::State> {
        self.steps += 1;
        let operation = self.answered[index];
        M::step(state, &operation.op, answer(operation))
    }

    fn place(&mut self, from: &Configuration<M::State>, placed: Placed, state: M::State) -> bool {
        let mut to = Configuration {
            state,
            answered: from.answered.clone(),
            unknown: from.unknown.clone(),
            answered_count: from.answered_count,
            unknown_count: from.unknown_count,
            node: 0,
        };
        match placed {
            Placed::Answered(index) => {
                to.answered.insert(index);
                to.answered_count += 1;
            }
            Placed::Unknown(index) => {
                to.unknown.insert(index);
                to.unknown_count += 1;
            }
        }
        let marks = &self.marks;
        if marks.is_lost_between(&from.state, &to.state, &to.answered, &to.unknown) {
            return false;
        }
        self.add(to, Some(from.node), vec![placed])
    }

    /// Adds a configuration to those to be looked at, unless there is nothing new to be found from
    /// it. Says whether it is complete.
    fn add(
        &mut self,
        mut to: Configuration<M::State>,
        parent: Option<usize>,
        mut placed: Vec<Placed>,
    ) -> bool {
        let (mut candidates, mut first_return) = self.candidates(&to.answered);
        // What only reads is placed as soon as it fits: nothing is lost by that.
        while let Some(index) = self.fitting_read(&to.state, &candidates) {
            to.answered.insert(index);
            to.answered_count += 1;
            placed.push(Placed::Answered(index));
            (candidates, first_return) = self.candidates(&to.answered);
        }
        if !self.visit(&to) {
            return false;
        }
        to.node = self.nodes.len();
        self.bytes += size_of::<Node>() + placed.len() * size_of::<Placed>() + 16;
        self.nodes.push(Node { parent, placed: placed.into_boxed_slice() });
        let rank = (first_return, to.answered_count + to.unknown_count);
        let misfit = candidates.into_iter().find(|i| returned(self.answered[*i]) == first_return);
        let Some(misfit) = misfit else { return true };
        if rank > self.furthest.rank {
            self.furthest = Furthest { rank, node: to.node, misfit };
        }
        let fewest = &mut self.fewest_unknown[to.answered_count];
        *fewest = (*fewest).min(to.unknown_count);
        let waste = to.unknown_count - *fewest;
        if self.open.len() <= waste {
            self.open.resize_with(waste + 1, Vec::new);
        }
        self.open[waste].push(to);
        false
    }

    fn fitting_read(&mut self, state: &M::State, candidates: &[usize]) -> Option<usize> {
        candidates.iter().copied().find(|index| {
            let operation = self.answered[*index];
            M::reads_only(&operation.op, answer(operation)) && self.step(state, *index).is_some()
        })
    }

    /// Whether there may be more to find from a configuration than from those visited before.
    fn visit(&mut self, to: &Configuration<M::State>) -> bool {
        let uses = self.visited.entry((to.answered.clone(), to.state.clone())).or_default();
        if uses.iter().any(|before| before.is_subset(&to.unknown)) {
            return false;
        }
        uses.retain(|before| !to.unknown.is_subset(before));
        uses.push(to.unknown.clone());
        // Kept twice: here, and among those to be looked at. Tables are at least half full.
        self.bytes += 2 * size_of::<(Key<M>, Vec<Bits>)>()
            + size_of::<Configuration<M::State>>()
            + 2 * (to.answered.heap_bytes() + to.unknown.heap_bytes());
        true
    }

    fn violation(self, key: &str) -> Violation<M::Op, M::Ret> {
        let misfit = self.answered[self.furthest.misfit];
        let mut path = Vec::new();
        let mut next = Some(self.furthest.node);
        while let Some(node) = next {
            path.push(&self.nodes[node]);
            next = self.nodes[node].parent;
        }
        let order = path.iter().rev().flat_map(|node| node.placed.iter());
        let prefix: Vec<&Op<M>> = order
            .map(|placed| match placed {
                Placed::Answered(index) => self.answered[*index],
                Placed::Unknown(index) => self.unknown.operations[*index],
            })
            .collect();
        let placed: Vec<u64> = {
            let mut placed: Vec<_> = prefix.iter().map(|operation| operation.invoked).collect();
            placed.sort_unstable();
            placed
        };
        let all = self.answered.iter().chain(&self.unknown.operations);
        let mut concurrent: Vec<Op<M>> = all
            .filter(|o| o.invoked < returned(misfit) && o.invoked != misfit.invoked)
            .filter(|o| placed.binary_search(&o.invoked).is_err())
            .map(|operation| (*operation).clone())
            .collect();
        concurrent.sort_unstable_by_key(|operation| operation.invoked);
        // With the operations as they were recorded: the search drops marks that nobody reads.
        let state = prefix.iter().fold(M::init(), |state, operation| {
            M::step(&state, &operation.op, answer(operation))
                .expect("the search found that it fits")
        });
        Violation {
            key: key.to_owned(),
            prefix: prefix.into_iter().cloned().collect(),
            state: format!("{state:?}"),
            misfit: misfit.clone(),
            concurrent,
        }
    }
}

fn answer<O, R>(operation: &super::Operation<O, R>) -> Option<&R> {
    match &operation.outcome {
        Outcome::Ok(ret) => Some(ret),
        Outcome::Failed | Outcome::Unknown => None,
    }
}

fn returned<O, R>(operation: &super::Operation<O, R>) -> u64 {
    operation.returned.expect("a history holds no answer without a return")
}
