//! `quorate queue delete`: deletes a queue with all its jobs.

use crate::connect::Connect;
use crate::exit::Failure;
use crate::output::Output;
use clap::Args;
use serde_json::json;

/// `quorate queue delete`
#[derive(Debug, Args)]
pub(super) struct Delete {
    queue: String,
}

impl Delete {
    pub(super) fn run(self, connect: &Connect, output: Output) -> Result<(), Failure> {
        let Self { queue } = self;
        let done = connect.run(async |client| Ok(client.queue().delete(&queue).await?))?;
        output.done(
            || {
                json!({
                    "queue": queue,
                    "deleted": done.deleted,
                    "jobs": done.jobs,
                    "revision": done.revision,
                })
            },
            || match done.deleted {
                true => format!("deleted with {} jobs", done.jobs),
                false => "there was none".to_owned(),
            },
        )?;
        match done.deleted {
            true => Ok(()),
            false => Err(Failure::NotFound(format!("there is no queue {queue:?}"))),
        }
    }
}
