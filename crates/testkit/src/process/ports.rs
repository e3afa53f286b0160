//! Ports that nobody else takes.
//!
//! The usual way, to bind port 0 and use the number after closing, has three races, and each makes
//! a test fail once in some hundred runs:
//! - Another test takes the port before the node binds it. So each port has a lock file, locked for
//!   as long as its lease; the kernel frees it with the process.
//! - While a node is down, any connection on the machine may get its port as a source port, even a
//!   client that dials this very port and then talks to itself. So ports come from outside the
//!   range that the kernel takes source ports from.
//! - Some other program listens there. So a port is bound to see that it is free, and held until
//!   just before the node starts.

use anyhow::{Context as _, Result, bail};
use rand::RngExt as _;
use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::ops::RangeInclusive;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// Lowest port that is used: some services have fixed ones below.
const PORT_MIN: u16 = 10_240;
/// As many ports at least must be outside the range for source ports for it to be avoided.
const PORTS_MIN: u16 = 4_096;
/// How many ports are tried before giving up.
const ATTEMPTS_MAX: usize = 500;

/// A loopback port for this process alone, until it is dropped.
#[derive(Debug)]
pub struct PortLease {
    port: u16,
    listener: Option<TcpListener>,
    /// Held for its lock.
    _lock: File,
}

impl PortLease {
    /// Finds a free port and holds it.
    ///
    /// # Errors
    /// When no free port is found, or the lock files can't be made.
    pub fn take() -> Result<Self> {
        Ok(Self::take_row(1)?.remove(0))
    }

    /// Finds so many free ports in a row and holds them.
    ///
    /// # Errors
    /// As [`PortLease::take`].
    pub fn take_row(length: u16) -> Result<Vec<Self>> {
        let directory = lock_directory()?;
        let range = range(fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").ok());
        let mut rng = rand::rng();
        for _ in 0..ATTEMPTS_MAX {
            let first = rng.random_range(range.clone());
            let Some(end) = first.checked_add(length).filter(|end| end - 1 <= *range.end()) else {
                continue;
            };
            let row: Result<Option<Vec<_>>> =
                (first..end).map(|port| Self::take_this(&directory, port)).collect();
            if let Some(row) = row? {
                return Ok(row);
            }
        }
        bail!(
            "{ATTEMPTS_MAX} times a port of {range:?} was not free; stop other programs and try \
             again"
        );
    }

    /// A port, unless somebody else has it.
    fn take_this(directory: &Path, port: u16) -> Result<Option<Self>> {
        let path = directory.join(port.to_string());
        let lock = File::options().create(true).append(true).open(&path);
        let lock = lock.with_context(|| format!("could not open {}", path.display()))?;
        if lock.try_lock().is_err() {
            return Ok(None);
        }
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).ok();
        Ok(listener.map(|listener| Self { port, listener: Some(listener), _lock: lock }))
    }

    /// The port, on loopback.
    pub fn addr(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }

    /// Stops listening, so that a node can. The lease goes on.
    pub fn release_socket(&mut self) {
        self.listener = None;
    }
}

/// One for each user, because files of another could not be opened.
fn lock_directory() -> Result<PathBuf> {
    let user = fs::metadata("/proc/self").context("could not tell the user from /proc")?.uid();
    let directory = std::env::temp_dir().join(format!("quorate-test-ports-{user}"));
    fs::create_dir_all(&directory)
        .with_context(|| format!("could not make {}", directory.display()))?;
    Ok(directory)
}

/// The larger of the ranges below and above that of source ports, which the argument tells in the
/// kernel's words.
fn range(source_ports: Option<String>) -> RangeInclusive<u16> {
    let bounds = source_ports.and_then(|text| {
        let mut bounds = text.split_whitespace().map(str::parse::<u16>);
        Some((bounds.next()?.ok()?, bounds.next()?.ok()?))
    });
    let Some((low, high)) = bounds else { return PORT_MIN..=u16::MAX };
    let (below, above) = (low.saturating_sub(PORT_MIN), u16::MAX - high);
    if below.max(above) < PORTS_MIN {
        PORT_MIN..=u16::MAX
    } else if below >= above {
        PORT_MIN..=low - 1
    } else {
        high + 1..=u16::MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn leases_are_distinct_and_bindable_after_release() {
        let mut leases: Vec<_> = (0..50).map(|_| PortLease::take().unwrap()).collect();
        let ports: BTreeSet<_> = leases.iter().map(PortLease::addr).collect();
        assert_eq!(ports.len(), leases.len());
        for lease in &mut leases {
            assert!(TcpListener::bind(lease.addr()).is_err(), "{} was not held", lease.addr());
            lease.release_socket();
            TcpListener::bind(lease.addr()).unwrap();
        }
    }

    #[test]
    fn a_row_has_no_gap_and_is_held_as_a_whole() {
        let row = PortLease::take_row(20).unwrap();
        let first = row[0].addr().port();
        assert!(row.iter().map(|lease| lease.addr().port()).eq(first..first + 20));
        assert!(row.iter().all(|lease| TcpListener::bind(lease.addr()).is_err()));
    }

    #[test]
    fn a_lease_keeps_others_out_while_its_node_is_down() {
        let mut lease = PortLease::take().unwrap();
        lease.release_socket();
        let path = lock_directory().unwrap().join(lease.addr().port().to_string());
        assert!(File::open(&path).unwrap().try_lock().is_err());
        drop(lease);
        File::open(&path).unwrap().try_lock().unwrap();
    }

    #[test]
    fn avoids_source_ports_where_it_can() {
        let range = |text: &str| range(Some(text.to_owned()));
        assert_eq!(range("32768\t60999\n"), PORT_MIN..=32_767);
        assert_eq!(range("10000 40000"), 40_001..=u16::MAX);
        assert_eq!(range("1024 65535"), PORT_MIN..=u16::MAX);
        assert_eq!(range("nonsense"), PORT_MIN..=u16::MAX);
    }
}
