//! `quorate queue cancel`: takes a job out of its queue.

use super::id;
use crate::connect::Connect;
use crate::exit::Failure;
use crate::output::Output;
use clap::Args;
use serde_json::json;

const AFTER_HELP: &str = "\
Who works on it is told, and can't say that it is done; what it has done by then stays done.";

/// `quorate queue cancel`
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(super) struct Cancel {
    queue: String,
    #[arg(value_parser = clap::value_parser!(u64).range(1..))]
    job_id: u64,
}

impl Cancel {
    pub(super) fn run(self, connect: &Connect, output: Output) -> Result<(), Failure> {
        let Self { queue, job_id } = self;
        let done = connect.run(async |client| Ok(client.queue().cancel(&queue, job_id).await?))?;
        output.done(
            || {
                json!({
                    "id": id(job_id),
                    "cancelled": done.cancelled,
                    "was_leased": done.was_leased,
                    "revision": done.revision,
                })
            },
            || match (done.cancelled, done.was_leased) {
                (true, true) => "cancelled; it was being worked on".to_owned(),
                (true, false) => "cancelled".to_owned(),
                (false, _) => "it was not in the queue".to_owned(),
            },
        )?;
        match done.cancelled {
            true => Ok(()),
            false => {
                Err(Failure::NotFound(format!("queue {queue:?} has no job {job_id} to cancel")))
            }
        }
    }
}
