//! `quorate queue purge`: takes all jobs out of a queue.

use crate::connect::Connect;
use crate::exit::Failure;
use crate::output::Output;
use clap::Args;
use serde_json::json;

/// `quorate queue purge`
#[derive(Debug, Args)]
pub(super) struct Purge {
    queue: String,
}

impl Purge {
    pub(super) fn run(self, connect: &Connect, output: Output) -> Result<(), Failure> {
        let Self { queue } = self;
        let done = connect.run(async |client| Ok(client.queue().purge(&queue).await?))?;
        output.done(
            || json!({ "queue": queue, "purged": done.purged, "revision": done.revision }),
            || format!("{} purged", done.purged),
        )
    }
}
