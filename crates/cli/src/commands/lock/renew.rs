//! `quorate lock renew`: keeps a lock, and its session, for another ttl.

use crate::connect::Connect;
use crate::duration::millis;
use crate::exit::Failure;
use crate::output::{Output, id};
use clap::Args;
use serde_json::json;
use tokio::time::Instant;

/// `quorate lock renew`
#[derive(Debug, Args)]
pub(super) struct Renew {
    name: String,
    /// What it is held under, as it was printed when it was acquired
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    token: u64,
}

impl Renew {
    pub(super) fn run(self, connect: &Connect, output: Output) -> Result<(), Failure> {
        let Self { name, token } = self;
        let remaining = connect.run(async |client| {
            let sent_at = Instant::now();
            let remaining = client.locks().renew(&name, token).await?;
            Ok(remaining.saturating_sub(sent_at.elapsed()))
        })?;
        let remaining_ms = millis(remaining);
        output.done(
            || json!({ "name": name, "token": id(token), "remaining_ms": remaining_ms }),
            || format!("{remaining_ms} ms left"),
        )
    }
}
