//! Values of the tables. Positional encodings, frozen by `testdata/format/rows.hex`.

use crate::codec::{self, CodecError};
use crate::keys;
use crate::{
    Attachment, DeleteCause, Fatal, FeatureLevel, FencingToken, GroupId, HistoryPosition, Outcome,
    Read, Revision, Sequence, SessionId, Share, Stamp,
};
use serde::{Deserialize, Serialize, Serializer, de::DeserializeOwned};

mod access;
mod cache;
mod member;
mod queue;

pub(crate) use access::*;
pub(crate) use cache::*;
pub(crate) use member::*;
pub use queue::*;

/// The group's clocks and counters; one row, written once per entry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct MetaRow {
    /// Both replicated clocks.
    pub(crate) stamp: Stamp,
    /// Revision of the newest applied command.
    pub(crate) revision: Revision,
    /// Added to every revision; a restore raises it.
    pub(crate) revision_base: u64,
    /// Rows of SESSION.
    pub(crate) sessions: u64,
    /// Rows of IDEMPOTENCY.
    pub(crate) idempotency_keys: u64,
    /// Given last; the next grant of a lock gets the next one. A restore raises it.
    pub(crate) fencing_token: FencingToken,
}

/// A key's value. Borrows it: a write looks at the rest and need not copy up to 1 MiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct KvRow<'a> {
    pub(crate) version: u64,
    pub(crate) create_revision: Revision,
    pub(crate) mod_revision: Revision,
    /// Lease time at which it is no longer there.
    pub(crate) deadline_ms: Option<u64>,
    /// The session it ends with; it has a row in SESSION_KEY then.
    pub(crate) owner: Option<SessionId>,
    #[serde(serialize_with = "as_bytes")]
    pub(crate) value: &'a [u8],
}

impl<'a> KvRow<'a> {
    pub(crate) fn decode(bytes: &'a [u8]) -> Result<Self, Fatal> {
        codec::decode_borrowed(bytes).map_err(|error| undecodable("key-value row", error))
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        /// Five numbers and a length of at most 9 bytes each, and the tags of two options.
        const HEAD_BYTES_MAX: usize = 6 * 9 + 2;
        codec::encode_with_capacity(self, HEAD_BYTES_MAX + self.value.len())
    }

    pub(crate) fn is_live(&self, lease_ms: u64) -> bool {
        is_live(self.deadline_ms, lease_ms)
    }
}

/// What the rows of HISTORY come to; one row, written at most once per entry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct HistoryMetaRow {
    /// Of all rows there are, as [`crate::limits::HISTORY_BYTES_MAX`] counts them.
    pub(crate) bytes: u64,
    /// The newest row that was trimmed; all rows lie above it.
    pub(crate) trimmed: HistoryPosition,
}

/// One change of one key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct HistoryRow<'a> {
    /// The rest of the key of the row in KV; see [`keys::id`].
    #[serde(serialize_with = "as_bytes")]
    pub(crate) id: &'a [u8],
    #[serde(borrow)]
    pub(crate) change: HistoryChange<'a>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum HistoryChange<'a> {
    Set {
        version: u64,
        create_revision: Revision,
        /// What it had left to live at that moment; none when it had no ttl.
        ttl_ms: Option<u64>,
        #[serde(serialize_with = "as_bytes")]
        value: &'a [u8],
    },
    Delete(DeleteCause),
}

impl<'a> HistoryRow<'a> {
    pub(crate) fn decode(bytes: &'a [u8]) -> Result<Self, Fatal> {
        codec::decode_borrowed(bytes).map_err(|error| undecodable("history row", error))
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        /// Three numbers and two lengths of at most 9 bytes each, and three tags.
        const HEAD_BYTES_MAX: usize = 5 * 9 + 3;
        let value_bytes = match self.change {
            HistoryChange::Set { value, .. } => value.len(),
            HistoryChange::Delete(_) => 0,
        };
        codec::encode_with_capacity(self, HEAD_BYTES_MAX + self.id.len() + value_bytes)
    }
}

/// One comparison for all deadlines: at the deadline itself the item is gone.
pub(crate) fn is_live(deadline_ms: Option<u64>, lease_ms: u64) -> bool {
    deadline_ms.is_none_or(|deadline_ms| lease_ms < deadline_ms)
}

// As a byte string, which bincode copies at once, not as a sequence of numbers. The signature is
// the one serde calls.
fn as_bytes<S: Serializer>(value: &&[u8], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_bytes(value)
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SessionRow {
    pub(crate) ttl_ms: u64,
    /// What a new leader gives it; none: the whole ttl.
    pub(crate) remaining_ms: Option<u64>,
    /// The lowest sequence still accepted.
    pub(crate) floor: Sequence,
    /// Answers at or above the floor that have no row of their own, in the order they were
    /// applied. The floor moves with nearly every request, so this row is written anyway.
    pub(crate) recent: Vec<Answer>,
}

/// What one entry answered to one session, when it was too much for the session's own row.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct AnswerRow {
    /// In the order they were applied.
    pub(crate) answers: Vec<Answer>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Answer {
    pub(crate) sequence: Sequence,
    /// Tells a repetition from another request under the same number.
    pub(crate) request_hash: u64,
    pub(crate) outcome: Outcome,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct IdempotencyRow {
    pub(crate) deadline_ms: u64,
    pub(crate) request_hash: u64,
    pub(crate) outcome: Outcome,
}

/// A lock that is held or waited for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LockRow {
    /// In the order of their grants.
    pub(crate) holders: Vec<Holder>,
    /// Tickets that wait for it, attached or not.
    pub(crate) waiters: u64,
}

/// Who holds a lock.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Holder {
    pub(crate) token: FencingToken,
    pub(crate) session: SessionId,
    pub(crate) share: Share,
    pub(crate) ttl_ms: u64,
    /// What a new leader gives it; none: the whole ttl.
    pub(crate) remaining_ms: Option<u64>,
    /// Lease time of the grant.
    pub(crate) granted_ms: u64,
    /// Revision of the grant.
    pub(crate) revision: Revision,
}

/// What became of an `Acquire` that had to wait; kept until its session's floor passes it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct TicketRow {
    pub(crate) session: SessionId,
    pub(crate) sequence: Sequence,
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) share: Share,
    pub(crate) ttl_ms: u64,
    /// Lease time at which the wait is over.
    pub(crate) deadline_ms: u64,
    /// Where its caller waits; none passes it over.
    pub(crate) attachment: Option<Attachment>,
    pub(crate) state: TicketState,
}

/// What became of a ticket so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum TicketState {
    Waiting,
    Granted { token: FencingToken, revision: Revision },
    TimedOut,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct MemberAddrRow {
    pub(crate) client_addr: String,
    pub(crate) http_addr: String,
}

/// Decodes a row that owns its parts.
pub(crate) fn decode<T: DeserializeOwned>(what: &str, bytes: &[u8]) -> Result<T, Fatal> {
    codec::decode(bytes).map_err(|error| undecodable(what, error))
}

/// A row that owns its parts, if it is there.
pub(crate) fn find<T: DeserializeOwned>(
    tables: &dyn Read,
    what: &str,
    key: &[u8],
) -> Result<Option<T>, Fatal> {
    tables.get(key)?.map(|bytes| decode(what, &bytes)).transpose()
}

/// The group's meta row; a group without one has not applied a command.
pub(crate) fn meta(tables: &dyn Read, group: GroupId) -> Result<MetaRow, Fatal> {
    Ok(find(tables, "meta row", &keys::meta(group))?.unwrap_or_default())
}

/// The accounts of the group's history; a group without the row has none.
pub(crate) fn history_meta(tables: &dyn Read, group: GroupId) -> Result<HistoryMetaRow, Fatal> {
    Ok(find(tables, "history meta row", &keys::history_meta(group))?.unwrap_or_default())
}

/// The rolling digest; 0 before the first entry.
pub(crate) fn digest(tables: &dyn Read, group: GroupId) -> Result<u64, Fatal> {
    match tables.get(&keys::digest(group))? {
        Some(bytes) => digest_row(&bytes),
        None => Ok(0),
    }
}

pub(crate) fn digest_row(bytes: &[u8]) -> Result<u64, Fatal> {
    decode("digest row", bytes)
}

/// The feature level of the cluster; [`FeatureLevel::FIRST`] until it is raised for the first time.
pub(crate) fn feature_level(tables: &dyn Read, group: GroupId) -> Result<FeatureLevel, Fatal> {
    let found = find(tables, "feature level row", &keys::feature_level(group))?;
    Ok(found.unwrap_or(FeatureLevel::FIRST))
}

fn undecodable(what: &str, error: CodecError) -> Fatal {
    Fatal::Codec { what: what.to_owned(), error }
}
