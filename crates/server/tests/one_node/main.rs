//! The services of a node in one process: memory stores, connections without sockets. What a
//! client sees.

#![allow(clippy::unwrap_used, reason = "clippy exempts test functions, not their fixture")]

mod access;
mod bus;
mod cache;
mod consumers;
mod dashboard;
mod fixture;
mod limits;
mod lists;
mod locks;
mod metrics;
mod operations;
mod pipeline;
mod queues;
mod schedules;
mod services;
mod txn;
mod watches;
