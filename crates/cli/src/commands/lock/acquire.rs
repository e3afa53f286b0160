//! `quorate lock acquire`: takes a lock that outlives the command.

use super::Terms;
use crate::connect::Connect;
use crate::duration::millis;
use crate::exit::Failure;
use crate::output::{Output, id};
use clap::Args;
use serde_json::json;

const AFTER_HELP: &str = "\
The lock is held until it is released, or not renewed for its ttl; so is the session that was opened
for it. Exit status 4 when it is held by another, or was not granted in the time it was waited for.

Example:
  token=$(quorate lock acquire report --ttl 1m --wait 10s -o json | jq .token)
  quorate kv set report/today done --guard report:$token
  quorate lock release report --token $token";

/// `quorate lock acquire`
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(super) struct Acquire {
    name: String,
    #[command(flatten)]
    terms: Terms,
}

impl Acquire {
    pub(super) fn run(self, connect: &Connect, output: Output) -> Result<(), Failure> {
        let Self { name, terms } = self;
        let (token, session, remaining) =
            connect.run_in_session(terms.session_ttl(), async |client| {
                match terms.request(&client, &name).await {
                    Ok(lock) => {
                        let (session, remaining) = (lock.session_id(), lock.remaining());
                        Ok((lock.leave(), session, remaining))
                    }
                    Err(error) => {
                        // Nobody needs the session then. It ends with its ttl if this fails.
                        let _ = client.close().await;
                        Err(error.into())
                    }
                }
            })?;
        let (ttl_ms, remaining_ms) = (millis(terms.ttl), millis(remaining));
        output.done(
            || {
                json!({
                    "name": name,
                    "token": id(token),
                    "session": id(session),
                    "remaining_ms": remaining_ms,
                    "ttl_ms": ttl_ms,
                })
            },
            || format!("token {token}, session {session}, {remaining_ms} ms left"),
        )
    }
}
