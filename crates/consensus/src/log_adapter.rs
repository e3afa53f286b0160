//! openraft's log traits over a [`LogStore`]: translation only.

use crate::trace::Milestones;
use crate::types::{
    LogId, RaftEntry, TypeConfig, Vote, log_entry, log_id, position, raft_entry, vote,
};
use futures::{Stream, StreamExt, stream};
use openraft::OptionalSend;
use openraft::storage::{IOFlushed, LogState, RaftLogReader, RaftLogStorage};
use quorate_state::{LogIndex, codec};
use quorate_storage::log::{LogEntry, LogStore};
use std::fmt::Debug;
use std::io;
use std::ops::{Bound, RangeBounds};
use std::sync::Arc;
use tokio::sync::oneshot;

/// Bytes read for one append request: below the frame limit of 4 MiB between peers, with room for
/// one largest entry.
const REPLICATION_READ_BYTES: usize = 2 << 20;
/// Bytes read for one round of apply.
const READ_BYTES: usize = 8 << 20;

#[derive(Clone)]
pub(crate) struct LogAdapter {
    store: Arc<dyn LogStore>,
    /// Told when entries come and are on disk, and what is committed.
    milestones: Arc<Milestones>,
}

impl LogAdapter {
    pub(crate) fn new(store: Arc<dyn LogStore>, milestones: Arc<Milestones>) -> Self {
        Self { store, milestones }
    }

    /// The first index of a range, and the first one behind it.
    fn bounds(&self, range: &impl RangeBounds<u64>) -> (u64, u64) {
        let from = match range.start_bound() {
            Bound::Included(index) => *index,
            Bound::Excluded(index) => index + 1,
            Bound::Unbounded => 0,
        };
        let to = match range.end_bound() {
            Bound::Included(index) => index + 1,
            Bound::Excluded(index) => *index,
            Bound::Unbounded => self.store.bounds().last.map_or(0, |last| last.index.0 + 1),
        };
        (from, to)
    }

    fn read(&self, from: u64, to: u64, max_bytes: usize) -> io::Result<Vec<RaftEntry>> {
        self.store
            .read(LogIndex(from), LogIndex(to), max_bytes)
            .map_err(io::Error::other)?
            .into_iter()
            .map(|entry| raft_entry(entry).map_err(io::Error::other))
            .collect()
    }
}

/// The vote as it stands on disk, behind the codec's header.
pub(crate) fn encode_vote(vote: &Vote) -> bytes::Bytes {
    codec::encode(&(vote.leader_id.term, vote.leader_id.voted_for, vote.committed)).into()
}

pub(crate) fn decode_vote(bytes: &[u8]) -> io::Result<Vote> {
    let (term, node, committed) = codec::decode::<(u64, u64, bool)>(bytes)
        .map_err(|error| io::Error::other(format!("the saved vote is unreadable: {error}")))?;
    Ok(vote(term, node, committed))
}

impl RaftLogReader<TypeConfig> for LogAdapter {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> io::Result<Vec<RaftEntry>> {
        let (mut from, to) = self.bounds(&range);
        // This call promises the whole range, so that only each single read is bounded by bytes.
        let mut entries = Vec::new();
        while from < to {
            let some = self.read(from, to, READ_BYTES)?;
            let Some(last) = some.last() else { break };
            from = last.log_id.index + 1;
            entries.extend(some);
        }
        Ok(entries)
    }

    /// As above, but read when it is asked for: after a stall of the disk a whole burst may be there
    /// to apply at once.
    async fn entries_stream<RB>(
        &mut self,
        range: RB,
    ) -> impl Stream<Item = io::Result<RaftEntry>> + OptionalSend
    where
        RB: RangeBounds<u64> + Clone + Debug + OptionalSend,
    {
        let (from, to) = self.bounds(&range);
        let log = self.clone();
        let pieces = stream::unfold(Some(from), move |from| {
            let from = from.filter(|from| *from < to);
            let piece = from.map(|from| log.read(from, to, READ_BYTES));
            std::future::ready(match piece {
                None => None,
                Some(Ok(entries)) => {
                    let next = entries.last().map(|last| last.log_id.index + 1);
                    Some((stream::iter(entries.into_iter().map(Ok).collect::<Vec<_>>()), next))
                }
                Some(Err(error)) => Some((stream::iter(vec![Err(error)]), None)),
            })
        });
        pieces.flatten().boxed()
    }

    async fn limited_get_log_entries(
        &mut self,
        start: u64,
        end: u64,
    ) -> io::Result<Vec<RaftEntry>> {
        self.read(start, end, REPLICATION_READ_BYTES)
    }

    async fn read_vote(&mut self) -> io::Result<Option<Vote>> {
        let bytes = self.store.vote().map_err(io::Error::other)?;
        bytes.as_deref().map(decode_vote).transpose()
    }
}

impl RaftLogStorage<TypeConfig> for LogAdapter {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> io::Result<LogState<TypeConfig>> {
        let bounds = self.store.bounds();
        Ok(LogState {
            last_purged_log_id: bounds.purged.map(log_id),
            last_log_id: bounds.last.map(log_id),
        })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> io::Result<()> {
        let (done, saved) = oneshot::channel();
        self.store
            .save_vote(encode_vote(vote), Box::new(move |result| drop(done.send(result))))
            .map_err(io::Error::other)?;
        saved
            .await
            .map_err(|_| io::Error::other("the log closed before the vote was on disk"))?
            .map_err(io::Error::other)
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> io::Result<()> {
        if let Some(through) = &committed
            && self.milestones.is_watched()
        {
            self.milestones.committed(through.index);
        }
        self.store.save_committed(committed.as_ref().map(position)).map_err(io::Error::other)
    }

    async fn read_committed(&mut self) -> io::Result<Option<LogId>> {
        Ok(self.store.committed().map_err(io::Error::other)?.map(log_id))
    }

    async fn append<I>(&mut self, entries: I, flushed: IOFlushed<TypeConfig>) -> io::Result<()>
    where
        I: IntoIterator<Item = RaftEntry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let entries: Vec<LogEntry> = entries.into_iter().map(log_entry).collect();
        let watched = match (entries.first(), entries.last()) {
            (Some(first), Some(last)) if self.milestones.is_watched() => {
                let indexes = first.position.index.0..=last.position.index.0;
                self.milestones.appended(indexes.clone());
                Some((Arc::clone(&self.milestones), indexes))
            }
            _ => None,
        };
        let completed = move |result: Result<(), _>| {
            if let (Some((milestones, indexes)), Ok(())) = (watched, &result) {
                milestones.synced(indexes);
            }
            flushed.io_completed(result.map_err(io::Error::other));
        };
        self.store.append(entries, Box::new(completed)).map_err(io::Error::other)
    }

    async fn truncate_after(&mut self, last: Option<LogId>) -> io::Result<()> {
        self.store.truncate_after(last.as_ref().map(position)).map_err(io::Error::other)
    }

    async fn purge(&mut self, through: LogId) -> io::Result<()> {
        self.store.purge(position(&through)).map_err(io::Error::other)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vote_survives_its_encoding_and_garbage_is_refused() {
        let saved = vote(7, 3, true);
        assert_eq!(decode_vote(&encode_vote(&saved)).unwrap(), saved);
        assert!(decode_vote(b"").is_err());
        assert!(decode_vote(&[1, 1, 0xff, 0xff]).is_err());
    }

    #[test]
    fn the_bytes_of_a_vote_are_frozen() {
        assert_eq!(encode_vote(&vote(300, 2, true)).as_ref(), [1, 1, 251, 44, 1, 2, 1]);
    }
}
