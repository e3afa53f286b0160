//! The way to a node that takes commands from its stdin (`quorate serve --test-control`).

use anyhow::{Context as _, Result, bail};
use std::fs::File;
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::timeout;

/// How its answers begin.
const ANSWER: &str = "test-control: ";
/// Answers that may wait to be heard: those of a node that was paused while it was told a lot.
const ANSWERS_MAX: usize = 64;

/// The pipes of one process.
pub(super) struct Pipe {
    stdin: ChildStdin,
    answers: mpsc::Receiver<String>,
    /// Commands whose answer was not heard.
    unheard: u32,
}

impl Pipe {
    /// Takes the pipes of a process; what else it says goes to its log.
    pub(super) fn of(child: &mut Child, mut log: File) -> Result<Self> {
        let stdin = child.stdin.take().context("its stdin is no pipe")?;
        let stdout = child.stdout.take().context("its stdout is no pipe")?;
        let (tell, answers) = mpsc::channel(ANSWERS_MAX);
        // It ends with the process.
        let read = move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                let _ = match line.strip_prefix(ANSWER) {
                    // Nobody waits any more, perhaps.
                    Some(answer) => {
                        tell.blocking_send(answer.to_owned()).map_err(std::io::Error::other)
                    }
                    None => writeln!(log, "{line}"),
                };
            }
        };
        let thread = std::thread::Builder::new().name("node-stdout".to_owned());
        thread.spawn(read).context("can't start a thread")?;
        Ok(Self { stdin, answers, unheard: 0 })
    }

    /// Tells it a line, without waiting for what comes of it.
    pub(super) fn tell(&mut self, line: &str) -> Result<()> {
        writeln!(self.stdin, "{line}").context("it takes no commands")?;
        self.stdin.flush().context("it takes no commands")?;
        self.unheard += 1;
        Ok(())
    }

    /// Waits until all that it was told is done.
    pub(super) async fn done(&mut self, deadline: Duration) -> Result<()> {
        let mut newest = String::new();
        while self.unheard > 0 {
            let answer = timeout(deadline, self.answers.recv()).await;
            let answer = answer.with_context(|| format!("no answer within {deadline:?}"))?;
            newest = answer.context("it has ended")?;
            self.unheard -= 1;
        }
        match newest.as_str() {
            "" | "done" => Ok(()),
            refused => bail!("{refused}"),
        }
    }
}
