//! `quorate bus pub`: a message to whoever subscribes.

use super::Marks;
use crate::commands::kv;
use crate::connect::Connect;
use crate::exit::Failure;
use crate::output::{Output, id};
use clap::Args;
use quorate_client::bus::Published;
use serde_json::{Value, json};
use std::ffi::OsString;

const AFTER_HELP: &str = "\
It is answered when the message has its number, before anybody has received it. That nobody subscribes
is no failure: it says 0 subscribers. Exit status 6: it may have been published; repeating the command
may publish it twice.

Example:
  quorate bus pub user.created '{\"id\": 17}' --content-type application/json";

/// `quorate bus pub`
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(super) struct Publish {
    /// The channel; * is a character as any other here
    channel: String,
    /// The payload; - reads it from stdin, to the last byte
    #[arg(allow_hyphen_values = true)]
    payload: OsString,
    #[command(flatten)]
    marks: Marks,
}

impl Publish {
    pub(super) fn run(self, connect: &Connect, output: Output) -> Result<(), Failure> {
        let Self { channel, payload, marks } = self;
        let content = marks.content(kv::payload(payload)?);
        let published =
            connect.run(async |client| Ok(client.bus().publish(&channel, content).await?))?;
        output.done(|| shown(&channel, published), || text(published))
    }
}

fn shown(channel: &str, published: Published) -> Value {
    json!({
        "channel": channel,
        "epoch": id(published.epoch),
        "sequence": id(published.sequence),
        "position": id(published.position),
        "nodes": published.nodes,
        "subscribers": id(published.subscribers),
    })
}

fn text(published: Published) -> String {
    let Published { epoch, sequence, nodes, subscribers, .. } = published;
    format!("epoch {epoch} sequence {sequence}: {subscribers} subscribers on {nodes} nodes")
}
