//! Walks over the keys of a namespace that are selected, in their order, while there is work left.

use crate::keys::{self, Key};
use crate::limits::SCAN_ROW_STEPS;
use crate::rows::KvRow;
use crate::{Fatal, GroupId, KeySelection, Read};
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
    /// Shows each key to `visit`: that of its row, its name, and the row. A break means that the
    /// key was not taken. Ends before the row that would come after `steps` are used up, but
    /// not before the first one, so that whoever goes on from the cursor comes to an end.
    ///
    /// Answers the last key passed when there may be more, and none when there are not.
    pub(crate) fn run(
        &self,
        tables: &dyn Read,
        steps: &mut usize,
        mut visit: impl FnMut(&[u8], &[u8], &KvRow<'_>) -> ControlFlow<()>,
    ) -> Result<Option<Bytes>, Fatal> {
        let (from, to) = self.range();
        let mut passed = Vec::new();
        let mut cut = false;
        let mut failed = None;
        tables.scan(&from, &to, &mut |key, value| {
            if *steps == 0 && !passed.is_empty() {
                cut = true;
                return ControlFlow::Break(());
            }
            let Some(Key::Kv { key: name, .. }) = keys::parse(self.group, key) else {
                failed = Some(Fatal::Invariant(format!("KV holds the key {key:02x?}")));
                return ControlFlow::Break(());
            };
            let mut took = SCAN_ROW_STEPS + key.len() + value.len();
            if self.selection.takes(name, &mut took) {
                match KvRow::decode(value) {
                    Ok(row) if row.is_live(self.lease_ms) => {
                        cut = visit(key, name, &row).is_break()
                    }
                    Ok(_) => {}
                    Err(fatal) => failed = Some(fatal),
                }
                if cut || failed.is_some() {
                    return ControlFlow::Break(());
                }
            }
            *steps = steps.saturating_sub(took);
            passed.clear();
            passed.extend(name);
            ControlFlow::Continue(())
        })?;
        match failed {
            Some(fatal) => Err(fatal),
            None => Ok(cut.then(|| Bytes::from(passed))),
        }
    }

    /// `[from, to)` around what can be selected.
    fn range(&self) -> (Vec<u8>, Vec<u8>) {
        let (mut from, mut to) =
            keys::kv_range(self.group, self.namespace, self.selection.prefix());
        if let Some(only) = self.selection.only() {
            to = keys::successor(keys::kv(self.group, self.namespace, only));
        }
        if let Some(after) = self.after {
            from = from.max(keys::successor(keys::kv(self.group, self.namespace, after)));
        }
        (from, to)
    }
}
