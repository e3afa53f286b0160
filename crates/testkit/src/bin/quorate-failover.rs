//! Behind `scripts/failover`: kills the leader of real nodes under load, again and again, prints
//! how long each death hurt, and checks that nothing acknowledged was lost.

#![allow(clippy::print_stdout, reason = "a program for people and scripts")]

use anyhow::{Context as _, Result};
use clap::{Parser, ValueEnum};
use quorate_testkit::load::{Failover, Kill, KillRound, Plan, Report, Summary, table};
use quorate_testkit::process::ProcessCluster;
use quorate_testkit::program;
use serde_json::{Value, json};
use std::process::ExitCode;
use std::time::Duration;

/// How long a death should hurt at most, on two cores that nobody else uses. To miss it is no
/// failure: it is a matter of the machine, too.
const MEDIAN_AIM: Duration = Duration::from_millis(1_200);
const MAX_AIM: Duration = Duration::from_secs(3);

/// Kills the leader of a cluster on this machine N times under load and prints the table of gaps.
///
/// Each round: kill -9 of the leader while all writers write, the time until the next write is
/// acknowledged, then the dead node is started again and has to catch up. At the end every
/// acknowledged write is read back, sums are compared, and all nodes must hold the same state.
#[derive(Debug, Parser)]
#[command(
    name = "quorate-failover",
    after_help = "Exit status: 0 when every promise held, else 1."
)]
struct Arguments {
    /// How often the leader is killed
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    rounds: u32,
    /// How many clients write meanwhile, each one write after the other
    #[arg(long, value_name = "M", default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    writers: u32,
    /// How many nodes there are
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u64).range(3..=9))]
    nodes: u64,
    /// How the result is written
    #[arg(short, long, value_enum, default_value_t, value_name = "FORMAT")]
    output: Format,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For people.
    #[default]
    Table,
    /// One JSON object.
    Json,
}

const HEADER: &[&str] = &["round", "killed", "new leader", "gap ms", "all writers ms", "back ms"];

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    program::run("quorate-failover", run(&arguments))
}

async fn run(arguments: &Arguments) -> Result<()> {
    let Arguments { rounds, writers, nodes, output } = *arguments;
    let mut cluster = ProcessCluster::start(nodes).await?;
    let leader = cluster.wait_ready().await?;
    if output == Format::Table {
        println!("{nodes} nodes, led by node {leader}; {writers} writers; {rounds} kills\n");
        // The width of each row is that of the header, so that rows can be shown as they come.
        println!("{}", HEADER.join("  "));
    }
    let failover = Failover {
        kill: Kill::Leader,
        rounds: rounds.try_into().context("too many rounds")?,
        plan: Plan { writers: writers.try_into().context("too many writers")?, ..Plan::default() },
    };
    let show = |round: &KillRound| {
        if output == Format::Table {
            let cells = table(HEADER, &[cells(round)]);
            println!("{}", cells.lines().last().unwrap_or_default());
        }
    };
    let report = failover.run(&mut cluster, show).await?;
    match output {
        Format::Json => println!("{}", as_json(arguments, &report)),
        Format::Table => println!("\n{}", as_text(&report)),
    }
    Ok(())
}

fn cells(round: &KillRound) -> Vec<String> {
    let ms = |time: Duration| time.as_millis().to_string();
    vec![
        round.round.to_string(),
        round.killed.to_string(),
        round.leader.to_string(),
        ms(round.gap.first),
        ms(round.gap.all),
        ms(round.caught_up),
    ]
}

fn as_text(report: &Report) -> String {
    let gaps = report.gaps.map_or_else(String::new, |gaps| {
        let verdict = if aims_hold(gaps) { "holds" } else { "does not hold here" };
        let [median, max] = [MEDIAN_AIM, MAX_AIM].map(|aim| aim.as_millis());
        format!("gap: {gaps}\naim: median {median} ms at most, max {max} ms at most: {verdict}\n")
    });
    let totals = report.totals;
    format!(
        "{gaps}writes: {} acknowledged, all of them there, {} of them begun before a kill and \
         carried over it; {} of unknown outcome; {} not applied\n\
         increments add up; all nodes hold the same state (checksum {:016x} at index {})",
        totals.acknowledged,
        report.carried,
        totals.unknown,
        totals.failed,
        report.checksum,
        report.applied
    )
}

/// Whether both aims hold.
fn aims_hold(gaps: Summary) -> bool {
    gaps.median <= MEDIAN_AIM && gaps.max <= MAX_AIM
}

fn as_json(arguments: &Arguments, report: &Report) -> Value {
    let ms = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    let rounds: Vec<_> = report
        .rounds
        .iter()
        .map(|round| {
            json!({
                "round": round.round,
                "killed": round.killed,
                "leader": round.leader,
                "gap_ms": ms(round.gap.first),
                "all_writers_ms": ms(round.gap.all),
                "back_ms": ms(round.caught_up),
            })
        })
        .collect();
    let gaps = report
        .gaps
        .map(|gaps| json!({ "min": ms(gaps.min), "median": ms(gaps.median), "max": ms(gaps.max) }));
    json!({
        "nodes": arguments.nodes,
        "writers": arguments.writers,
        "gap_ms": gaps,
        "aim_ms": { "median": ms(MEDIAN_AIM), "max": ms(MAX_AIM) },
        "aims_hold": report.gaps.map(aims_hold),
        "rounds": rounds,
        "acknowledged": report.totals.acknowledged,
        "carried_over": report.carried,
        "unknown": report.totals.unknown,
        "not_applied": report.totals.failed,
        "lost": 0,
        "applied": report.applied,
        "checksum": format!("{:016x}", report.checksum),
    })
}
