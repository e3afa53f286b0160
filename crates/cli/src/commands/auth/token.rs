//! `quorate auth token`: make, list and end tokens.

use super::{moment, roles_text};
use crate::connect::Connect;
use crate::duration;
use crate::exit::Failure;
use crate::output::{Output, table};
use clap::{Args, Subcommand};
use quorate_client::TokenInfo;
use serde_json::{Value, json};
use std::time::Duration;

#[derive(Debug, Args)]
pub(super) struct Token {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make a token, and print it: nothing can print it again
    Create {
        /// What it is for, so that people know it in lists and logs
        name: String,
        /// A role that it has; may be repeated
        #[arg(long = "role", value_name = "ROLE", required = true)]
        roles: Vec<String>,
        /// How long it holds, such as 12h or 90d; by default until it is revoked
        #[arg(long, value_name = "DURATION", value_parser = duration::parse_positive)]
        ttl: Option<Duration>,
    },
    /// The tokens that hold
    List,
    /// End a token, at once
    Revoke {
        /// Its id, as create and list print it
        token_id: String,
    },
}

impl Token {
    pub(super) fn run(self, connect: &Connect, output: Output) -> Result<(), Failure> {
        match self.command {
            Command::Create { name, roles, ttl } => {
                let made = connect
                    .run(async |client| Ok(client.auth().create_token(name, roles, ttl).await?))?;
                output.done(
                    || json!({ "token": made.token, "token_id": made.token_id }),
                    || made.token.clone(),
                )
            }
            Command::List => {
                let tokens = connect.run(async |client| Ok(client.auth().tokens().await?))?;
                output.result(
                    || json!({ "tokens": tokens.iter().map(shown).collect::<Vec<_>>() }),
                    || {
                        let rows: Vec<_> = tokens
                            .iter()
                            .map(|token| {
                                vec![
                                    token.token_id.clone(),
                                    token.name.clone(),
                                    roles_text(&token.roles),
                                    moment(token.created_unix_ms),
                                    token.expires_unix_ms.map_or_else(|| "-".to_owned(), moment),
                                ]
                            })
                            .collect();
                        table(&["TOKEN ID", "NAME", "ROLES", "MADE", "ENDS"], &rows)
                    },
                )
            }
            Command::Revoke { token_id } => {
                let id = token_id.clone();
                let revoked =
                    connect.run(async |client| Ok(client.auth().revoke_token(id).await?))?;
                if !revoked {
                    return Err(Failure::NotFound(format!(
                        "there is no token {token_id}, or no more"
                    )));
                }
                output.done(|| json!({ "revoked": true }), || format!("token {token_id} has ended"))
            }
        }
    }
}

fn shown(token: &TokenInfo) -> Value {
    json!({
        "token_id": token.token_id,
        "name": token.name,
        "roles": token.roles,
        "created_unix_ms": token.created_unix_ms,
        "expires_unix_ms": token.expires_unix_ms,
    })
}
