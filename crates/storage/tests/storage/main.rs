//! Storage as its users see it: the same checks on RocksDB and on memory, crashes, damage.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stderr,
    reason = "a test that fails says why and where; random ones print their seed"
)]

mod damage;
mod directory;
mod every_file;
mod full_disk;
mod holes;
mod kill;
mod log;
mod machine;
mod rebuild;
mod recovery;
mod rot;
mod simulated_disk;
mod snapshot;
mod state;
mod support;
