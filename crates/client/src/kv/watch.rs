//! `kv watch`: the changes of keys, as they happen and from an earlier revision on.

use super::{KeyValue, Keys, call_settings};
use crate::Error;
use crate::call::Effect;
use crate::client::CallOptions;
use crate::failure::Failure;
use crate::incoming::Incoming;
use crate::retry;
use bytes::Bytes;
use futures::Stream;
use futures::future::BoxFuture;
use quorate_proto::v1::{self, WatchRequest, WatchResponse, watch_event};
use std::time::Duration;
use tokio::time::Instant;

/// A node sends a message every 5 s, and ends a watch itself after 15 s without a leader. One that
/// sends nothing for longer is frozen, or cut off.
const SILENCE_MAX: Duration = Duration::from_secs(20);
/// How long going on at another node may take when nothing is said.
const RESUME_TIMEOUT: Duration = Duration::from_secs(60);

/// A change of one key.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Event {
    /// The key.
    pub key: Bytes,
    /// When. All changes of one command, or of one step of a deletion by pattern, share it.
    pub revision: u64,
    /// What became of the key.
    pub change: Change,
}

/// What became of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Change {
    /// It was created, or given another value.
    #[non_exhaustive]
    Set {
        /// Its value; empty when only keys were asked for.
        value: Bytes,
        /// 1 when this change created it, plus one with every change since.
        version: u64,
        /// Revision that created it.
        create_revision: u64,
        /// What it had left to live at that moment; none when it had no ttl.
        ttl: Option<Duration>,
    },
    /// It is gone.
    #[non_exhaustive]
    Deleted {
        /// Why.
        cause: DeleteCause,
    },
}

/// Why a key is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DeleteCause {
    /// Somebody deleted it.
    Deleted,
    /// Its ttl ran out.
    Expired,
    /// The session that owned it ended.
    SessionEnded,
    /// For a reason that this version of the client does not know.
    Other,
}

/// What happened next: all events of one or more revisions, in their order, none of them torn apart.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Changes {
    /// There are none in those that only say how far the watch is ([`StartWatch::progress`]).
    pub events: Vec<Event>,
    /// Everything up to this revision was handed out with these. A watch
    /// [from](StartWatch::from_revision) the next one continues.
    pub revision: u64,
}

/// A watch to be started.
#[derive(Clone, Debug)]
#[must_use = "nothing is watched before it is started"]
pub struct StartWatch {
    kv: KeyValue,
    keys: Vec<Keys>,
    from_revision: u64,
    keys_only: bool,
    progress: bool,
    resume_timeout: Duration,
    options: CallOptions,
}

impl StartWatch {
    pub(super) fn new(kv: KeyValue, keys: Keys) -> Self {
        Self {
            kv,
            keys: vec![keys],
            from_revision: 0,
            keys_only: false,
            progress: false,
            resume_timeout: RESUME_TIMEOUT,
            options: CallOptions::default(),
        }
    }

    call_settings!();

    /// Also the keys that match a pattern; see [`KeyValue::list`]. Up to 64 of all kinds.
    pub fn and(mut self, pattern: impl AsRef<[u8]>) -> Self {
        self.keys.push(Keys::Pattern(super::owned(pattern)));
        self
    }

    /// Also the keys that begin with these bytes.
    pub fn and_prefix(mut self, prefix: impl AsRef<[u8]>) -> Self {
        self.keys.push(Keys::Prefix(super::owned(prefix)));
        self
    }

    /// Also this key.
    pub fn and_key(mut self, key: impl AsRef<[u8]>) -> Self {
        self.keys.push(Keys::Key(super::owned(key)));
        self
    }

    /// Begins with the changes of this revision: with that of a list plus one, say, or with
    /// [`Changes::revision`] plus one. A revision that is not reached yet is waited for. Without it,
    /// or with 0, the watch begins behind every write that was acknowledged when it starts.
    pub fn from_revision(mut self, revision: u64) -> Self {
        self.from_revision = revision;
        self
    }

    /// Without the values.
    pub fn keys_only(mut self) -> Self {
        self.keys_only = true;
        self
    }

    /// Hands out [`Changes`] without events, too: every few seconds while nothing changes, for those
    /// who keep the revision.
    pub fn progress(mut self) -> Self {
        self.progress = true;
        self
    }

    /// How long it may take to go on at another node when one fails; default: 60 s, at most 5 min.
    /// ([`StartWatch::timeout`] is how long it may take to start.)
    pub fn resume_timeout(mut self, timeout: Duration) -> Self {
        self.resume_timeout = timeout;
        self
    }

    /// Starts it. Any write that is acknowledged after this has answered will be seen.
    ///
    /// # Errors
    /// [`Error::Compacted`] when the changes it is to begin with are no longer kept; otherwise as a
    /// read.
    pub async fn start(self) -> Result<Watch, Error> {
        // Of a watch from now on it is not known yet where it begins: nothing was handed out.
        let done = self.from_revision.checked_sub(1);
        let (done, stream) = self.clone().begin(done, self.options.clone(), Duration::ZERO).await?;
        let node = Node::Open { stream: Box::new(stream), heard: Instant::now() };
        Ok(Watch { asked: self, done, held: Vec::new(), node, failures: 0, over: false })
    }

    /// Has a node begin behind a revision (or now, without one), after a pause. Answers behind which
    /// one it began.
    async fn begin(
        self,
        done: Option<u64>,
        options: CallOptions,
        pause: Duration,
    ) -> Result<Begun, Error> {
        tokio::time::sleep(pause).await;
        let inner = &self.kv.inner;
        let request = WatchRequest {
            namespace: self.kv.namespace.to_string(),
            selectors: self.keys.iter().map(Keys::selector).collect(),
            from_revision: done.map_or(0, |done| done.saturating_add(1)),
            keys_only: self.keys_only,
        };
        let plan = inner.plan("kv watch", Effect::Read, &options);
        let (begun, stream) = inner.engine.open_watch(&plan, request).await?;
        match done {
            Some(done) if done != begun => Err(Error::bad_answer(format!(
                "a watch behind revision {done} began behind {begun}"
            ))),
            _ => Ok((begun, stream)),
        }
    }
}

type Begun = (u64, Incoming<WatchResponse>);

/// Where the events come from.
enum Node {
    /// From this stream, which has said something then.
    Open { stream: Box<Incoming<WatchResponse>>, heard: Instant },
    /// From one that is being looked for. It goes on where it was when the watch is asked again.
    Wanted(BoxFuture<'static, Result<Begun, Error>>),
}

/// A watch that has started.
///
/// When its node fails it goes on at another one, by itself: every event once, in order, none left
/// out. When it can't, it says so, and is over.
pub struct Watch {
    asked: StartWatch,
    /// Everything up to this revision was handed out.
    done: u64,
    /// Events above it: of one revision, of which more is to come.
    held: Vec<Event>,
    node: Node,
    /// Nodes that failed since the last message.
    failures: u32,
    over: bool,
}

impl std::fmt::Debug for Watch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watch")
            .field("asked", &self.asked)
            .field("revision", &self.done)
            .finish_non_exhaustive()
    }
}

impl Watch {
    /// How far it is: everything up to this revision was handed out, or does not concern it. It
    /// grows with the changes that [`Watch::next`] hands out, and while that waits.
    #[must_use]
    pub fn revision(&self) -> u64 {
        self.done
    }

    /// What happens next; waits for it. None after an error.
    ///
    /// # Errors
    /// [`Error::Compacted`] when it fell so far behind that changes are lost: list the keys, and
    /// watch from the list's revision plus one. [`Error::Unavailable`] when no node could be found
    /// to go on with in time: a watch from [`Watch::revision`] plus one goes on later.
    ///
    /// # Cancel safety
    /// Nothing is lost when it is dropped.
    pub async fn next(&mut self) -> Option<Result<Changes, Error>> {
        if self.over {
            return None;
        }
        let changes = self.changes().await;
        self.over = changes.is_err();
        Some(changes)
    }

    /// As a stream of what [`Watch::next`] answers.
    pub fn into_stream(self) -> impl Stream<Item = Result<Changes, Error>> + use<> {
        futures::stream::unfold(self, |mut watch| async {
            let next = watch.next().await?;
            Some((next, watch))
        })
    }

    async fn changes(&mut self) -> Result<Changes, Error> {
        loop {
            let (stream, heard) = match &mut self.node {
                Node::Open { stream, heard } => (stream, heard),
                Node::Wanted(wanted) => {
                    let (_, stream) = wanted.await?;
                    self.node = Node::Open { stream: Box::new(stream), heard: Instant::now() };
                    continue;
                }
            };
            // What has come already is taken first, however long ago that was.
            match tokio::time::timeout_at(*heard + SILENCE_MAX, stream.message()).await {
                Ok(Ok(Some(message))) => {
                    *heard = Instant::now();
                    self.failures = 0;
                    if let Some(changes) = self.take(message)? {
                        return Ok(changes);
                    }
                }
                Ok(Ok(None)) => self.broken("the stream ended"),
                Err(_) => self.broken("the node fell silent"),
                Ok(Err(status)) => {
                    let failure = Failure::from_status("the node", &status, false);
                    // Whoever reads slowly goes on where it was, while the history has it.
                    if !failure.is_worth_retrying() && failure.reason != "SLOW_READER" {
                        return Err(failure.into());
                    }
                    self.broken(&failure.message);
                }
            }
        }
    }

    fn broken(&mut self, why: &str) {
        tracing::debug!(why, revision = self.done, "a watch broke; it goes on at another node");
        // Of a revision that is not complete everything is sent again.
        self.held.clear();
        let StartWatch { resume_timeout, options, kv, .. } = &self.asked;
        let options = CallOptions { timeout: Some(*resume_timeout), ..options.clone() };
        // The first time it hardly waits: another node is likely to do better at once.
        let pause = retry::backoff(self.failures, &kv.inner.engine.random);
        self.failures = self.failures.saturating_add(1);
        let begun = self.asked.clone().begin(Some(self.done), options, pause);
        self.node = Node::Wanted(Box::pin(begun));
    }

    /// Takes a message in; answers what is complete with it.
    fn take(&mut self, message: WatchResponse) -> Result<Option<Changes>, Error> {
        let WatchResponse { events, revision, group_id } = message;
        if let Some(last) = events.last() {
            // Not how far the watch is: one from a revision to come is ahead of the cluster.
            let kv = &self.asked.kv;
            kv.inner.engine.seen.raise(&kv.namespace, group_id, last.revision);
        }
        let done = self.done;
        let next = done.saturating_add(1);
        let mut newest = self.held.last().map_or(next, |held| held.revision);
        for event in events {
            if event.revision < newest {
                return Err(Error::bad_answer(format!(
                    "an event of revision {} came after revision {newest} of the same watch",
                    event.revision
                )));
            }
            newest = event.revision;
            self.held.push(read(event)?);
        }
        if revision < done {
            return Err(Error::bad_answer(format!(
                "a watch went back from revision {done} to {revision}"
            )));
        }
        self.done = revision;
        let complete = self.held.partition_point(|event| event.revision <= revision);
        let rest = self.held.split_off(complete);
        let events = std::mem::replace(&mut self.held, rest);
        let says = !events.is_empty() || self.asked.progress;
        Ok(says.then_some(Changes { events, revision }))
    }
}

fn read(event: v1::WatchEvent) -> Result<Event, Error> {
    let v1::WatchEvent { key, revision, change } = event;
    let change = match change {
        Some(watch_event::Change::Set(set)) => Change::Set {
            value: set.value,
            version: set.version,
            create_revision: set.create_revision,
            ttl: set.ttl_ms.map(Duration::from_millis),
        },
        Some(watch_event::Change::Deleted(cause)) => Change::Deleted {
            cause: match v1::DeleteCause::try_from(cause) {
                Ok(v1::DeleteCause::Deleted) => DeleteCause::Deleted,
                Ok(v1::DeleteCause::Expired) => DeleteCause::Expired,
                Ok(v1::DeleteCause::SessionEnded) => DeleteCause::SessionEnded,
                Ok(v1::DeleteCause::Unspecified) | Err(_) => DeleteCause::Other,
            },
        },
        None => {
            return Err(Error::bad_answer(format!(
                "an event of revision {revision} does not say what became of its key"
            )));
        }
    };
    Ok(Event { key, revision, change })
}
