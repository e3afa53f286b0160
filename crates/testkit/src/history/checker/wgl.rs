//! The search for an order, on one key.
//!
//! Terms: an operation is *placed* when the search has given it a position in the order. One may be
//! placed next when no operation that returned before its invocation is still to be placed. A
//! *configuration* is the set of placed operations with the state they lead to.
//!
//! Answered operations are in a linked list of their events, from which both events of a placed
//! one are lifted: so the candidates are the invocations before the first return that is left.
//! Operations with an unknown outcome have no return. They need not be placed at all, so they are
//! tried only after the answered ones, and:
//! - not where they change nothing, since leaving them out is as good;
//! - of equal ones the earliest first, since it can stand wherever a later one can;
//! - those first of which there are many equal ones, since they are missed least.

use super::super::event::{Operation, Outcome};
use super::super::model::Model;
use super::bits::Bits;
use super::events::Events;
use super::marks::Marks;
use super::unknown::Unknown;
use super::{Bounds, Op, Undecided, Verdict, Violation};
use std::collections::HashSet;

/// A violation is searched for once more, without a look ahead, for an explanation that a reader
/// follows more easily; it may cost this many steps.
const EXPLANATION_STEPS_MAX: u64 = 1_000_000;

/// `operations` are those of one key, by invocation, without failed ones.
pub(super) fn check_key<M: Model>(
    key: &str,
    operations: Vec<&Op<M>>,
    bounds: &Bounds,
) -> Verdict<M::Op, M::Ret> {
    let mut search = Search::<M>::new(operations.clone(), true);
    match search.run(bounds) {
        Ok(true) => return Verdict::Linearizable { steps: search.steps },
        Err(reason) => return Verdict::Undecided(Undecided { key: key.to_owned(), reason }),
        Ok(false) => {}
    }
    let mut explanation = Search::<M>::new(operations, false);
    let steps_max = EXPLANATION_STEPS_MAX.min(bounds.steps_max);
    // Whether it came to its end or to its bound, the further of the two searches tells more.
    let _ = explanation.run(&Bounds { steps_max, ..*bounds });
    if explanation.rank() >= search.rank() {
        search = explanation;
    }
    Verdict::Violation(Box::new(search.violation(key)))
}

/// An operation, by its index among its kind.
#[derive(Clone, Copy)]
pub(super) enum Placed {
    Answered(usize),
    Unknown(usize),
}

/// Where the search for the next candidate goes on.
#[derive(Clone, Copy)]
enum Cursor {
    /// At this event of the list.
    Event(usize),
    /// At this unknown operation.
    Unknown(usize),
}

struct Frame<S> {
    placed: Placed,
    /// The state before it.
    before: S,
    /// It only reads: placing something else instead can't help.
    only_choice: bool,
}

/// The furthest that the search came.
struct Furthest<S> {
    /// Position of the return that it could not pass, then how many operations were placed.
    rank: (u64, usize),
    order: Vec<Placed>,
    state: S,
    misfit: usize,
}

struct Search<'a, M: Model> {
    answered: Vec<&'a Op<M>>,
    unknown: Unknown<'a, M>,
    events: Events,
    marks: Marks<M>,

    state: M::State,
    placed_answered: Bits,
    placed_unknown: Bits,
    answered_left: usize,
    stack: Vec<Frame<M::State>>,

    visited: HashSet<(Box<[u64]>, M::State)>,
    visited_bytes: usize,
    steps: u64,
    furthest: Option<Furthest<M::State>>,
    /// This many frames are as they were when `furthest` was noted.
    furthest_shared: usize,
}

impl<'a, M: Model> Search<'a, M> {
    fn new(operations: Vec<&'a Op<M>>, look_ahead: bool) -> Self {
        let (answered, unknown): (Vec<_>, Vec<_>) =
            operations.into_iter().partition(|o| matches!(o.outcome, Outcome::Ok(_)));
        let mut marks = Marks::new(&answered);
        let unknown = Unknown::new(unknown, &marks);
        marks.count_writers(&answered, &unknown.ops);
        if !look_ahead {
            marks = Marks::new(&[]);
        }
        Self {
            events: Events::new(answered.iter().map(|o| (o.invoked, returned(o)))),
            marks,
            state: M::init(),
            placed_answered: Bits::new(answered.len()),
            placed_unknown: Bits::new(unknown.ops.len()),
            answered_left: answered.len(),
            stack: Vec::new(),
            visited: HashSet::new(),
            visited_bytes: 0,
            steps: 0,
            furthest: None,
            furthest_shared: 0,
            answered,
            unknown,
        }
    }

    /// Whether there is an order, or which bound was met.
    fn run(&mut self, bounds: &Bounds) -> Result<bool, String> {
        let mut cursor = Cursor::Event(self.events.first());
        while self.answered_left > 0 {
            if self.steps > bounds.steps_max {
                let max = bounds.steps_max;
                return Err(format!(
                    "it took more than {max} steps; raise steps_max or record less"
                ));
            }
            if self.visited_bytes > bounds.cache_bytes_max {
                let max = bounds.cache_bytes_max;
                return Err(format!(
                    "its cache grew over {max} bytes; raise cache_bytes_max or record less"
                ));
            }
            cursor = match self.place_next(cursor) {
                true => Cursor::Event(self.events.first()),
                false => {
                    self.note_dead_end();
                    match self.take_back() {
                        Some(cursor) => cursor,
                        None => return Ok(false),
                    }
                }
            };
        }
        Ok(true)
    }

    /// Places the next candidate from `cursor` on that leads to a new configuration.
    fn place_next(&mut self, mut cursor: Cursor) -> bool {
        let first_return = self.events.first_return();
        loop {
            match cursor {
                Cursor::Event(event) => {
                    let Some(index) = self.events.invocation(event) else {
                        cursor = Cursor::Unknown(0);
                        continue;
                    };
                    let operation = self.answered[index];
                    let Outcome::Ok(ret) = &operation.outcome else { unreachable!("partitioned") };
                    self.steps += 1;
                    if let Some(next) = M::step(&self.state, &operation.op, Some(ret)) {
                        let only_choice = M::reads_only(&operation.op, Some(ret));
                        if self.place(Placed::Answered(index), next, only_choice) {
                            return true;
                        }
                    }
                    cursor = Cursor::Event(self.events.next[event]);
                }
                Cursor::Unknown(index) => {
                    let Some(operation) = self.unknown.operations.get(index) else {
                        return false;
                    };
                    let wait = operation.invoked > self.events.position[first_return]
                        || self.unknown.earlier_equal[index]
                            .is_some_and(|earlier| !self.placed_unknown.contains(earlier));
                    if !wait && !self.placed_unknown.contains(index) {
                        self.steps += 1;
                        let next = M::step(&self.state, &self.unknown.ops[index], None)
                            .expect("a model lets every operation with an unknown answer happen");
                        if next != self.state && self.place(Placed::Unknown(index), next, false) {
                            return true;
                        }
                    }
                    cursor = Cursor::Unknown(index + 1);
                }
            }
        }
    }

    /// Places an operation, unless the configuration that it leads to was visited before or can't
    /// be completed.
    fn place(&mut self, placed: Placed, next: M::State, only_choice: bool) -> bool {
        self.note(placed);
        // What follows from the only choice needs no place in the cache of its own.
        let in_vain =
            !only_choice && (self.marks.is_lost_between(&self.state, &next) || !self.visit(&next));
        if in_vain {
            self.forget(placed);
            return false;
        }
        let before = std::mem::replace(&mut self.state, next);
        self.stack.push(Frame { placed, before, only_choice });
        if let Placed::Answered(index) = placed {
            self.events.lift(index);
            self.answered_left -= 1;
        }
        true
    }

    /// Takes back the last placement that had an alternative, and says where to look for it.
    fn take_back(&mut self) -> Option<Cursor> {
        loop {
            let frame = self.stack.pop()?;
            self.furthest_shared = self.furthest_shared.min(self.stack.len());
            self.forget(frame.placed);
            self.state = frame.before;
            let cursor = match frame.placed {
                Placed::Answered(index) => {
                    self.events.put_back(index);
                    self.answered_left += 1;
                    Cursor::Event(self.events.next[index])
                }
                Placed::Unknown(index) => Cursor::Unknown(index + 1),
            };
            if !frame.only_choice {
                return Some(cursor);
            }
        }
    }

    fn note(&mut self, placed: Placed) {
        self.marks.place(placed);
        match placed {
            Placed::Answered(index) => self.placed_answered.insert(index),
            Placed::Unknown(index) => self.placed_unknown.insert(index),
        }
    }

    fn forget(&mut self, placed: Placed) {
        self.marks.take_back(placed);
        match placed {
            Placed::Answered(index) => self.placed_answered.remove(index),
            Placed::Unknown(index) => self.placed_unknown.remove(index),
        }
    }

    /// Whether the placed operations with this state are a new configuration.
    fn visit(&mut self, state: &M::State) -> bool {
        let mut key = Vec::with_capacity(8);
        self.placed_answered.write_key(&mut key);
        self.placed_unknown.write_key(&mut key);
        // The entry, its share of the table, and the allocator's header.
        let bytes = key.len() * 8 + size_of::<(Box<[u64]>, M::State)>() * 2 + 16;
        let new = self.visited.insert((key.into_boxed_slice(), state.clone()));
        if new {
            self.visited_bytes += bytes;
        }
        new
    }

    fn note_dead_end(&mut self) {
        let event = self.events.first_return();
        let rank = (self.events.position[event], self.stack.len());
        let mut order = match self.furthest.take() {
            Some(furthest) if furthest.rank >= rank => {
                self.furthest = Some(furthest);
                return;
            }
            Some(furthest) => furthest.order,
            None => Vec::new(),
        };
        // Only what changed since the last note is copied: there can be as many notes as placements.
        order.truncate(self.furthest_shared);
        order.extend(self.stack[self.furthest_shared..].iter().map(|frame| frame.placed));
        self.furthest_shared = self.stack.len();
        let (state, misfit) = (self.state.clone(), self.events.operation(event));
        self.furthest = Some(Furthest { rank, order, state, misfit });
    }

    fn rank(&self) -> Option<(u64, usize)> {
        self.furthest.as_ref().map(|furthest| furthest.rank)
    }

    fn violation(self, key: &str) -> Violation<M::Op, M::Ret> {
        let furthest = self.furthest.expect("a search without a dead end finds an order");
        let misfit = self.answered[furthest.misfit];
        let mut unplaced: Vec<_> = self.answered.iter().map(|o| Some(*o)).collect();
        let mut unplaced_unknown: Vec<_> =
            self.unknown.operations.iter().map(|o| Some(*o)).collect();
        let prefix = furthest.order.iter().map(|placed| match placed {
            Placed::Answered(index) => unplaced[*index].take().expect("placed once").clone(),
            Placed::Unknown(index) => unplaced_unknown[*index].take().expect("placed once").clone(),
        });
        let prefix = prefix.collect();
        let mut concurrent: Vec<_> = unplaced
            .into_iter()
            .chain(unplaced_unknown)
            .flatten()
            .filter(|o| o.invoked < returned(misfit) && o.invoked != misfit.invoked)
            .cloned()
            .collect();
        concurrent.sort_unstable_by_key(|o| o.invoked);
        Violation {
            key: key.to_owned(),
            prefix,
            state: format!("{:?}", furthest.state),
            misfit: misfit.clone(),
            concurrent,
        }
    }
}

fn returned<O, R>(operation: &Operation<O, R>) -> u64 {
    operation.returned.expect("a history holds no answer without a return")
}
