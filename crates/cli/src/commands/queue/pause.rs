//! `quorate queue pause` and `quorate queue resume`.

use crate::connect::Connect;
use crate::exit::Failure;
use crate::output::Output;
use clap::Args;
use serde_json::json;

/// `quorate queue pause`
#[derive(Debug, Args)]
pub(super) struct Pause {
    queue: String,
}

impl Pause {
    pub(super) fn run(self, connect: &Connect, output: Output) -> Result<(), Failure> {
        let Self { queue } = self;
        connect.run(async |client| Ok(client.queue().pause(&queue).await?))?;
        output.done(|| json!({ "queue": queue, "paused": true }), || "paused".to_owned())
    }
}

/// `quorate queue resume`
#[derive(Debug, Args)]
pub(super) struct Resume {
    queue: String,
}

impl Resume {
    pub(super) fn run(self, connect: &Connect, output: Output) -> Result<(), Failure> {
        let Self { queue } = self;
        connect.run(async |client| Ok(client.queue().resume(&queue).await?))?;
        output.done(|| json!({ "queue": queue, "paused": false }), || "resumed".to_owned())
    }
}
