//! Walks over the rows of a namespace whose names are selected, in their order, while there is work
//! left.

use crate::keys;
use crate::limits::SCAN_ROW_STEPS;
use crate::{Fatal, GroupId, KeySelection, Read};
use bytes::Bytes;
use std::ops::ControlFlow;

/// Where to walk.
pub(crate) struct Walk<'a> {
    pub(crate) group: GroupId,
    /// One whose keys are a namespace and a name.
    pub(crate) table: u8,
    /// Within its limit.
    pub(crate) namespace: &'a str,
    pub(crate) selection: &'a KeySelection,
    /// Only names above this one.
    pub(crate) after: Option<&'a [u8]>,
}

impl Walk<'_> {
    /// Shows each row to `visit`: its key, its name, and its value. A break means that the row was
    /// not taken. Ends before the row that would come after `steps` are used up, but not before
    /// the first one, so that whoever goes on from the cursor comes to an end.
    ///
    /// Answers the last name passed when there may be more, and none when there are not.
    pub(crate) fn run(
        &self,
        tables: &dyn Read,
        steps: &mut usize,
        mut visit: impl FnMut(&[u8], &[u8], &[u8]) -> Result<ControlFlow<()>, Fatal>,
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
            let Some((_, name)) = keys::parse_id(keys::id(key)) else {
                failed = Some(Fatal::Invariant(format!(
                    "table {} holds the key {key:02x?}",
                    self.table
                )));
                return ControlFlow::Break(());
            };
            let mut took = SCAN_ROW_STEPS + key.len() + value.len();
            if self.selection.takes(name, &mut took) {
                match visit(key, name, value) {
                    Ok(flow) => cut = flow.is_break(),
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
        let name = |name: &[u8]| keys::named(self.group, self.table, self.namespace, name);
        let (mut from, mut to) =
            keys::named_range(self.group, self.table, self.namespace, self.selection.prefix());
        if let Some(only) = self.selection.only() {
            to = keys::successor(name(only));
        }
        if let Some(after) = self.after {
            from = from.max(keys::successor(name(after)));
        }
        (from, to)
    }
}
