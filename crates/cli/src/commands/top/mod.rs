//! `quorate top`: the cluster live in a terminal; as text or as documents for scripts.
//!
//! [`look`] asks for what is to be shown, as plain data ([`seen`]); [`picture`] keeps the two newest looks,
//! and makes rates of their difference; [`view`] is what the user has chosen. From both [`pages`] make
//! lines and a table, which [`draw`] puts on the screen. Nothing of it but [`live`] and [`terminal`] knows
//! a terminal.

mod document;
mod draw;
mod live;
mod look;
mod pages;
mod picture;
mod seen;
mod terminal;
mod view;

use crate::connect::Connect;
use crate::duration;
use crate::exit::Failure;
use crate::output::Output;
use clap::Args;
use draw::Frame;
use look::{Wanted, look};
use picture::Picture;
use quorate_client::Client;
use std::io::IsTerminal as _;
use std::time::Duration;
use tokio::time::{Instant, MissedTickBehavior};
use view::{PageName, View};

const AFTER_HELP: &str = "\
Keys: 1 to 6 or Tab for the pages cluster, queues, locks, cache, bus, sessions; arrows, PageUp and PageDown
scroll; s sorts, / filters, p pauses, ? helps, q quits. Of a list the first 500 are asked for, by name; a
filter finds others. Queues, locks, channels and sessions are those of --namespace.

It goes on while the cluster can't be reached, says so, and recovers by itself. With --once it looks twice,
an interval apart, so that there are rates, and writes one page, or all of them; with -o json a document
every interval, or one with --once. Colours are left out where NO_COLOR is set.

Examples:
  quorate top --page queues --namespace shop
  quorate top --once --page cluster
  quorate top -o json --interval 10s";

/// How long a call may take when nothing is said: what is not answered by then is asked for again.
const CALL_TIMEOUT: Duration = Duration::from_secs(2);
/// How wide text is that is written to no terminal.
const TEXT_WIDTH: u16 = 160;

const INTERVAL_MIN: Duration = Duration::from_millis(100);
const INTERVAL_MAX: Duration = Duration::from_secs(3_600);

/// Show the cluster live: nodes, throughput, queues, locks, the cache, the bus, sessions.
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct Top {
    #[command(flatten)]
    connect: Connect,
    /// How often to look, 100ms to 1h
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = parse_interval)]
    interval: Duration,
    /// The page to begin with; with --once the one that is written
    #[arg(long, value_enum, value_name = "PAGE")]
    page: Option<PageName>,
    /// Write once what there is to see, as plain text, and end
    #[arg(long)]
    once: bool,
}

fn parse_interval(text: &str) -> Result<Duration, String> {
    match duration::parse(text)? {
        interval if (INTERVAL_MIN..=INTERVAL_MAX).contains(&interval) => Ok(interval),
        _ => Err(format!("it is 100ms to 1h, not {text}")),
    }
}

impl Top {
    pub(crate) fn run(self, output: Output) -> Result<(), Failure> {
        let is_terminal = std::io::stdout().is_terminal();
        if !is_terminal && !self.once && !output.is_json() {
            return Err(Failure::Usage(
                "stdout is no terminal: use --once for one look as text, or -o json for a document \
                 every interval"
                    .to_owned(),
            ));
        }
        let connect = self.connect.clone();
        connect.run_looking(CALL_TIMEOUT, async |client| match (self.once, output.is_json()) {
            (true, _) => self.once(&client, output).await,
            (false, true) => self.again_and_again(&client, output).await,
            (false, false) => self.live(client).await,
        })
    }

    async fn live(&self, client: Client) -> Result<(), Failure> {
        let namespace = match self.connect.namespace() {
            "" => String::new(),
            namespace => format!(", namespace {}", namespace.escape_debug()),
        };
        let about = format!("every {}{namespace}", duration::text(self.interval));
        // As https://no-color.org has it.
        let colours = std::env::var_os("NO_COLOR").is_none_or(|said| said.is_empty());
        let view = View::new(self.page.unwrap_or(PageName::Cluster));
        live::run(client, view, Frame { about, colours }, self.interval).await
    }

    fn wanted(&self) -> Wanted {
        let pages = self.page.map_or_else(|| PageName::ALL.to_vec(), |page| vec![page]);
        Wanted { pages, filter: String::new() }
    }

    async fn once(&self, client: &Client, output: Output) -> Result<(), Failure> {
        let mut picture = Picture::default();
        let first = look(client.clone(), self.wanted()).await;
        let next = first.at + self.interval;
        picture.take(first);
        tokio::time::sleep_until(next).await;
        let second = look(client.clone(), self.wanted()).await;
        if let Err(error) = &second.cluster {
            return Err(error.clone().into());
        }
        picture.take(second);
        let now = Instant::now();
        output.result(|| document::document(&picture, now), || self.text(&picture, now))
    }

    fn text(&self, picture: &Picture, now: Instant) -> String {
        let text = |page| draw::text(picture, &View::new(page), TEXT_WIDTH, now);
        match self.page {
            Some(page) => text(page),
            None => {
                let pages =
                    PageName::ALL.map(|page| format!("== {} ==\n{}", page.word(), text(page)));
                pages.join("\n\n")
            }
        }
    }

    async fn again_and_again(&self, client: &Client, output: Output) -> Result<(), Failure> {
        let mut picture = Picture::default();
        let mut interval = tokio::time::interval(self.interval);
        interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // From the first look nothing can be told of what happens in a second.
        interval.tick().await;
        picture.take(look(client.clone(), self.wanted()).await);
        loop {
            interval.tick().await;
            picture.take(look(client.clone(), self.wanted()).await);
            output.line(&document::document(&picture, Instant::now()).to_string())?;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_have_their_bounds() {
        assert_eq!(parse_interval("100ms"), Ok(INTERVAL_MIN));
        assert_eq!(parse_interval("1h"), Ok(INTERVAL_MAX));
        for (text, says) in [("99ms", "100ms"), ("0s", "100ms"), ("2h", "1h"), ("5", "5s")] {
            assert!(parse_interval(text).is_err_and(|error| error.contains(says)), "{text}");
        }
    }
}
