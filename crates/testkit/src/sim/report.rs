//! What became of a run, and how it is run again.

use super::faults::Injected;
use super::jobs::JobCounts;
use super::locks::Counts;
use super::planted::Planted;
use crate::repeat;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

/// Lines of the journal that a failure shows; the rest is in its file.
const LINES_SHOWN: usize = 40;

/// The outcome of one seed.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// The test that runs it.
    pub test: &'static str,
    /// The seed.
    pub seed: u64,
    /// What was wrong on purpose.
    pub planted: Planted,
    /// What the seed stands for, in words.
    pub plan: String,
    /// What must not be; empty when all is well.
    pub problems: Vec<String>,
    /// Everything that happened, in order; runs of one seed have it alike.
    pub journal: Vec<String>,
    /// A hash of the journal and of what the nodes held in the end.
    pub trace: u64,
    /// Simulated time.
    pub simulated: Duration,
    /// How long the first write took when everything was repaired.
    pub recovery: Option<Duration>,
    /// Calls of clients that were answered, failed, and of unknown outcome.
    pub calls: (usize, usize, usize),
    /// Terms in which a leader was seen.
    pub leaders: usize,
    /// Faults that happened.
    pub injected: Injected,
    /// Nodes whose state began as a snapshot of another node.
    pub caught_up_by_snapshot: usize,
    /// What clients did with locks.
    pub locks: Counts,
    /// What clients did with jobs.
    pub jobs: JobCounts,
    /// What other clients did, and what came of it.
    pub counts: Vec<(&'static str, u64)>,
    /// Where the history is kept when the seed failed.
    pub kept: Option<PathBuf>,
}

impl Report {
    /// The command that runs the seed again.
    #[must_use]
    pub fn command(&self) -> String {
        format!(
            "QUORATE_SIM_SEED={} {} test --release --locked --workspace --test simulation -- \
             --exact {}",
            self.seed,
            repeat::cargo(),
            self.test
        )
    }

    /// One line for a table of many seeds.
    #[must_use]
    pub fn line(&self) -> String {
        let (ok, failed, unknown) = self.calls;
        let Injected { killed, stopped, partitions, delays, disks, changes } = self.injected;
        let recovery =
            self.recovery.map_or_else(|| "never".to_owned(), |after| format!("{after:.2?}"));
        let end = if self.problems.is_empty() { "ok" } else { "FAILED" };
        format!(
            "seed {:>4} {end}: {:>5.1?} simulated, {ok} answered, {failed} failed, {unknown} \
             unknown; {killed} killed, {stopped} stopped, {partitions} partitions, {delays} delays, \
             {disks} disks failed, full or slow, {changes} changes of members, \
             {} terms, {} caught up by snapshot, recovered in {recovery}",
            self.seed, self.simulated, self.leaders, self.caught_up_by_snapshot
        ) + &self.locks.to_string()
            + &self.jobs.to_string()
            + &self.counted()
    }
}

impl Report {
    fn counted(&self) -> String {
        let counts = self.counts.iter().map(|(what, count)| format!("{count} {what}"));
        let counts = counts.collect::<Vec<_>>().join(", ");
        if counts.is_empty() { counts } else { format!("; {counts}") }
    }

    /// One of [`Report::counts`].
    #[must_use]
    pub fn count(&self, of: &str) -> u64 {
        self.counts.iter().find(|(what, _)| *what == of).map_or(0, |(_, count)| *count)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.line())?;
        writeln!(f, "repeat it with: {}", self.command())?;
        writeln!(f, "{}", self.plan)?;
        let hidden = self.journal.len().saturating_sub(LINES_SHOWN);
        writeln!(f, "the last of {} lines of the journal:", self.journal.len())?;
        for line in &self.journal[hidden..] {
            writeln!(f, "    {line}")?;
        }
        for problem in &self.problems {
            writeln!(f, "problem: {problem}")?;
        }
        if let Some(kept) = &self.kept {
            writeln!(f, "history and journal are kept in {}", kept.display())?;
        }
        Ok(())
    }
}
