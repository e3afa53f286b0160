//! The client against nodes that do as they are told: in one process, on a paused clock, over
//! in-memory connections, so that every wait is exact and none is real.

mod bus;
mod cache;
mod cluster;
mod fake;
mod outcomes;
mod queue;
mod retries;
mod routing;
mod sessions;
mod storm;
mod tcp;
mod txn;
mod watch;
mod window;
