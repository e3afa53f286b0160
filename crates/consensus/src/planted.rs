//! Faults planted on purpose, so that the checkers can show that they catch them. Never in a release.

use std::cell::Cell;

/// What is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Sessions and locks are renewed without asking anybody whether this node still leads.
    RenewWithoutBarrier,
    /// A new leader gives what lives half of its ttl.
    HalfLeases,
    /// A lease whose remaining time was recorded is renewed, and the record stays.
    RenewRecorded,
}

thread_local! {
    static PLANTED: Cell<Option<Fault>> = const { Cell::new(None) };
}

/// Plants a fault in what runs on this thread from now on. A simulation has one thread.
pub fn plant_on_this_thread(fault: Fault) {
    PLANTED.set(Some(fault));
}

pub(crate) fn is_planted(fault: Fault) -> bool {
    PLANTED.get() == Some(fault)
}
