//! One group over tables in memory, for tests that apply entry after entry.

use crate::testing::GROUP;
use crate::{
    Applied, Batch, Caller, Command, Envelope, LogIndex, Machine, MemoryTables, Stamp, invariants,
};

pub(super) struct Group {
    pub(super) tables: MemoryTables,
    pub(super) machine: Machine,
    /// Of the entry that was applied last.
    pub(super) index: LogIndex,
    /// Of the next one.
    pub(super) stamp: Stamp,
}

impl Group {
    pub(super) fn new() -> Self {
        let tables = MemoryTables::default();
        let machine = Machine::open(GROUP, &tables).unwrap();
        Self { tables, machine, index: LogIndex(0), stamp: Stamp::default() }
    }

    /// Applies one entry.
    pub(super) fn apply(&mut self, commands: Vec<(Caller, Command)>) -> Applied {
        self.index.0 += 1;
        let envelope =
            |(caller, command)| Envelope { namespace: String::new(), caller, guard: None, command };
        let commands = commands.into_iter().map(envelope).collect();
        let batch = Batch { stamp: self.stamp, commands };
        self.machine.apply(&mut self.tables, self.index, &batch).unwrap()
    }

    /// Applies one entry of commands that nobody repeats.
    pub(super) fn own(&mut self, commands: Vec<Command>) -> Applied {
        self.apply(commands.into_iter().map(|command| (Caller::Anonymous, command)).collect())
    }

    /// Holds all invariants against what the entries left.
    pub(super) fn check(&self) {
        self.machine.check(&self.tables).unwrap();
        invariants::check(&self.tables, GROUP).unwrap();
    }
}
