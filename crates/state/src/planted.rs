//! Faults planted on purpose in the broker, so that its checkers can show that they catch them. Only
//! with the feature `planted-faults`, which no release has.
//!
//! They are named here, in the lowest crate that has one, and each stands where the real mistake
//! would be made. One is at work at a time: on a thread, as a simulation is one, or in the whole process.
//! The machine asks nothing of its environment for that: whoever owns the process plants.

use std::cell::Cell;
use std::fmt;
use std::str::FromStr;
use std::sync::OnceLock;

/// The environment variable by which a process is told what is planted in it.
pub const VARIABLE: &str = "QUORATE_PLANTED_FAULT";

macro_rules! faults {
    ($($(#[doc = $doc:literal])+ $fault:ident = $name:literal,)+) => {
        /// What is wrong.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Fault {
            $($(#[doc = $doc])+ $fault,)+
        }

        impl Fault {
            /// All there are.
            pub const ALL: &[Self] = &[$(Self::$fault,)+];

            /// Its name, as it is asked for.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(Self::$fault => $name,)+ }
            }

            /// What is wrong, in a sentence.
            #[must_use]
            pub fn about(self) -> &'static str {
                match self { $(Self::$fault => concat!($($doc,)+).trim_ascii(),)+ }
            }
        }
    };
}

faults! {
    /// Writes of the log and votes are completed when they are made, before they are on disk.
    AcknowledgeBeforeFsync = "acknowledge-before-fsync",
    /// A linearizable read takes the view there is, without asking the leader for anything.
    ReadWithoutBarrier = "read-without-barrier",
    /// A request that was answered before is executed again.
    DedupeSkipped = "dedupe-skipped",
    /// A wait for a lock whose time is up stays in the queue, and is granted the lock.
    ExpiredWaiterGranted = "expired-waiter-granted",
    /// Leases end their ttl after the leader began to lead, whenever they begin or are renewed.
    LeaseFromLeaderStart = "lease-from-leader-start",
    /// The last row that is trimmed from the history is gone, and who asks for it is not told.
    WatchEventDropped = "watch-event-dropped-at-compaction",
    /// What a transaction changes becomes visible half by half.
    TransactionInTwoBatches = "transaction-in-two-batches",
    /// A restored cluster counts fencing tokens from 1 again.
    FencingCounterLost = "fencing-counter-lost-in-restore",
    /// Sessions and locks are renewed without asking anybody whether this node still leads.
    KeepAliveByDeposedLeader = "keep-alive-by-deposed-leader",
    /// An entry that others committed is applied before this node's own log has it on disk.
    StateAheadOfLog = "state-ahead-of-log",
    /// A snapshot holds older rows than it says.
    SnapshotMetaAhead = "snapshot-meta-ahead-of-data",
    /// A new leader gives what lives half of its ttl.
    HalfLeases = "half-leases",
    /// A lease whose remaining time was recorded is renewed, and the record stays.
    RenewRecorded = "renew-recorded",
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// There is no fault of that name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no fault is called {0:?}; there are {names}", names = names())]
pub struct UnknownFault(String);

fn names() -> String {
    let names: Vec<_> = Fault::ALL.iter().map(|fault| fault.name()).collect();
    names.join(", ")
}

impl FromStr for Fault {
    type Err = UnknownFault;

    fn from_str(name: &str) -> Result<Self, UnknownFault> {
        let named = Self::ALL.iter().copied().find(|fault| fault.name() == name);
        named.ok_or_else(|| UnknownFault(name.to_owned()))
    }
}

thread_local! {
    static ON_THIS_THREAD: Cell<Option<Fault>> = const { Cell::new(None) };
}

static IN_THIS_PROCESS: OnceLock<Fault> = OnceLock::new();

/// Plants a fault in what runs on this thread from now on. A simulation has one thread.
pub fn plant_on_this_thread(fault: Fault) {
    ON_THIS_THREAD.set(Some(fault));
}

/// Plants a fault in this process, on all its threads, for as long as it lives. The first one stays.
pub fn plant_in_this_process(fault: Fault) {
    let _ = IN_THIS_PROCESS.set(fault);
}

/// Whether this one is at work here.
#[must_use]
pub fn is_planted(fault: Fault) -> bool {
    ON_THIS_THREAD.get() == Some(fault) || IN_THIS_PROCESS.get() == Some(&fault)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_is_found_by_its_name_and_another_name_is_refused() {
        for fault in Fault::ALL {
            assert_eq!(fault.to_string().parse(), Ok(*fault));
            let plain = |c: char| c.is_ascii_lowercase() || c == '-';
            assert!(fault.name().chars().all(plain), "{fault}");
            assert!(fault.about().ends_with('.'), "{fault}: {}", fault.about());
        }
        let refused = "no-such-fault".parse::<Fault>().unwrap_err().to_string();
        assert!(refused.contains("half-leases"), "{refused}");
    }

    #[test]
    fn a_fault_is_at_work_on_the_thread_it_was_planted_on() {
        plant_on_this_thread(Fault::DedupeSkipped);
        assert!(is_planted(Fault::DedupeSkipped) && !is_planted(Fault::HalfLeases));
        let elsewhere = std::thread::scope(|scope| {
            scope.spawn(|| is_planted(Fault::DedupeSkipped)).join().expect("it only looks")
        });
        assert!(!elsewhere);
    }
}
