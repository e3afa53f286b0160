//! Where nodes are reached: machines that they share, addresses that nobody else can go to, and who
//! may listen in.

use super::nodes;
use crate::commands::doctor::finding::{Finding, Severity, Subject};
use crate::commands::doctor::seen::Seen;
use quorate_server::config::Address;
use std::collections::BTreeMap;

/// A node, whether it votes, and where other nodes reach it.
pub(super) struct Place<'a> {
    pub(super) id: u64,
    pub(super) voter: bool,
    pub(super) peer_addr: &'a str,
}

/// Of the members of a cluster.
pub(super) fn of_members(seen: &Seen) -> Vec<Finding> {
    let nodes = seen.nodes.iter();
    let places: Vec<Place<'_>> = nodes
        .map(|node| Place { id: node.id, voter: node.voter, peer_addr: &node.peer_addr })
        .collect();
    let mut findings = shared_hosts(&places);
    findings.extend(loopback(&places));
    let mut exposed = seen.nodes.iter().flat_map(|node| [&node.client_addr, &node.peer_addr]);
    if let Some(addr) = exposed.find(|addr| !seen.encrypted && !is_loopback(addr)) {
        findings.push(readable(Subject::Cluster, addr));
    }
    findings
}

/// What is to be said of an address that others reach, when there is no TLS. A note: who set
/// `insecure` has said that the network is theirs.
pub(super) fn readable(subject: Subject, addr: &str) -> Finding {
    let found = format!("{addr} is reached from other machines, without TLS");
    Finding::new(Severity::Note, subject, "NO_TLS", found)
        .means("whoever reaches that network can read and change everything")
        .fix(
            "keep all three ports to a network of your own: a firewall, a tunnel such as WireGuard",
        )
}

fn parsed(addr: &str) -> Option<Address> {
    addr.parse().ok()
}

fn is_loopback(addr: &str) -> bool {
    parsed(addr).is_some_and(|address| address.is_loopback())
}

/// Nodes that go with the same machine.
pub(super) fn shared_hosts(places: &[Place<'_>]) -> Vec<Finding> {
    let mut at: BTreeMap<String, Vec<&Place<'_>>> = BTreeMap::new();
    for place in places {
        let Some(address) = parsed(place.peer_addr) else { continue };
        // Whatever it is called, it is one machine.
        let host = if address.is_loopback() { "loopback".to_owned() } else { address.host };
        at.entry(host).or_default().push(place);
    }
    let one_machine = at.len() == 1 && at.contains_key("loopback");
    let voters = places.iter().filter(|place| place.voter).count();
    let mut findings = Vec::new();
    for (host, shared) in at.iter().filter(|(_, shared)| shared.len() > 1) {
        let ids: Vec<u64> = shared.iter().map(|place| place.id).collect();
        let left = voters - shared.iter().filter(|place| place.voter).count();
        let stops = if left > voters / 2 {
            "writes go on without it, but nothing more may fail"
        } else {
            "the cluster stops with it, and its disks may be one"
        };
        if one_machine {
            let found = format!("{} are all on this machine, on loopback", nodes(&ids));
            findings.push(
                Finding::new(Severity::Note, Subject::Cluster, "ONE_MACHINE", found)
                    .means("fine for development; it survives the end of a process, and no more")
                    .fix("for more than that: a machine for each node"),
            );
            continue;
        }
        let found = format!("{} are on one machine, {host}", nodes(&ids));
        findings.push(
            Finding::new(Severity::Warning, Subject::Cluster, "SHARED_MACHINE", found)
                .means(format!("one machine dies and takes them all: {stops}"))
                .fix(format!("move all but one elsewhere: quorate cluster replace {}", ids[0])),
        );
    }
    findings
}

/// Addresses that only their own machine reaches, in a cluster of several.
pub(super) fn loopback(places: &[Place<'_>]) -> Vec<Finding> {
    let (inside, outside): (Vec<_>, Vec<_>) =
        places.iter().partition(|place| is_loopback(place.peer_addr));
    if outside.is_empty() {
        return Vec::new();
    }
    let finding = |place: &Place<'_>| {
        let found = format!("other nodes are to reach it at {}", place.peer_addr);
        Finding::new(Severity::Problem, Subject::Node(place.id), "LOOPBACK_ADDRESS", found)
            .means("that is themselves, on every other machine: they never reach this node")
            .fix("give it an address of its machine: peer_listen, and its place in initial_cluster")
    };
    inside.into_iter().map(finding).collect()
}

#[cfg(test)]
mod tests {
    use super::super::tests::worse;
    use super::*;
    use crate::commands::doctor::seen::healthy;

    fn places<'a>(addresses: &[&'a str]) -> Vec<Place<'a>> {
        let place = |(id, peer_addr): (u64, &&'a str)| Place { id, voter: true, peer_addr };
        (1..).zip(addresses).map(place).collect()
    }

    #[test]
    fn nodes_on_one_machine_are_named() {
        assert_eq!(shared_hosts(&places(&["a:1", "b:1", "c:1"])), []);
        let found = shared_hosts(&places(&["a:1", "b:1", "a:2"]));
        assert_eq!(worse(&found), ["SHARED_MACHINE cluster"]);
        assert_eq!(found[0].found, "nodes 1 and 3 are on one machine, a");
        assert!(found[0].means.contains("the cluster stops"), "{found:?}");
        let found = shared_hosts(&places(&["a:1", "b:1", "a:2", "c:1", "d:1"]));
        assert!(found[0].means.contains("writes go on"), "{found:?}");
        // Half of the voters is too many.
        let found = shared_hosts(&places(&["a:1", "b:1", "a:2", "c:1"]));
        assert!(found[0].means.contains("the cluster stops"), "{found:?}");
        assert_eq!(shared_hosts(&places(&["nonsense", "nonsense"])), []);
    }

    #[test]
    fn a_cluster_on_loopback_is_one_for_development() {
        let found = shared_hosts(&places(&["127.0.0.1:1", "localhost:2", "[::1]:3"]));
        assert_eq!((found[0].code, found[0].severity), ("ONE_MACHINE", Severity::Note));
        assert_eq!(found.len(), 1);
        assert_eq!(shared_hosts(&places(&["127.0.0.1:1"])), []);
        assert_eq!(loopback(&places(&["127.0.0.1:1", "127.0.0.1:2"])), []);
    }

    #[test]
    fn loopback_among_several_machines_is_wrong() {
        let found = loopback(&places(&["10.0.0.1:1", "127.0.0.1:1", "10.0.0.3:1"]));
        assert_eq!(worse(&found), ["LOOPBACK_ADDRESS node 2"]);
        assert!(found[0].found.contains("127.0.0.1:1"), "{found:?}");
    }

    #[test]
    fn an_open_address_without_tls_is_noted_once() {
        let mut seen = healthy(3);
        assert_eq!(of_members(&seen), []);
        seen.encrypted = false;
        let found = of_members(&seen);
        assert_eq!(
            (worse(&found), found[0].severity),
            (vec!["NO_TLS cluster".to_owned()], Severity::Note)
        );
        for node in &mut seen.nodes {
            node.peer_addr = format!("127.0.0.1:{}", node.id);
            node.client_addr = format!("localhost:{}", node.id);
        }
        assert_eq!(worse(&of_members(&seen)), ["ONE_MACHINE cluster"]);
    }
}
