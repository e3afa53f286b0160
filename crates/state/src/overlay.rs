//! Writes that are not made yet, laid over the tables they will change.

use crate::{Read, TableError, Txn};
use std::collections::BTreeMap;
use std::ops::{Bound, ControlFlow};

/// Writes by key; none marks what is deleted.
pub type Writes = BTreeMap<Vec<u8>, Option<Vec<u8>>>;

/// Tables as they will be once the writes are made. Bounded by what one apply writes.
#[derive(Debug)]
pub struct Overlay<R> {
    base: R,
    writes: Writes,
}

impl<R: Read> Overlay<R> {
    /// Without any writes yet.
    pub fn new(base: R) -> Self {
        Self { base, writes: Writes::new() }
    }

    /// What lies below, and the writes, in key order.
    pub fn into_parts(self) -> (R, Writes) {
        (self.base, self.writes)
    }
}

impl<R: Read> Read for Overlay<R> {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, TableError> {
        get_over(&self.writes, &self.base, key)
    }

    fn scan(
        &self,
        from: &[u8],
        to: &[u8],
        visit: &mut dyn FnMut(&[u8], &[u8]) -> ControlFlow<()>,
    ) -> Result<(), TableError> {
        scan_over(&self.writes, &self.base, from, to, visit)
    }
}

impl<R: Read> Txn for Overlay<R> {
    fn put(&mut self, key: &[u8], value: &[u8]) {
        self.writes.insert(key.to_owned(), Some(value.to_owned()));
    }

    fn delete(&mut self, key: &[u8]) {
        self.writes.insert(key.to_owned(), None);
    }
}

/// [`Read::get`] of `base` with `writes` made.
pub(crate) fn get_over(
    writes: &Writes,
    base: &dyn Read,
    key: &[u8],
) -> Result<Option<Vec<u8>>, TableError> {
    match writes.get(key) {
        Some(value) => Ok(value.clone()),
        None => base.get(key),
    }
}

/// [`Read::scan`] of `base` with `writes` made.
#[allow(clippy::type_complexity, reason = "as of the trait's method")]
pub(crate) fn scan_over(
    writes: &Writes,
    base: &dyn Read,
    from: &[u8],
    to: &[u8],
    visit: &mut dyn FnMut(&[u8], &[u8]) -> ControlFlow<()>,
) -> Result<(), TableError> {
    if from >= to {
        return Ok(());
    }
    let mut written = writes.range::<[u8], _>((Bound::Included(from), Bound::Excluded(to)));
    let mut next = written.next();
    let mut broken = false;
    base.scan(from, to, &mut |key, value| {
        // What was written at smaller keys comes first; at the same key it hides the base.
        while let Some((written_key, written_value)) = next {
            if written_key.as_slice() > key {
                break;
            }
            let same = written_key == key;
            next = written.next();
            if let Some(written_value) = written_value
                && visit(written_key, written_value).is_break()
            {
                broken = true;
                return ControlFlow::Break(());
            }
            if same {
                return ControlFlow::Continue(());
            }
        }
        let flow = visit(key, value);
        broken = flow.is_break();
        flow
    })?;
    while let Some((key, value)) = next {
        if broken {
            break;
        }
        next = written.next();
        if let Some(value) = value {
            broken = visit(key, value).is_break();
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::MemoryTables;
    use proptest::prelude::*;

    type Model = BTreeMap<Vec<u8>, Vec<u8>>;

    fn key() -> impl Strategy<Value = Vec<u8>> {
        proptest::collection::vec(0_u8..3, 0..4)
    }

    fn scanned(tables: &dyn Read, from: &[u8], to: &[u8], limit: usize) -> Vec<(Vec<u8>, Vec<u8>)> {
        let mut out = Vec::new();
        tables
            .scan(from, to, &mut |key, value| {
                out.push((key.to_owned(), value.to_owned()));
                if out.len() == limit { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            })
            .expect("memory does not fail");
        out
    }

    proptest! {
        /// Reads through an overlay are what an ordinary map with the same history answers. A
        /// failing case prints its seed, and is kept in `proptest-regressions`.
        #[test]
        fn it_reads_like_a_map(
            base in proptest::collection::btree_map(key(), key(), 0..20),
            writes in proptest::collection::vec((key(), proptest::option::of(key())), 0..20),
            from in key(),
            to in key(),
            limit in 1_usize..8,
        ) {
            let mut model: Model = base.clone();
            let mut tables = MemoryTables::default();
            base.iter().for_each(|(key, value)| tables.put(key, value));
            let mut overlay = Overlay::new(tables);
            for (key, value) in writes {
                match value {
                    Some(value) => {
                        overlay.put(&key, &value);
                        model.insert(key, value);
                    }
                    None => {
                        overlay.delete(&key);
                        model.remove(&key);
                    }
                }
            }
            let expected: Vec<_> = if from < to {
                let range = model.range(from.clone()..to.clone()).take(limit);
                range.map(|(key, value)| (key.clone(), value.clone())).collect()
            } else {
                Vec::new()
            };
            prop_assert_eq!(scanned(&overlay, &from, &to, limit), expected);
            prop_assert_eq!(overlay.get(&from).expect("memory"), model.get(&from).cloned());
        }
    }
}
