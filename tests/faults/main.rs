//! Real nodes that are killed, paused and damaged while checked work goes on.
//!
//! Each test runs with a size that suits every change; a variable makes it larger:
//! `QUORATE_KILLS` (25), `QUORATE_ALL_KILLS` (10), `QUORATE_HISTORY_SECONDS` (30),
//! `QUORATE_STEADY_SECONDS` (20).

mod bit_flip;
mod histories;
mod kills;
mod snapshot;
mod steady;
