//! `quorate bus`: pub, sub, request, reply, channels.

mod channels;
mod publish;
mod reply;
mod request;
mod subscribe;

use super::queue::{parse_header, put_marks};
use crate::connect::Connect;
use crate::exit::Failure;
use crate::output::{Output, put_bytes};
use clap::{Args, Subcommand};
use quorate_client::Content;
use serde_json::{Map, Value};

/// `quorate bus …`
#[derive(Debug, Args)]
pub(crate) struct Bus {
    #[command(flatten)]
    connect: Connect,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Publish a message to whoever subscribes to the channel now; it is not stored.
    Pub(publish::Publish),
    /// Subscribe: a line for each message that is published from now on.
    Sub(subscribe::Subscribe),
    /// Publish a message and write the first answer to it to stdout; exit status 3 if nobody
    /// subscribes to the channel, 6 if nobody answers in time.
    Request(request::Request),
    /// Answer requests, with what a command writes or with a text.
    Reply(reply::Reply),
    /// List the channels and patterns that are subscribed to.
    Channels(channels::Channels),
}

impl Bus {
    pub(crate) fn run(self, output: Output) -> Result<(), Failure> {
        let Self { connect, command } = self;
        match command {
            Command::Pub(publish) => publish.run(&connect, output),
            Command::Sub(subscribe) => subscribe.run(&connect, output),
            Command::Request(request) => request.run(&connect, output),
            Command::Reply(reply) => reply.run(&connect, output),
            Command::Channels(channels) => channels.run(&connect, output),
        }
    }
}

/// What goes with a payload.
#[derive(Debug, Args)]
struct Marks {
    /// Of the payload, such as application/json
    #[arg(long, value_name = "TYPE")]
    content_type: Option<String>,
    /// Goes with it; may be given again
    #[arg(long, value_name = "NAME=VALUE", value_parser = parse_header)]
    header: Vec<(String, String)>,
}

impl Marks {
    fn content(self, payload: Vec<u8>) -> Content {
        let content = Content::new(payload).content_type(self.content_type.unwrap_or_default());
        self.header.into_iter().fold(content, |content, (name, value)| content.header(name, value))
    }
}

/// A payload and what goes with it, as parts of a document.
fn put_content(
    object: &mut Map<String, Value>,
    payload: &[u8],
    content_type: &str,
    headers: &[(String, String)],
) {
    put_bytes(object, "payload", payload);
    let headers = headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes()));
    put_marks(object, content_type, headers, b"");
}
