//! Lists the keys that are selected, a page at a time.

use super::{KvItem, clocks, exceeds};
use crate::kv::walk::Walk;
use crate::limits::{KV_LIST_ITEM_BYTES, NAMESPACE_BYTES_MAX, SCAN_STEPS_MAX};
use crate::machine::Fatal;
use crate::{GroupId, KeySelection, Read};
use bytes::Bytes;
use std::ops::ControlFlow;

/// What a page is to have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KvList<'a> {
    /// Only keys above this one: the cursor of the page before.
    pub after: Option<&'a [u8]>,
    /// How much of each key.
    pub show: KvShow,
    /// At most so many items; a count is not bounded by it.
    pub items_max: usize,
    /// At most so many bytes of items: their keys and values, and
    /// [`KV_LIST_ITEM_BYTES`] for each. One item always fits.
    pub bytes_max: usize,
}

/// How much of each key is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KvShow {
    /// All of it.
    Items,
    /// All but its value, which is left empty.
    Keys,
    /// Nothing but that it is there: a page has a count and no items.
    Count,
}

/// A part of a list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KvPage {
    /// Keys, in their order, and what is to be shown of them.
    pub items: Vec<(Bytes, KvItem)>,
    /// How many keys were found for this page.
    pub count: u64,
    /// Where the next page begins (it goes in as [`KvList::after`]); none on the last one. A page
    /// may be short, or empty, and have one all the same: the work for one page is bounded too
    /// ([`SCAN_STEPS_MAX`]).
    pub cursor: Option<Bytes>,
}

/// A page of the selected keys, expired ones by the view's own clock left out. Pages of one view
/// fit together without gap or repetition.
///
/// # Errors
/// When the tables fail.
pub fn kv_list(
    tables: &dyn Read,
    group: GroupId,
    namespace: &str,
    selection: &KeySelection,
    list: &KvList<'_>,
) -> Result<KvPage, Fatal> {
    let mut page = KvPage::default();
    if exceeds(namespace.len(), NAMESPACE_BYTES_MAX) {
        return Ok(page);
    }
    let lease_ms = clocks(tables, group)?.lease_ms;
    let walk = Walk { group, namespace, selection, after: list.after, lease_ms };
    let mut steps = SCAN_STEPS_MAX;
    let mut bytes = 0;
    page.cursor = walk.run(tables, &mut steps, |_, name, row| {
        if list.show != KvShow::Count {
            let value = if list.show == KvShow::Items { row.value } else { &[] };
            bytes += KV_LIST_ITEM_BYTES + name.len() + value.len();
            let full = page.items.len() >= list.items_max || bytes > list.bytes_max;
            if full && !page.items.is_empty() {
                return ControlFlow::Break(());
            }
            let item = KvItem {
                value: Bytes::copy_from_slice(value),
                version: row.version,
                create_revision: row.create_revision,
                mod_revision: row.mod_revision,
                remaining_ttl_ms: row.deadline_ms.map(|deadline_ms| deadline_ms - lease_ms),
            };
            page.items.push((Bytes::copy_from_slice(name), item));
        }
        page.count += 1;
        ControlFlow::Continue(())
    })?;
    Ok(page)
}
