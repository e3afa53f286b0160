//! How many files a node may have open, and how many clients fit then.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// File descriptors besides the clients' connections: two databases with up to 512 open tables
/// each, peers, probes, and some to spare.
const FILES_BESIDES: u64 = 2_048;

/// The limit of open files of this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenFiles {
    /// What holds now. A node raises it as far as it may.
    pub soft: u64,
    /// How far that is.
    pub hard: u64,
}

impl OpenFiles {
    /// The limit that a process has which this one starts; none when the system does not tell.
    #[must_use]
    pub fn of_this_process() -> Option<Self> {
        let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).ok()?;
        Some(Self { soft, hard })
    }

    /// How many files a node wants that takes so many client connections.
    #[must_use]
    pub fn wanted(connections_max: usize) -> u64 {
        FILES_BESIDES + connections_max as u64
    }
}

/// Raises this process's limit of open files as far as it may be raised, and says how many client
/// connections fit: a database that can't open its next file has failed for good, and a flood of
/// connections must not bring that about.
pub(super) fn connections_that_fit(connections_max: usize) -> usize {
    let wanted = OpenFiles::wanted(connections_max);
    let Some(OpenFiles { soft, hard }) = OpenFiles::of_this_process() else {
        return connections_max;
    };
    let raised = soft.max(wanted.min(hard));
    let limit = match setrlimit(Resource::RLIMIT_NOFILE, raised, hard) {
        Ok(()) => raised,
        Err(_) => soft,
    };
    if limit >= wanted {
        return connections_max;
    }
    // The databases come first, but a node that takes no client is of no use.
    let left = limit.saturating_sub(FILES_BESIDES).max(limit / 4);
    let fit = usize::try_from(left).unwrap_or(usize::MAX).min(connections_max);
    tracing::warn!(
        open_files_max = limit,
        connections_max = fit,
        "the limit of open files leaves room for fewer clients than limits.connections_max: raise \
         it (ulimit -n, or LimitNOFILE= of the service), or lower connections_max"
    );
    fit
}
