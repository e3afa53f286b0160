//! The newest events, decoded once for all watches.

use quorate_state::HistoryPosition;
use quorate_state::query::KvEvent;
use std::collections::VecDeque;
use std::sync::Arc;

/// Bytes of events that are kept: a second of many small writes, so that only a watch that was
/// away, or whose client reads slowly, reads the tables itself. Tiny ones take about three times as
/// much memory as they count for.
const RING_BYTES_MAX: usize = 4 << 20;

/// Events that were read together.
#[derive(Debug)]
pub(super) struct Chunk {
    /// They lie above this position,
    pub(super) after: HistoryPosition,
    /// and there are no others up to this one.
    pub(super) through: HistoryPosition,
    pub(super) events: Vec<KvEvent>,
    bytes: usize,
}

impl Chunk {
    pub(super) fn new(
        after: HistoryPosition,
        through: HistoryPosition,
        events: Vec<KvEvent>,
    ) -> Self {
        let bytes = events.iter().map(KvEvent::counted_bytes).sum();
        Self { after, through, events, bytes }
    }
}

/// Chunks in their order; between two lies nothing.
#[derive(Debug, Default)]
pub(super) struct Ring {
    chunks: VecDeque<Arc<Chunk>>,
    bytes: usize,
    /// What lies up to here is not, or no longer, in it.
    start: HistoryPosition,
    /// Everything up to here was read.
    end: HistoryPosition,
}

/// What there is behind a position.
#[derive(Debug)]
pub(super) enum Found {
    /// It is in the tables only.
    Older,
    /// These events, and more behind them.
    Chunk(Arc<Chunk>),
    /// Nothing yet.
    Nothing,
}

impl Ring {
    /// Everything up to here was read.
    pub(super) fn end(&self) -> HistoryPosition {
        self.end
    }

    /// Begins anew, behind a position.
    pub(super) fn reset(&mut self, at: HistoryPosition) {
        *self = Self { start: at, end: at, ..Self::default() };
    }

    /// Adds what comes next. At least that stays.
    pub(super) fn push(&mut self, chunk: Arc<Chunk>) {
        debug_assert_eq!(chunk.after, self.end, "chunks fit together");
        if chunk.events.is_empty() {
            self.end = chunk.through;
        } else {
            self.keep(chunk);
        }
    }

    fn keep(&mut self, chunk: Arc<Chunk>) {
        self.end = chunk.through;
        self.bytes += chunk.bytes;
        self.chunks.push_back(chunk);
        while self.bytes > RING_BYTES_MAX && self.chunks.len() > 1 {
            let Some(oldest) = self.chunks.pop_front() else { break };
            self.bytes -= oldest.bytes;
            self.start = oldest.through;
        }
    }

    /// What lies behind a position.
    pub(super) fn behind(&self, position: HistoryPosition) -> Found {
        if position < self.start {
            return Found::Older;
        }
        let at = self.chunks.partition_point(|chunk| chunk.through <= position);
        self.chunks.get(at).map_or(Found::Nothing, |chunk| Found::Chunk(Arc::clone(chunk)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use quorate_state::Revision;

    fn behind(revision: u64) -> HistoryPosition {
        HistoryPosition::behind(Revision(revision))
    }

    /// As if there were events of so many bytes in it: only their size counts here.
    fn keep(ring: &mut Ring, through: u64, bytes: usize) {
        let chunk = Chunk { after: ring.end(), through: behind(through), events: vec![], bytes };
        ring.keep(Arc::new(chunk));
    }

    #[test]
    fn what_does_not_fit_any_more_is_in_the_tables_only() {
        let mut ring = Ring::default();
        ring.reset(behind(4));
        assert!(matches!(ring.behind(behind(3)), Found::Older));
        assert!(matches!(ring.behind(behind(4)), Found::Nothing));
        assert!(matches!(ring.behind(behind(9)), Found::Nothing), "a revision to come");
        for revision in 5..10 {
            keep(&mut ring, revision, RING_BYTES_MAX / 4);
        }
        assert_eq!(ring.end(), behind(9));
        assert!(ring.bytes <= RING_BYTES_MAX);
        assert!(matches!(ring.behind(behind(4)), Found::Older));
        let Found::Chunk(found) = ring.behind(behind(8)) else { panic!("the newest is there") };
        assert_eq!((found.after, found.through), (behind(8), behind(9)));
        // In the middle of a chunk it is that chunk that goes on.
        let middle = HistoryPosition { revision: Revision(9), event: 2 };
        assert!(matches!(ring.behind(middle), Found::Chunk(_)));
        assert!(matches!(ring.behind(behind(9)), Found::Nothing));

        // What has no events takes no room, and is passed over.
        ring.push(Arc::new(Chunk::new(behind(9), behind(11), vec![])));
        assert_eq!((ring.end(), ring.chunks.len()), (behind(11), 4));
        keep(&mut ring, 12, 1);
        let Found::Chunk(found) = ring.behind(behind(10)) else { panic!("there is more") };
        assert_eq!(found.through, behind(12));
    }

    #[test]
    fn one_that_is_larger_than_all_room_is_kept_until_the_next() {
        let mut ring = Ring::default();
        ring.reset(behind(0));
        keep(&mut ring, 1, 2 * RING_BYTES_MAX);
        assert!(matches!(ring.behind(behind(0)), Found::Chunk(_)));
        keep(&mut ring, 2, 1);
        assert!(matches!(ring.behind(behind(0)), Found::Older));
    }
}
