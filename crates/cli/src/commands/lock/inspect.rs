//! `quorate lock inspect`: who holds a lock.

use super::{HEADER, row, shown};
use crate::connect::Connect;
use crate::exit::Failure;
use crate::output::{Output, table};
use clap::Args;
use quorate_client::lock::LockState;

/// `quorate lock inspect`
#[derive(Debug, Args)]
pub(super) struct Inspect {
    name: String,
}

impl Inspect {
    pub(super) fn run(self, connect: &Connect, output: Output) -> Result<(), Failure> {
        let lock = connect.run(async |client| Ok(client.locks().inspect(&self.name).await?))?;
        output.result(|| shown(&lock), || text(&lock))
    }
}

fn text(lock: &LockState) -> String {
    let waiting = match lock.waiters {
        0 => "nobody waits".to_owned(),
        1 => "1 waits".to_owned(),
        many => format!("{many} wait"),
    };
    if lock.holders.is_empty() {
        return format!("free, {waiting}");
    }
    let rows: Vec<_> = lock.holders.iter().map(row).collect();
    format!("{}\n{waiting}", table(HEADER, &rows))
}
