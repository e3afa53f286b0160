//! Behind `scripts/chaos`: real nodes under everything that goes wrong, and ten kinds of work that are
//! checked.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program for people and scripts")]

use anyhow::{Context as _, Result, bail};
use clap::Parser;
use quorate_testkit::chaos::plan::Plan;
use quorate_testkit::chaos::{Hosts, Outcome, Settings, draw, run, summary, table};
use quorate_testkit::program;
use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

/// Runs a cluster of real nodes, each in a network namespace of its own with a disk of its own, while they
/// are killed, paused, cut off from each other, slowed down, filled up, set to another time, restarted and
/// replaced; ten workloads call it all the time, and what they were answered is checked.
///
/// It takes root for the namespaces. Where they can't be had, nodes run on loopback, and are killed,
/// paused, restarted and replaced only.
#[derive(Debug, Parser)]
#[command(
    name = "quorate-chaos",
    after_help = "Exit status: 0 when nothing was wrong, 1 when something was, or it could not be run."
)]
struct Arguments {
    /// How long things go wrong
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=1_440))]
    minutes: u64,
    /// Draws the plan and all other choices
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Nodes that found the cluster
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=7))]
    nodes: u64,
    /// Takes the plan from this file, as an earlier run kept it
    #[arg(long, value_name = "FILE")]
    plan: Option<PathBuf>,
    /// Only these kinds of faults, by a part of their names as in the table; may be repeated
    #[arg(long, value_name = "KIND")]
    only: Vec<String>,
    /// Only these workloads; may be repeated
    #[arg(long, value_name = "NAME")]
    workload: Vec<String>,
    /// Where plan, histories, logs, table and picture go; a directory below it for each run
    #[arg(long, value_name = "DIR", default_value = "chaos")]
    directory: PathBuf,
    /// On loopback, also where namespaces could be had
    #[arg(long)]
    loopback: bool,
    /// Prints the plan, and runs nothing
    #[arg(long)]
    print_plan: bool,
    /// Prints one JSON object instead of tables
    #[arg(long)]
    json: bool,
    /// Another binary for the nodes
    #[arg(long, value_name = "FILE")]
    binary: Option<PathBuf>,
    /// Sets a variable in the environment of the nodes, as NAME=VALUE; may be repeated
    #[arg(long, value_name = "NAME=VALUE")]
    env: Vec<String>,
}

fn main() -> ExitCode {
    match prepare(&Arguments::parse()) {
        Ok(None) => ExitCode::SUCCESS,
        Ok(Some((json, settings, hosts))) => {
            program::run("quorate-chaos", work(json, settings, hosts))
        }
        Err(error) => {
            eprintln!("quorate-chaos: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// While there is only one thread.
fn prepare(arguments: &Arguments) -> Result<Option<(bool, Settings, Option<Hosts>)>> {
    let seed = arguments.seed.unwrap_or_else(rand::random);
    let directory = arguments.directory.join(format!("seed-{seed}"));
    let lasts = Duration::from_secs(60 * arguments.minutes);
    if arguments.print_plan {
        print!("{}", plan_of(arguments, seed, lasts, !arguments.loopback)?);
        return Ok(None);
    }
    if directory.exists() {
        fs::remove_dir_all(&directory).context("an earlier run can't be removed")?;
    }
    fs::create_dir_all(&directory)
        .with_context(|| format!("{} can't be made", directory.display()))?;
    let directory = directory.canonicalize().context("the directory is gone")?;
    let hosts = match arguments.loopback {
        true => None,
        false => Hosts::enter(seed, &directory).map(Some).unwrap_or_else(|error| {
            eprintln!(
                "nodes can't have hosts of their own here ({error:#}): they run on loopback, and nothing \
                 happens to networks, clocks and disks"
            );
            None
        }),
    };
    let plan = plan_of(arguments, seed, lasts, hosts.is_some())?;
    if hosts.is_none() && plan.events.iter().any(|event| event.fault.needs_hosts()) {
        bail!("the plan needs nodes with hosts of their own, which can't be had");
    }
    let environment = arguments.env.iter().map(|pair| match pair.split_once('=') {
        Some((name, value)) => Ok((name.to_owned(), value.to_owned())),
        None => bail!("--env is NAME=VALUE, not {pair:?}"),
    });
    let settings = Settings {
        nodes: arguments.nodes,
        seed,
        plan,
        workloads: arguments.workload.clone(),
        directory,
        binary: arguments.binary.clone(),
        environment: environment.collect::<Result<_>>()?,
    };
    Ok(Some((arguments.json, settings, hosts)))
}

fn plan_of(arguments: &Arguments, seed: u64, lasts: Duration, hosts: bool) -> Result<Plan> {
    let mut plan = match &arguments.plan {
        Some(path) => {
            let text = fs::read_to_string(path)
                .with_context(|| format!("{} can't be read", path.display()))?;
            Plan::parse(&text)?
        }
        None => Plan::draw(seed, lasts, hosts),
    };
    let only = &arguments.only;
    plan.events.retain(|event| {
        let kind = event.fault.kind();
        only.is_empty() || kind == "calm" || only.iter().any(|part| kind.contains(part))
    });
    Ok(plan)
}

async fn work(json: bool, settings: Settings, hosts: Option<Hosts>) -> Result<()> {
    eprintln!(
        "seed {}: {} things go wrong; see {}",
        settings.seed,
        settings.plan.events.len(),
        settings.directory.display()
    );
    let outcome = run(&settings, hosts.as_ref()).await?;
    tell(json, &settings, &outcome)?;
    if !outcome.problems.is_empty() {
        let plan = settings.directory.join("plan.jsonl");
        bail!(
            "{} problems; the same again: scripts/chaos --seed {} --nodes {} --plan {}",
            outcome.problems.len(),
            settings.seed,
            settings.nodes,
            plan.display()
        );
    }
    Ok(())
}

fn tell(json: bool, settings: &Settings, outcome: &Outcome) -> Result<()> {
    let object = summary(settings, outcome);
    let kept = settings.directory.join("summary.json");
    fs::write(&kept, format!("{object:#}\n")).context("the summary can't be kept")?;
    let title = format!("Quorate under chaos: seed {}, {} nodes", settings.seed, settings.nodes);
    draw(&settings.directory.join("chaos.svg"), &title, outcome)?;
    if json {
        println!("{object}");
    } else {
        let text = table(settings, outcome);
        fs::write(settings.directory.join("table.md"), &text).context("the table can't be kept")?;
        print!("{text}");
    }
    Ok(())
}
