//! How long a command was where on its way into the state, for whoever wants to know it of this one.
//!
//! Commands share entries, so times are taken once for an entry, and only while an entry is on its way
//! that has such a command: otherwise all of this is one load of a number per append. Nothing of it is
//! replicated.

use quorate_proto::peer as pb;
use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// Passages that are remembered of one request. Most have one command; one that waits has two or three.
const PASSAGES_MAX: usize = 16;
/// No command takes as long as this: a node that says so is wrong. A clock that counts from some
/// moment could not tell of what was before it.
const TOOK_MAX: Duration = Duration::from_secs(3_600);
/// Entries whose times are remembered: more than are ever between append and apply, but after a stall,
/// when times of some are missing.
const ENTRIES: usize = 256;

/// A request whose way is to be known: what its commands are proposed with ([`crate::Origin::traced`]),
/// and where their passages are found afterwards.
#[derive(Debug)]
pub struct Trace {
    since: Instant,
    passages: Mutex<Vec<Passage>>,
}

impl Trace {
    /// Of a request that arrived at this moment.
    #[must_use]
    pub fn new(since: Instant) -> Self {
        Self { since, passages: Mutex::default() }
    }

    /// When the request arrived.
    #[must_use]
    pub fn since(&self) -> Instant {
        self.since
    }

    /// The passages of its commands that were answered so far, in that order.
    #[must_use]
    pub fn passages(&self) -> Vec<Passage> {
        self.passages.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// A command of it was answered. The passage of its entry, as it is of this command.
    pub(crate) fn passed(&self, entry: &Passage) -> Arc<Passage> {
        let mut passage = *entry;
        if !passage.elsewhere {
            passage.arrived = self.since;
        }
        let mut passages = self.passages.lock().unwrap_or_else(PoisonError::into_inner);
        if passages.len() < PASSAGES_MAX {
            passages.push(passage);
        }
        Arc::new(passage)
    }
}

/// When a command's entry was where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Passage {
    /// Whether another node proposed it. Then its times are that node's, put on this node's clock as
    /// though the answer had taken no time to come: they are right among themselves, and too late by
    /// what it took.
    pub elsewhere: bool,
    /// When the command came to the node that proposed it.
    pub arrived: Instant,
    /// When its entry was handed to consensus.
    pub handed: Instant,
    /// When that node's own log had the entry on disk; none if that is not known.
    pub synced: Option<Instant>,
    /// When that node knew that a majority had it; none if that is not known.
    pub committed: Option<Instant>,
    /// When that node began to apply it, and what it applied together with it; none if that is not known.
    pub applying: Option<Instant>,
    /// When it was applied.
    pub applied: Instant,
}

impl Passage {
    /// As another node is told it, in an answer that is made now.
    pub(crate) fn to_wire(self) -> pb::Passage {
        let since = |at: Instant| {
            let ns = at.saturating_duration_since(self.arrived).as_nanos();
            u64::try_from(ns).unwrap_or(u64::MAX)
        };
        pb::Passage {
            handed_ns: since(self.handed),
            synced_ns: self.synced.map(since),
            committed_ns: self.committed.map(since),
            applying_ns: self.applying.map(since),
            applied_ns: since(self.applied),
            answered_ns: since(Instant::now()),
        }
    }

    /// As another node told it, in an answer that came now. None if it can't be true.
    pub(crate) fn from_wire(told: &pb::Passage) -> Option<Self> {
        let took = Duration::from_nanos(told.answered_ns);
        let arrived = Instant::now().checked_sub(took).filter(|_| took <= TOOK_MAX)?;
        let at = |ns: u64| (ns <= told.answered_ns).then(|| arrived + Duration::from_nanos(ns));
        Some(Self {
            elsewhere: true,
            arrived,
            handed: at(told.handed_ns)?,
            synced: told.synced_ns.and_then(at),
            committed: told.committed_ns.and_then(at),
            applying: told.applying_ns.and_then(at),
            applied: at(told.applied_ns)?,
        })
    }
}

/// When this node's newest entries were where, while somebody wants to know.
#[derive(Debug)]
pub(crate) struct Milestones {
    /// Entries on their way of which somebody wants to know.
    watched: AtomicUsize,
    /// By index modulo their number.
    entries: Mutex<Vec<Entry>>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Entry {
    /// Behind its index; 0: none.
    end: u64,
    synced: Option<Instant>,
    committed: Option<Instant>,
    applying: Option<Instant>,
}

impl Default for Milestones {
    fn default() -> Self {
        Self { watched: AtomicUsize::new(0), entries: Mutex::default() }
    }
}

/// Somebody wants to know of an entry, until this is dropped.
#[derive(Debug)]
pub(crate) struct Watching(Arc<Milestones>);

impl Drop for Watching {
    fn drop(&mut self) {
        self.0.watched.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Watching {
    /// The way of an entry that was handed over at this moment, and is applied now.
    pub(crate) fn passage(&self, index: u64, handed: Instant) -> Passage {
        let entry = self.0.entry(index).unwrap_or_default();
        let Entry { synced, committed, applying, .. } = entry;
        let applied = Instant::now();
        Passage { elsewhere: false, arrived: handed, handed, synced, committed, applying, applied }
    }
}

impl Milestones {
    /// From now on times are taken. To be called before the entry is handed over.
    pub(crate) fn watch(self: &Arc<Self>) -> Watching {
        self.watched.fetch_add(1, Ordering::Relaxed);
        Watching(Arc::clone(self))
    }

    /// Whether anybody wants to know: asked before anything else is done.
    pub(crate) fn is_watched(&self) -> bool {
        self.watched.load(Ordering::Relaxed) > 0
    }

    /// These entries go to the log.
    pub(crate) fn appended(&self, indexes: RangeInclusive<u64>) {
        self.each(indexes, true, |_| {});
    }

    /// The log has them on disk.
    pub(crate) fn synced(&self, indexes: RangeInclusive<u64>) {
        let now = Instant::now();
        self.each(indexes, false, |entry| entry.synced = Some(now));
    }

    /// A majority has all up to this one.
    pub(crate) fn committed(&self, through: u64) {
        let now = Instant::now();
        for entry in self.lock().iter_mut().filter(|entry| (1..=through + 1).contains(&entry.end)) {
            entry.committed.get_or_insert(now);
        }
    }

    /// They are being applied.
    pub(crate) fn applying(&self, indexes: RangeInclusive<u64>) {
        let now = Instant::now();
        self.each(indexes, false, |entry| entry.applying = Some(now));
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn each(&self, indexes: RangeInclusive<u64>, new: bool, mut tell: impl FnMut(&mut Entry)) {
        let mut entries = self.lock();
        if entries.is_empty() {
            entries.resize(ENTRIES, Entry::default());
        }
        let first = (*indexes.start()).max(indexes.end().saturating_sub(ENTRIES as u64 - 1));
        for index in first..=*indexes.end() {
            let entry = &mut entries[place(index)];
            if new {
                *entry = Entry { end: index + 1, ..Entry::default() };
            }
            if entry.end == index + 1 {
                tell(entry);
            }
        }
    }

    fn entry(&self, index: u64) -> Option<Entry> {
        let entries = self.lock();
        entries.get(place(index)).filter(|entry| entry.end == index + 1).copied()
    }
}

/// Where an entry's times are.
fn place(index: u64) -> usize {
    usize::try_from(index % ENTRIES as u64).expect("it is below their number")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_those_of_the_entry_and_forgotten_with_its_place() {
        let milestones = Arc::new(Milestones::default());
        assert!(!milestones.is_watched());
        let watching = milestones.watch();
        assert!(milestones.is_watched());
        let handed = Instant::now();
        milestones.appended(7..=8);
        milestones.synced(7..=7);
        milestones.committed(7);
        milestones.applying(7..=7);
        let passage = watching.passage(7, handed);
        let times = [Some(handed), passage.synced, passage.committed, passage.applying];
        assert!(times.iter().all(Option::is_some) && times.is_sorted(), "{passage:?}");
        assert!(passage.applying <= Some(passage.applied));
        // The other one is in the log, and nothing else.
        let passage = watching.passage(8, handed);
        assert_eq!((passage.synced, passage.committed, passage.applying), (None, None, None));
        // Another entry with the same place.
        milestones.appended(7 + ENTRIES as u64..=7 + ENTRIES as u64);
        assert_eq!(watching.passage(7, handed).synced, None);
        drop(watching);
        assert!(!milestones.is_watched());
    }

    #[test]
    fn another_nodes_times_end_now_and_lies_are_left_out() {
        let at = Instant::now();
        let ms = |ms| at.checked_add(Duration::from_millis(ms)).expect("not at the end of time");
        let trace = Trace::new(at);
        let own = Passage {
            elsewhere: false,
            arrived: ms(9),
            handed: ms(1),
            synced: Some(ms(2)),
            committed: Some(ms(3)),
            applying: None,
            applied: ms(4),
        };
        // It came when its request came, not when its entry was handed over.
        let told = trace.passed(&own).to_wire();
        assert_eq!((told.handed_ns, told.applied_ns), (1_000_000, 4_000_000));
        assert_eq!((told.synced_ns, told.applying_ns), (Some(2_000_000), None));
        let told = pb::Passage { answered_ns: 5_000_000, ..told };
        let heard = Passage::from_wire(&told).expect("it can be true");
        assert!(heard.elsewhere);
        assert_eq!(heard.handed - heard.arrived, Duration::from_millis(1));
        assert_eq!(heard.applied - heard.arrived, Duration::from_millis(4));
        assert!(heard.arrived + Duration::from_millis(5) <= Instant::now());
        // What is another node's stays so.
        assert_eq!(trace.passed(&heard).arrived, heard.arrived);
        assert_eq!(trace.passages().len(), 2);
        let lies = pb::Passage { synced_ns: Some(u64::MAX), ..told };
        assert_eq!(Passage::from_wire(&lies).expect("the rest can be true").synced, None);
        let lies = pb::Passage { applied_ns: 6_000_000, ..told };
        assert_eq!(Passage::from_wire(&lies), None);
        assert_eq!(Passage::from_wire(&pb::Passage { answered_ns: u64::MAX, ..told }), None);
    }
}
