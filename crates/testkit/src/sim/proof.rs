//! Which kind of run catches which planted fault, and by what it says then.

use super::planted::Planted;
use super::report::Report;
use super::story_kind::StoryKind;
use quorate_state::planted::Fault;
use std::ops::Range;
use std::path::Path;
use std::time::{Duration, Instant};

/// Seeds in one of which a fault must show. Most show in most of them; leases that are cut short in one
/// of six or seven.
const SEEDS: Range<u64> = 1_000..1_064;

/// A fault, and what must notice it.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    /// What is planted.
    pub fault: Fault,
    /// Where it must show.
    pub story: StoryKind,
    /// The promise that it breaks.
    pub check: &'static str,
    /// What is told of that; a part of it.
    tells: &'static str,
}

/// A fault that was caught.
#[derive(Clone, Debug)]
pub struct Caught {
    /// By which seed.
    pub seed: u64,
    /// How many were run up to it.
    pub seeds: u64,
    /// How long that took.
    pub real: Duration,
    /// How long it was in the simulations.
    pub simulated: Duration,
    /// What was told.
    pub problem: String,
}

/// A fault that no seed has shown.
#[derive(Clone, Debug)]
pub struct Missed {
    /// How many were run.
    pub seeds: u64,
    /// How long that took.
    pub real: Duration,
    /// What they told instead.
    pub told: Vec<String>,
}

/// All of them.
#[must_use]
pub fn cases() -> Vec<Case> {
    Fault::ALL.iter().map(|fault| case(*fault)).collect()
}

fn case(fault: Fault) -> Case {
    use StoryKind::{Locks, Registers, Restores, Transactions, Watches};
    let (story, check, tells) = match fault {
        Fault::AcknowledgeBeforeFsync => {
            (Registers, "histories are linearizable through power failures", "is not linearizable")
        }
        Fault::ReadWithoutBarrier => {
            (Registers, "histories are linearizable", "is not linearizable")
        }
        Fault::DedupeSkipped => {
            (Transactions, "what is repeated is answered as before", ", and its repetition ")
        }
        Fault::StateAheadOfLog => {
            (Registers, "a state is not ahead of its log", ", but the log ends at ")
        }
        Fault::SnapshotMetaAhead => {
            (Registers, "the same index has the same state everywhere", " it has digest ")
        }
        Fault::KeepAliveByDeposedLeader => (
            Locks,
            "a node that reaches no other renews nothing",
            "but reaches no other node since",
        ),
        Fault::LeaseFromLeaderStart | Fault::HalfLeases | Fault::RenewRecorded => {
            (Locks, "what a client thinks it holds, it holds", "was freed too early")
        }
        Fault::ExpiredWaiterGranted => {
            (Locks, "nobody is granted what it waited for in vain", "whose wait was over")
        }
        Fault::WatchEventDropped => {
            (Watches, "a watch is told of every change, or that it can't be", "was not told that")
        }
        Fault::TransactionInTwoBatches => {
            (Transactions, "what was changed at once is seen at once", "half of a transaction")
        }
        Fault::FencingCounterLost => (
            Restores,
            "tokens of a restored cluster are above all that were given out",
            "was given out after the restore, and",
        ),
    };
    Case { fault, story, check, tells }
}

/// Runs seeds until one catches the fault.
///
/// # Errors
/// When none does.
pub fn prove(case: &Case, directory: &Path) -> Result<Caught, Missed> {
    let begun = Instant::now();
    let mut simulated = Duration::ZERO;
    let mut told = Vec::new();
    for (seed, seeds) in SEEDS.zip(1..) {
        let report: Report = case.story.run(seed, Planted::Broker(case.fault), directory);
        simulated += report.simulated;
        let caught = report.problems.iter().find(|problem| problem.contains(case.tells));
        if let Some(problem) = caught {
            let (real, problem) = (begun.elapsed(), problem.clone());
            return Ok(Caught { seed, seeds, real, simulated, problem });
        }
        told.extend(report.problems);
    }
    Err(Missed { seeds: SEEDS.end - SEEDS.start, real: begun.elapsed(), told })
}
