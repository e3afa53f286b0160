//! `quorate session`: list, close.

use crate::connect::Connect;
use crate::exit::Failure;
use crate::output::{self, Output};
use clap::{Args, Subcommand};
use quorate_client::SessionInfo;
use serde_json::{Value, json};

/// `quorate session …`
#[derive(Debug, Args)]
pub(crate) struct Session {
    #[command(flatten)]
    connect: Connect,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List the open sessions, oldest first, with how many locks and keys end with each.
    List,
    /// End a session: the locks it holds pass on, its keys are deleted; exit status 3 if it is not
    /// open.
    Close {
        #[arg(value_parser = clap::value_parser!(u64).range(1..))]
        id: u64,
    },
}

impl Session {
    pub(crate) fn run(self, output: Output) -> Result<(), Failure> {
        let Self { connect, command } = self;
        match command {
            Command::List => connect.run(async |client| {
                let header = &["SESSION", "TTL", "LOCKS", "KEYS"];
                output.items(client.sessions().list(), header, shown, row).await
            }),
            Command::Close { id } => {
                let closed = connect.run(async |client| Ok(client.sessions().close(id).await?))?;
                output.done(
                    || json!({ "session": output::id(id), "closed": closed }),
                    || (if closed { "closed" } else { "it was not open" }).to_owned(),
                )?;
                match closed {
                    true => Ok(()),
                    false => Err(Failure::NotFound(format!("there is no open session {id}"))),
                }
            }
        }
    }
}

fn shown(session: &SessionInfo) -> Value {
    json!({
        "session": output::id(session.id),
        "ttl_ms": u64::try_from(session.ttl.as_millis()).unwrap_or(u64::MAX),
        "locks": session.locks,
        "keys": session.keys,
    })
}

fn row(session: &SessionInfo) -> Vec<Vec<String>> {
    vec![vec![
        session.id.to_string(),
        format!("{:?}", session.ttl),
        session.locks.to_string(),
        session.keys.to_string(),
    ]]
}
