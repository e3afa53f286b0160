//! Walks over the keys of a namespace that are selected, in their order, while there is work left.

use crate::keys::table;
use crate::rows::KvRow;
use crate::{Fatal, GroupId, KeySelection, Read, walk};
use bytes::Bytes;
use std::ops::ControlFlow;

/// Where to walk.
pub(crate) struct Walk<'a> {
    pub(crate) group: GroupId,
    /// Within its limit.
    pub(crate) namespace: &'a str,
    pub(crate) selection: &'a KeySelection,
    /// Only keys above this one.
    pub(crate) after: Option<&'a [u8]>,
    /// Keys that expired by this clock are passed over.
    pub(crate) lease_ms: u64,
}

impl Walk<'_> {
    /// As [`walk::Walk::run`], with each key's row.
    pub(crate) fn run(
        &self,
        tables: &dyn Read,
        steps: &mut usize,
        mut visit: impl FnMut(&[u8], &[u8], &KvRow<'_>) -> ControlFlow<()>,
    ) -> Result<Option<Bytes>, Fatal> {
        let Self { group, namespace, selection, after, lease_ms } = *self;
        let walk = walk::Walk { group, table: table::KV, namespace, selection, after };
        walk.run(tables, steps, |key, name, value| {
            let row = KvRow::decode(value)?;
            Ok(match row.is_live(lease_ms) {
                true => visit(key, name, &row),
                false => ControlFlow::Continue(()),
            })
        })
    }
}
