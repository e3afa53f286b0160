//! Ten kinds of work whose answers are checked, one file each: what is called, and what must hold of the
//! answers. [`crate::chaos`] does them with real processes, [`crate::sim`] in simulated time.
//!
//! - `workload`: what a kind of work is, and what it is given.
//! - `book`, `calls`: each call: when it began and ended, and how.
//! - `pulls`: what two of them do with a queue.

pub(crate) mod book;
pub(crate) mod calls;
pub(crate) mod workload;

mod bus;
mod cache;
mod lock;
mod outbox;
mod pulls;
mod queue;
mod register;
mod retry;
mod set;
mod transaction;
mod watch;

use workload::Workload;

/// All of them.
pub(crate) fn all() -> Vec<Box<dyn Workload>> {
    vec![
        Box::new(register::Registers::default()),
        Box::new(transaction::Transfers::default()),
        Box::new(set::Sets::default()),
        Box::new(watch::Watched::default()),
        Box::new(queue::Jobs::default()),
        Box::new(lock::Contention::default()),
        Box::new(bus::Messages::default()),
        Box::new(cache::Caching::default()),
        Box::new(outbox::Outbox::default()),
        Box::new(retry::Retries::default()),
    ]
}
