//! What writers were told of their changes, and what watches handed out.

use super::super::course::Course;
use super::super::journal::Journal;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// A change, by where it is in the history: revision and key.
pub(super) type Place = (u64, String);

/// What became of a key.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Became {
    /// It has this version.
    Set(u64),
    Deleted,
}

impl fmt::Debug for Became {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Set(version) => write!(f, "version {version}"),
            Self::Deleted => write!(f, "deleted"),
        }
    }
}

/// What one watch handed out, from where it began to how far it came.
#[derive(Debug)]
pub(super) struct Span {
    pub(super) client: u64,
    /// The first revision.
    pub(super) from: u64,
    /// The last one.
    pub(super) through: u64,
    pub(super) changes: BTreeMap<Place, Became>,
}

#[derive(Default)]
struct Inner {
    /// What was told of changes, by anybody.
    known: BTreeMap<Place, Became>,
    spans: Vec<Span>,
    /// Changes with a large value.
    large: u64,
    compacted: u64,
    from_oldest: u64,
    problems: Vec<String>,
}

/// The books of one run.
pub(super) struct Books {
    pub(super) journal: Journal,
    pub(super) course: Course,
    inner: Mutex<Inner>,
}

impl Books {
    pub(super) fn new(journal: Journal) -> Self {
        Self { journal, course: Course::default(), inner: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Somebody was told of a change; nobody may be told anything else of it.
    pub(super) fn told(&self, by: &str, revision: u64, key: &str, became: Became) {
        let mut inner = self.lock();
        let Inner { known, problems, .. } = &mut *inner;
        match known.entry((revision, key.to_owned())) {
            Entry::Vacant(entry) => drop(entry.insert(became)),
            Entry::Occupied(entry) if *entry.get() != became => problems.push(format!(
                "{by} told that {key} became {became:?} at revision {revision}, and others {:?}",
                entry.get()
            )),
            Entry::Occupied(_) => {}
        }
    }

    pub(super) fn watched(&self, span: Span) {
        self.lock().spans.push(span);
    }

    pub(super) fn wrote_large(&self) {
        self.lock().large += 1;
    }

    pub(super) fn large(&self) -> u64 {
        self.lock().large
    }

    pub(super) fn compacted(&self) {
        self.lock().compacted += 1;
    }

    /// A watch has begun at the oldest revision that was told.
    pub(super) fn began_at_oldest(&self) {
        self.lock().from_oldest += 1;
    }

    /// The newest revision of which anybody was told.
    pub(super) fn newest(&self) -> u64 {
        self.lock().known.last_key_value().map_or(0, |((revision, _), _)| *revision)
    }

    /// A revision of a change, by its number among all that are known.
    pub(super) fn some_revision(&self, number: u32) -> Option<u64> {
        let inner = self.lock();
        let number = usize::try_from(number).ok()?;
        let number = number.checked_rem(inner.known.len())?;
        inner.known.keys().nth(number).map(|(revision, _)| *revision)
    }

    /// What must not be.
    pub(super) fn problems(&self) -> Vec<String> {
        let inner = self.lock();
        let mut problems = inner.problems.clone();
        for Span { client, from, through, changes } in &inner.spans {
            if from > through {
                continue;
            }
            let all = inner.known.range((*from, String::new())..(through + 1, String::new()));
            let mut missed = all.filter(|(place, _)| !changes.contains_key(*place));
            if let Some(((revision, key), became)) = missed.next() {
                problems.push(format!(
                    "a watch of client {client}, from revision {from} through {through}, was not \
                     told that {key} became {became:?} at {revision}; it missed {} changes of {}",
                    missed.count() + 1,
                    changes.len()
                ));
            }
        }
        problems
    }

    pub(super) fn counts(&self) -> Vec<(&'static str, u64)> {
        let inner = self.lock();
        let handed_out = inner.spans.iter().map(|span| span.changes.len() as u64).sum();
        vec![
            ("changes known", inner.known.len() as u64),
            ("watches", inner.spans.len() as u64),
            ("changes handed out", handed_out),
            ("told compacted", inner.compacted),
            ("begun at the oldest", inner.from_oldest),
        ]
    }
}
