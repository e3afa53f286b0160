//! `quorate queue push`: adds a job, or one for each line of stdin.

use super::{JobArgs, id};
use crate::commands::kv;
use crate::commands::lock::guard::{Guarded, guarded};
use crate::connect::Connect;
use crate::duration;
use crate::exit::Failure;
use crate::output::Output;
use crate::when;
use anyhow::Context;
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use quorate_client::{Client, NewJob};
use serde_json::json;
use std::ffi::OsString;
use std::io::{self, BufRead, Read};
use std::time::{Duration, SystemTime};
use tokio::sync::mpsc;

/// Jobs of one push, and their bytes beyond which another one begins.
const BATCH_JOBS: usize = 128;
const BATCH_BYTES: usize = 256 << 10;
/// Lines that were read and not pushed yet.
const LINES_AHEAD: usize = 2 * BATCH_JOBS;
/// Bytes of a line: no cluster takes a larger payload. Lines that wait are in memory.
const LINE_BYTES_MAX: usize = 1 << 20;

const AFTER_HELP: &str = "\
Example:
  quorate queue push emails '{\"to\": \"ann\"}' --dedupe-key welcome:ann --delay 1m
  printf '%s\\n' one two three | quorate queue push emails --lines";

/// `quorate queue push`
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(super) struct Push {
    queue: String,
    /// The payload; - reads it from stdin, to the last byte
    #[arg(allow_hyphen_values = true, required_unless_present = "lines", conflicts_with = "lines")]
    payload: Option<OsString>,
    /// Push a job for each line of stdin, without its end, until stdin ends; those of a batch all or
    /// none
    #[arg(long)]
    lines: bool,
    /// It is ready after this long, up to 366d
    #[arg(long, value_name = "DURATION", value_parser = duration::parse, allow_hyphen_values = true)]
    delay: Option<Duration>,
    /// It is ready at this moment: 2026-01-31T18:30:00Z, or seconds of Unix time
    #[arg(long, value_name = "WHEN", value_parser = when::parse, conflicts_with = "delay")]
    not_before: Option<SystemTime>,
    /// A job pushed under the same key is not pushed again for a while; then this is said on stderr,
    /// and the id is that of the first one
    #[arg(long, value_name = "KEY", conflicts_with = "lines")]
    dedupe_key: Option<String>,
    /// How long the dedupe key is remembered, up to 24h; by default as the queue says
    #[arg(
        long,
        value_name = "DURATION",
        value_parser = duration::parse_positive,
        requires = "dedupe_key"
    )]
    dedupe_window: Option<Duration>,
    /// Jobs of the same group are done one at a time, in the order they were pushed
    #[arg(long, value_name = "GROUP")]
    group: Option<String>,
    #[command(flatten)]
    of_job: JobArgs,
    #[command(flatten)]
    guarded: Guarded,
}

impl Push {
    pub(super) fn run(mut self, connect: &Connect, output: Output) -> Result<(), Failure> {
        let Some(payload) = self.payload.take() else {
            return self.push_lines(connect, output);
        };
        let job = self.job(kv::payload(payload)?);
        let pushed = connect.run(async |client| {
            let push = client.queue().push_many(&self.queue, [job]);
            let pushed = guarded!(push, self.guarded).await?;
            pushed
                .first()
                .copied()
                .context("the push was answered without a job")
                .map_err(Into::into)
        })?;
        if pushed.duplicate {
            output.note("duplicate");
        }
        output.done(
            || {
                json!({
                    "id": id(pushed.id),
                    "duplicate": pushed.duplicate,
                    "revision": pushed.revision,
                })
            },
            || pushed.id.to_string(),
        )
    }

    fn job(&self, payload: Vec<u8>) -> NewJob {
        let mut job = self.of_job.job(payload);
        if let Some(delay) = self.delay {
            job = job.delay(delay);
        }
        if let Some(at) = self.not_before {
            job = job.not_before(at);
        }
        if let Some(key) = &self.dedupe_key {
            job = job.dedupe_key(key);
        }
        if let Some(window) = self.dedupe_window {
            job = job.dedupe_window(window);
        }
        match &self.group {
            Some(group) => job.group(group),
            None => job,
        }
    }

    fn push_lines(self, connect: &Connect, output: Output) -> Result<(), Failure> {
        let bar = progress();
        let mut pushed = 0;
        let done = connect.run(async |client| self.push_all(&client, &mut pushed, &bar).await);
        bar.finish_and_clear();
        if let Err(failure) = done {
            output.note(&format!("quorate: {pushed} jobs were pushed before this failed"));
            return Err(failure);
        }
        output.done(|| json!({ "pushed": pushed }), || format!("{pushed} pushed"))
    }

    async fn push_all(
        &self,
        client: &Client,
        pushed: &mut u64,
        bar: &ProgressBar,
    ) -> Result<(), Failure> {
        let (read, mut lines) = mpsc::channel(LINES_AHEAD);
        // A thread of its own, so that what has come is pushed while stdin is waited for.
        std::thread::spawn(move || read_lines(&mut io::stdin().lock(), &read));
        while let Some(first) = lines.recv().await {
            let first = first?;
            let mut bytes = first.len();
            let mut batch = vec![self.job(first)];
            while batch.len() < BATCH_JOBS && bytes < BATCH_BYTES {
                let Ok(next) = lines.try_recv() else { break };
                let next = next?;
                bytes += next.len();
                batch.push(self.job(next));
            }
            let count = batch.len() as u64;
            guarded!(client.queue().push_many(&self.queue, batch), self.guarded).await?;
            *pushed += count;
            bar.inc(count);
        }
        Ok(())
    }
}

/// Reads lines until there are no more, or nobody wants them.
fn read_lines(from: &mut impl BufRead, to: &mpsc::Sender<Result<Vec<u8>, Failure>>) {
    loop {
        let mut line = Vec::new();
        // With its end, and one more that shows that it is too long.
        let bytes = LINE_BYTES_MAX as u64 + 2;
        let line = match from.by_ref().take(bytes).read_until(b'\n', &mut line) {
            Ok(0) => return,
            Ok(_) => {
                if line.last() == Some(&b'\n') {
                    line.pop();
                }
                match line.len() {
                    0..=LINE_BYTES_MAX => Ok(line),
                    _ => Err(Failure::Usage(format!(
                        "a line on stdin is longer than {LINE_BYTES_MAX} bytes; no cluster takes that"
                    ))),
                }
            }
            Err(error) => Err(anyhow::Error::new(error).context("can't read from stdin").into()),
        };
        let over = line.is_err();
        if to.blocking_send(line).is_err() || over {
            return;
        }
    }
}

fn progress() -> ProgressBar {
    // Draws on stderr, and only on a terminal.
    let bar = ProgressBar::new_spinner().with_message("pushed");
    let style = ProgressStyle::with_template("{spinner} {human_pos} {msg}, {per_sec}");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
    bar
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_a_payload_and_the_last_one_needs_no_end() {
        let (send, mut got) = mpsc::channel(9);
        read_lines(&mut &b"one\n\n\xff\r\nlast"[..], &send);
        drop(send);
        let lines = std::iter::from_fn(|| got.blocking_recv().map(|line| line.expect("read")));
        assert_eq!(lines.collect::<Vec<_>>(), [&b"one"[..], b"", b"\xff\r", b"last"]);
    }

    #[test]
    fn a_line_that_is_too_long_ends_it() {
        for (bytes, taken) in [(LINE_BYTES_MAX, true), (LINE_BYTES_MAX + 1, false)] {
            let (send, mut got) = mpsc::channel(9);
            let lines = [vec![b'x'; bytes], b"\ny\n".to_vec()].concat();
            read_lines(&mut &lines[..], &send);
            drop(send);
            let first = got.blocking_recv().expect("something");
            assert_eq!(first.is_ok_and(|line| line.len() == bytes), taken, "{bytes}");
            assert_eq!(got.blocking_recv().is_some(), taken, "{bytes}");
        }
    }
}
