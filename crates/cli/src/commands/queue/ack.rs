//! `quorate queue ack`: a job is done.

use super::{Leased, id};
use crate::connect::Connect;
use crate::exit::Failure;
use crate::output::Output;
use clap::Args;
use serde_json::json;

const AFTER_HELP: &str = "\
Exit status 3 when the job is not in the queue any more, 4 when it is, but under another lease, or
under none: whoever has it works on it as well.";

/// `quorate queue ack`
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(super) struct Ack {
    #[command(flatten)]
    job: Leased,
}

impl Ack {
    pub(super) fn run(self, connect: &Connect, output: Output) -> Result<(), Failure> {
        let Leased { queue, job_id, lease } = self.job;
        connect.run(async |client| Ok(client.queue().ack(&queue, job_id, lease).await?))?;
        output.done(|| json!({ "id": id(job_id), "acked": true }), || "done".to_owned())
    }
}
