//! `quorate lock watch`: a line whenever a lock passes on.

use super::shown;
use crate::connect::Connect;
use crate::exit::Failure;
use crate::output::Output;
use anyhow::anyhow;
use clap::Args;
use quorate_client::lock::LockState;

const AFTER_HELP: &str = "\
The first line says how the lock is now. Changes that follow each other fast may be told as one. It
goes on at another node when its own fails. Without --count it ends with Ctrl-C, or when --timeout is
over.";

/// `quorate lock watch`
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(super) struct Watch {
    name: String,
    /// End after so many lines; exit status 1 when --timeout is over before
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
}

impl Watch {
    pub(super) fn run(self, connect: &Connect, output: Output) -> Result<(), Failure> {
        let Self { name, count } = self;
        let mut told = 0;
        connect.run(async |client| {
            let lines = async {
                let mut watch = client.locks().watch(&name).await?;
                while count.is_none_or(|count| told < count)
                    && let Some(lock) = watch.next().await
                {
                    let lock = lock?;
                    output.result(|| shown(&lock), || text(&lock))?;
                    told += 1;
                }
                Ok(())
            };
            let Some(timeout) = connect.timeout_said() else { return lines.await };
            match (tokio::time::timeout(timeout, lines).await, count) {
                (Ok(ended), _) => ended,
                (Err(_), None) => Ok(()),
                (Err(_), Some(count)) => Err(anyhow!(
                    "timeout: {told} of {count} lines came in {timeout:?}; the lock did not change \
                     more often, or no node could be reached"
                )
                .into()),
            }
        })
    }
}

fn text(lock: &LockState) -> String {
    if lock.holders.is_empty() {
        return "free".to_owned();
    }
    let holders = lock
        .holders
        .iter()
        .map(|holder| format!("token {} session {}", holder.fencing_token, holder.session_id));
    format!("held: {}", holders.collect::<Vec<_>>().join(", "))
}
