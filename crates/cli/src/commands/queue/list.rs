//! `quorate queue list`: the jobs of a queue.

use super::{HEADER, row, shown};
use crate::connect::Connect;
use crate::exit::Failure;
use crate::output::Output;
use clap::{Args, ValueEnum};
use futures::StreamExt as _;
use quorate_client::queue::JobState;

/// `quorate queue list`
#[derive(Debug, Args)]
pub(super) struct List {
    queue: String,
    /// Only those that stand so
    #[arg(long, value_enum, value_name = "STATE")]
    state: Option<State>,
    /// Also what is in them, with -o json
    #[arg(long)]
    payloads: bool,
    /// At most so many
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    limit: Option<u64>,
    /// Take whatever the asked node has; works without a quorum
    #[arg(long)]
    stale: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum State {
    Ready,
    Delayed,
    Leased,
    Done,
}

impl List {
    pub(super) fn run(self, connect: &Connect, output: Output) -> Result<(), Failure> {
        connect.run(async |client| {
            let mut list = client.queue().list_jobs(&self.queue);
            if let Some(state) = self.state {
                list = list.state(match state {
                    State::Ready => JobState::Ready,
                    State::Delayed => JobState::Delayed,
                    State::Leased => JobState::Leased,
                    State::Done => JobState::Done,
                });
            }
            if self.payloads {
                list = list.payloads();
            }
            if self.stale {
                list = list.stale();
            }
            let limit =
                self.limit.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX));
            let jobs = list.stream().take(limit);
            output.items(jobs, HEADER, |job| shown(job, self.payloads), |job| vec![row(job)]).await
        })
    }
}
