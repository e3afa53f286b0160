//! `quorate queue redrive`: puts dead letters back.

use crate::connect::Connect;
use crate::exit::Failure;
use crate::output::Output;
use clap::Args;
use serde_json::json;

const AFTER_HELP: &str = "\
They are ready at once, with all their attempts before them. Those that somebody works on stay. All of
them go in steps: when it fails midway, repeat it to go on.";

/// `quorate queue redrive`
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(super) struct Redrive {
    /// The queue they came from
    queue: String,
    /// Only these, up to 128
    #[arg(value_name = "JOB_ID", num_args = 0..=128, value_parser = clap::value_parser!(u64).range(1..))]
    job_ids: Vec<u64>,
}

impl Redrive {
    pub(super) fn run(self, connect: &Connect, output: Output) -> Result<(), Failure> {
        let Self { queue, job_ids } = self;
        let done =
            connect.run(async |client| Ok(client.queue().redrive(&queue).jobs(job_ids).await?))?;
        output.done(
            || json!({ "queue": queue, "moved": done.moved, "revision": done.revision }),
            || format!("{} put back", done.moved),
        )
    }
}
