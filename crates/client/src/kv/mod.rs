//! The key-value handle.

mod delete;
mod delete_pattern;
mod get;
mod increment;
mod increment_float;
mod list;
mod set;
mod typed;
mod watch;

pub use delete::{Delete, Deleted};
pub use delete_pattern::{DeletePattern, DeletedPattern};
pub use get::{Entry, Get};
pub use increment::{Increment, Incremented};
pub use increment_float::{IncrementFloat, IncrementedFloat};
pub(crate) use list::Keys;
pub use list::{List, Page};
pub use set::{Set, Written};
pub use typed::{Typed, TypedKeyValue};
pub use watch::{Change, Changes, DeleteCause, Event, StartWatch, Watch};

use crate::client::Inner;
use bytes::Bytes;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// Keys and values of one namespace. Cheap to clone.
///
/// Each method makes a request that is sent when it is awaited:
/// `kv.set("k", "v").if_absent().await?`.
///
/// # Cancel safety
/// A dropped read leaves nothing behind. A dropped mutation may or may not have its effect, now or
/// a little later; once every earlier mutation of the same client and namespace is finished and a
/// later one has arrived, it can't have it any more. That holds for mutations named by the client's
/// session, not for those with an idempotency key or anonymous ones.
#[derive(Clone)]
pub struct KeyValue {
    inner: Arc<Inner>,
    namespace: Arc<str>,
}

impl fmt::Debug for KeyValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyValue").field("namespace", &self.namespace).finish_non_exhaustive()
    }
}

impl KeyValue {
    pub(crate) fn new(inner: Arc<Inner>, namespace: Arc<str>) -> Self {
        Self { inner, namespace }
    }

    /// Reads a key. The answer includes every write that was acknowledged before the call began,
    /// by whichever node and to whomever.
    pub fn get(&self, key: impl AsRef<[u8]>) -> Get {
        Get::new(self.clone(), owned(key))
    }

    /// Reads a key from whatever the node that answers has applied. Works without a quorum; may
    /// lag without bound.
    pub fn get_stale(&self, key: impl AsRef<[u8]>) -> Get {
        self.get(key).stale()
    }

    /// Sets a key. Without a ttl it lives until it is deleted.
    pub fn set(&self, key: impl AsRef<[u8]>, value: impl Into<Bytes>) -> Set {
        Set::new(self.clone(), owned(key), value.into())
    }

    /// Deletes a key. A missing key is no error.
    pub fn delete(&self, key: impl AsRef<[u8]>) -> Delete {
        Delete::new(self.clone(), owned(key))
    }

    /// Adds `by`, which may be negative, to a decimal 64-bit integer. A missing key counts as 0.
    pub fn increment(&self, key: impl AsRef<[u8]>, by: i64) -> Increment {
        Increment::new(self.clone(), owned(key), by)
    }

    /// Adds `by` to a decimal 64-bit floating-point number. A missing key counts as 0.
    pub fn increment_float(&self, key: impl AsRef<[u8]>, by: f64) -> IncrementFloat {
        IncrementFloat::new(self.clone(), owned(key), by)
    }

    /// Lists the keys that match a pattern: `*` any run of bytes, `?` one, `[a-c]` and `[^a]` a
    /// class, `\` takes the next byte as it is. What stands before the first of these bounds the
    /// search; without it the whole namespace is looked through.
    pub fn list(&self, pattern: impl AsRef<[u8]>) -> List {
        List::new(self.clone(), Keys::Pattern(owned(pattern)))
    }

    /// Lists the keys that begin with these bytes; all keys when empty.
    pub fn list_prefix(&self, prefix: impl AsRef<[u8]>) -> List {
        List::new(self.clone(), Keys::Prefix(owned(prefix)))
    }

    /// Deletes the keys that match a pattern; see [`KeyValue::list`].
    pub fn delete_pattern(&self, pattern: impl AsRef<[u8]>) -> DeletePattern {
        DeletePattern::new(self.clone(), Keys::Pattern(owned(pattern)))
    }

    /// Deletes the keys that begin with these bytes; all keys when empty.
    pub fn delete_prefix(&self, prefix: impl AsRef<[u8]>) -> DeletePattern {
        DeletePattern::new(self.clone(), Keys::Prefix(owned(prefix)))
    }

    /// Watches the keys that match a pattern, once it is started; see [`KeyValue::list`].
    ///
    /// ```no_run
    /// # async fn example(kv: quorate_client::KeyValue) -> Result<(), quorate_client::Error> {
    /// let mut watch = kv.watch("user.*").start().await?;
    /// while let Some(changes) = watch.next().await {
    ///     for event in changes?.events {
    ///         println!("{:?} at {}: {:?}", event.key, event.revision, event.change);
    ///     }
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn watch(&self, pattern: impl AsRef<[u8]>) -> StartWatch {
        StartWatch::new(self.clone(), Keys::Pattern(owned(pattern)))
    }

    /// Watches the keys that begin with these bytes; all keys when empty.
    pub fn watch_prefix(&self, prefix: impl AsRef<[u8]>) -> StartWatch {
        StartWatch::new(self.clone(), Keys::Prefix(owned(prefix)))
    }

    /// Watches one key.
    pub fn watch_key(&self, key: impl AsRef<[u8]>) -> StartWatch {
        StartWatch::new(self.clone(), Keys::Key(owned(key)))
    }

    /// The same keys, with values of a Rust type that are stored as JSON.
    #[must_use]
    pub fn typed<T: serde::Serialize + serde::de::DeserializeOwned>(&self) -> TypedKeyValue<T> {
        TypedKeyValue::new(self.clone())
    }
}

pub(crate) fn owned(key: impl AsRef<[u8]>) -> Bytes {
    Bytes::copy_from_slice(key.as_ref())
}

/// A ttl as it is sent: parts of a millisecond count as a whole one.
pub(crate) fn millis(ttl: Duration) -> u64 {
    u64::try_from(ttl.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX)
}

/// The settings that every call has.
macro_rules! call_settings {
    () => {
        /// How long this call may take in all, retries included; at most 5 min.
        pub fn timeout(mut self, timeout: std::time::Duration) -> Self {
            self.options.timeout = Some(timeout);
            self
        }
    };
}

/// The lock that a mutation may depend on.
macro_rules! guard_setting {
    () => {
        /// Only if this lock is still held; else [`crate::Error::LockLost`], and nothing is done. The
        /// cluster itself judges that, when the mutation takes its place among all others: a
        /// holder that was stopped and comes too late can't do harm.
        pub fn guard(mut self, guard: &crate::LockGuard) -> Self {
            self.options.guard = Some(guard.clone());
            self
        }
    };
}

/// The settings that every mutation has.
macro_rules! mutation_settings {
    () => {
        call_settings!();
        guard_setting!();

        /// Names this mutation by 1 to 64 bytes made up for it, instead of by the client's
        /// session. For ten minutes every request with the same key and content, from whichever
        /// process, has one effect together, and gets the same answer.
        pub fn idempotency_key(mut self, key: impl AsRef<[u8]>) -> Self {
            let key = bytes::Bytes::copy_from_slice(key.as_ref());
            self.options.identity = Some(crate::client::Identity::Key(key));
            self
        }

        /// Sends this mutation without a name. It is then not retried once it may have had its
        /// effect: the first broken connection makes it [`crate::Error::Indeterminate`].
        pub fn anonymous(mut self) -> Self {
            self.options.identity = Some(crate::client::Identity::Anonymous);
            self
        }
    };
}
pub(crate) use {call_settings, guard_setting, mutation_settings};
