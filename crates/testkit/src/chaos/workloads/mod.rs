//! The ten kinds of work, one file each.

mod bus;
mod cache;
mod lock;
mod outbox;
mod queue;
mod register;
mod retry;
mod set;
mod transaction;
mod watch;

use super::workload::Workload;

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
