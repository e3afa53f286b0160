//! The ten kinds of work, one file each.

mod register;

use super::workload::Workload;

/// All of them.
pub(crate) fn all() -> Vec<Box<dyn Workload>> {
    vec![Box::new(register::Registers::default())]
}
