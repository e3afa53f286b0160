//! `quorate config check`: what a file, the environment and the defaults come to.

use crate::exit::Failure;
use crate::output::{Output, table};
use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};
use std::path::PathBuf;

/// `quorate config …`
#[derive(Debug, Args)]
pub(crate) struct Config {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Check a config file, with the environment over it, and show what is in force.
    Check {
        /// The file; without it only environment and defaults are checked
        #[arg(env = "QUORATE_CONFIG")]
        file: Option<PathBuf>,
    },
}

impl Config {
    pub(crate) fn run(self, output: Output) -> Result<(), Failure> {
        let Command::Check { file } = self.command;
        let config =
            quorate_server::config::Config::load(&[], std::env::vars_os(), file.as_deref())
                .map_err(|error| Failure::Usage(error.to_string()))?;
        let rows = || config.effective.iter().map(|(name, found)| (*name, found));
        output.result(
            || {
                let settings: Map<String, Value> = rows()
                    .map(|(name, found)| {
                        let shown =
                            json!({ "value": found.text, "from": found.origin.to_string() });
                        (name.to_owned(), shown)
                    })
                    .collect();
                json!({ "ok": true, "settings": settings })
            },
            || {
                let rows: Vec<Vec<String>> = rows()
                    .map(|(name, found)| {
                        vec![name.to_owned(), found.text.clone(), found.origin.to_string()]
                    })
                    .collect();
                format!("{}\n\nok", table(&["SETTING", "VALUE", "FROM"], &rows))
            },
        )
    }
}
