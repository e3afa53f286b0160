//! All callers of a node, by their names.

use super::caller::{Caller, Present, Shared};
use super::{CallerLimits, Limited};
use crate::metrics::Counters;
use crate::seldom::Seldom;
use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::time::Instant;

/// Callers that are remembered before it is looked which of them are gone.
const SWEEP_AT_MIN: usize = 1_024;

/// The callers. Those without a connection are forgotten as soon as nothing is counted of them: there
/// are at most as many as connections, and twice those of the last second.
#[derive(Clone)]
pub(crate) struct Callers(Arc<Inner>);

struct Inner {
    shared: Arc<Shared>,
    known: Mutex<Known>,
}

struct Known {
    callers: HashMap<Arc<str>, Arc<Caller>>,
    /// How many there may be before the next sweep.
    sweep_at: usize,
}

impl Callers {
    pub(crate) fn new(limits: CallerLimits, counters: Arc<Counters>) -> Self {
        let seldom = Seldom::default();
        let shared = Arc::new(Shared { limits, began: Instant::now(), counters, seldom });
        let known = Mutex::new(Known { callers: HashMap::new(), sweep_at: SWEEP_AT_MIN });
        Self(Arc::new(Inner { shared, known }))
    }

    /// A connection from this address.
    pub(crate) fn arrived(&self, from: IpAddr) -> Result<Arc<Present>, Limited> {
        self.enter(&address(from))
    }

    /// A connection of the caller of this name.
    pub(crate) fn enter(&self, name: &str) -> Result<Arc<Present>, Limited> {
        self.named(name).arrives()
    }

    fn named(&self, name: &str) -> Arc<Caller> {
        let mut known = self.0.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(caller) = known.callers.get(name) {
            return Arc::clone(caller);
        }
        if known.callers.len() >= known.sweep_at {
            let now_ns = self.0.shared.now_ns();
            // Nobody can get at one that only the map has while it is locked.
            known
                .callers
                .retain(|_, caller| Arc::strong_count(caller) > 1 || !caller.is_at_rest(now_ns));
            known.sweep_at = SWEEP_AT_MIN.max(2 * known.callers.len());
        }
        let name: Arc<str> = name.into();
        let caller = Arc::new(Caller::new(Arc::clone(&name), Arc::clone(&self.0.shared)));
        known.callers.insert(name, Arc::clone(&caller));
        caller
    }
}

/// Whom an address stands for. Of IPv6, whoever has one has at least 2^64 of them.
fn address(from: IpAddr) -> String {
    match from.to_canonical() {
        IpAddr::V4(from) => format!("address {from}"),
        IpAddr::V6(from) => {
            let network = Ipv6Addr::from_bits(from.to_bits() >> 64 << 64);
            format!("address {network}/64")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::Share;
    use std::time::Duration;
    use tonic::{Code, Status};

    fn callers(limits: CallerLimits) -> (Callers, Arc<Counters>) {
        let counters = Arc::<Counters>::default();
        (Callers::new(limits, Arc::clone(&counters)), counters)
    }

    fn count(counters: &Counters, word: &str) -> u64 {
        counters.callers.all().find(|(limit, _)| *limit == word).unwrap().1
    }

    const NONE: CallerLimits = CallerLimits {
        connections_max: 0,
        in_flight_max: 0,
        streams_max: 0,
        requests_per_second: 0,
        request_bytes_per_second: 0,
    };

    #[tokio::test]
    async fn places_come_free_again_and_are_of_one_caller() {
        let limits = CallerLimits { connections_max: 2, in_flight_max: 2, streams_max: 1, ..NONE };
        let (callers, counters) = callers(limits);
        let first = callers.enter("ann").unwrap();
        let second = callers.enter("ann").unwrap();
        assert!(callers.enter("ann").is_err());
        let other = callers.enter("bob").unwrap();
        drop(second);
        assert!(callers.enter("ann").is_ok());

        let ann = first.caller();
        let stream = ann.begin(true).unwrap();
        assert!(ann.begin(true).is_err());
        let one = ann.begin(false).unwrap();
        let mut pipeline = Share::new(Arc::clone(ann));
        pipeline.begin(|| 1).unwrap();
        assert!(pipeline.begin(|| 1).is_err(), "a pipeline's calls count with the others");
        assert!(other.caller().begin(false).is_ok(), "another caller has his own");
        pipeline.settle(0);
        let two = ann.begin(false).unwrap();
        let status = Status::from(ann.begin(false).err().unwrap());
        assert_eq!(status.code(), Code::ResourceExhausted);
        assert!(status.message().contains("ann may have 2 requests under way"), "{status:?}");
        drop((stream, one, two, pipeline));
        assert!(ann.begin(true).is_ok() && ann.begin(false).is_ok());
        let counted = ["connections", "streams", "in_flight"].map(|word| count(&counters, word));
        assert_eq!(counted, [1, 1, 2]);
    }

    #[tokio::test(start_paused = true)]
    async fn rates_hold_across_connections_and_over_time() {
        let limits =
            CallerLimits { requests_per_second: 10, request_bytes_per_second: 1_000, ..NONE };
        let (callers, _counters) = callers(limits);
        let asked = |times: usize| {
            // A new connection for each: whoever reconnects begins nothing anew.
            (0..times)
                .filter(|_| callers.enter("ann").unwrap().caller().begin(false).is_ok())
                .count()
        };
        assert_eq!(asked(100), 10);
        tokio::time::advance(Duration::from_millis(500)).await;
        assert_eq!(asked(100), 5);
        tokio::time::advance(Duration::from_secs(60)).await;
        let present = callers.enter("ann").unwrap();
        let mut share = Share::new(Arc::clone(present.caller()));
        assert!(share.begin(|| 3_000).is_ok(), "one may be larger than what is there");
        let status = Status::from(share.begin(|| 1).unwrap_err());
        assert!(status.message().contains("the next is taken in 2001 ms"), "{status:?}");
        tokio::time::advance(Duration::from_millis(2_001)).await;
        assert!(share.begin(|| 1).is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn those_who_are_gone_are_forgotten_once_nothing_is_counted_of_them() {
        let (callers, _counters) = callers(CallerLimits { requests_per_second: 1, ..NONE });
        let stays = callers.enter("stays").unwrap();
        for nth in 0..SWEEP_AT_MIN {
            let _ = callers.enter(&format!("{nth}")).unwrap().caller().begin(false);
        }
        let known = || callers.0.known.lock().unwrap().callers.len();
        assert!(known() > SWEEP_AT_MIN, "what they took lately is not over yet");
        tokio::time::advance(Duration::from_secs(2)).await;
        for nth in 0..=SWEEP_AT_MIN {
            drop(callers.enter(&format!("later {nth}")).unwrap());
        }
        assert!(known() <= 2 * SWEEP_AT_MIN, "{} are remembered", known());
        assert!(callers.0.known.lock().unwrap().callers.contains_key("stays"));
        drop(stays);
    }

    #[test]
    fn an_address_of_either_kind_stands_for_one_caller() {
        let named = |text: &str| address(text.parse().unwrap());
        assert_eq!(named("10.0.0.7"), "address 10.0.0.7");
        assert_eq!(named("::ffff:10.0.0.7"), "address 10.0.0.7");
        assert_eq!(named("2001:db8:1:2:3::4"), "address 2001:db8:1:2::/64");
    }
}
