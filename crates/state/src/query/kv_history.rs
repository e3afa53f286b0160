//! Reads the history of changes, a page at a time: what watches hand out.

use crate::history::{DeleteCause, HistoryPosition};
use crate::keys::{self, Key};
use crate::limits::{
    KV_LIST_ITEM_BYTES, NAMESPACE_BYTES_MAX, SCAN_ROW_STEPS, SCAN_STEPS_MAX,
    WATCH_SELECTOR_BYTES_MAX, WATCH_SELECTORS_MAX,
};
use crate::machine::Fatal;
use crate::rows::{self, HistoryChange, HistoryRow};
use crate::scope::{at_most, within};
use crate::{GroupId, KeySelection, KeySelector, Read, Rejection, Revision};
use bytes::Bytes;
use std::ops::ControlFlow;

/// Which changes a watch is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KvWatched {
    /// What the ids of the namespace's keys begin with.
    namespace: Vec<u8>,
    /// Any of them; never none.
    selections: Vec<KeySelection>,
}

impl KvWatched {
    /// The keys of a namespace that one of the selectors takes; all of them when there is none.
    ///
    /// # Errors
    /// When the namespace or a selector is too long or malformed, or there are too many.
    pub fn new(namespace: &str, selectors: &[KeySelector]) -> Result<Self, Rejection> {
        within("namespace bytes", namespace.len(), NAMESPACE_BYTES_MAX)?;
        at_most("selectors", selectors.len() as u64, WATCH_SELECTORS_MAX as u64)?;
        let bytes = selectors.iter().map(|selector| match selector {
            KeySelector::Prefix(bytes) | KeySelector::Pattern(bytes) | KeySelector::Key(bytes) => {
                bytes.len()
            }
        });
        within("selector bytes", bytes.sum(), WATCH_SELECTOR_BYTES_MAX)?;
        let all = [KeySelector::Prefix(Bytes::new())];
        let selectors = if selectors.is_empty() { &all } else { selectors };
        let selections = selectors.iter().map(KeySelector::select).collect::<Result<_, _>>()?;
        Ok(Self { namespace: keys::id_prefix(namespace), selections })
    }

    /// Whether the event is one of a key that is watched.
    #[must_use]
    pub fn takes(&self, event: &KvEvent) -> bool {
        self.takes_id(&event.id, &mut 0)
    }

    fn takes_id(&self, id: &[u8], steps: &mut usize) -> bool {
        let Some(key) = id.strip_prefix(&self.namespace[..]) else { return false };
        let mut selections = self.selections.iter();
        selections.any(|one| key.starts_with(one.prefix()) && one.takes(key, steps))
    }
}

/// A change of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KvEvent {
    /// Where it stands.
    pub position: HistoryPosition,
    /// Which key.
    pub key: Bytes,
    /// What became of it.
    pub change: KvChange,
    /// Namespace and key.
    id: Bytes,
}

/// What became of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KvChange {
    /// It was created, or given another value.
    Set {
        /// Its value; empty when values were not asked for.
        value: Bytes,
        /// From 1, plus one with every change.
        version: u64,
        /// Revision that created it.
        create_revision: Revision,
        /// What it had left to live at that moment; none when it had no ttl.
        ttl_ms: Option<u64>,
    },
    /// It is gone.
    Deleted {
        /// Why.
        cause: DeleteCause,
    },
}

impl KvEvent {
    /// The same, with an empty value.
    #[must_use]
    pub fn without_value(&self) -> Self {
        let mut event = self.clone();
        if let KvChange::Set { value, .. } = &mut event.change {
            *value = Bytes::new();
        }
        event
    }

    /// What it counts for in pages: its key and value, and [`KV_LIST_ITEM_BYTES`].
    #[must_use]
    pub fn counted_bytes(&self) -> usize {
        let value_bytes = match &self.change {
            KvChange::Set { value, .. } => value.len(),
            KvChange::Deleted { .. } => 0,
        };
        KV_LIST_ITEM_BYTES + self.id.len() + value_bytes
    }
}

/// What a page is to have.
#[derive(Clone, Copy, Debug)]
pub struct KvHistory<'a> {
    /// Only events of these keys; none for all events of the group.
    pub watched: Option<&'a KvWatched>,
    /// Only events above this position: where the page before ended, or
    /// [`HistoryPosition::before`] a revision.
    pub after: HistoryPosition,
    /// Whether values are wanted.
    pub values: bool,
    /// At most so many bytes of events, as [`KvEvent::counted_bytes`] says. One always fits.
    pub bytes_max: usize,
}

/// A part of the history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KvHistoryPage {
    /// In their order.
    pub events: Vec<KvEvent>,
    /// Everything up to here was looked at. It may lie within a revision, because one may have more
    /// events than a page can hold; behind a whole one it is [`HistoryPosition::behind`] it.
    pub through: HistoryPosition,
    /// Whether the view holds more behind it. A page may be short, or empty, and have more all the
    /// same: the work for one page is bounded too ([`SCAN_STEPS_MAX`]).
    pub more: bool,
}

/// Events that were asked for are no longer there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Compacted {
    /// The oldest revision from which all events are there.
    pub oldest: Revision,
}

/// The oldest revision from which all events are there; it need not have been reached.
///
/// # Errors
/// When the tables fail.
pub fn oldest_revision(tables: &dyn Read, group: GroupId) -> Result<Revision, Fatal> {
    Ok(Revision(rows::history_meta(tables, group)?.trimmed.revision.0 + 1))
}

/// The events behind a position. Pages fit together without gap or repetition, of one view or of
/// later ones, of any replica.
///
/// # Errors
/// When the tables fail. [`Compacted`] when what comes right behind the position was trimmed.
pub fn kv_history(
    tables: &dyn Read,
    group: GroupId,
    asked: &KvHistory<'_>,
) -> Result<Result<KvHistoryPage, Compacted>, Fatal> {
    let trimmed = rows::history_meta(tables, group)?.trimmed;
    if asked.after < trimmed {
        return Ok(Err(Compacted { oldest: Revision(trimmed.revision.0 + 1) }));
    }
    let newest = HistoryPosition::behind(rows::meta(tables, group)?.revision);
    let from = keys::history(group, asked.after.next());
    let (_, to) = keys::table_range(group, keys::table::HISTORY);
    let mut page = KvHistoryPage { events: Vec::new(), through: asked.after, more: false };
    let (mut steps, mut bytes) = (0, 0);
    let mut failed = None;
    tables.scan(&from, &to, &mut |key, value| {
        let Some(Key::History(position)) = keys::parse(group, key) else {
            failed = Some(Fatal::Invariant(format!("HISTORY holds the key {key:02x?}")));
            return ControlFlow::Break(());
        };
        let looked_at_one = page.through != asked.after;
        page.more = looked_at_one && steps >= SCAN_STEPS_MAX;
        if !page.more {
            steps += SCAN_ROW_STEPS + key.len() + value.len();
            match look(asked, position, value, &mut steps) {
                Ok(None) => {}
                Ok(Some(event)) => {
                    bytes += event.counted_bytes();
                    if bytes <= asked.bytes_max || page.events.is_empty() {
                        page.events.push(event);
                    } else {
                        page.more = true;
                    }
                }
                Err(fatal) => {
                    failed = Some(fatal);
                    return ControlFlow::Break(());
                }
            }
        }
        if page.more {
            if position.revision > page.through.revision {
                page.through = HistoryPosition::behind(page.through.revision);
            }
            return ControlFlow::Break(());
        }
        page.through = position;
        ControlFlow::Continue(())
    })?;
    if let Some(fatal) = failed {
        return Err(fatal);
    }
    if !page.more {
        page.through = page.through.max(newest);
    }
    Ok(Ok(page))
}

fn look(
    asked: &KvHistory<'_>,
    position: HistoryPosition,
    value: &[u8],
    steps: &mut usize,
) -> Result<Option<KvEvent>, Fatal> {
    let row = HistoryRow::decode(value)?;
    if asked.watched.is_some_and(|watched| !watched.takes_id(row.id, steps)) {
        return Ok(None);
    }
    let Some((_, key)) = keys::parse_id(row.id) else {
        return Err(Fatal::Invariant(format!("the event {position:?} has the id {:02x?}", row.id)));
    };
    let id = Bytes::copy_from_slice(row.id);
    let key = id.slice(row.id.len() - key.len()..);
    let change = match row.change {
        HistoryChange::Set { version, create_revision, ttl_ms, value } => KvChange::Set {
            value: Bytes::copy_from_slice(if asked.values { value } else { &[] }),
            version,
            create_revision,
            ttl_ms,
        },
        HistoryChange::Delete(cause) => KvChange::Deleted { cause },
    };
    Ok(Some(KvEvent { position, key, change, id }))
}
