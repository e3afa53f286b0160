//! Pages of what has a name: locks, queues, schedules.

use super::exceeds;
use crate::keys::{self, Key};
use crate::limits::{NAMESPACE_BYTES_MAX, SCAN_ROW_STEPS, SCAN_STEPS_MAX};
use crate::machine::Fatal;
use crate::{GroupId, KeySelection, Read, rows};
use serde::de::DeserializeOwned;
use std::ops::ControlFlow;

/// Which rows of a table are asked for.
pub(super) struct Named<'a> {
    pub(super) table: u8,
    pub(super) namespace: &'a str,
    pub(super) selection: &'a KeySelection,
    /// Only names behind this one.
    pub(super) after: Option<&'a str>,
    /// At most so many; one at least.
    pub(super) items_max: usize,
    /// The page ends once its rows have so many bytes.
    pub(super) bytes_max: usize,
}

/// The rows of a page, by name, and where the next page begins; none on the last one.
pub(super) type Page<R> = (Vec<(String, R)>, Option<String>);

impl Named<'_> {
    /// A page may be short, or empty, and have a next one all the same: so many steps are its bound.
    pub(super) fn page<R: DeserializeOwned>(
        &self,
        tables: &dyn Read,
        group: GroupId,
    ) -> Result<Page<R>, Fatal> {
        let (mut found, mut cursor) = (Vec::new(), None);
        if exceeds(self.namespace.len(), NAMESPACE_BYTES_MAX) {
            return Ok((found, cursor));
        }
        let (table, namespace) = (self.table, self.namespace);
        let (mut from, to) = keys::named_range(group, table, namespace, self.selection.prefix());
        if let Some(after) = self.after {
            from =
                from.max(keys::successor(keys::named(group, table, namespace, after.as_bytes())));
        }
        let (mut steps, mut bytes, mut passed, mut failed) = (0, 0, None, None);
        tables.scan(&from, &to, &mut |key, value| {
            let full = found.len() >= self.items_max.max(1) || bytes > self.bytes_max;
            if full || steps > SCAN_STEPS_MAX {
                cursor = passed.take();
                return ControlFlow::Break(());
            }
            let name = match keys::parse(group, key) {
                Some(
                    Key::Lock { name, .. } | Key::Queue { name, .. } | Key::Schedule { name, .. },
                ) => name,
                _ => {
                    let why = format!("table {table} holds the key {key:02x?}, which has no name");
                    failed = Some(Fatal::Invariant(why));
                    return ControlFlow::Break(());
                }
            };
            steps += SCAN_ROW_STEPS + key.len() + value.len();
            if self.selection.takes(name.as_bytes(), &mut steps) {
                match rows::decode("named row", value) {
                    Ok(row) => found.push((name.to_owned(), row)),
                    Err(fatal) => {
                        failed = Some(fatal);
                        return ControlFlow::Break(());
                    }
                }
                bytes += key.len() + value.len();
            }
            passed = Some(name.to_owned());
            ControlFlow::Continue(())
        })?;
        match failed {
            Some(fatal) => Err(fatal),
            None => Ok((found, cursor)),
        }
    }
}
