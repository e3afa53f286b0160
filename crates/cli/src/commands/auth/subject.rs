//! `quorate auth subject`: what clients may do that are known by their certificates.

use super::roles_text;
use crate::connect::Connect;
use crate::exit::Failure;
use crate::output::{Output, table};
use clap::{Args, Subcommand};
use serde_json::json;

#[derive(Debug, Args)]
pub(super) struct Subject {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Give a name roles, in place of those that it had
    Put {
        /// The common name in the certificate
        subject: String,
        /// A role; may be repeated
        #[arg(long = "role", value_name = "ROLE", required = true)]
        roles: Vec<String>,
    },
    /// The names with roles
    List,
    /// Take a name's roles away
    Delete {
        /// The common name in the certificate
        subject: String,
    },
}

impl Subject {
    pub(super) fn run(self, connect: &Connect, output: Output) -> Result<(), Failure> {
        match self.command {
            Command::Put { subject, roles } => {
                let (name, given) = (subject.clone(), roles.clone());
                connect.run(async |client| Ok(client.auth().put_subject(name, given).await?))?;
                output.done(
                    || json!({ "subject": subject, "roles": roles }),
                    || format!("{subject} has the roles {}", roles_text(&roles)),
                )
            }
            Command::List => {
                let subjects = connect.run(async |client| Ok(client.auth().subjects().await?))?;
                output.result(
                    || {
                        let one = |of: &quorate_client::Subject| json!({ "subject": of.subject, "roles": of.roles });
                        json!({ "subjects": subjects.iter().map(one).collect::<Vec<_>>() })
                    },
                    || {
                        let row = |of: &quorate_client::Subject| vec![of.subject.clone(), roles_text(&of.roles)];
                        table(&["SUBJECT", "ROLES"], &subjects.iter().map(row).collect::<Vec<_>>())
                    },
                )
            }
            Command::Delete { subject } => {
                let name = subject.clone();
                let deleted =
                    connect.run(async |client| Ok(client.auth().delete_subject(name).await?))?;
                if !deleted {
                    return Err(Failure::NotFound(format!("{subject} has no roles")));
                }
                output.done(
                    || json!({ "deleted": true }),
                    || format!("{subject} has no roles any more"),
                )
            }
        }
    }
}
