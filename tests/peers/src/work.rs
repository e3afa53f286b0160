//! What is measured: the works, and how many ask for each at once.

use clap::ValueEnum;
use std::fmt;
use std::num::NonZeroU32;
use std::str::FromStr;

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Work {
    /// Set a key
    Put,
    /// Get a key
    Get,
    /// Acquire and release a lock, each its own
    Lock,
    /// Acquire and release one lock that all want
    Contended,
    /// Push a job, have it delivered, acknowledge it
    Queue,
    /// Publish messages to subscribers
    Bus,
    /// Get a value that may be stale
    Cache,
}

impl Work {
    /// As it is written on the command line.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Put => "put",
            Self::Get => "get",
            Self::Lock => "lock",
            Self::Contended => "contended",
            Self::Queue => "queue",
            Self::Bus => "bus",
            Self::Cache => "cache",
        }
    }

    /// What is counted as one operation.
    pub(crate) fn operation(self) -> &'static str {
        match self {
            Self::Put => "a key is set",
            Self::Get => "a key is read",
            Self::Lock => "a lock of one's own is acquired and released",
            Self::Contended => {
                "one lock is acquired and released; latency is that of the acquire with its wait"
            }
            Self::Queue => "a job is pushed, delivered and acknowledged",
            Self::Bus => {
                "a message is delivered to one subscriber; latency is from publishing to it"
            }
            Self::Cache => "a value is read, which may be stale",
        }
    }
}

/// Connections, and operations in flight on each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Clients {
    pub(crate) connections: u32,
    pub(crate) in_flight: u32,
}

impl FromStr for Clients {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (connections, in_flight) = text.split_once('x').unwrap_or((text, "1"));
        let number = |text: &str| text.parse().map(NonZeroU32::get);
        Ok(Self { connections: number(connections)?, in_flight: number(in_flight)? })
    }
}

impl fmt::Display for Clients {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.in_flight {
            1 => write!(f, "{}", self.connections),
            in_flight => write!(f, "{}x{in_flight}", self.connections),
        }
    }
}

/// Who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Load {
    Clients(Clients),
    /// Each on a connection of its own, for one lock.
    Contenders(u32),
    /// Each on a connection of its own, spread over the nodes.
    Subscribers {
        subscribers: u32,
        publishers: Clients,
    },
}

impl fmt::Display for Load {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Clients(clients) => clients.fmt(f),
            Self::Contenders(contenders) => write!(f, "{contenders} contenders"),
            Self::Subscribers { subscribers: 1, .. } => write!(f, "1 subscriber"),
            Self::Subscribers { subscribers, .. } => write!(f, "{subscribers} subscribers"),
        }
    }
}

/// One thing to measure, on whatever system.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Job {
    pub(crate) work: Work,
    pub(crate) load: Load,
    pub(crate) seconds: u64,
    pub(crate) value_bytes: usize,
    pub(crate) keys: u64,
}

impl Job {
    /// The connections that ask; of a bus, those that publish.
    pub(crate) fn clients(&self) -> Clients {
        match self.load {
            Load::Clients(clients) | Load::Subscribers { publishers: clients, .. } => clients,
            Load::Contenders(connections) => Clients { connections, in_flight: 1 },
        }
    }

    pub(crate) fn subscribers(&self) -> u32 {
        match self.load {
            Load::Subscribers { subscribers, .. } => subscribers,
            Load::Clients(_) | Load::Contenders(_) => 0,
        }
    }

    pub(crate) fn value(&self) -> Vec<u8> {
        vec![b'x'; self.value_bytes]
    }
}

/// The keys are those of `quorate bench`.
pub(crate) fn key(number: u64) -> String {
    format!("bench/{number:010}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_are_written_as_they_are_read() {
        for text in ["1", "64", "4x64"] {
            assert_eq!(text.parse::<Clients>().unwrap().to_string(), text);
        }
        assert!("0".parse::<Clients>().is_err());
        assert!("4x".parse::<Clients>().is_err());
    }
}
