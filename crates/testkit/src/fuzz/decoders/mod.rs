//! All decoders there are, by the crate that they are in.

mod bus;
mod client;
mod consensus;
mod server;
mod state;
mod storage;

use super::Decoder;

/// All decoders, in the order of the layers.
#[must_use]
pub fn all() -> Vec<Decoder> {
    [
        state::DECODERS,
        bus::DECODERS,
        storage::DECODERS,
        consensus::DECODERS,
        server::DECODERS,
        client::DECODERS,
    ]
    .concat()
}
