//! `quorate bus request`: a message, and the first answer to it.

use super::{Marks, put_content};
use crate::commands::kv;
use crate::connect::Connect;
use crate::exit::Failure;
use crate::output::Output;
use clap::Args;
use serde_json::{Map, Value};
use std::ffi::OsString;

const AFTER_HELP: &str = "\
The answer's payload is written to stdout, exactly; a newline only on a terminal.

Exit status: 3 at once when nobody subscribes to the channel, and nothing was sent; 6 when it was sent
and nobody answered within --timeout (by default 5s): whoever received it may have acted on it.

Example:
  quorate bus reply sum -- sh -c 'read a b; echo $((a + b))' &
  quorate bus request sum '3 4' --timeout 1s";

/// `quorate bus request`
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(super) struct Request {
    /// The channel; * is a character as any other here
    channel: String,
    /// The payload; - reads it from stdin, to the last byte
    #[arg(allow_hyphen_values = true)]
    payload: OsString,
    #[command(flatten)]
    marks: Marks,
}

impl Request {
    pub(super) fn run(self, connect: &Connect, output: Output) -> Result<(), Failure> {
        let Self { channel, payload, marks } = self;
        let content = marks.content(kv::payload(payload)?);
        let answer =
            connect.run(async |client| Ok(client.bus().request(&channel, content).await?))?;
        if !output.is_json() {
            return output.bytes(&answer.payload);
        }
        let mut object = Map::new();
        put_content(&mut object, &answer.payload, &answer.content_type, &answer.headers);
        output.line(&Value::from(object).to_string())
    }
}
