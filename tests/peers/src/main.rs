//! The same work on Quorate and on its peers, in one run on one machine, and the ratios. Started by
//! `scripts/bench-peers`.
//!
//! Whoever is measured gets its best case: every connection goes to the node that leads. Each
//! measurement is of fresh processes, and the systems take turns, because a machine that others share
//! is not the same from one minute to the next. Quorate is driven by `quorate bench`, each peer by a
//! closed loop that does what that command does (`closed_loop.rs`).

mod closed_loop;
mod desk;
mod etcd;
mod kv;
mod nats;
mod processes;
mod quorate;
mod rabbitmq;
mod redis;
mod report;
mod svg;
mod system;
mod work;

use anyhow::{Context, Result};
use clap::Parser;
use report::Measurement;
use serde_json::{Map, Value, json};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;
use system::{Peer, Programs, System};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use work::{Clients, Job, Load, Work};

/// What was built against, with the versions of the clients.
const LOCK: &str = include_str!("../Cargo.lock");
const CLIENTS: [&str; 4] = ["etcd-client", "async-nats", "redis", "lapin"];
/// What tasks of a client may still do when its measurement is over.
const RUNTIME_END_MAX: Duration = Duration::from_secs(2);

/// Measures Quorate and its peers with the same work, taking turns, again and again.
#[derive(Debug, Parser)]
struct Arguments {
    /// What is measured
    #[arg(
        long,
        value_enum,
        value_delimiter = ',',
        default_value = "put,get,lock,contended,queue,bus,cache"
    )]
    work: Vec<Work>,
    /// Who Quorate is compared with, in whatever work it has
    #[arg(long, value_enum, value_delimiter = ',', default_value = "etcd,nats,redis,rabbitmq")]
    peers: Vec<Peer>,
    /// Connections, or connections and operations in flight on each, as in 4x64; several are
    /// measured one after the other
    #[arg(long, value_delimiter = ',', default_value = "1,64,4x64")]
    clients: Vec<Clients>,
    /// Connections that want the same lock, for contended
    #[arg(long, default_value_t = 16)]
    contenders: u32,
    /// Subscribers, for bus
    #[arg(long, value_delimiter = ',', default_value = "1,10,100")]
    subscribers: Vec<u32>,
    /// Who publishes, for bus, as in --clients
    #[arg(long, default_value = "1x64")]
    publishers: Clients,
    /// Measure Quorate with unary calls as well, where it has them
    #[arg(long)]
    unary: bool,
    /// Measure Quorate also with calls to a node that does not lead
    #[arg(long)]
    follower: bool,
    /// Seconds of each measurement, after one of warm-up
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..))]
    seconds: u64,
    /// Bytes of each value, job or message
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u32).range(16..))]
    value_bytes: u32,
    /// Different keys
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..))]
    keys: u64,
    /// How often all of it is measured; the table has the medians
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Write everything that was measured into this file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Draw the ratios into this file
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    /// The quorate program
    #[arg(long, value_name = "PROGRAM")]
    quorate: PathBuf,
    /// The etcd program
    #[arg(long, value_name = "PROGRAM", default_value = "etcd")]
    etcd: PathBuf,
    /// The nats-server program
    #[arg(long, value_name = "PROGRAM", default_value = "nats-server")]
    nats: PathBuf,
    /// The redis-server program
    #[arg(long, value_name = "PROGRAM", default_value = "redis-server")]
    redis: PathBuf,
    /// The rabbitmq-server program, with rabbitmqctl beside it; the one of the same name that Debian
    /// has on the path runs as another user only
    #[arg(long, value_name = "PROGRAM", default_value = "/usr/lib/rabbitmq/bin/rabbitmq-server")]
    rabbitmq: PathBuf,
}

impl Arguments {
    fn jobs(&self) -> Vec<Job> {
        let loads = |work| -> Vec<Load> {
            let publishers = self.publishers;
            match work {
                Work::Contended => vec![Load::Contenders(self.contenders)],
                Work::Bus => {
                    let subscribers = self.subscribers.iter();
                    let load = |&subscribers| Load::Subscribers { subscribers, publishers };
                    subscribers.map(load).collect()
                }
                _ => self.clients.iter().copied().map(Load::Clients).collect(),
            }
        };
        let jobs = self.work.iter().flat_map(|&work| {
            loads(work).into_iter().map(move |load| Job {
                work,
                load,
                seconds: self.seconds,
                value_bytes: usize::try_from(self.value_bytes).unwrap_or(usize::MAX),
                keys: self.keys,
            })
        });
        jobs.collect()
    }

    fn programs(&self) -> Programs {
        let Self { quorate, etcd, nats, redis, rabbitmq, .. } = self;
        let [quorate, etcd, nats, redis, rabbitmq] =
            [quorate, etcd, nats, redis, rabbitmq].map(Clone::clone);
        Programs { quorate, etcd, nats, redis, rabbitmq }.found()
    }
}

fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    let date = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let programs = arguments.programs();
    let stop = stop_on_signal()?;

    let Some(quorate) = alone(&stop, programs.version(None))? else { return Ok(interrupted()) };
    let mut versions = Map::new();
    versions.insert("quorate".into(), quorate.context("quorate is needed")?.into());
    let mut peers = Vec::new();
    let mut skipped = Vec::new();
    for &peer in &arguments.peers {
        let name = format!("{peer:?}").to_lowercase();
        let Some(version) = alone(&stop, programs.version(Some(peer)))? else {
            return Ok(interrupted());
        };
        match version {
            Ok(version) => {
                versions.insert(name, version.into());
                peers.push(peer);
            }
            Err(error) => {
                eprintln!("{name} is skipped: {error:#}");
                skipped.push(json!({ "peer": name, "because": format!("{error:#}") }));
            }
        }
    }

    let jobs = arguments.jobs();
    let mut measurements = Vec::new();
    let whole = measure(&arguments, &jobs, &peers, &programs, &stop, &mut measurements)?;

    let rows = report::rows(&jobs, &measurements);
    println!("{}", report::table(&rows));
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    if let Some(path) = &arguments.svg {
        let versions: Vec<_> = versions.values().filter_map(Value::as_str).collect();
        let about = format!("{date}, {cores} cores; {}", versions.join(", "));
        std::fs::write(path, svg::draw(&rows, &about))
            .with_context(|| format!("can't write {}", path.display()))?;
    }
    if let Some(path) = &arguments.json {
        let mut run = Map::new();
        run.insert("date".into(), date.into());
        run.insert("command_line".into(), std::env::args().collect());
        run.insert("cores".into(), cores.into());
        run.insert("versions".into(), versions.into());
        run.insert("clients".into(), client_versions().into());
        run.insert("skipped".into(), skipped.into());
        run.insert("interrupted".into(), (!whole).into());
        run.insert("rounds".into(), arguments.rounds.into());
        run.insert("seconds".into(), arguments.seconds.into());
        run.insert("value_bytes".into(), arguments.value_bytes.into());
        run.insert("keys".into(), arguments.keys.into());
        let json = serde_json::to_string_pretty(&report::json(run, &measurements, &rows))?;
        std::fs::write(path, json + "\n")
            .with_context(|| format!("can't write {}", path.display()))?;
    }
    if !whole {
        return Ok(interrupted());
    }
    let failed = measurements.iter().filter(|measurement| measurement.result.is_err()).count();
    if failed > 0 {
        eprintln!("{failed} of {} measurements failed, see above", measurements.len());
        return Ok(ExitCode::FAILURE);
    }
    Ok(ExitCode::SUCCESS)
}

/// Measures all of it; answers whether it came to the end.
fn measure(
    arguments: &Arguments,
    jobs: &[Job],
    peers: &[Peer],
    programs: &Programs,
    stop: &watch::Receiver<bool>,
    measurements: &mut Vec<Measurement>,
) -> Result<bool> {
    let asked = |system: System| match system.peer() {
        Some(peer) => peers.contains(&peer),
        None => match system {
            System::QuorateUnary => arguments.unary,
            System::QuorateFollower => arguments.follower,
            _ => true,
        },
    };
    let systems: Vec<_> = System::ALL.into_iter().filter(|system| asked(*system)).collect();
    for round in 0..usize::try_from(arguments.rounds)? {
        for job in jobs {
            let mut turns: Vec<_> = systems.iter().filter(|system| system.does(job.work)).collect();
            // Somebody else begins in each round.
            let first = round % turns.len().max(1);
            turns.rotate_left(first);
            for &system in turns {
                let Some(result) = alone(stop, system.measure(programs, job))? else {
                    return Ok(false);
                };
                let round = round + 1;
                let what =
                    format!("round {round}: {} {} on {}", job.work.name(), job.load, system.name());
                match &result {
                    Ok(figures) => eprintln!("{what}: {:.0}/s", figures.per_second),
                    Err(error) => eprintln!("{what}: failed: {error:#}"),
                }
                let result = result.map_err(|error| format!("{error:#}"));
                measurements.push(Measurement { round, job: *job, system, result });
            }
        }
    }
    Ok(true)
}

/// Runs something on a runtime of its own: tasks that a client leaves behind, say to connect again to
/// who is gone, must not run beside the next measurement. None when it was stopped; what it had
/// started is gone then.
fn alone<T>(stop: &watch::Receiver<bool>, run: impl Future<Output = T>) -> Result<Option<T>> {
    let mut stop = stop.clone();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let done = runtime.block_on(async {
        tokio::select! {
            biased;
            _ = stop.wait_for(|stop| *stop) => None,
            done = run => Some(done),
        }
    });
    runtime.shutdown_timeout(RUNTIME_END_MAX);
    Ok(done)
}

/// Becomes true when this is asked to end.
fn stop_on_signal() -> Result<watch::Receiver<bool>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (stop, stopped) = watch::channel(false);
    let mut signals = Vec::new();
    for kind in [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()] {
        let _context = runtime.enter();
        signals.push(signal(kind)?);
    }
    std::thread::spawn(move || {
        let asked = signals.iter_mut().map(|signal| Box::pin(signal.recv()));
        runtime.block_on(futures::future::select_all(asked));
        stop.send_replace(true);
    });
    Ok(stopped)
}

fn interrupted() -> ExitCode {
    eprintln!("interrupted; what was started is stopped");
    ExitCode::from(130)
}

/// The versions of the clients that the peers are measured through.
fn client_versions() -> Map<String, Value> {
    let version = |name: &str| {
        let package = LOCK
            .split("[[package]]")
            .find(|package| package.lines().any(|line| line == format!("name = \"{name}\"")))?;
        let line = package.lines().find_map(|line| line.strip_prefix("version = "))?;
        Some(line.trim_matches('"').to_owned())
    };
    CLIENTS.iter().filter_map(|name| Some(((*name).to_owned(), version(name)?.into()))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_client_has_a_version() {
        assert_eq!(client_versions().len(), CLIENTS.len());
    }

    #[test]
    fn everything_is_measured_when_nothing_is_said() {
        let arguments = Arguments::parse_from(["peers", "--quorate", "quorate"]);
        let jobs = arguments.jobs();
        assert_eq!(jobs.len(), 5 * 3 + 1 + 3);
        for work in &arguments.work {
            let mut peers = System::ALL.into_iter().filter(|system| system.peer().is_some());
            assert!(peers.any(|system| system.does(*work)), "{work:?}");
        }
    }
}
