//! Real nodes that are killed, paused and damaged while checked work goes on.
//!
//! Each test runs with a size that suits every change; a variable makes it larger:
//! `QUORATE_KILLS` (25), `QUORATE_ALL_KILLS` (10), `QUORATE_HISTORY_SECONDS` (30),
//! `QUORATE_STEADY_SECONDS` (20), `QUORATE_BANK_SECONDS` (15), `QUORATE_LOCK_GRANTS` (600),
//! `QUORATE_QUEUE_JOBS` (20 000), `QUORATE_BUS_KILLS` (2),
//! `QUORATE_OVERLOAD_SECONDS` (10). What then
//! takes longer than ten minutes needs the profile `long`:
//! `QUORATE_KILLS=1000 scripts/test --profile long leader_kills`.

mod bank;
mod bit_flip;
mod bus;
mod disk;
mod histories;
mod kills;
mod life;
mod locks;
mod membership;
mod overload;
mod queue;
mod snapshot;
mod steady;
mod synced;
mod watch;
mod writers;
