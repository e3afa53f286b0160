//! `quorate queue peek`: the jobs that come next.

use crate::commands::kv;
use crate::connect::Connect;
use crate::exit::Failure;
use crate::output::{Output, table};
use clap::Args;

/// `quorate queue peek`
#[derive(Debug, Args)]
pub(super) struct Peek {
    queue: String,
    /// How many at most
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=16))]
    count: u32,
    /// Take whatever the asked node has; works without a quorum
    #[arg(long)]
    stale: bool,
}

impl Peek {
    pub(super) fn run(self, connect: &Connect, output: Output) -> Result<(), Failure> {
        let Self { queue, count, stale } = self;
        let jobs = connect.run(async |client| {
            let peek = client.queue().peek(&queue).limit(count);
            Ok(if stale { peek.stale().await? } else { peek.await? })
        })?;
        if output.is_json() {
            return jobs
                .iter()
                .try_for_each(|job| output.line(&super::shown(job, true).to_string()));
        }
        if jobs.is_empty() {
            output.note("no job is ready");
            return Ok(());
        }
        let header: Vec<&str> = super::HEADER.iter().chain(&["PAYLOAD"]).copied().collect();
        let rows: Vec<_> = jobs
            .iter()
            .map(|job| {
                let mut row = super::row(job);
                row.push(kv::text(&job.payload));
                row
            })
            .collect();
        output.line(&table(&header, &rows))
    }
}
