//! Judges what a run left behind.

use super::journal::Journal;
use super::report::Report;
use super::stage::{Ended, Story};
use super::workload::Registers;
use crate::history::{Bounds, Counter, History, Model, Register, Verdict, check, save};
use serde::Serialize;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;

/// Answered calls without which a run has shown nothing.
const ANSWERED_MIN: usize = 50;

/// Notes what a run was like, whatever it was about.
pub(super) fn note<S: Story>(report: &mut Report, journal: &Journal, ended: &Ended<S>) {
    report.journal = journal.lines();
    let mut hasher = DefaultHasher::new();
    journal.hash().hash(&mut hasher);
    if let Some(settled) = ended.settled {
        (settled.applied, settled.digest, settled.checksum).hash(&mut hasher);
    }
    report.trace = hasher.finish();
    report.simulated = ended.simulated;
    report.recovery = ended.story.course().recovery();
    report.leaders = ended.leaders;
    report.calls = ended.story.course().calls();
    report.injected = ended.injected;
    report.caught_up_by_snapshot = ended.caught_up_by_snapshot;
}

pub(super) fn judge(
    report: &mut Report,
    journal: &Journal,
    ended: &Ended<Registers>,
    directory: &Path,
) {
    let books = &ended.story.books;
    let (registers, counters) = (books.registers.history(), books.counters.history());
    report.problems = journal.problems();
    report.problems.extend(unexplained::<Register>(&registers));
    report.problems.extend(unexplained::<Counter>(&counters));
    let (a, b) = (registers.counts(), counters.counts());
    note(report, journal, ended);
    report.calls = (a.0 + b.0, a.1 + b.1, a.2 + b.2);
    if report.calls.0 < ANSWERED_MIN {
        report.problems.push(format!("only {} calls were answered", report.calls.0));
    }
    if !report.problems.is_empty() {
        keep(report, &registers, &counters, directory);
    }
}

/// Why a history is not linearizable, if it is not.
fn unexplained<M: Model>(history: &History<M::Op, M::Ret>) -> Option<String> {
    match check::<M>(history, &Bounds::default()) {
        Verdict::Linearizable { .. } => None,
        Verdict::Violation(violation) => Some(violation.to_string()),
        Verdict::Undecided(undecided) => Some(undecided.to_string()),
    }
}

fn keep<A, B, C, D>(
    report: &mut Report,
    registers: &History<A, B>,
    counters: &History<C, D>,
    directory: &Path,
) where
    A: Serialize,
    B: Serialize,
    C: Serialize,
    D: Serialize,
{
    let directory = directory.join(format!("seed-{}-{}", report.seed, report.planted));
    let kept = save(registers, &directory.join("registers.jsonl"))
        .and_then(|()| save(counters, &directory.join("counters.jsonl")))
        .and_then(|()| {
            let text = format!("{}\n{}\n", report.plan, report.journal.join("\n"));
            Ok(std::fs::write(directory.join("journal.txt"), text)?)
        });
    match kept {
        Ok(()) => report.kept = Some(directory),
        Err(error) => report.problems.push(format!("the history could not be kept: {error:#}")),
    }
}

/// Keeps the journal of a run that failed.
pub(super) fn keep_journal(report: &mut Report, directory: &Path, of: &str) {
    if report.problems.is_empty() {
        return;
    }
    let directory = directory.join(format!("{of}-{}-{}", report.seed, report.planted));
    let text = format!("{}\n{}\n{:#?}\n", report.plan, report.journal.join("\n"), report.problems);
    let kept = std::fs::create_dir_all(&directory)
        .and_then(|()| std::fs::write(directory.join("journal.txt"), text));
    match kept {
        Ok(()) => report.kept = Some(directory),
        Err(error) => report.problems.push(format!("its journal was not kept: {error}")),
    }
}
