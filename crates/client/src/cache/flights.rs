//! One call to the cluster for all calls of this process that want the same value at once.

use super::{BuildError, CacheValue};
use crate::Error;
use bytes::Bytes;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::watch;

/// Values that are wanted at once and told apart. Past that a call does not wait for another one of
/// this process; the cluster still gives the task of building to one.
const FLIGHTS_MAX: usize = 4_096;

/// What is wanted.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Wanted {
    pub(super) namespace: Arc<str>,
    pub(super) key: Bytes,
    /// Whether a stale one will not do.
    pub(super) fresh_only: bool,
}

/// What a flight came to, for those who waited for it.
#[derive(Clone, Debug)]
pub(super) enum Landed {
    Value(CacheValue),
    /// The builder failed.
    BuildFailed(String),
    Client(Error),
}

type Landing = Option<Landed>;

/// The flights there are.
#[derive(Debug, Default)]
pub(super) struct Flights(Mutex<BTreeMap<Wanted, watch::Receiver<Landing>>>);

/// The place of a call that wants a value.
#[derive(Debug)]
pub(super) enum Place<'a> {
    /// It makes the call, and the others wait.
    Leads(Lead<'a>),
    /// It waits.
    Waits(watch::Receiver<Landing>),
    /// It makes the call for itself: there are too many.
    Alone,
}

/// The call that is made. When it is dropped before it has landed, one of those who wait makes it.
#[derive(Debug)]
pub(super) struct Lead<'a> {
    flights: &'a Flights,
    wanted: Wanted,
    landing: watch::Sender<Landing>,
}

impl Flights {
    pub(super) fn join(&self, wanted: &Wanted) -> Place<'_> {
        let mut flights = self.flights();
        if let Some(landing) = flights.get(wanted) {
            return Place::Waits(landing.clone());
        }
        if flights.len() >= FLIGHTS_MAX {
            return Place::Alone;
        }
        let (sender, receiver) = watch::channel(None);
        flights.insert(wanted.clone(), receiver);
        Place::Leads(Lead { flights: self, wanted: wanted.clone(), landing: sender })
    }

    fn flights(&self) -> MutexGuard<'_, BTreeMap<Wanted, watch::Receiver<Landing>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lead<'_> {
    /// Tells those who wait.
    pub(super) fn land<E: fmt::Display>(self, came: &Result<CacheValue, BuildError<E>>) {
        // Before they are told: whoever then wants it again makes a call of its own.
        self.flights.flights().remove(&self.wanted);
        self.landing.send_replace(Some(match came {
            Ok(value) => Landed::Value(value.clone()),
            Err(BuildError::Build(error)) => Landed::BuildFailed(error.to_string()),
            Err(BuildError::BuildFailed(text)) => Landed::BuildFailed(text.clone()),
            Err(BuildError::Client(error)) => Landed::Client(error.clone()),
        }));
    }
}

impl Drop for Lead<'_> {
    fn drop(&mut self) {
        // One that has landed is gone already, and another may have taken its place.
        if self.landing.borrow().is_none() {
            self.flights.flights().remove(&self.wanted);
        }
    }
}

/// What the flight came to; none when the call was dropped.
pub(super) async fn landed(mut landing: watch::Receiver<Landing>) -> Option<Landed> {
    landing.wait_for(Option::is_some).await.ok().and_then(|landed| landed.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(key: &'static str) -> Wanted {
        Wanted { namespace: "".into(), key: key.into(), fresh_only: false }
    }

    #[tokio::test]
    async fn who_waits_is_told_or_takes_over() {
        let flights = Flights::default();
        let Place::Leads(lead) = flights.join(&wanted("k")) else { panic!("it is the first") };
        let Place::Waits(one) = flights.join(&wanted("k")) else { panic!("there is one") };
        let Place::Leads(_) = flights.join(&wanted("l")) else { panic!("another key") };
        drop(lead);
        assert!(landed(one).await.is_none());
        let Place::Leads(lead) = flights.join(&wanted("k")) else { panic!("it takes over") };
        let Place::Waits(two) = flights.join(&wanted("k")) else { panic!("there is one") };
        lead.land(&Err(BuildError::Build("why")));
        assert!(matches!(landed(two).await, Some(Landed::BuildFailed(why)) if why == "why"));
        assert!(flights.flights().is_empty(), "what has landed is not kept");
    }

    #[test]
    fn past_the_bound_each_makes_its_own() {
        let flights = Flights::default();
        let key = |number: usize| Wanted { key: number.to_string().into(), ..wanted("") };
        let all: Vec<_> = (0..FLIGHTS_MAX).map(|number| flights.join(&key(number))).collect();
        assert!(matches!(flights.join(&wanted("k")), Place::Alone));
        drop(all);
        assert!(matches!(flights.join(&wanted("k")), Place::Leads(_)));
    }
}
