//! How many consumers there may be, and who counts them.

use super::CONSUMERS_MAX;
use crate::connections::ConnectionState;
use crate::grpc::status::not_applied;
use crate::metrics::Counters;
use http::Extensions;
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::{Code, Status};

/// What a consumer holds of the bounds, until what is to be said when it ends was said.
pub(in crate::grpc) struct Places {
    _of_node: OwnedSemaphorePermit,
    /// None in a simulation, whose connections are its own.
    _of_connection: Option<OwnedSemaphorePermit>,
}

/// Counts a stream while it is open.
pub(super) struct Counted(Arc<Counters>);

impl Counted {
    pub(super) fn new(counters: &Arc<Counters>) -> Self {
        counters.consumers.open.enter();
        Self(Arc::clone(counters))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.consumers.open.leave();
    }
}

/// Places for one more consumer, of those that the node has, and of its connection's.
pub(in crate::grpc) fn places(
    of_node: &Arc<Semaphore>,
    extensions: &Extensions,
) -> Result<Places, Status> {
    let full = |count: usize, of: &str, what: &str| {
        let message = format!("there are {count} consumers on this {of} already; {what}");
        not_applied(Code::ResourceExhausted, "TOO_MANY_CONSUMERS", message)
    };
    let of_connection = match extensions.get::<Arc<ConnectionState>>() {
        None => None,
        Some(connection) => {
            let place = Arc::clone(&connection.consumers).try_acquire_owned().map_err(|_| {
                let what = "end one first, give one a larger window, or use another connection";
                full(ConnectionState::CONSUMERS_MAX, "connection", what)
            })?;
            Some(place)
        }
    };
    let of_node = Arc::clone(of_node).try_acquire_owned();
    let of_node = of_node.map_err(|_| full(CONSUMERS_MAX, "node", "use another node"))?;
    Ok(Places { _of_node: of_node, _of_connection: of_connection })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_has_so_many_consumers_and_places_come_free() {
        let of_node = Arc::new(Semaphore::new(2));
        let none = Extensions::new();
        let (first, _second) = (places(&of_node, &none).unwrap(), places(&of_node, &none).unwrap());
        let Err(full) = places(&of_node, &none) else { panic!("there is no room") };
        assert_eq!(full.code(), Code::ResourceExhausted);
        assert!(full.message().contains("on this node already; use another node"), "{full}");
        drop(first);
        assert!(places(&of_node, &none).is_ok());
    }
}
