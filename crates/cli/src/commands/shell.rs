//! `quorate completions` and `quorate man`: what shells and `man` know of the command line, made from its
//! own grammar, so that they never differ from it.

use crate::cli::Cli;
use crate::exit::Failure;
use crate::output::Output;
use anyhow::Context as _;
use clap::{Args, CommandFactory as _};
use clap_complete::Shell;
use serde_json::json;
use std::path::PathBuf;

/// `quorate completions SHELL`
#[derive(Debug, Args)]
pub(crate) struct Completions {
    /// For which shell
    #[arg(value_enum)]
    shell: Shell,
}

impl Completions {
    pub(crate) fn run(self, output: Output) -> Result<(), Failure> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut Cli::command(), "quorate", &mut script);
        output.bytes(&script)
    }
}

/// `quorate man`
#[derive(Debug, Args)]
pub(crate) struct Man {
    /// Where the pages go: quorate.1, quorate-kv.1 and so on; by default the first one is printed
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

impl Man {
    pub(crate) fn run(self, output: Output) -> Result<(), Failure> {
        let command = Cli::command();
        let Some(dir) = self.dir else {
            let mut page = Vec::new();
            clap_mangen::Man::new(command).render(&mut page)?;
            return output.bytes(&page);
        };
        std::fs::create_dir_all(&dir).with_context(|| format!("can't make {}", dir.display()))?;
        clap_mangen::generate_to(command, &dir)
            .with_context(|| format!("can't write pages to {}", dir.display()))?;
        output.done(|| json!({ "dir": dir }), || format!("the pages are in {}", dir.display()))
    }
}
