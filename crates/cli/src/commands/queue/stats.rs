//! `quorate queue stats`: how a queue does, once or again and again.

use super::one_line;
use crate::connect::Connect;
use crate::duration;
use crate::duration::millis;
use crate::exit::Failure;
use crate::output::{Output, table};
use clap::Args;
use quorate_client::Client;
use quorate_client::queue::{DeadLetters, QueueInfo, QueueOptions, WhenFull};
use serde_json::{Map, Value, json};
use std::time::Duration;
use tokio::time::Instant;

const AFTER_HELP: &str = "\
With --watch it goes on until it is stopped: on a terminal in place, else with a line each time. Rates
are those since the line before.";

/// `quorate queue stats`
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(super) struct Stats {
    queue: String,
    /// Again and again, with rates
    #[arg(long)]
    watch: bool,
    /// How often
    #[arg(
        long,
        value_name = "DURATION",
        default_value = "1s",
        value_parser = duration::parse_positive,
        requires = "watch"
    )]
    every: Duration,
    /// End after so many times
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..), requires = "watch")]
    count: Option<u64>,
    /// Take whatever the asked node has; works without a quorum
    #[arg(long)]
    stale: bool,
}

impl Stats {
    pub(super) fn run(self, connect: &Connect, output: Output) -> Result<(), Failure> {
        connect.run(async |client| {
            if self.watch {
                return self.watch(&client, output).await;
            }
            let queue = self.ask(&client).await?;
            output.result(|| shown(&queue), || text(&queue))
        })
    }

    async fn ask(&self, client: &Client) -> Result<QueueInfo, Failure> {
        let stats = client.queue().stats(&self.queue);
        Ok(if self.stale { stats.stale().await? } else { stats.await? })
    }

    async fn watch(&self, client: &Client, output: Output) -> Result<(), Failure> {
        let mut before: Option<(Instant, QueueInfo)> = None;
        let mut screen = output.screen();
        let mut times = 0;
        let mut next = Instant::now();
        loop {
            tokio::time::sleep_until(next).await;
            let now = Instant::now();
            next = now + self.every;
            let queue = self.ask(client).await?;
            let rates =
                before.as_ref().map(|(at, before)| Rates::between(before, &queue, now - *at));
            if output.is_json() {
                let mut object = shown(&queue);
                if let Some(rates) = &rates {
                    object["per_second"] = rates.shown();
                }
                output.line(&object.to_string())?;
            } else {
                let rates = rates.as_ref();
                screen.show(|| in_full(&queue, rates), || on_a_line(&queue, rates))?;
            }
            times += 1;
            if self.count == Some(times) {
                return Ok(());
            }
            before = Some((now, queue));
        }
    }
}

/// What happened in a second, on average.
#[derive(Debug, PartialEq)]
struct Rates {
    pushed: f64,
    delivered: f64,
    acked: f64,
    nacked: f64,
    lapsed: f64,
}

impl Rates {
    fn between(before: &QueueInfo, now: &QueueInfo, passed: Duration) -> Self {
        let seconds = passed.as_secs_f64().max(0.001);
        // A queue that was deleted and made again counts from 0.
        let rate = |of: fn(&QueueInfo) -> u64| of(now).saturating_sub(of(before)) as f64 / seconds;
        Self {
            pushed: rate(|queue| queue.totals.pushed),
            delivered: rate(|queue| queue.totals.delivered),
            acked: rate(|queue| queue.totals.acked),
            nacked: rate(|queue| queue.totals.nacked),
            lapsed: rate(|queue| queue.totals.lapsed),
        }
    }

    /// Attempts that came to nothing, told or not.
    fn failed(&self) -> f64 {
        self.nacked + self.lapsed
    }

    fn shown(&self) -> Value {
        let rounded = |rate: f64| (rate * 10.0).round() / 10.0;
        json!({
            "pushed": rounded(self.pushed),
            "delivered": rounded(self.delivered),
            "acked": rounded(self.acked),
            "failed": rounded(self.failed()),
        })
    }
}

/// A queue as a document.
pub(super) fn shown(queue: &QueueInfo) -> Value {
    let totals = &queue.totals;
    json!({
        "queue": queue.name,
        "paused": queue.paused,
        "ready": queue.ready,
        "delayed": queue.delayed,
        "leased": queue.leased,
        "done": queue.done,
        "dead": queue.dead,
        "body_bytes": queue.body_bytes,
        "oldest_ready_ms": queue.oldest_ready.map(millis),
        "pushed": totals.pushed,
        "duplicates": totals.duplicates,
        "delivered": totals.delivered,
        "acked": totals.acked,
        "nacked": totals.nacked,
        "lapsed": totals.lapsed,
        "died": totals.died,
        "dropped": totals.dropped,
        "cancelled": totals.cancelled,
        "options": shown_options(queue),
    })
}

fn shown_options(queue: &QueueInfo) -> Value {
    let options = &queue.options;
    let backoff = options.backoff;
    let mut object = Map::new();
    let mut put = |name: &str, value: Value| drop(object.insert(name.to_owned(), value));
    put("visibility_ms", millis(options.visibility).into());
    put("attempts_max", options.attempts_max.into());
    put(
        "backoff",
        json!({
            "exponential": backoff.exponential,
            "base_ms": millis(backoff.base),
            "cap_ms": millis(backoff.cap),
            "jitter_permille": backoff.jitter_permille,
        }),
    );
    put("dead_letters", dead_letters(queue).map_or(Value::Null, Value::from));
    put("keep_done_ms", millis(options.keep_done).into());
    put("jobs_max", options.jobs_max.into());
    put("when_full", when_full(options).into());
    put("parallel_max", options.parallel_max.into());
    let rate = options.rate.map(|rate| json!({ "jobs": rate.jobs, "per_ms": millis(rate.per) }));
    put("rate", rate.unwrap_or(Value::Null));
    put("dedupe_window_ms", millis(options.dedupe_window).into());
    object.into()
}

/// The queue they go to; none when they are discarded.
fn dead_letters(queue: &QueueInfo) -> Option<String> {
    match &queue.options.dead_letters {
        DeadLetters::Own => Some(format!("{}.dead", queue.name)),
        DeadLetters::To(to) => Some(to.clone()),
        _ => None,
    }
}

fn when_full(options: &QueueOptions) -> &'static str {
    match options.when_full {
        WhenFull::Reject => "reject",
        WhenFull::DropOldest => "drop-oldest",
        _ => "unknown",
    }
}

fn text(queue: &QueueInfo) -> String {
    let options = &queue.options;
    let (base, cap) = (duration::text(options.backoff.base), duration::text(options.backoff.cap));
    let backoff = match options.backoff.exponential {
        true => format!("{base} doubling to {cap}"),
        false => base,
    };
    let attempts = match options.attempts_max {
        0 => "any number of attempts".to_owned(),
        most => format!("{most} attempts"),
    };
    let letters = match dead_letters(queue) {
        Some(to) => format!("dead letters go to {}", one_line(&to)),
        None => "jobs that are given up are gone".to_owned(),
    };
    let full = match options.when_full {
        WhenFull::DropOldest => "then the oldest are dropped",
        _ => "then pushes are refused",
    };
    let parallel = match options.parallel_max {
        0 => "any number worked on at once".to_owned(),
        most => format!("{most} worked on at once"),
    };
    let rate = match options.rate {
        None => "as fast as can be".to_owned(),
        Some(rate) => format!("{} in {}", rate.jobs, duration::text(rate.per)),
    };
    let kept = match options.keep_done {
        Duration::ZERO => "jobs that are done are not kept".to_owned(),
        keep => format!("jobs that are done are kept for {}", duration::text(keep)),
    };
    format!(
        "{}\n\nvisibility {}, {attempts}, backoff {backoff}; {letters}\nat most {} jobs, {full}; \
         {parallel}, {rate}\n{kept}; dedupe keys for {}",
        in_full(queue, None),
        duration::text(options.visibility),
        options.jobs_max,
        duration::text(options.dedupe_window),
    )
}

fn in_full(queue: &QueueInfo, rates: Option<&Rates>) -> String {
    let totals = &queue.totals;
    let per_second = |rate: fn(&Rates) -> f64| {
        rates.map_or_else(String::new, |rates| format!("{:.1}/s", rate(rates)))
    };
    let row = |name: &str, now: String, total: &str, counted: u64, rate: String| {
        vec![name.to_owned(), now, total.to_owned(), counted.to_string(), rate]
    };
    let oldest = queue.oldest_ready.map_or_else(|| "-".to_owned(), duration::rough);
    let rows = [
        row("ready", queue.ready.to_string(), "pushed", totals.pushed, per_second(|r| r.pushed)),
        row(
            "delayed",
            queue.delayed.to_string(),
            "delivered",
            totals.delivered,
            per_second(|r| r.delivered),
        ),
        row("leased", queue.leased.to_string(), "acked", totals.acked, per_second(|r| r.acked)),
        row("done", queue.done.to_string(), "nacked", totals.nacked, per_second(|r| r.nacked)),
        row("dead", queue.dead.to_string(), "lapsed", totals.lapsed, per_second(|r| r.lapsed)),
        row("oldest ready", oldest, "died", totals.died, String::new()),
        row("bytes", queue.body_bytes.to_string(), "dropped", totals.dropped, String::new()),
        row("", String::new(), "duplicates", totals.duplicates, String::new()),
        row("", String::new(), "cancelled", totals.cancelled, String::new()),
    ];
    let paused = if queue.paused { ", paused" } else { "" };
    let header = ["NOW", "", "EVER", "", if rates.is_some() { "RATE" } else { "" }];
    format!("queue {}{paused}\n{}", one_line(&queue.name), table(&header, &rows))
}

fn on_a_line(queue: &QueueInfo, rates: Option<&Rates>) -> String {
    let mut line = format!(
        "ready {} delayed {} leased {} dead {}",
        queue.ready, queue.delayed, queue.leased, queue.dead
    );
    if let Some(rates) = rates {
        line += &format!(
            " pushed {:.1}/s delivered {:.1}/s acked {:.1}/s failed {:.1}/s",
            rates.pushed,
            rates.delivered,
            rates.acked,
            rates.failed()
        );
    }
    if queue.paused {
        line += " paused";
    }
    line
}
