//! `quorate queue progress`: notes how far the work on a job is.

use super::{Leased, id};
use crate::connect::Connect;
use crate::exit::Failure;
use crate::output::Output;
use clap::Args;
use serde_json::json;

/// `quorate queue progress`
#[derive(Debug, Args)]
pub(super) struct Progress {
    #[command(flatten)]
    job: Leased,
    /// From 0 to 1
    #[arg(value_parser = parse_fraction)]
    fraction: f64,
    /// What there is to say
    #[arg(default_value = "", hide_default_value = true)]
    note: String,
}

fn parse_fraction(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(fraction) if (0.0..=1.0).contains(&fraction) => Ok(fraction),
        _ => Err(format!("{text:?} is not from 0 to 1, such as 0.25")),
    }
}

impl Progress {
    pub(super) fn run(self, connect: &Connect, output: Output) -> Result<(), Failure> {
        let Self { job: Leased { queue, job_id, lease }, fraction, note } = self;
        connect.run(async |client| {
            Ok(client.queue().progress(&queue, job_id, lease, fraction, note).await?)
        })?;
        output.done(
            || json!({ "id": id(job_id), "fraction": fraction }),
            || format!("{:.1} %", fraction * 100.0),
        )
    }
}
