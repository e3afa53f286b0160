//! `quorate lock force-release`: takes a lock from whoever holds it.

use crate::connect::Connect;
use crate::exit::Failure;
use crate::output::Output;
use clap::Args;
use serde_json::json;

const AFTER_HELP: &str = "\
Its holders learn of it when they renew, and their guarded writes are refused from now on; what they
do without a guard can't be stopped. Those who wait for the lock get it.";

/// `quorate lock force-release`
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(super) struct ForceRelease {
    name: String,
}

impl ForceRelease {
    pub(super) fn run(self, connect: &Connect, output: Output) -> Result<(), Failure> {
        let Self { name } = self;
        let released =
            connect.run(async |client| Ok(client.locks().force_release(&name).await?))?;
        output.done(
            || json!({ "name": name, "released": released }),
            || match released {
                0 => "it was not held".to_owned(),
                1 => "released from its holder".to_owned(),
                many => format!("released from {many} holders"),
            },
        )?;
        match released {
            0 => Err(Failure::NotFound(format!("lock {name:?} is not held by anybody"))),
            _ => Ok(()),
        }
    }
}
