//! `quorate bus reply`: answers requests, each by a command that is run for it, or all by one text.

use crate::child::{self, Running, Signals};
use crate::connect::Connect;
use crate::exit::Failure;
use crate::output::Output;
use clap::{ArgGroup, Args};
use quorate_client::bus::{BusEvent, Subscription};
use quorate_client::{Client, Error, Message};
use serde_json::{Value, json};
use std::ffi::OsString;
use std::io;
use std::pin::pin;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{ChildStdout, Command};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// Bytes of an answer: no cluster takes a larger one.
const ANSWER_BYTES_MAX: usize = 1 << 20;
/// How long stdout is read on once the command has ended: something that it left behind may hold it.
const REST_OF_STDOUT: Duration = Duration::from_millis(500);

const AFTER_HELP: &str = "\
CMD gets the payload on stdin; what it writes to stdout is the answer, when it ends with status 0.
Otherwise there is none, and the requester waits until its time is over. CMD finds in its environment
  QUORATE_CHANNEL  where the request was sent to
  QUORATE_ENDPOINTS, QUORATE_NAMESPACE  as they were given to this command
Messages that ask for no answer are passed over.

Without --queue-group every `bus reply` on the channel gets each request, and the first answer counts;
with it, one of the group does. It says on stderr when it has begun.

SIGTERM, SIGINT or SIGHUP: no more requests are taken, those under way are answered; a second signal
ends the commands that still run. With --count the exit status is 0 also when some had no answer; the
last line says how many.

Example:
  quorate bus reply 'sum' --queue-group adders -- sh -c 'read a b; echo $((a + b))'
  quorate bus reply ping --with pong --count 1";

/// `quorate bus reply`
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP, group = ArgGroup::new("answer").required(true))]
pub(super) struct Reply {
    /// The channel, or a pattern of channels
    pattern: String,
    /// Of all who reply with the same group, one gets each request
    #[arg(long, value_name = "GROUP")]
    queue_group: Option<String>,
    /// End after so many requests
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// How many requests are answered at a time; others wait at the node
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    parallel: u32,
    /// Answer with this
    #[arg(long, value_name = "TEXT", group = "answer", allow_hyphen_values = true)]
    with: Option<String>,
    /// What to run, with its arguments
    #[arg(last = true, group = "answer", value_name = "CMD")]
    command: Vec<OsString>,
}

impl Reply {
    pub(super) fn run(self, connect: &Connect, output: Output) -> Result<(), Failure> {
        connect.run(async |client| {
            // Before anything is asked for, so that no signal finds us without a handler.
            let mut signals = Signals::new()?;
            let counts = self.answer(&client, connect, &mut signals, output).await?;
            output.done(|| counts.shown(), || counts.text())
        })
    }

    async fn answer(
        self,
        client: &Client,
        connect: &Connect,
        signals: &mut Signals,
        output: Output,
    ) -> Result<Counts, Failure> {
        let Self { pattern, queue_group, count, parallel, with, command } = self;
        let with = match with {
            Some(text) => With::Text(text),
            None => With::Command { command, environment: connect.environment() },
        };
        let subscribe = client.bus().subscribe([pattern.clone()]);
        let subscribe = match queue_group {
            Some(group) => subscribe.queue_group(group),
            None => subscribe,
        };
        let subscription = tokio::select! {
            subscription = subscribe.start() => subscription?,
            _ = signals.next() => return Ok(Counts::default()),
        };
        output.note(&format!("replying: {pattern}"));
        let desk = Arc::new(Desk { with, cut: watch::Sender::new(false), output });
        let mut subscription = Some(subscription);
        let mut left = count.unwrap_or(u64::MAX);
        let mut counts = Counts::default();
        // Why it can't go on.
        let mut over = None;
        let mut answering = JoinSet::new();
        while subscription.is_some() || !answering.is_empty() {
            let takes = subscription.is_some() && answering.len() < parallel as usize;
            tokio::select! {
                biased;
                _ = signals.next() => match subscription.take() {
                    Some(_) => output.note("quorate: stopping; requests under way are answered"),
                    None => drop(desk.cut.send_replace(true)),
                },
                Some(ended) = answering.join_next() => match ended {
                    Ok(Ok(heard)) => counts.take(heard),
                    Ok(Err(failure)) => {
                        // It would be so with every request.
                        over.get_or_insert(failure);
                        subscription = None;
                    }
                    // A task panics only together with whatever it calls.
                    Err(_) => counts.failed += 1,
                },
                event = next(&mut subscription), if takes => match event {
                    Some(Ok(BusEvent::Message(message))) if message.wants_reply() => {
                        let desk = Arc::clone(&desk);
                        answering.spawn(async move { desk.answer(&message).await });
                        left -= 1;
                        if left == 0 {
                            // Others get what comes from now on.
                            subscription = None;
                        }
                    }
                    Some(Ok(BusEvent::Gap { missed, .. })) => {
                        let missed = missed.map_or_else(|| "some".to_owned(), |n| n.to_string());
                        output.note(&format!("quorate: {missed} requests were missed, or none"));
                    }
                    Some(Ok(_)) => {}
                    Some(Err(error)) => {
                        over.get_or_insert_with(|| error.into());
                        subscription = None;
                    }
                    None => subscription = None,
                },
            }
        }
        match over {
            Some(failure) => Err(failure),
            None => Ok(counts),
        }
    }
}

async fn next(subscription: &mut Option<Subscription>) -> Option<Result<BusEvent, Error>> {
    match subscription {
        Some(subscription) => subscription.next().await,
        None => std::future::pending().await,
    }
}

/// What became of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Heard {
    /// The requester has the answer.
    Answered,
    /// There was an answer, and nobody waited for it, or it could not be sent.
    Unheard,
    /// There was no answer.
    Failed,
}

#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    answered: u64,
    unheard: u64,
    failed: u64,
}

impl Counts {
    fn take(&mut self, heard: Heard) {
        match heard {
            Heard::Answered => self.answered += 1,
            Heard::Unheard => self.unheard += 1,
            Heard::Failed => self.failed += 1,
        }
    }

    fn shown(self) -> Value {
        json!({ "answered": self.answered, "unheard": self.unheard, "failed": self.failed })
    }

    fn text(self) -> String {
        let Self { answered, unheard, failed } = self;
        format!("{answered} answered, {unheard} unheard, {failed} failed")
    }
}

/// How requests are answered.
enum With {
    Text(String),
    Command { command: Vec<OsString>, environment: Vec<(&'static str, String)> },
}

/// Where requests are answered.
struct Desk {
    with: With,
    /// Whether commands that run are to be ended.
    cut: watch::Sender<bool>,
    output: Output,
}

impl Desk {
    /// Fails only where the command can't be run at all.
    async fn answer(&self, message: &Message) -> Result<Heard, Failure> {
        let answer = match &self.with {
            With::Text(text) => Ok(text.clone().into_bytes()),
            With::Command { command, environment } => {
                let started = Running::start(prepared(command, environment, message), true);
                let running = started.map_err(|error| child::not_run(command, &error))?;
                self.ran(running, message).await
            }
        };
        let heard = match answer {
            Ok(answer) => message.reply(answer).send().await.map_err(|error| {
                (Heard::Unheard, format!("its answer was not heard: {error} ({})", error.reason()))
            }),
            Err(why) => Err((Heard::Failed, why)),
        };
        Ok(match heard {
            Ok(()) => Heard::Answered,
            Err((heard, why)) => {
                let (channel, sequence) = (message.channel.escape_debug(), message.sequence);
                self.output.note(&format!("quorate: request {sequence} of {channel}: {why}"));
                heard
            }
        })
    }

    /// What the command wrote; else why there is no answer.
    async fn ran(&self, mut running: Running, message: &Message) -> Result<Vec<u8>, String> {
        let mut cuts = self.cut.subscribe();
        let ended = tokio::select! {
            biased;
            ended = fed(&mut running, &message.payload) => ended,
            () = said(&mut cuts) => {
                running.end().await;
                return Err("the command was ended".to_owned());
            }
        };
        let (ended, answer) =
            ended.map_err(|error| format!("can't wait for the command: {error}"))?;
        let answer = answer.map_err(|error| format!("can't read the answer: {error}"))?;
        match (ended.success(), answer.len()) {
            (false, _) => Err(format!("exit status {}", child::exit_status(ended))),
            (true, 0..=ANSWER_BYTES_MAX) => Ok(answer),
            (true, _) => Err(format!("the answer is longer than {ANSWER_BYTES_MAX} bytes")),
        }
    }
}

async fn said(word: &mut watch::Receiver<bool>) {
    // It fails when the desk is gone, and nobody runs there then.
    let _ = word.wait_for(|said| *said).await;
}

fn prepared(
    command: &[OsString],
    environment: &[(&'static str, String)],
    message: &Message,
) -> Command {
    // The parser has seen to it that there is one.
    let mut prepared = Command::new(command.first().cloned().unwrap_or_default());
    prepared
        .args(command.iter().skip(1))
        .envs(environment.iter().map(|(name, value)| (*name, value)))
        // A channel may have in it what no variable can.
        .env("QUORATE_CHANNEL", message.channel.replace('\0', "\u{fffd}"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped());
    prepared
}

/// Feeds a command, and waits for its end. Answers what it wrote, too.
async fn fed(
    running: &mut Running,
    payload: &[u8],
) -> io::Result<(ExitStatus, io::Result<Vec<u8>>)> {
    let child = &mut running.child;
    let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
    let feeding = async {
        if let Some(mut stdin) = stdin {
            // One that does not want it ends without reading.
            let _ = stdin.write_all(payload).await;
        }
    };
    let mut reading = tokio::spawn(read(stdout));
    let ended = {
        let mut ending = pin!(child.wait());
        tokio::select! {
            biased;
            ended = &mut ending => ended?,
            // For as long as it runs: what it left behind may hold the pipe and read nothing.
            () = feeding => ending.await?,
        }
    };
    let answer = match tokio::time::timeout(REST_OF_STDOUT, &mut reading).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(_)) => Err(io::Error::other("the reader has ended")),
        Err(_) => {
            reading.abort();
            Err(io::Error::other("something that the command left behind holds its stdout"))
        }
    };
    Ok((ended, answer))
}

/// All of it, or one byte more than there may be.
async fn read(stdout: Option<ChildStdout>) -> io::Result<Vec<u8>> {
    let mut answer = Vec::new();
    if let Some(stdout) = stdout {
        stdout.take(ANSWER_BYTES_MAX as u64 + 1).read_to_end(&mut answer).await?;
    }
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn run(script: &str, payload: &[u8]) -> (u8, io::Result<Vec<u8>>) {
        let mut command = Command::new("sh");
        command.args(["-c", script]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut running = Running::start(command, true).expect("there is a shell");
        let (ended, answer) = fed(&mut running, payload).await.expect("it ends");
        (child::exit_status(ended), answer)
    }

    #[tokio::test]
    async fn what_a_command_writes_is_the_answer() {
        let (status, answer) = run("read a b; printf '%s' $((a + b))", b"3 4\n").await;
        assert_eq!((status, answer.expect("it was read")), (0, b"7".to_vec()));
        let (status, answer) = run("cat; exit 3", &[0xff; 100_000]).await;
        assert_eq!((status, answer.expect("it was read").len()), (3, 100_000));
    }

    #[tokio::test]
    async fn a_command_that_reads_nothing_or_writes_too_much_ends_all_the_same() {
        let (status, answer) = run("exit 0", &[b'x'; 1 << 20]).await;
        assert_eq!((status, answer.expect("it was read").len()), (0, 0));
        let (status, answer) = run("head -c 2000000 /dev/zero", b"").await;
        assert_ne!(status, 0, "nobody reads on");
        assert_eq!(answer.expect("it was read").len(), ANSWER_BYTES_MAX + 1);
    }

    #[tokio::test]
    async fn what_is_left_behind_does_not_hold_up_the_end() {
        let (status, answer) = run("sleep 5 & exit 0", b"").await;
        assert_eq!(status, 0);
        assert!(answer.expect_err("it is held").to_string().contains("left behind"));
    }
}
