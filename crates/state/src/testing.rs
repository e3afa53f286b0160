//! What tests of tables and of the machine share: golden scripts, the conformance suite, seeds.
//!
//! Behind the feature `testing`, so that other implementations of [`Txn`] run the very same
//! scripts and checks: implement [`Tables`], then call [`golden::run_area`] and
//! [`conformance::run`].

use crate::{GroupId, MemoryTables, Read, Txn};
use std::ops::ControlFlow;

pub mod conformance;
pub mod golden;
mod render;
mod script;
mod seed;

pub use seed::{Rng, seed};

/// Tables under test, with their way to commit and to come back.
pub trait Tables {
    /// Runs `work`, once, in a transaction. Commits it when `work` returns true; otherwise drops
    /// it, and nothing was written.
    fn transact(&mut self, work: &mut dyn FnMut(&mut dyn Txn) -> bool);

    /// Runs `work`, once, over a view of what is committed.
    fn view(&self, work: &mut dyn FnMut(&dyn Read));

    /// Comes back from a snapshot of itself, or closes and opens again. All that is committed is
    /// there after it, and nothing else.
    fn reopen(&mut self);
}

/// [`MemoryTables`] under test.
#[derive(Debug, Default)]
pub struct InMemory {
    committed: MemoryTables,
}

impl Tables for InMemory {
    fn transact(&mut self, work: &mut dyn FnMut(&mut dyn Txn) -> bool) {
        let mut txn = self.committed.clone();
        if work(&mut txn) {
            self.committed = txn;
        }
    }

    fn view(&self, work: &mut dyn FnMut(&dyn Read)) {
        work(&self.committed.clone());
    }

    /// Row by row into new tables, as a snapshot that travelled would.
    fn reopen(&mut self) {
        let mut restored = MemoryTables::default();
        let (from, to) = (&[][..], &[0xff; 8][..]);
        self.committed
            .scan(from, to, &mut |key, value| {
                restored.put(key, value);
                ControlFlow::Continue(())
            })
            .expect("tables in memory do not fail");
        self.committed = restored;
    }
}

/// The group that scripts and suites work in.
pub const GROUP: GroupId = GroupId(1);

/// What `read` finds in a view of `tables`.
pub fn read<T>(tables: &dyn Tables, mut read: impl FnMut(&dyn Read) -> T) -> T {
    let mut found = None;
    tables.view(&mut |view| found = Some(read(view)));
    found.expect("a view runs what it is given")
}
