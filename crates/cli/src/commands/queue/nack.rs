//! `quorate queue nack`: a job is not done.

use super::{Leased, id, state};
use crate::connect::Connect;
use crate::duration;
use crate::duration::millis;
use crate::exit::Failure;
use crate::output::Output;
use clap::Args;
use quorate_client::queue::JobState;
use serde_json::json;
use std::time::Duration;

const AFTER_HELP: &str = "\
It is tried again as the queue's backoff says, or given up if that was its last attempt. Exit status 3
when the job is not in the queue any more, 4 when it is not leased under the lease.";

/// `quorate queue nack`
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(super) struct Nack {
    #[command(flatten)]
    job: Leased,
    /// It is tried again after this long, up to 366d
    #[arg(long, value_name = "DURATION", value_parser = duration::parse, allow_hyphen_values = true)]
    delay: Option<Duration>,
    /// It is given up at once: it goes to the dead letters
    #[arg(long, conflicts_with_all = ["delay", "return"])]
    dead: bool,
    /// It was not tried: it is ready at once, as if it had not been delivered
    #[arg(long = "return", id = "return", conflicts_with = "delay")]
    hand_back: bool,
    /// What went wrong, to be kept with the job
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    error: String,
}

impl Nack {
    pub(super) fn run(self, connect: &Connect, output: Output) -> Result<(), Failure> {
        let Self { job: Leased { queue, job_id, lease }, delay, dead, hand_back, error } = self;
        let nacked = connect.run(async |client| {
            let nack = client.queue().nack(&queue, job_id, lease).error(error);
            let nack = match (delay, dead, hand_back) {
                (Some(delay), ..) => nack.after(delay),
                (None, true, _) => nack.kill(),
                (None, false, true) => nack.hand_back(),
                (None, false, false) => nack,
            };
            Ok(nack.await?)
        })?;
        let delay_ms = millis(nacked.delay);
        output.done(
            || json!({ "id": id(job_id), "state": state(nacked.state), "delay_ms": delay_ms }),
            || match nacked.state {
                JobState::Delayed => format!("tried again in {delay_ms} ms"),
                other => state(other).to_owned(),
            },
        )
    }
}
