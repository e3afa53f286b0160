//! `quorate lock list`: the locks there are.

use super::{HEADER, printable, row, shown};
use crate::connect::Connect;
use crate::exit::Failure;
use crate::output::Output;
use clap::Args;
use quorate_client::lock::LockState;
use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;

/// `quorate lock list`
#[derive(Debug, Args)]
pub(super) struct List {
    /// Those whose names match: * any run, ? one, [a-c] a class, \ takes the next as it is
    #[arg(default_value = "*")]
    pattern: OsString,
}

impl List {
    pub(super) fn run(self, connect: &Connect, output: Output) -> Result<(), Failure> {
        let header: Vec<&str> = ["NAME", "WAITERS"].iter().chain(HEADER).copied().collect();
        connect.run(async |client| {
            let locks = client.locks().list(self.pattern.as_bytes()).stream();
            output.items(locks, &header, shown, rows).await
        })
    }
}

/// A line for each holder; one with nobody in it for a lock that is only waited for.
fn rows(lock: &LockState) -> Vec<Vec<String>> {
    let named = |of_holder: Vec<String>| {
        let mut row = vec![printable(&lock.name), lock.waiters.to_string()];
        row.extend(of_holder);
        row
    };
    match lock.holders.is_empty() {
        true => vec![named(Vec::new())],
        false => lock.holders.iter().map(|holder| named(row(holder))).collect(),
    }
}
