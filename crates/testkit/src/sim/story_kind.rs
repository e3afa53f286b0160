//! The kinds of runs there are, by name: each has other clients and other promises to look at.

use super::planted::Planted;
use super::report::Report;
use std::fmt;
use std::path::Path;
use std::str::FromStr;

/// A kind of run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum StoryKind {
    /// Keys, counters and ttls, with linearizable histories.
    #[default]
    Registers,
    /// Locks and sessions.
    Locks,
    /// Queues and their workers.
    Jobs,
    /// Keys, a queue and the cache, changed at once.
    Transactions,
    /// Changes of keys as they are handed out, through compactions.
    Watches,
    /// A backup, and a new cluster from it.
    Restores,
    /// What chaos does with real processes: two of ten kinds of work in each seed.
    Work,
}

impl StoryKind {
    /// All there are.
    pub const ALL: [Self; 7] = [
        Self::Registers,
        Self::Locks,
        Self::Jobs,
        Self::Transactions,
        Self::Watches,
        Self::Restores,
        Self::Work,
    ];

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Registers => "registers",
            Self::Locks => "locks",
            Self::Jobs => "jobs",
            Self::Transactions => "transactions",
            Self::Watches => "watches",
            Self::Restores => "restores",
            Self::Work => "work",
        }
    }

    /// Runs a seed of it, and keeps what it left in `directory` if it fails.
    ///
    /// # Panics
    /// As [`super::run`].
    #[must_use]
    pub fn run(self, seed: u64, planted: Planted, directory: &Path) -> Report {
        match self {
            Self::Registers => super::run(seed, planted, directory),
            Self::Locks => super::run_locks(seed, planted, directory),
            Self::Jobs => super::run_jobs(seed, planted, directory),
            Self::Transactions => super::run_transactions(seed, planted, directory),
            Self::Watches => super::run_watches(seed, planted, directory),
            Self::Restores => super::run_restores(seed, planted, directory),
            Self::Work => super::run_work(seed, planted, directory),
        }
    }
}

impl fmt::Display for StoryKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// There is no kind of run of that name.
#[derive(Clone, Debug)]
pub struct UnknownStory(String);

impl fmt::Display for UnknownStory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = StoryKind::ALL.map(StoryKind::name).join(", ");
        write!(f, "no story is called {:?}; there are {names}", self.0)
    }
}

impl std::error::Error for UnknownStory {}

impl FromStr for StoryKind {
    type Err = UnknownStory;

    fn from_str(name: &str) -> Result<Self, UnknownStory> {
        let named = Self::ALL.into_iter().find(|kind| kind.name() == name);
        named.ok_or_else(|| UnknownStory(name.to_owned()))
    }
}
