//! Ports that are free.

use super::fleet::PORT_STEP;
use anyhow::{Result, bail};
use rand::RngExt as _;
use std::net::{Ipv4Addr, TcpListener};
use std::ops::RangeInclusive;

/// Where most systems take no source ports from: a client's own connection must not take the port of a
/// node that is down for a moment.
const PORTS: RangeInclusive<u16> = 10_240..=32_500;
/// Tries before giving up.
const TRIES_MAX: usize = 200;

/// A base port from which on all ports of so many nodes are free now. Another program may take one before
/// the node does; then the node says so, and the cluster does not start.
pub(super) fn free_base(nodes: u16) -> Result<u16> {
    let mut rng = rand::rng();
    for _ in 0..TRIES_MAX {
        let base = rng.random_range(PORTS);
        let ports = (0..nodes).flat_map(|node| (0..3).map(move |n| base + node * PORT_STEP + n));
        // All at once, so that none counts twice.
        let taken = ports.map(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)));
        if taken.collect::<Result<Vec<_>, _>>().is_ok() {
            return Ok(base);
        }
    }
    bail!("{TRIES_MAX} times one of the ports was not free; name a --base-port")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_of_them_are_free() {
        let base = free_base(9).unwrap();
        for port in (0..9).flat_map(|node| (0..3).map(move |n| base + node * PORT_STEP + n)) {
            TcpListener::bind((Ipv4Addr::LOCALHOST, port)).unwrap();
        }
    }
}
