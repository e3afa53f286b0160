//! The rolling digest: every change an entry makes to the tables, in order, folded into one number
//! that replicas compare.

use crate::{Read, TableError, Txn, Writes, overlay};
use std::ops::ControlFlow;
use xxhash_rust::xxh3::{Xxh3, xxh3_64_with_seed};

const DELETE: u8 = 0;
const PUT: u8 = 1;

/// Passes everything through to a transaction and hashes what is written.
pub(crate) struct Recorder<'a> {
    inner: &'a mut dyn Txn,
    changes: Xxh3,
    changed: bool,
    /// Writes that may yet be dropped: neither passed on nor hashed.
    staged: Option<Writes>,
}

impl<'a> Recorder<'a> {
    pub(crate) fn new(inner: &'a mut dyn Txn) -> Self {
        Self { inner, changes: Xxh3::new(), changed: false, staged: None }
    }

    /// The digest after this entry, given the one before it; none when nothing was written. Also
    /// hands back the transaction, for the digest's own row, which is no part of the digest.
    pub(crate) fn finish(self, previous: u64) -> Option<(u64, &'a mut dyn Txn)> {
        let changes = self.changes.digest().to_be_bytes();
        self.changed.then(|| (xxh3_64_with_seed(&changes, previous), self.inner))
    }

    /// From now on writes are kept aside; reads see them.
    pub(crate) fn stage(&mut self) {
        debug_assert!(self.staged.is_none(), "writes are kept aside already");
        self.staged = Some(Writes::new());
    }

    /// Makes the writes that were kept aside, in the order of their keys, or drops them.
    pub(crate) fn unstage(&mut self, make: bool) {
        let staged = self.staged.take().unwrap_or_default();
        if !make {
            return;
        }
        for (key, value) in staged {
            match value {
                Some(value) => self.put(&key, &value),
                None => self.delete(&key),
            }
        }
    }

    /// Lengths go in too, so that no two different lists of changes feed the same bytes.
    fn record(&mut self, change: u8, key: &[u8], value: &[u8]) {
        let mut head = [change; 17];
        // A usize is at most 64 bits wide on every target of Rust.
        head[1..9].copy_from_slice(&(key.len() as u64).to_be_bytes());
        head[9..17].copy_from_slice(&(value.len() as u64).to_be_bytes());
        self.changes.update(&head);
        self.changes.update(key);
        self.changes.update(value);
        self.changed = true;
    }
}

impl Read for Recorder<'_> {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, TableError> {
        match &self.staged {
            Some(staged) => overlay::get_over(staged, &*self.inner, key),
            None => self.inner.get(key),
        }
    }

    fn scan(
        &self,
        from: &[u8],
        to: &[u8],
        visit: &mut dyn FnMut(&[u8], &[u8]) -> ControlFlow<()>,
    ) -> Result<(), TableError> {
        match &self.staged {
            Some(staged) => overlay::scan_over(staged, &*self.inner, from, to, visit),
            None => self.inner.scan(from, to, visit),
        }
    }
}

impl Txn for Recorder<'_> {
    fn put(&mut self, key: &[u8], value: &[u8]) {
        if let Some(staged) = &mut self.staged {
            staged.insert(key.to_owned(), Some(value.to_owned()));
            return;
        }
        self.record(PUT, key, value);
        self.inner.put(key, value);
    }

    fn delete(&mut self, key: &[u8]) {
        if let Some(staged) = &mut self.staged {
            staged.insert(key.to_owned(), None);
            return;
        }
        self.record(DELETE, key, &[]);
        self.inner.delete(key);
    }
}
