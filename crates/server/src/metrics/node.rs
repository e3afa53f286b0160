//! What is known of a node from its settings, set once when it starts, so that a page of metrics can show
//! it beside what is counted.

use std::path::PathBuf;
use std::sync::OnceLock;

/// Queues that are shown by name unless something else is said.
pub(crate) const QUEUES_MAX: usize = 100;

/// What a node was started with; what is not set is not shown.
#[derive(Debug, Default)]
pub(crate) struct Facts {
    data_dir: OnceLock<PathBuf>,
    queues_max: OnceLock<usize>,
    streams_per_connection_max: OnceLock<u32>,
}

impl Facts {
    /// Where its data is, and how many queues are shown by name. A process says so once.
    pub(crate) fn of_process(&self, data_dir: PathBuf, queues_max: usize) {
        drop(self.data_dir.set(data_dir));
        // As above: the first word counts.
        let _ = self.queues_max.set(queues_max);
    }

    /// Requests at once on one connection of a client.
    pub(crate) fn streams(&self, per_connection_max: u32) {
        let _ = self.streams_per_connection_max.set(per_connection_max);
    }

    pub(crate) fn data_dir(&self) -> Option<&PathBuf> {
        self.data_dir.get()
    }

    pub(crate) fn queues_max(&self) -> usize {
        self.queues_max.get().copied().unwrap_or(QUEUES_MAX)
    }

    pub(crate) fn streams_per_connection_max(&self) -> Option<u32> {
        self.streams_per_connection_max.get().copied()
    }
}
