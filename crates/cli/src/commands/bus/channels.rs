//! `quorate bus channels`: what is subscribed to.

use crate::commands::kv;
use crate::connect::Connect;
use crate::exit::Failure;
use crate::output::{Output, id};
use clap::Args;
use quorate_client::bus::ChannelInfo;
use serde_json::{Value, json};

const AFTER_HELP: &str = "\
A line has what was subscribed to, how many do so outside of queue groups, on how many nodes, how many
queue groups do with how many members, and of a channel the number of its newest message. As the leader
knows it. A channel's name has a \\ before what would be a wildcard.

Example:
  quorate bus channels 'user.*' -o json";

/// `quorate bus channels`
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(super) struct Channels {
    /// Those whose own text matches: * any run, ? one, [a-c] a class, \ takes the next as it is
    #[arg(default_value = "*")]
    pattern: String,
}

impl Channels {
    pub(super) fn run(self, connect: &Connect, output: Output) -> Result<(), Failure> {
        let header = &["CHANNEL", "SUBSCRIBERS", "NODES", "QUEUE GROUPS", "MEMBERS", "NEWEST"];
        connect.run(async |client| {
            let channels = client.bus().channels(self.pattern).stream();
            output.items(channels, header, shown, |channel| vec![row(channel)]).await
        })
    }
}

fn shown(channel: &ChannelInfo) -> Value {
    json!({
        "pattern": channel.pattern,
        "subscribers": id(channel.subscribers),
        "nodes": channel.nodes,
        "queue_groups": channel.queue_groups,
        "members": id(channel.members),
        "last_sequence": id(channel.last_sequence),
    })
}

fn row(channel: &ChannelInfo) -> Vec<String> {
    let newest = match channel.last_sequence {
        0 => "-".to_owned(),
        sequence => sequence.to_string(),
    };
    vec![
        kv::text(channel.pattern.as_bytes()),
        channel.subscribers.to_string(),
        channel.nodes.to_string(),
        channel.queue_groups.to_string(),
        channel.members.to_string(),
        newest,
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_has_no_newest_message() {
        let mut channel = ChannelInfo::default();
        channel.pattern = "a\n*".to_owned();
        (channel.queue_groups, channel.members) = (2, 5);
        assert_eq!(row(&channel), ["a\\n*", "0", "0", "2", "5", "-"]);
        assert_eq!(shown(&channel)["last_sequence"], 0);
    }
}
