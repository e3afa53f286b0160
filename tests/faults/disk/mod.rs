//! Disks that fail, under real nodes: every write point that is reached fails once, from then on, or
//! for want of room. The node stops and says why, or goes on rightly; the others serve meanwhile; and
//! when the disk is well again the node has everything.
//!
//! Some points of the seed are tried; `QUORATE_DISK_POINTS=1000` tries all, and `QUORATE_DISK_ONLY=sync`
//! those whose line contains that.

mod first;
mod library;
mod room;
mod rot;

use library::{Disks, Fault, Point};
use quorate_testkit::load::{Load, Plan, wait_healthy};
use quorate_testkit::process::{NodeId, ProcessCluster};
use quorate_tests::processes::{alone, number, purged_past, say, seed, wait_until};
use rand::rngs::StdRng;
use rand::seq::{IndexedRandom as _, SliceRandom as _};
use rand::{RngExt as _, SeedableRng as _};
use std::collections::BTreeMap;
use std::fs;
use std::time::{Duration, Instant};

/// Memtables, and log between two snapshots, as small as can be set: flushes, compactions, snapshots
/// and purges all the time.
const SMALL: [&str; 8] = [
    "--storage-log-memtable-bytes",
    "65536",
    "--storage-state-memtable-bytes",
    "65536",
    "--storage-snapshot-log-bytes",
    "65536",
    "--storage-log-keep-entries",
    "10",
];
/// How long it may take until a point is reached.
const REACHED: Duration = Duration::from_secs(20);
/// How long a node gets to stop, or to be as far as the others, before the disk is mended under it.
const BEARS: Duration = Duration::from_secs(4);
/// How long after that it may take.
const RECOVERS: Duration = Duration::from_secs(60);

/// When the disk fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum When {
    /// While the node serves.
    Serving,
    /// While it starts and receives what it missed as a snapshot.
    Starting,
}

/// What became of the node.
enum End {
    /// It ended by itself; the last thing it said.
    Stopped(String),
    /// It went on, and came as far as the others although the fault was there.
    Bore,
    /// It went on, and came as far as the others when the fault was gone.
    Recovered,
}

/// A cluster on disks that can be made to fail, and clients that write.
struct Stage {
    cluster: ProcessCluster,
    disks: Disks,
    load: Load,
}

impl Stage {
    async fn set() -> Self {
        let mut options = ProcessCluster::options(3).deadline(Duration::from_secs(60));
        for argument in SMALL {
            options = options.arg(argument);
        }
        let (disks, options) = Disks::below(options, 3);
        let mut cluster = options.start().await.expect("three nodes start");
        cluster.wait_ready().await.expect("a leader is elected");
        let plan = Plan { writers: 4, value_bytes: 2_000, ..Plan::default() };
        let load = Load::start(&cluster.endpoints(), plan).await.expect("writes are acknowledged");
        Self { cluster, disks, load }
    }

    /// Kills a node, and waits until the others have purged what it misses.
    async fn leave_behind(&mut self, id: NodeId) {
        self.cluster.kill(id).await.expect("the node can be killed");
        let leader = self.cluster.leader().await.expect("the others elect one");
        let had = self.member(leader, leader).await.last_log.expect("there were writes");
        purged_past(&self.cluster, leader, had).await;
    }

    async fn member(&self, asked: NodeId, of: NodeId) -> quorate_proto::v1::NodeStatus {
        let status = self.cluster.status(asked).await.expect("a live node answers");
        status.nodes.into_iter().find(|node| node.node_id == of).expect("it is a member")
    }

    /// The points that a node reaches, and how often.
    async fn points(&mut self, id: NodeId) -> BTreeMap<(When, Point), u64> {
        let mut points = BTreeMap::new();
        let from = self.disks.noted(id);
        let first = self.member(id, id).await.snapshot;
        let cluster = &self.cluster;
        wait_until("the node takes snapshots", REACHED, || async move {
            let status = cluster.status(id).await.expect("it answers");
            let node = status.nodes.into_iter().find(|node| node.node_id == id);
            node.expect("it is a member").snapshot > first.map(|first| first + 500)
        })
        .await;
        let reached = self.disks.reached(id, from);
        points.extend(reached.into_iter().map(|(point, count)| ((When::Serving, point), count)));
        self.leave_behind(id).await;
        let from = self.disks.noted(id);
        self.cluster.restart(id).await.expect("it starts");
        wait_healthy(&mut self.cluster).await.expect("it catches up");
        let reached = self.disks.reached(id, from);
        points.extend(reached.into_iter().map(|(point, count)| ((When::Starting, point), count)));
        points
    }

    /// Whether the node is as far as the leader was when this was asked first.
    async fn is_level(&self, id: NodeId, target: &mut Option<u64>) -> bool {
        let Ok(status) = self.cluster.status(id).await else { return false };
        let leader = status.nodes.iter().find(|node| Some(node.node_id) == status.leader_id);
        let Some(leader) = leader else { return false };
        let target = *target.get_or_insert(leader.committed.unwrap_or_default());
        let node = status.nodes.iter().find(|node| node.node_id == id);
        node.is_some_and(|node| node.healthy && node.applied >= Some(target))
    }

    /// Lets the disk of a node fail at a point; what became of the node. None when the point was not
    /// reached.
    async fn fail(
        &mut self,
        id: NodeId,
        (when, point): &(When, Point),
        nth: u64,
        fault: Fault,
    ) -> Option<End> {
        let said = fs::metadata(self.cluster.log_path(id)).expect("it has a log").len();
        if *when == When::Starting {
            self.leave_behind(id).await;
        }
        let from = self.disks.noted(id);
        self.disks.plan(id, point, nth, fault);
        if *when == When::Starting {
            self.cluster.spawn(id).expect("it can be started");
        }
        let begun = Instant::now();
        let mut failed_at = None;
        let mut mended = false;
        let mut target = None;
        let end = loop {
            if let Some(status) = self.cluster.take_exit(id).expect("the system tells") {
                assert!(failed_at.is_some() || self.disks.failed(id, from), "it ended for nothing");
                assert_eq!(status.code(), Some(1), "it ended with {status}");
                break Some(End::Stopped(reason(&self.cluster, id, said, fault)));
            }
            if failed_at.is_none() && self.disks.failed(id, from) {
                failed_at = Some(Instant::now());
            }
            let level = failed_at.is_some() && self.is_level(id, &mut target).await;
            match failed_at {
                None if begun.elapsed() > REACHED => break None,
                None => {}
                Some(_) if level && mended => break Some(End::Recovered),
                Some(at) if level && at.elapsed() > BEARS / 4 => break Some(End::Bore),
                Some(at) if !mended && at.elapsed() > BEARS => {
                    self.disks.mend(id);
                    mended = true;
                }
                Some(at) => {
                    assert!(at.elapsed() < BEARS + RECOVERS, "it neither stops nor goes on");
                }
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        };
        if matches!(end, Some(End::Stopped(_))) {
            // The two others go on.
            self.load.wait_for(5, RECOVERS).await.expect("the others serve");
        }
        self.disks.mend(id);
        if matches!(end, Some(End::Bore | End::Recovered)) {
            // What it has on its disk is what counts, not what it has in memory.
            self.cluster.kill(id).await.expect("it runs");
        }
        if self.cluster.pid(id).is_none() {
            self.cluster.restart(id).await.expect("it starts when the disk is well");
        }
        wait_healthy(&mut self.cluster).await.expect("it catches up");
        end
    }

    /// Nothing acknowledged is lost, and all nodes agree.
    async fn finish(self) {
        let Self { mut cluster, load, .. } = self;
        let ledgers = load.stop().await.expect("no writer saw a broken promise");
        let totals = ledgers.verify(&cluster.endpoints()).await.expect("nothing is lost");
        let state = cluster.wait_same_state().await.expect("all nodes have the same state");
        say(format!(
            "{} writes were acknowledged, and are there; all nodes have checksum {:016x}",
            totals.acknowledged, state.checksum
        ));
        cluster.logs().assert_no_panics();
    }
}

/// Why a node says that it ended: it names the error, and something in its directory.
fn reason(cluster: &ProcessCluster, id: NodeId, from: u64, fault: Fault) -> String {
    let log = fs::read(cluster.log_path(id)).expect("it has a log");
    let from = usize::try_from(from).expect("a log fits in memory");
    let log = String::from_utf8_lossy(&log[from..]).into_owned();
    let directory = cluster.data_dir(id).display().to_string();
    let last = log.lines().rev().find(|line| line.starts_with("quorate: "));
    let last = last.unwrap_or_else(|| panic!("it does not say why it ended:\n{log}"));
    assert!(
        last.contains(fault.text()) && last.contains(&directory),
        "it does not say what failed: {last}"
    );
    last.replace(&directory, "")
}

/// The faults that a point can have.
fn faults(point: &Point) -> &'static [Fault] {
    match point.call.as_str() {
        "write" | "create" | "mkdir" | "link" | "allocate" | "copy" => {
            &[Fault::Full, Fault::Once, Fault::On]
        }
        _ => &[Fault::Once, Fault::On],
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn at_every_write_point_a_failing_disk_stops_the_node_or_does_no_harm() {
    let _alone = alone().await;
    let seed =
        seed("faults", "disk::at_every_write_point_a_failing_disk_stops_the_node_or_does_no_harm");
    let mut rng = StdRng::seed_from_u64(seed);
    let tried_max = number("QUORATE_DISK_POINTS", 16_usize);
    let only = std::env::var("QUORATE_DISK_ONLY").unwrap_or_default();
    let mut stage = Stage::set().await;
    let points = stage.points(2).await;
    let mut tries: Vec<_> = points
        .iter()
        .flat_map(|(point, count)| {
            faults(&point.1).iter().map(move |fault| (point, *count, *fault))
        })
        .filter(|((when, point), _, fault)| format!("{when:?} {point} {fault:?}").contains(&only))
        .collect();
    say(format!("{} points, and {} ways to fail at them", points.len(), tries.len()));
    tries.shuffle(&mut rng);
    let (mut reached, mut stopped) = (0, 0);
    let tried = tries.len().min(tried_max);
    for (point, count, fault) in tries.into_iter().take(tried_max) {
        let id = *stage.cluster.ids().choose(&mut rng).expect("there are some");
        let nth = rng.random_range(1..=count.div_ceil(2));
        let begun = Instant::now();
        say(format!("{:?} {}, {fault:?} at number {nth}, node {id}:", point.0, point.1));
        let end = stage.fail(id, point, nth, fault).await;
        reached += usize::from(end.is_some());
        stopped += usize::from(matches!(end, Some(End::Stopped(_))));
        let end = match &end {
            None => "it was not reached".to_owned(),
            Some(End::Stopped(reason)) => format!("it stopped: {reason}"),
            Some(End::Bore) => "it went on".to_owned(),
            Some(End::Recovered) => "it went on when the disk was well".to_owned(),
        };
        say(format!("    {:.1} s: {end}", begun.elapsed().as_secs_f64()));
    }
    assert!(tried > 0, "QUORATE_DISK_ONLY selects nothing");
    say(format!("{reached} of {tried} were reached, and the node stopped at {stopped}"));
    stage.finish().await;
    assert!(reached * 4 >= tried * 3, "only {reached} of {tried}");
}
