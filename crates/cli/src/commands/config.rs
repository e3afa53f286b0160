//! `quorate config check`: what flags, the environment, a file and the defaults come to.

use super::serve::Settings;
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
    /// Check what `quorate serve` would run with, and show it: a config file, with the environment
    /// and serve's own flags over it.
    Check {
        /// The file; without it there is none
        #[arg(env = "QUORATE_CONFIG")]
        file: Option<PathBuf>,
        /// Do not look into the files that it names: for a configuration of another machine
        #[arg(long)]
        skip_files: bool,
        #[command(flatten)]
        settings: Settings,
    },
}

impl Config {
    pub(crate) fn run(self, output: Output) -> Result<(), Failure> {
        let Command::Check { file, skip_files, settings } = self.command;
        let config =
            settings.load(file.as_deref()).map_err(|error| Failure::Usage(error.to_string()))?;
        if !skip_files {
            config.check_files().map_err(|error| Failure::Usage(error.to_string()))?;
        }
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
