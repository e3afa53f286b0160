//! `quorate cluster add`, and what `replace` has in common with it: a token, and what to do with it.

use crate::connect::Connect;
use crate::duration;
use crate::exit::Failure;
use crate::output::Output;
use clap::Args;
use serde_json::json;
use std::time::Duration;

const AFTER_HELP: &str = "\
The token lets one node join, and is shown this once. Start the node, on whichever machine, with an empty
directory:

  quorate serve --data-dir DIR --join HOST:PORT --join-token TOKEN --peer-listen HOST:PORT

It gets its id from the cluster, receives what there is, and votes as soon as it is no more than a second
behind; with --learner it never does. quorate cluster members shows what is still planned. The node is then
started as before, and may leave --join out.";

/// Make a token with which one more node may join.
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(super) struct Add {
    /// How long the token holds, 1s to 168h
    #[arg(long, value_name = "DURATION", default_value = "1h", value_parser = duration::parse_positive)]
    ttl: Duration,
}

impl Add {
    pub(super) fn run(self, connect: &Connect, output: Output) -> Result<(), Failure> {
        invite(connect, output, self.ttl, None)
    }
}

/// Makes a token and says what to do with it.
pub(super) fn invite(
    connect: &Connect,
    output: Output,
    ttl: Duration,
    replaces: Option<u64>,
) -> Result<(), Failure> {
    let asking = async |client: quorate_client::Client| {
        // Any of them can be asked to join. First, because a token that is not shown is lost.
        let members = client.cluster().members().await?;
        let token = client.cluster().invite(ttl, replaces).await?;
        let endpoints: Vec<_> =
            members.members.into_iter().map(|member| member.client_addr).collect();
        Ok((token, endpoints.join(",")))
    };
    let (token, endpoints) = connect.run(asking)?;
    let command = format!("quorate serve --data-dir DIR --join {endpoints} --join-token {token}");
    output.result(
        || json!({ "token": token, "join": endpoints, "ttl_ms": duration::millis(ttl), "replaces": replaces }),
        || {
            format!(
                "{token}\n\nWithin {}, start one node with an empty directory, and with the addresses it \
                 listens on:\n\n  {command}",
                duration::text(ttl)
            )
        },
    )
}
