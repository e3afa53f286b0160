//! How long syncs take in a directory: small appends to a file, each with a sync, as the log does it.

use quorate_storage::identity::TRIAL;
use std::io::{self, Write as _};
use std::path::Path;
use std::time::{Duration, Instant};

/// Bytes of one append: a page, which no device writes less than.
const APPEND: [u8; 4 << 10] = [0x51; 4 << 10];
/// Appends of one trial: enough for one of a hundred to be two. Together they take 800 KiB.
const SYNCS_MAX: usize = 200;
/// No sync begins later than this.
const TIME_MAX: Duration = Duration::from_secs(3);

/// How long syncs took.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Syncs {
    /// How many there were.
    pub count: usize,
    /// What half of them took at most.
    pub p50: Duration,
    /// What 99 of 100 of them took at most.
    pub p99: Duration,
}

/// Tries the disk of a directory. The file is removed; should the process be killed meanwhile, what
/// stays keeps no node from starting. It has a name, because some file systems sync none that lack one.
pub(super) fn run(directory: &Path) -> io::Result<Syncs> {
    let mut file = tempfile::Builder::new().prefix(TRIAL).tempfile_in(directory)?;
    let begun = Instant::now();
    let mut took = Vec::with_capacity(SYNCS_MAX);
    while took.len() < SYNCS_MAX && (took.is_empty() || begun.elapsed() < TIME_MAX) {
        let append = Instant::now();
        file.write_all(&APPEND)?;
        file.as_file().sync_data()?;
        took.push(append.elapsed());
    }
    file.close()?;
    took.sort_unstable();
    Ok(Syncs { count: took.len(), p50: percentile(&took, 50), p99: percentile(&took, 99) })
}

/// Of sorted durations, the one that so many of 100 do not exceed.
fn percentile(sorted: &[Duration], percent: usize) -> Duration {
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted.get(rank - 1).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_what_so_many_do_not_exceed() {
        let millis: Vec<_> = (1..=200).map(Duration::from_millis).collect();
        assert_eq!(percentile(&millis, 50), Duration::from_millis(100));
        assert_eq!(percentile(&millis, 99), Duration::from_millis(198));
        assert_eq!(percentile(&millis[..1], 99), Duration::from_millis(1));
        assert_eq!(percentile(&millis[..3], 50), Duration::from_millis(2));
    }

    #[test]
    fn where_nothing_can_be_written_the_system_says_why() {
        let error = run(Path::new("/proc/self")).unwrap_err();
        assert!(!error.to_string().is_empty());
    }
}
