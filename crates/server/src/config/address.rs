//! Addresses as settings name them: `host:port`, and lists of them by node.

use quorate_state::NodeId;
use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

/// A host and a port, not resolved.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Address {
    /// A name or an IP address, without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
}

impl Address {
    /// Whether nothing outside this machine reaches it.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        self.host == "localhost"
            || self.host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
    }

    /// Whether it stands for every address of the machine, so that nobody can be told to go there.
    #[must_use]
    pub fn is_unspecified(&self) -> bool {
        self.host.parse::<IpAddr>().is_ok_and(|address| address.is_unspecified())
    }

    /// The same host with another port.
    #[must_use]
    pub fn with_port(&self, port: u16) -> Self {
        Self { host: self.host.clone(), port }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is not host:port, such as 127.0.0.1:8811");
        let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
        let host = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
            Some(inner) => inner,
            None if host.contains(':') => {
                return Err(format!(
                    "{text:?} has an IPv6 address without brackets; write [::1]:8811"
                ));
            }
            None => host,
        };
        let port = port.parse().map_err(|_| wrong())?;
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':' | '%');
        if host.is_empty() || host.len() > 253 || !host.chars().all(plain) {
            return Err(wrong());
        }
        Ok(Self { host: host.to_owned(), port })
    }
}

/// Parses `1=host:port,2=host:port,…`.
///
/// # Errors
/// What is wrong with the list, as the end of a sentence.
pub(crate) fn parse_cluster(text: &str) -> Result<BTreeMap<NodeId, Address>, String> {
    let mut cluster: BTreeMap<NodeId, Address> = BTreeMap::new();
    for part in text.split(',').map(str::trim) {
        let (id, address) = part
            .split_once('=')
            .ok_or_else(|| format!("{part:?} is not ID=HOST:PORT, such as 1=127.0.0.1:8812"))?;
        let id = parse_node_id(id.trim())?;
        let address: Address = address.trim().parse()?;
        if address.port == 0 {
            return Err(format!("the address of node {id} has port 0; a peer port must be fixed"));
        }
        if let Some((other, _)) = cluster.iter().find(|(_, known)| **known == address) {
            return Err(format!("nodes {other} and {id} have the same address {address}"));
        }
        if cluster.insert(id, address).is_some() {
            return Err(format!("node {id} is listed twice"));
        }
    }
    Ok(cluster)
}

/// Parses a node id.
pub(crate) fn parse_node_id(text: &str) -> Result<NodeId, String> {
    match text.parse() {
        // Ids are shown as JSON numbers, which are exact below 2^53.
        Ok(id) if (1..1 << 53).contains(&id) => Ok(NodeId(id)),
        _ => Err(format!("{text:?} is not a node id: a whole number from 1")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_round_trip() {
        for text in ["127.0.0.1:8811", "localhost:0", "node-1.example.com:65535", "[::1]:8811"] {
            assert_eq!(text.parse::<Address>().unwrap().to_string(), text);
        }
        for text in ["", "8811", ":8811", "host:", "host:65536", "::1:8811", "a b:1", "[]:1"] {
            assert!(text.parse::<Address>().is_err(), "{text}");
        }
    }

    #[test]
    fn loopback_is_told_from_the_rest() {
        for text in ["127.0.0.1:1", "127.9.9.9:1", "localhost:1", "[::1]:1"] {
            assert!(text.parse::<Address>().unwrap().is_loopback(), "{text}");
        }
        for text in ["0.0.0.0:1", "10.0.0.1:1", "[::]:1", "example.com:1"] {
            assert!(!text.parse::<Address>().unwrap().is_loopback(), "{text}");
        }
    }

    #[test]
    fn a_cluster_list_is_checked() {
        let cluster = parse_cluster("1=a:1, 2=b:1").unwrap();
        assert_eq!(cluster.len(), 2);
        assert_eq!(cluster[&NodeId(2)].to_string(), "b:1");
        let error = |text| parse_cluster(text).unwrap_err();
        assert!(error("1=a:1,1=b:1").contains("twice"));
        assert!(error("1=a:1,2=a:1").contains("same address"));
        assert!(error("0=a:1").contains("node id"));
        assert!(error("1=a:0").contains("port 0"));
        assert!(error("a:1").contains("ID=HOST:PORT"));
        assert!(error("").contains("ID=HOST:PORT"));
    }
}
