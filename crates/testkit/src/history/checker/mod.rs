//! Is there an order of the operations, true to the order of the events, that explains all answers?
//!
//! The algorithm is that of Wing and Gong ("Testing and verifying concurrent objects", 1993) with
//! Lowe's cache of configurations ("Testing for linearizability", 2017), run on one key at a time,
//! which is enough because linearizability is local (Horn and Kroening, "Faster linearizability
//! checking via P-compositionality", 2015). What is our own is how operations with an unknown outcome,
//! of which a run with faults has many, are kept from multiplying the search: see `wgl`.

mod bits;
mod marks;
mod unknown;
mod violation;
mod wgl;

#[cfg(test)]
mod brute;
#[cfg(test)]
mod hand_made_tests;
#[cfg(test)]
mod random_tests;
#[cfg(test)]
mod simulated_tests;

pub use violation::{Undecided, Verdict, Violation};

use super::event::{History, Operation, Outcome};
use super::file::save;
use super::model::Model;
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// An operation of a model.
type Op<M> = Operation<<M as Model>::Op, <M as Model>::Ret>;

/// How much a check may cost, for each key.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Transitions of the model that are tried. A million take about a second or less.
    pub steps_max: u64,
    /// Bytes of remembered configurations, about, and without what states hold on the heap.
    pub memory_bytes_max: usize,
}

impl Default for Bounds {
    /// 50 million steps and 1 GiB: a minute at worst.
    fn default() -> Self {
        Self { steps_max: 50_000_000, memory_bytes_max: 1 << 30 }
    }
}

/// Checks each key of a history. A violation on any key outweighs an undecided one.
pub fn check<M: Model>(
    history: &History<M::Op, M::Ret>,
    bounds: &Bounds,
) -> Verdict<M::Op, M::Ret> {
    let mut keys: BTreeMap<&str, Vec<&Op<M>>> = BTreeMap::new();
    for operation in history.operations() {
        // A failed operation explains nothing and needs no explanation.
        if !matches!(operation.outcome, Outcome::Failed) {
            keys.entry(&operation.key).or_default().push(operation);
        }
    }
    let mut steps = 0;
    let mut undecided = None;
    for (key, operations) in keys {
        match wgl::check_key::<M>(key, operations, bounds) {
            Verdict::Linearizable { steps: more } => steps += more,
            Verdict::Undecided(reason) => undecided = undecided.or(Some(reason)),
            violation @ Verdict::Violation(_) => return violation,
        }
    }
    undecided.map_or(Verdict::Linearizable { steps }, Verdict::Undecided)
}

/// Passes when the history is linearizable; otherwise keeps it as a file in `directory` and says
/// why and where.
///
/// # Panics
/// On a violation, and when the check was undecided.
pub fn assert_linearizable<M: Model>(
    history: &History<M::Op, M::Ret>,
    bounds: &Bounds,
    directory: &Path,
) where
    M::Op: Serialize,
    M::Ret: Serialize,
{
    let problem = match check::<M>(history, bounds) {
        Verdict::Linearizable { .. } => return,
        Verdict::Violation(violation) => violation.to_string(),
        Verdict::Undecided(undecided) => undecided.to_string(),
    };
    let path = unused_path(directory);
    match save(history, &path) {
        Ok(()) => panic!("{problem}\nthe history is kept in {}", path.display()),
        Err(error) => panic!("{problem}\nthe history is lost: {error:#}"),
    }
}

/// A file name that no other check, in this process or beside it, uses.
fn unused_path(directory: &Path) -> PathBuf {
    static SAVED: AtomicU64 = AtomicU64::new(0);
    let number = SAVED.fetch_add(1, Ordering::Relaxed);
    directory.join(format!("history-{}-{number}.jsonl", std::process::id()))
}
