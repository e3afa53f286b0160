//! `quorate auth role`: make, list and delete roles.

use super::rule;
use crate::connect::Connect;
use crate::exit::Failure;
use crate::output::{Output, table};
use clap::{Args, Subcommand};
use quorate_client::{AuthRole, AuthRule};
use serde_json::{Value, json};

#[derive(Debug, Args)]
pub(super) struct Role {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make a role, or replace its rules
    ///
    /// A rule is SERVICE:ACTIONS:PATTERN, such as kv:read,write:user.* or bus:publish:*. Services: any,
    /// kv, cache, queue, lock, bus, cluster. Actions: read, write, consume, publish, admin. The pattern is
    /// a glob over names. Rules hold in the namespaces of --in-namespace. docs/security.md says which call
    /// needs what.
    Put {
        /// Its name
        name: String,
        /// Something it may do; may be repeated
        #[arg(long = "allow", value_name = "SERVICE:ACTIONS:PATTERN", value_parser = rule::parse)]
        rules: Vec<AuthRule>,
        /// The namespaces in which it may do it, as a glob; by default only the default one
        #[arg(long, value_name = "GLOB", default_value = "")]
        in_namespace: String,
    },
    /// The roles, but for admin, which may do everything
    List,
    /// Delete a role that nobody has
    Delete {
        /// Its name
        name: String,
    },
}

impl Role {
    pub(super) fn run(self, connect: &Connect, output: Output) -> Result<(), Failure> {
        match self.command {
            Command::Put { name, mut rules, in_namespace } => {
                for rule in &mut rules {
                    rule.namespace.clone_from(&in_namespace);
                }
                let role = AuthRole { name: name.clone(), rules };
                connect.run(async |client| Ok(client.auth().put_role(role).await?))?;
                output.done(|| json!({ "name": name }), || format!("role {name} is in force"))
            }
            Command::List => {
                let roles = connect.run(async |client| Ok(client.auth().roles().await?))?;
                output.result(
                    || json!({ "roles": roles.iter().map(shown).collect::<Vec<_>>() }),
                    || {
                        let rows: Vec<_> = roles.iter().flat_map(rows).collect();
                        table(&["ROLE", "NAMESPACE", "MAY"], &rows)
                    },
                )
            }
            Command::Delete { name } => {
                let asked = name.clone();
                let deleted =
                    connect.run(async |client| Ok(client.auth().delete_role(asked).await?))?;
                if !deleted {
                    return Err(Failure::NotFound(format!("there is no role {name}")));
                }
                output.done(|| json!({ "deleted": true }), || format!("role {name} is gone"))
            }
        }
    }
}

fn rows(role: &AuthRole) -> Vec<Vec<String>> {
    let rule = |rule: &AuthRule| {
        let namespace = match rule.namespace.as_str() {
            "" => "(default)".to_owned(),
            glob => glob.to_owned(),
        };
        vec![role.name.clone(), namespace, rule::text(rule)]
    };
    if role.rules.is_empty() {
        return vec![vec![role.name.clone(), "-".to_owned(), "nothing".to_owned()]];
    }
    role.rules.iter().map(rule).collect()
}

fn shown(role: &AuthRole) -> Value {
    let rule = |rule: &AuthRule| json!({ "namespace": rule.namespace, "allow": rule::text(rule) });
    json!({ "name": role.name, "rules": role.rules.iter().map(rule).collect::<Vec<_>>() })
}
