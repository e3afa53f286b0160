//! Behind `scripts/fuzz`: feeds every decoder inputs that are nearly right, and reports one that panics,
//! takes memory out of proportion, or takes too long.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program for people and scripts")]

use anyhow::{Context as _, Result, bail, ensure};
use clap::Parser;
use quorate_testkit::fuzz::{
    Counting, Decoder, Found, Plan, Rng, Row, decoders, input_of, named, run, run_one,
};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Examples of each decoder that are written for a fuzzer with coverage.
const EXAMPLES: u64 = 200;

/// Fuzzes every decoder there is: the same inputs for the same seed, on every machine.
#[derive(Debug, Parser)]
#[command(name = "quorate-fuzz")]
struct Arguments {
    /// Inputs for each decoder
    #[arg(long, value_name = "N", default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(1..))]
    inputs: u64,
    /// Only these decoders; may be given again
    #[arg(long, value_name = "NAME")]
    decoder: Vec<String>,
    /// What the inputs are made from
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// The number of the first input
    #[arg(long, value_name = "N", default_value_t = 0)]
    from: u64,
    /// Threads; as many as there are cores if it is not said
    #[arg(long, value_name = "N")]
    jobs: Option<usize>,
    /// Shows the inputs, instead of only running them
    #[arg(long)]
    show: bool,
    /// Runs the decoder on the content of this file instead
    #[arg(long, value_name = "FILE", conflicts_with_all = ["show", "from"])]
    file: Option<PathBuf>,
    /// Lists the decoders
    #[arg(long)]
    list: bool,
    /// Writes examples of each decoder's encoding into directories of its name below this one
    #[arg(long, value_name = "DIR")]
    examples: Option<PathBuf>,
}

fn main() -> ExitCode {
    match fuzz(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("quorate-fuzz: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn fuzz(arguments: &Arguments) -> Result<()> {
    let chosen = chosen(&arguments.decoder)?;
    if arguments.list {
        chosen.iter().for_each(|decoder| println!("{}", decoder.name));
        return Ok(());
    }
    if let Some(directory) = &arguments.examples {
        return write_examples(&chosen, directory);
    }
    if let Some(file) = &arguments.file {
        return run_file(&chosen, file);
    }
    let jobs = arguments.jobs.or_else(|| std::thread::available_parallelism().ok().map(Into::into));
    let Arguments { seed, from, inputs, .. } = *arguments;
    let plan = Plan { seed, from, inputs, jobs: jobs.unwrap_or(1) };
    if arguments.show {
        for decoder in &chosen {
            for number in plan.from..plan.from.saturating_add(plan.inputs) {
                let input = input_of(decoder, plan.seed, number);
                println!("{} {number}: {}", decoder.name, input.escape_ascii());
            }
        }
    }
    println!("seed {}, {} inputs for each decoder, {} threads", plan.seed, plan.inputs, plan.jobs);
    println!(
        "| decoder | inputs | accepted | refused | seconds | most memory, KiB | slowest, ms (its number) |"
    );
    println!("|---|---|---|---|---|---|---|");
    let mut failed = 0;
    for decoder in &chosen {
        match run(decoder, &plan) {
            Ok(row) => println!("{}", line(decoder, &row)),
            Err(found) => {
                failed += 1;
                report(&found);
            }
        }
    }
    ensure!(failed == 0, "{failed} of {} decoders failed", chosen.len());
    Ok(())
}

fn chosen(names: &[String]) -> Result<Vec<Decoder>> {
    if names.is_empty() {
        return Ok(decoders::all());
    }
    let known = |name: &String| {
        named(name).with_context(|| format!("there is no decoder {name}; --list shows all"))
    };
    names.iter().map(known).collect()
}

fn line(decoder: &Decoder, row: &Row) -> String {
    format!(
        "| {} | {} | {} | {} | {:.1} | {} | {:.1} ({}) |",
        decoder.name,
        row.inputs,
        row.accepted,
        row.inputs - row.accepted,
        row.took.as_secs_f64(),
        row.peak_bytes.div_ceil(1024),
        row.slowest.as_secs_f64() * 1_000.0,
        row.slowest_number
    )
}

fn report(found: &Found) {
    let Found { decoder, seed, number, input, what } = found;
    println!("| {decoder} | FAILED at input {number} | | | | | |");
    eprintln!("\n{decoder}, input {number} of seed {seed}: {what}");
    eprintln!("  it has {} bytes: {}", input.len(), shown(input));
    eprintln!(
        "  again: scripts/fuzz --decoder {decoder} --seed {seed} --from {number} --inputs 1\n"
    );
}

fn shown(input: &[u8]) -> String {
    const SHOWN: usize = 512;
    let more = if input.len() > SHOWN { " … (--show has all of it)" } else { "" };
    format!("{}{more}", input[..input.len().min(SHOWN)].escape_ascii())
}

/// What a fuzzer with coverage begins with.
fn write_examples(chosen: &[Decoder], directory: &Path) -> Result<()> {
    for decoder in chosen {
        let directory = directory.join(decoder.name);
        std::fs::create_dir_all(&directory)?;
        for number in 0..EXAMPLES {
            let mut rng = Rng::of_input(1, decoder.name, number);
            std::fs::write(
                directory.join(format!("example-{number}")),
                (decoder.example)(&mut rng),
            )?;
        }
    }
    Ok(())
}

/// What a fuzzer with coverage has found.
fn run_file(chosen: &[Decoder], file: &Path) -> Result<()> {
    let [decoder] = chosen else { bail!("--file needs one --decoder") };
    let input = std::fs::read(file).with_context(|| format!("can't read {}", file.display()))?;
    match run_one(decoder, 0, 0, &input) {
        Ok(row) => {
            let word = if row.accepted > 0 { "accepts" } else { "refuses" };
            println!(
                "{} {word} it, in {:?} with {} bytes",
                decoder.name, row.slowest, row.peak_bytes
            );
            Ok(())
        }
        Err(found) => bail!("{}: {}", decoder.name, found.what),
    }
}
