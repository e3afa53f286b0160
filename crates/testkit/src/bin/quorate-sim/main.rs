//! The simulated cluster from the command line: many seeds, one seed again with all that happened, and
//! the proof that planted faults are caught.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program for people and scripts")]

use clap::{Parser, Subcommand, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};
use quorate_testkit::repeat::shell_word;
use quorate_testkit::sim::{Planted, Report, StoryKind, UnknownStory, run_seeds};
use serde_json::{Value, json};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::FormatTime;

#[cfg(feature = "planted-faults")]
mod planted;

/// Runs the whole cluster in simulated time: what a seed brings, it always brings.
#[derive(Debug, Parser)]
#[command(
    name = "quorate-sim",
    after_help = "Exit status: 0 when every promise was kept (planted: when every fault was caught), \
                  1 when not, 2 usage."
)]
struct Arguments {
    /// How results are written
    #[arg(short, long, global = true, value_enum, default_value_t, value_name = "FORMAT")]
    output: Format,
    #[command(subcommand)]
    command: Command,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Format {
    /// Tables
    #[default]
    Text,
    /// One JSON object per line
    Json,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run many seeds of one story, or of all
    Run {
        /// registers, locks, jobs, ...; or all
        #[arg(long, default_value = "all", value_name = "NAME", value_parser = stories)]
        story: Stories,
        /// How many seeds of each
        #[arg(long, default_value_t = 50, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
        seeds: u64,
        /// The first of them
        #[arg(long, default_value_t = 0, value_name = "SEED")]
        from: u64,
        /// How many run at once [default: one on each processor]
        #[arg(long, value_name = "N")]
        jobs: Option<usize>,
    },
    /// Run one seed again, and print all that happened; what nodes and clients log goes to standard error
    /// as QUORATE_LOG says, such as quorate=debug
    Seed {
        /// Which story
        #[arg(long, value_name = "NAME")]
        story: StoryKind,
        /// Which seed
        seed: u64,
    },
    /// Plant each fault in the broker, and see which check catches it
    Planted {
        /// This one alone
        #[arg(long, value_name = "NAME")]
        fault: Option<String>,
        /// How many run at once [default: one on each processor]
        #[arg(long, value_name = "N")]
        jobs: Option<usize>,
    },
}

#[derive(Clone, Debug)]
struct Stories(Vec<StoryKind>);

fn stories(name: &str) -> Result<Stories, UnknownStory> {
    match name {
        "all" => Ok(Stories(StoryKind::ALL.to_vec())),
        name => Ok(Stories(vec![name.parse()?])),
    }
}

fn main() -> ExitCode {
    let Arguments { output, command } = Arguments::parse();
    let good = match command {
        Command::Run { story, seeds, from, jobs } => {
            run(output, &story.0, from, seeds, threads(jobs))
        }
        Command::Seed { story, seed } => run_one(output, story, seed),
        #[cfg(feature = "planted-faults")]
        Command::Planted { fault, jobs } => {
            match planted::run(output, fault.as_deref(), threads(jobs)) {
                Ok(good) => good,
                Err(unknown) => return usage(&unknown.to_string()),
            }
        }
        #[cfg(not(feature = "planted-faults"))]
        Command::Planted { .. } => {
            return usage(
                "this build has no planted faults; run scripts/proof --planted, or build it with \
                 `cargo build --release --workspace --bin quorate-sim --features \
                 quorate-testkit/planted-faults`",
            );
        }
    };
    if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn usage(text: &str) -> ExitCode {
    eprintln!("quorate-sim: {text}");
    ExitCode::from(2)
}

fn threads(jobs: Option<usize>) -> usize {
    jobs.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from))
}

/// Where journals and histories of runs are kept that failed.
fn directory() -> PathBuf {
    std::env::temp_dir().join("quorate-sim")
}

/// Logs tell the time of the simulation.
struct Simulated;

impl FormatTime for Simulated {
    fn format_time(&self, to: &mut Writer<'_>) -> std::fmt::Result {
        write!(to, "{:>12.3?}", turmoil::sim_elapsed().unwrap_or_default())
    }
}

/// The command that runs a seed again.
fn again(story: StoryKind, seed: u64) -> String {
    let program = std::env::args().next().unwrap_or_else(|| "quorate-sim".to_owned());
    format!("{} seed --story {story} {seed}", shell_word(&program))
}

fn bar(length: u64, what: &str) -> ProgressBar {
    let style = ProgressStyle::with_template("{prefix:>12} {wide_bar} {pos}/{len} {msg} {elapsed}")
        .unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(length).with_style(style).with_prefix(what.to_owned())
}

fn run(output: Format, stories: &[StoryKind], from: u64, seeds: u64, threads: usize) -> bool {
    let mut sums = Vec::new();
    let mut failed = Vec::new();
    for story in stories {
        let begun = Instant::now();
        let bar = bar(seeds, story.name());
        let directory = directory();
        let run = |seed| {
            let mut report = story.run(seed, Planted::Nothing, &directory);
            if report.problems.is_empty() {
                // Thousands of them would fill the memory.
                report.journal = Vec::new();
            }
            report
        };
        let reports = run_seeds(from..from.saturating_add(seeds), threads, run, |report| {
            if !report.problems.is_empty() {
                bar.println(format!("{story} {}: FAILED", report.seed));
            }
            bar.inc(1);
        });
        bar.finish_and_clear();
        sums.push(Sum::of(*story, &reports, begun.elapsed()));
        let bad = reports.into_iter().filter(|report| !report.problems.is_empty());
        failed.extend(bad.map(|report| (*story, report)));
    }
    match output {
        Format::Json => {
            sums.iter().for_each(|sum| println!("{}", sum.json()));
            for (story, report) in &failed {
                println!("{}", failure(*story, report));
            }
        }
        Format::Text => {
            println!("{HEAD}");
            sums.iter().for_each(|sum| println!("{}", sum.row()));
            for (story, report) in &failed {
                println!("\n{story}, seed {}: {}", report.seed, again(*story, report.seed));
                report.problems.iter().for_each(|problem| println!("    {problem}"));
            }
        }
    }
    failed.is_empty()
}

fn failure(story: StoryKind, report: &Report) -> Value {
    json!({
        "story": story.name(),
        "seed": report.seed,
        "problems": report.problems,
        "repeat": again(story, report.seed),
        "kept": report.kept,
    })
}

fn run_one(output: Format, story: StoryKind, seed: u64) -> bool {
    if let Ok(filter) = std::env::var("QUORATE_LOG") {
        let logs = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
        logs.with_timer(Simulated).init();
    }
    let begun = Instant::now();
    let report = story.run(seed, Planted::Nothing, &directory());
    match output {
        Format::Json => {
            let sum = Sum::of(story, std::slice::from_ref(&report), begun.elapsed()).json();
            let (plan, journal) = (&report.plan, &report.journal);
            let rest = json!({ "seed": seed, "plan": plan, "journal": journal });
            println!("{}", merged(sum, rest));
            if !report.problems.is_empty() {
                println!("{}", failure(story, &report));
            }
        }
        Format::Text => {
            println!("{}\n{}\n{}", report.plan, report.journal.join("\n"), report.line());
            report.problems.iter().for_each(|problem| println!("problem: {problem}"));
        }
    }
    report.problems.is_empty()
}

fn merged(mut one: Value, other: Value) -> Value {
    if let (Value::Object(one), Value::Object(other)) = (&mut one, other) {
        one.extend(other);
    }
    one
}

const HEAD: &str = "\
| story | seeds | answered | unknown | kills | partitions | terms | snapshots installed | \
violations | virtual s per s |
|---|---|---|---|---|---|---|---|---|---|";

/// What the seeds of a story came to.
struct Sum {
    story: StoryKind,
    seeds: usize,
    answered: usize,
    unknown: usize,
    kills: u64,
    partitions: u64,
    terms: usize,
    snapshots: usize,
    violations: usize,
    simulated: Duration,
    real: Duration,
}

impl Sum {
    fn of(story: StoryKind, reports: &[Report], real: Duration) -> Self {
        let count = |of: fn(&Report) -> usize| reports.iter().map(of).sum();
        let faults =
            |of: fn(&Report) -> u32| reports.iter().map(|report| u64::from(of(report))).sum();
        Self {
            story,
            seeds: reports.len(),
            answered: count(|report| report.calls.0),
            unknown: count(|report| report.calls.2),
            kills: faults(|report| report.injected.killed),
            partitions: faults(|report| report.injected.partitions),
            terms: count(|report| report.leaders),
            snapshots: count(|report| report.caught_up_by_snapshot),
            violations: count(|report| report.problems.len()),
            simulated: reports.iter().map(|report| report.simulated).sum(),
            real,
        }
    }

    /// Simulated seconds in one second, all processors together.
    fn speed(&self) -> f64 {
        self.simulated.as_secs_f64() / self.real.as_secs_f64().max(0.001)
    }

    fn row(&self) -> String {
        let Self { story, seeds, answered, unknown, kills, partitions, terms, .. } = self;
        let (snapshots, violations, speed) = (self.snapshots, self.violations, self.speed());
        format!(
            "| {story} | {seeds} | {answered} | {unknown} | {kills} | {partitions} | {terms} | \
             {snapshots} | {violations} | {speed:.0} |"
        )
    }

    fn json(&self) -> Value {
        json!({
            "story": self.story.name(),
            "seeds": self.seeds,
            "answered": self.answered,
            "unknown": self.unknown,
            "kills": self.kills,
            "partitions": self.partitions,
            "terms": self.terms,
            "snapshots_installed": self.snapshots,
            "violations": self.violations,
            "virtual_seconds": self.simulated.as_secs_f64(),
            "real_seconds": self.real.as_secs_f64(),
        })
    }
}
