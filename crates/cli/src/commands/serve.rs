//! `quorate serve`: one node, until it is told to stop.

use crate::exit::Failure;
use crate::output::Output;
use clap::{Arg, ArgAction, ArgMatches, Args, FromArgMatches};
use quorate_server::config::{Config, ConfigError, Kind, SETTINGS};
use quorate_server::host::NodeId;
use quorate_server::process::{self, TestControl};
use serde_json::json;
use std::path::{Path, PathBuf};

/// `quorate serve …`
#[derive(Debug, Args)]
pub(crate) struct Serve {
    /// The config file; without it there is none
    #[arg(long, env = "QUORATE_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// Stop, as after SIGTERM, when stdin ends: whoever started this node takes it along
    #[arg(long, hide = true)]
    stop_on_stdin_eof: bool,
    /// Take `cut ID...` and `heal` of a test from stdin, whose end stops the node; begin cut off from these
    #[arg(long, hide = true, value_name = "IDS", num_args = 0..=1, require_equals = true,
          default_missing_value = "")]
    test_control: Option<String>,
    #[command(flatten)]
    settings: Settings,
}

/// One flag per setting of the server's table.
#[derive(Debug, Default)]
pub(crate) struct Settings(Vec<(&'static str, String)>);

impl Settings {
    /// One setting, as its flag would say it.
    pub(super) fn one(name: &'static str, text: &str) -> Self {
        Self(vec![(name, text.to_owned())])
    }

    /// What they come to, over the environment and the file.
    pub(crate) fn load(&self, file: Option<&Path>) -> Result<Config, ConfigError> {
        Config::load(&self.0, std::env::vars_os(), file)
    }
}

impl Args for Settings {
    fn augment_args(command: clap::Command) -> clap::Command {
        command.args(SETTINGS.iter().map(|setting| {
            let default = match setting.default {
                Some(default) if setting.kind != Kind::Switch => format!(" [default: {default}]"),
                _ => String::new(),
            };
            let bounds = match setting.bounds {
                Some((min, max)) => format!(" [from {min} to {max}]"),
                None => String::new(),
            };
            let help = format!("{}{bounds}{default} [env: {}]", setting.help, setting.variable());
            let arg = Arg::new(setting.name)
                .long(setting.flag())
                .value_name(setting.placeholder)
                .help(help)
                .action(ArgAction::Set);
            match setting.kind {
                Kind::Switch => {
                    arg.num_args(0..=1).require_equals(true).default_missing_value("true")
                }
                Kind::Text | Kind::Secret | Kind::Number => arg,
            }
        }))
    }

    fn augment_args_for_update(command: clap::Command) -> clap::Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for Settings {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let mut settings = Self::default();
        settings.update_from_arg_matches(matches)?;
        Ok(settings)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        self.0 = SETTINGS
            .iter()
            .filter_map(|setting| {
                Some((setting.name, matches.get_one::<String>(setting.name)?.clone()))
            })
            .collect();
        Ok(())
    }
}

impl Serve {
    pub(crate) fn run(self, output: Output) -> Result<(), Failure> {
        let config = self
            .settings
            .load(self.config.as_deref())
            .map_err(|error| Failure::Usage(error.to_string()))?;
        if quorate_server::HAS_PLANTED_FAULTS {
            output.note("quorate: this build has planted faults and loses data on purpose; it is for tests only");
        }
        let test_control =
            self.test_control.as_deref().map(|cut| test_control(cut, output)).transpose()?;
        let options = process::Options {
            config,
            test_control,
            stop_on_stdin_eof: self.stop_on_stdin_eof,
            on_listening: Box::new(move |listening| {
                let said = output.result(
                    || {
                        json!({
                            "node_id": listening.node_id.0,
                            "client": listening.client.to_string(),
                            "peer": listening.peer.to_string(),
                            "http": listening.http.to_string(),
                        })
                    },
                    || {
                        format!(
                            "quorate node {} listens: client {}, peer {}, http {}",
                            listening.node_id, listening.client, listening.peer, listening.http
                        )
                    },
                );
                // Nobody reads it: no reason for a node not to run.
                drop(said);
            }),
        };
        process::run(options).map_err(|error| match error {
            // Whoever started it is not to start it again, and the status says so.
            process::Error::Left(why) => Failure::Usage(why),
            error => Failure::Other(anyhow::Error::new(error)),
        })
    }
}

/// A test hears on stdout, line by line, what its commands came to.
fn test_control(cut: &str, output: Output) -> Result<TestControl, Failure> {
    let ids = cut.split(',').filter(|id| !id.is_empty());
    let ids = ids.map(|id| id.parse().map(NodeId));
    let cut = ids
        .collect::<Result<_, _>>()
        .map_err(|_| Failure::Usage(format!("--test-control={cut}: no list of node ids")))?;
    let told = Box::new(move |done: Result<(), String>| {
        let said = match done {
            Ok(()) => "done".to_owned(),
            Err(why) => format!("not done: {why}"),
        };
        // Nobody reads it: no reason for a node not to run.
        drop(output.line(&format!("test-control: {said}")));
    });
    Ok(TestControl { cut, told })
}

#[cfg(test)]
mod tests {
    use crate::cli::{Cli, Command};
    use clap::Parser;

    fn settings(line: &str) -> Vec<(&'static str, String)> {
        match Cli::try_parse_from(line.split_whitespace()).unwrap().command {
            Command::Serve(serve) => serve.settings.0,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn only_flags_that_were_given_count() {
        assert!(settings("quorate serve").is_empty());
        assert_eq!(
            settings("quorate serve --insecure --node-id 7 --raft-heartbeat-ms=9"),
            [
                ("node_id", "7".to_owned()),
                ("insecure", "true".to_owned()),
                ("raft.heartbeat_ms", "9".to_owned())
            ]
        );
        assert_eq!(settings("quorate serve --insecure=false"), [("insecure", "false".to_owned())]);
    }
}
