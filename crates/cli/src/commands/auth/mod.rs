//! `quorate auth`: tokens, roles, and the names in clients' certificates.

mod role;
mod rule;
mod subject;
mod token;

use crate::connect::Connect;
use crate::exit::Failure;
use crate::output::Output;
use crate::when;
use clap::{Args, Subcommand};
use serde_json::json;
use std::time::{Duration, SystemTime};

/// `quorate auth …`
#[derive(Debug, Args)]
pub(crate) struct Auth {
    #[command(flatten)]
    connect: Connect,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Tokens: what programs show
    Token(token::Token),
    /// Roles: what those may do who have them
    Role(role::Role),
    /// Names in clients' certificates, and their roles
    Subject(subject::Subject),
    /// Whom a node takes this client for
    Whoami,
}

impl Auth {
    pub(crate) fn run(self, output: Output) -> Result<(), Failure> {
        let Self { connect, command } = self;
        match command {
            Command::Token(token) => token.run(&connect, output),
            Command::Role(role) => role.run(&connect, output),
            Command::Subject(subject) => subject.run(&connect, output),
            Command::Whoami => {
                let who = connect.run(async |client| Ok(client.auth().who_am_i().await?))?;
                output.result(
                    || {
                        json!({
                            "auth_enabled": who.auth_enabled,
                            "name": who.name,
                            "roles": who.roles,
                            "expires_unix_ms": who.expires_unix_ms,
                        })
                    },
                    || match who.auth_enabled {
                        false => "nobody in particular: this node asks nobody who he is".to_owned(),
                        true => {
                            let end = match who.expires_unix_ms {
                                Some(end) => format!(", until {}", moment(end)),
                                None => String::new(),
                            };
                            format!("{}; roles: {}{end}", who.name, roles_text(&who.roles))
                        }
                    },
                )
            }
        }
    }
}

fn roles_text(roles: &[String]) -> String {
    if roles.is_empty() { "none".to_owned() } else { roles.join(", ") }
}

/// A moment of Unix time, for people.
fn moment(unix_ms: u64) -> String {
    when::text(SystemTime::UNIX_EPOCH + Duration::from_millis(unix_ms))
}
