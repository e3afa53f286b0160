//! `quorate doctor`: what is wrong with a cluster, or with the machine of a node, what it means, and
//! what to do about it.
//!
//! First it looks ([`gather`], [`machine`]), then it judges ([`rules`]): what was seen is plain data, and
//! each rule is a function from it to findings.

mod finding;
mod gather;
mod machine;
mod rules;
mod seen;

use crate::connect::Connect;
use crate::exit::Failure;
use crate::output::Output;
use clap::Args;
use finding::{Report, Severity};
use std::path::PathBuf;

const AFTER_HELP: &str = "\
Without --data-dir and --config it asks the cluster, whichever node answers, also without a quorum. With one
of them it asks nobody, and looks at this machine: the settings (QUORATE_* variables count as for serve), the
data directory, its disk, which it tries with 200 small writes, and the limits. That may be done while a node
runs there.

Exit status: 0 nothing is worse than a note, 1 there are warnings or problems, 5 no node answers.";

/// Look for what is wrong, or will be, and say what to do about it.
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct Doctor {
    #[command(flatten)]
    connect: Connect,
    /// Look at this data directory of a node, on this machine
    #[arg(long, value_name = "DIR")]
    data_dir: Option<String>,
    /// Look at this config file of a node, and at the data directory that it names
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

impl Doctor {
    pub(crate) fn run(self, output: Output) -> Result<(), Failure> {
        let Self { connect, data_dir, config } = self;
        let findings = if data_dir.is_some() || config.is_some() {
            rules::host::of_machine(&machine::look(config.as_deref(), data_dir.as_deref()))
        } else {
            let seen = connect.run(async |client| gather::look(&client).await)?;
            rules::of_cluster(&seen)
        };
        let report = Report::new(findings);
        output.result(|| report.json(), || report.text())?;
        if report.worst() > Severity::Note { Err(Failure::Findings) } else { Ok(()) }
    }
}
