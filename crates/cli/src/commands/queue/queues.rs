//! `quorate queue queues`: the queues there are.

use super::stats;
use crate::commands::kv;
use crate::connect::Connect;
use crate::duration;
use crate::exit::Failure;
use crate::output::Output;
use clap::Args;
use quorate_client::queue::QueueInfo;
use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;

/// `quorate queue queues`
#[derive(Debug, Args)]
pub(super) struct Queues {
    /// Those whose names match: * any run, ? one, [a-c] a class, \ takes the next as it is
    #[arg(default_value = "*")]
    pattern: OsString,
    /// Take whatever the asked node has; works without a quorum
    #[arg(long)]
    stale: bool,
}

impl Queues {
    pub(super) fn run(self, connect: &Connect, output: Output) -> Result<(), Failure> {
        let header = &["QUEUE", "READY", "DELAYED", "LEASED", "DONE", "DEAD", "OLDEST READY", ""];
        connect.run(async |client| {
            let list = client.queue().list_queues(self.pattern.as_bytes());
            let list = if self.stale { list.stale() } else { list };
            output.items(list.stream(), header, stats::shown, |queue| vec![row(queue)]).await
        })
    }
}

fn row(queue: &QueueInfo) -> Vec<String> {
    vec![
        kv::text(queue.name.as_bytes()),
        queue.ready.to_string(),
        queue.delayed.to_string(),
        queue.leased.to_string(),
        queue.done.to_string(),
        queue.dead.to_string(),
        queue.oldest_ready.map_or_else(|| "-".to_owned(), duration::rough),
        (if queue.paused { "paused" } else { "" }).to_owned(),
    ]
}
