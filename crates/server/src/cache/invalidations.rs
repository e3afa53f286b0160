//! What near caches are told: which entries they have to forget, and how far they are.
//!
//! Each stream has a queue of its own, since each is read at its own pace. One that is full is
//! replaced by "everything": a near cache that is read too slowly starts anew, and costs no more.

use quorate_state::glob::Pattern;
use quorate_state::{KeySelector, Revision};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;

/// Changes that wait for a stream to be read.
const QUEUED_MAX: usize = 4_096;
/// Streams of a node: as many as clients.
const STREAMS_MAX: usize = 10_000;

/// What is to be forgotten.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// This key.
    Key(bytes::Bytes),
    /// Keys that begin with these bytes.
    Prefix(bytes::Bytes),
    /// Entries with this tag.
    Tag(String),
    /// All entries.
    Everything,
}

/// All streams.
#[derive(Default)]
pub(crate) struct Invalidations(Mutex<Streams>);

#[derive(Default)]
struct Streams {
    last_id: u64,
    streams: BTreeMap<u64, Arc<Stream>>,
}

struct Stream {
    namespace: String,
    queue: Mutex<Queue>,
    woken: Notify,
}

#[derive(Default)]
struct Queue {
    changes: Vec<(Revision, Change)>,
    /// Everything up to here is in it, or was.
    through: Revision,
}

/// There are as many streams as there may be.
#[derive(Debug)]
pub(crate) struct TooMany(pub(crate) usize);

/// One stream, until it is dropped.
pub(crate) struct Listener {
    invalidations: Arc<Invalidations>,
    id: u64,
    stream: Arc<Stream>,
}

impl Invalidations {
    fn lock(&self) -> MutexGuard<'_, Streams> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on what changes in a namespace is kept for the listener.
    pub(crate) fn listen(self: &Arc<Self>, namespace: String) -> Result<Listener, TooMany> {
        let mut streams = self.lock();
        if streams.streams.len() >= STREAMS_MAX {
            return Err(TooMany(STREAMS_MAX));
        }
        streams.last_id += 1;
        let stream = Stream { namespace, queue: Mutex::default(), woken: Notify::new() };
        let (id, stream) = (streams.last_id, Arc::new(stream));
        streams.streams.insert(id, Arc::clone(&stream));
        Ok(Listener { invalidations: Arc::clone(self), id, stream })
    }

    /// Whether nobody listens.
    pub(super) fn is_idle(&self) -> bool {
        self.lock().streams.is_empty()
    }

    pub(super) fn key(&self, namespace: &str, key: &bytes::Bytes, revision: Revision) {
        self.tell(namespace, revision, || Change::Key(key.clone()));
    }

    pub(super) fn tags(&self, namespace: &str, tags: &[String], revision: Revision) {
        for tag in tags {
            self.tell(namespace, revision, || Change::Tag(tag.clone()));
        }
    }

    /// Keys that were deleted by a pattern, also some that were evicted before: which, only a near
    /// cache could tell. It knows no patterns, so it is told what all of them begin with.
    pub(super) fn selected(&self, namespace: &str, selector: &KeySelector, revision: Revision) {
        match selector {
            KeySelector::Key(key) => self.key(namespace, key, revision),
            KeySelector::Prefix(prefix) => {
                self.tell(namespace, revision, || Change::Prefix(prefix.clone()));
            }
            KeySelector::Pattern(pattern) => {
                self.tell(namespace, revision, || match Pattern::parse(pattern) {
                    Ok(pattern) => Change::Prefix(pattern.literal_prefix().to_vec().into()),
                    Err(_) => Change::Everything,
                })
            }
        }
    }

    fn tell(&self, namespace: &str, revision: Revision, change: impl Fn() -> Change) {
        for stream in self.lock().streams.values() {
            if stream.namespace == namespace {
                stream.tell(revision, change());
            }
        }
    }

    /// This node has missed something that happened up to a revision.
    pub(super) fn everything(&self, revision: Revision) {
        for stream in self.lock().streams.values() {
            stream.tell(revision, Change::Everything);
        }
    }

    /// All up to here was told.
    pub(super) fn come_to(&self, revision: Revision) {
        for stream in self.lock().streams.values() {
            let mut queue = stream.lock();
            queue.through = queue.through.max(revision);
            drop(queue);
            stream.woken.notify_one();
        }
    }
}

impl Stream {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, revision: Revision, change: Change) {
        let mut queue = self.lock();
        if change == Change::Everything || queue.changes.len() >= QUEUED_MAX {
            // It has the revision of the newest it stands for.
            let newest = queue.changes.last().map_or(revision, |(newest, _)| revision.max(*newest));
            queue.changes.clear();
            queue.changes.push((newest, Change::Everything));
        } else {
            queue.changes.push((revision, change));
        }
        drop(queue);
        self.woken.notify_one();
    }
}

impl Listener {
    /// What has changed, and how far that is; nothing has when the queue is empty.
    pub(crate) fn take(&self) -> (Vec<(Revision, Change)>, Revision) {
        let mut queue = self.stream.lock();
        (std::mem::take(&mut queue.changes), queue.through)
    }

    /// Waits for news of any kind.
    ///
    /// # Cancel safety
    /// News is not lost when the future is dropped before it resolves.
    pub(crate) async fn news(&self) {
        self.stream.woken.notified().await;
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.invalidations.lock().streams.remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt as _;

    fn key(text: &'static str) -> bytes::Bytes {
        bytes::Bytes::from_static(text.as_bytes())
    }

    #[tokio::test]
    async fn each_stream_has_what_changes_in_its_namespace_in_order() {
        let invalidations = Arc::<Invalidations>::default();
        let one = invalidations.listen(String::new()).unwrap();
        let other = invalidations.listen("n".to_owned()).unwrap();
        invalidations.key("", &key("a"), Revision(1));
        invalidations.tags("", &["t".to_owned(), "u".to_owned()], Revision(2));
        one.news().await;
        assert!(other.news().now_or_never().is_none());
        invalidations.come_to(Revision(5));
        let changes = vec![
            (Revision(1), Change::Key(key("a"))),
            (Revision(2), Change::Tag("t".to_owned())),
            (Revision(2), Change::Tag("u".to_owned())),
        ];
        assert_eq!(one.take(), (changes, Revision(5)));
        assert_eq!(other.take(), (Vec::new(), Revision(5)));
        drop((one, other));
        assert!(invalidations.is_idle());
    }

    #[test]
    fn a_queue_that_is_full_becomes_everything() {
        let invalidations = Arc::<Invalidations>::default();
        let slow = invalidations.listen(String::new()).unwrap();
        for revision in 0..=QUEUED_MAX as u64 {
            invalidations.key("", &key("a"), Revision(revision));
        }
        let newest = Revision(QUEUED_MAX as u64);
        assert_eq!(slow.take().0, [(newest, Change::Everything)]);
        invalidations.key("", &key("a"), Revision(9_000));
        invalidations.everything(Revision(8_000));
        assert_eq!(slow.take().0, [(Revision(9_000), Change::Everything)]);
        invalidations.selected("", &KeySelector::Pattern(key("a:*x")), Revision(9_001));
        assert_eq!(slow.take().0, [(Revision(9_001), Change::Prefix(key("a:")))]);
    }
}
