//! `quorate queue extend`: makes a lease last longer.

use super::{Leased, id};
use crate::connect::Connect;
use crate::duration;
use crate::duration::millis;
use crate::exit::Failure;
use crate::output::Output;
use clap::Args;
use serde_json::json;
use std::time::Duration;

/// `quorate queue extend`
#[derive(Debug, Args)]
pub(super) struct Extend {
    #[command(flatten)]
    job: Leased,
    /// How long it lasts from now on, up to 12h; by default the queue's visibility timeout
    #[arg(long = "for", value_name = "DURATION", value_parser = duration::parse_positive)]
    for_: Option<Duration>,
}

impl Extend {
    pub(super) fn run(self, connect: &Connect, output: Output) -> Result<(), Failure> {
        let Self { job: Leased { queue, job_id, lease }, for_ } = self;
        let lasts = connect.run(async |client| {
            // A zero stands for the queue's own.
            let for_ = for_.unwrap_or_default();
            Ok(client.queue().extend(&queue, job_id, lease, for_).await?)
        })?;
        let lease_ms = millis(lasts);
        output.done(
            || json!({ "id": id(job_id), "lease": id(lease), "lease_ms": lease_ms }),
            || format!("leased for {lease_ms} ms"),
        )
    }
}
