//! `quorate lock release`: gives a lock back.

use crate::connect::Connect;
use crate::exit::Failure;
use crate::output::{Output, id};
use clap::Args;
use serde_json::json;

const AFTER_HELP: &str = "\
Who knows the token may release the lock. One that is not held under it, because it was lost, given
back already, or never granted, is answered with `released: false`, and exit status 3, so that a
script notices; nothing is wrong with the lock then.";

/// `quorate lock release`
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(super) struct Release {
    name: String,
    /// What it is held under, as it was printed when it was acquired
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    token: u64,
}

impl Release {
    pub(super) fn run(self, connect: &Connect, output: Output) -> Result<(), Failure> {
        let Self { name, token } = self;
        let released =
            connect.run(async |client| Ok(client.locks().release(&name, token).await?))?;
        output.done(
            || json!({ "name": name, "token": id(token), "released": released }),
            || (if released { "released" } else { "it was not held" }).to_owned(),
        )?;
        match released {
            true => Ok(()),
            false => Err(Failure::NotFound(format!(
                "lock {name:?} is not held under token {token}; it was lost, or given back already"
            ))),
        }
    }
}
