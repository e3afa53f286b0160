//! Single stories in a quiet cluster: an hour of idling and leaders that die one after the other,
//! wall clocks that jump, and a queue through all nodes.

use super::super::clients::{ms, now, options};
use super::super::in_a_thread;
use super::super::journal::Journal;
use super::super::net::{CLIENT_HOSTS, Host, NODES, Obstacle, Reach};
use super::super::plan::Plan;
use super::super::report::Report;
use super::super::verdict;
use super::{Contention, FREED_WITHIN, Stage, contend, judge};
use quorate_client::{Client, Error, Routing};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// How long forming the cluster, or electing a leader, may take in a quiet network.
const ELECTED_WITHIN: Duration = Duration::from_secs(5);
/// Ttl of the locks and sessions in the story of the queue.
const TTL: Duration = Duration::from_secs(30);
/// How exact the times of a long story are.
const COARSE: Duration = Duration::from_millis(20);
/// How long a node that was killed is away.
const AWAY: Duration = Duration::from_secs(1);

/// As [`super::run_locks`], but the only fault is the leader's wall clock, which is set an hour
/// forward and back: so everything that is promised of a calm cluster holds all the time.
#[must_use]
pub fn run_wall_jumps(seed: u64, directory: &Path) -> Report {
    let simulate = |plan: &Plan, journal: &Journal| {
        let stage = Stage::new(plan, journal, Contention::new(journal));
        stage.story.books.course.calm(ELECTED_WITHIN);
        contend(stage, plan)
    };
    let judge = |report: &mut Report, journal: &Journal, ended| {
        judge(report, journal, &ended);
        verdict::keep_journal(report, directory, "locks");
    };
    let plan = Plan::draw_of_wall_jumps(seed);
    in_a_thread("locks::wall_clocks_that_jump_touch_no_lease", seed, plan, simulate, judge)
}

/// What became of a session that nobody kept alive.
#[derive(Clone, Debug, Default)]
pub struct Dead {
    /// How long it lived, from when it was asked for.
    pub lived: Option<Duration>,
    /// Leaders that were killed meanwhile, and when the next one began to lead, counted likewise.
    pub failovers: Vec<Duration>,
    /// What must not be.
    pub problems: Vec<String>,
}

/// What the two clients of the story tell.
#[derive(Default)]
struct Told {
    kept: bool,
    die: bool,
    /// The session, and when the request that it began with was sent.
    dead: Option<(u64, Duration)>,
}

type Shared = Arc<Mutex<Told>>;

fn with<T>(told: &Shared, see: impl FnOnce(&mut Told) -> T) -> T {
    see(&mut told.lock().unwrap_or_else(PoisonError::into_inner))
}

/// A client of all nodes, or of one alone.
fn connect(
    host: Host,
    reach: &Reach,
    seed: u64,
    ttl: Duration,
    node: Option<usize>,
) -> Result<Client, Error> {
    let routing = if node.is_some() { Routing::Endpoints } else { Routing::Leader };
    options(host, reach, node.unwrap_or(0), routing).seed(seed).session_ttl(ttl).connect()
}

/// Leaders that die one after the other.
#[derive(Clone, Copy, Debug)]
pub struct Failovers {
    /// Ttl of all sessions and of the lock that is kept.
    pub ttl: Duration,
    /// How long nothing happens before.
    pub idle: Duration,
    /// Each leader is killed when it has led for so long; the first one is when the session that
    /// nobody keeps alive is so old.
    pub every: Duration,
    /// How many.
    pub count: u32,
}

/// A session and a lock are kept alive all the time. Another session is opened after the idle time,
/// and left alone: what becomes of it is answered, with the failovers that it saw.
#[must_use]
pub fn run_failovers(story: Failovers) -> Dead {
    let lasts = story.idle + (story.every + ELECTED_WITHIN) * story.count + story.ttl * 3;
    let plan = Plan::quiet(1, COARSE, lasts);
    let simulate = move |plan: &Plan, journal: &Journal| {
        let mut stage = Stage::new(plan, journal, Contention::new(journal));
        let mut dead = Dead::default();
        if let Err(problem) = failovers_of(&mut stage, story, &mut dead) {
            dead.problems.push(problem);
        }
        dead
    };
    let mut dead = Dead::default();
    let report = in_a_thread("", 1, plan, simulate, |report, journal, told| {
        dead = told;
        report.problems = journal.problems();
    });
    dead.problems.extend(report.problems);
    dead
}

fn failovers_of(stage: &mut Stage<'_>, story: Failovers, dead: &mut Dead) -> Result<(), String> {
    let Failovers { ttl, idle, every, count } = story;
    let told = Shared::default();
    start_keeper(stage, ttl, &told);
    start_dying(stage, ttl, &told);
    let formed = stage.sim.elapsed() + ELECTED_WITHIN;
    until(stage, formed, "the lock that is kept", |_| with(&told, |told| told.kept))?;
    let idle_until = stage.sim.elapsed() + idle;
    while stage.sim.elapsed() < idle_until {
        stage.step()?;
    }
    with(&told, |told| told.die = true);
    let opened = stage.sim.elapsed() + ELECTED_WITHIN;
    until(stage, opened, "the session", |_| with(&told, |told| told.dead.is_some()))?;
    let (session, began) = with(&told, |told| told.dead).ok_or("nobody began")?;
    let has_ended = |stage: &Stage<'_>| stage.story.witness.session_ended(session).is_some();
    let mut led_since = began;
    for _ in 0..count {
        while stage.sim.elapsed() < led_since + every {
            stage.step()?;
        }
        let sees = !has_ended(stage);
        led_since = fail_over(stage)?;
        if sees {
            dead.failovers.push(led_since.saturating_sub(began));
        }
    }
    let last = stage.sim.elapsed() + ttl * 2;
    let ended = until(stage, last, "the end of the session that nobody kept alive", has_ended);
    let ended_at = stage.story.witness.session_ended(session);
    dead.lived = ended_at.map(|at| at.saturating_sub(began));
    ended?;
    stage.story.books.course.close();
    let closed = stage.sim.elapsed() + ELECTED_WITHIN;
    until(stage, closed, "the end of the lock that is kept", |_| with(&told, |told| !told.kept))
}

/// Kills the leader, and starts it again when another one leads: when that began.
fn fail_over(stage: &mut Stage<'_>) -> Result<Duration, String> {
    let node = stage.cluster.leader().ok_or("nobody leads")?;
    let (term, _) = stage.story.witness.leader();
    stage.journal.write(stage.sim.elapsed(), format_args!("killed: {}", NODES[node]));
    let killed = stage.sim.elapsed();
    stage.cluster.kill(&mut stage.sim, node, Obstacle::Refused);
    until(stage, killed + ELECTED_WITHIN, "a leader", |stage| {
        stage.story.witness.leader().0 > term
    })?;
    let led_since = stage.story.witness.leader().1;
    while stage.sim.elapsed() < killed + AWAY {
        stage.step()?;
    }
    stage.cluster.restart(&mut stage.sim, node);
    Ok(led_since)
}

fn until(
    stage: &mut Stage<'_>,
    deadline: Duration,
    what: &str,
    so: impl Fn(&Stage<'_>) -> bool,
) -> Result<(), String> {
    while !so(stage) {
        stage.step()?;
        if stage.sim.elapsed() > deadline {
            return Err(format!("at {:?}: {what} has not come", stage.sim.elapsed()));
        }
    }
    Ok(())
}

/// Holds a lock as programs do, and complains if it is ever lost.
fn start_keeper(stage: &mut Stage<'_>, ttl: Duration, told: &Shared) {
    let (reach, books) = (stage.cluster.reach.clone(), Arc::clone(&stage.story.books));
    let told = Arc::clone(told);
    let host = CLIENT_HOSTS[0];
    stage.sim.client(host, async move {
        let client = connect(host, &reach, 1, ttl, None)?;
        let lock = client.locks().acquire("kept").ttl(ttl).await?;
        client.kv().set("own", "here").ephemeral().await?;
        with(&told, |told| told.kept = true);
        while !books.course.is_closed() {
            tokio::time::sleep(ms(20)).await;
            if lock.is_lost() {
                books.journal.problem(now(), format_args!("the lock was lost that is kept"));
                break;
            }
        }
        if client.kv().get("own").await?.is_none() {
            books.journal.problem(now(), format_args!("the session was lost that is kept alive"));
        }
        if !lock.release().await? {
            books.journal.problem(now(), format_args!("the lock was not held any more"));
        }
        with(&told, |told| told.kept = false);
        Ok(())
    });
}

/// Opens a session, takes a lock for longer than that lasts, and is gone.
fn start_dying(stage: &mut Stage<'_>, ttl: Duration, told: &Shared) {
    let (reach, told) = (stage.cluster.reach.clone(), Arc::clone(told));
    let host = CLIENT_HOSTS[1];
    stage.sim.client(host, async move {
        while !with(&told, |told| told.die) {
            tokio::time::sleep(ms(20)).await;
        }
        let client = connect(host, &reach, 2, ttl, None)?;
        let sent = now();
        let lock = client.locks().acquire("dead").ttl(ttl * 100).no_wait().await?;
        let session = lock.session_id();
        let _ = lock.leave();
        drop(client);
        with(&told, |told| told.dead = Some((session, sent)));
        std::future::pending().await
    });
}

/// Three clients wait for a lock one after the other, each through another node. Answers what must
/// not be.
#[must_use]
pub fn run_queue(seed: u64) -> Vec<String> {
    let plan = Plan::quiet(seed, ms(4), Duration::from_secs(30));
    let simulate = |plan: &Plan, journal: &Journal| {
        let mut stage = Stage::new(plan, journal, Contention::new(journal));
        if let Err(problem) = queue_of(&mut stage) {
            journal.problem(stage.sim.elapsed(), format_args!("{problem}"));
        }
    };
    let report = in_a_thread("", seed, plan, simulate, |report, journal, ()| {
        report.problems = journal.problems();
        if !report.problems.is_empty() {
            report.problems.extend(journal.lines());
        }
    });
    report.problems
}

/// Between two requests of the queue: every node has applied the one before.
const APART: Duration = Duration::from_millis(400);

fn queue_of(stage: &mut Stage<'_>) -> Result<(), String> {
    let host = CLIENT_HOSTS[0];
    let waiting = Duration::from_secs(4);
    let served = Arc::new(Mutex::new(Vec::new()));
    let clients = (0..=NODES.len()).map(|nth| {
        let (reach, served) = (stage.cluster.reach.clone(), Arc::clone(&served));
        Box::pin(async move {
            // The first one holds it; the others come through one node each.
            let client = connect(host, &reach, nth as u64, TTL, nth.checked_sub(1))?;
            client.kv().set(format!("opens/{nth}"), "a session").await?;
            let at = |after| tokio::time::sleep(Duration::saturating_sub(after, now()));
            at(waiting + APART * u32::try_from(nth)?).await;
            let lock = client.locks().acquire("queue").ttl(TTL).wait(TTL).await?;
            served.lock().unwrap_or_else(PoisonError::into_inner).push(nth);
            if nth == 0 {
                at(waiting * 2).await;
            }
            lock.release().await?;
            turmoil::Result::Ok(())
        })
    });
    let clients = futures::future::join_all(clients.collect::<Vec<_>>());
    stage.sim.client(host, async move {
        clients.await.into_iter().collect::<turmoil::Result>()?;
        Ok(())
    });
    let proposed = |stage: &Stage<'_>| -> u64 {
        let replicas = stage.cluster.machines.iter().filter_map(|machine| machine.replica());
        replicas.map(|(_, replica)| replica.counters().commands_proposed).sum()
    };
    let mut before = 0;
    while stage.sim.elapsed() < waiting * 2 - APART {
        if stage.sim.elapsed() <= waiting {
            before = proposed(stage);
        }
        stage.step()?;
    }
    // Each request is one command. A tick may come between, and one record of what is left.
    let after = proposed(stage) - before;
    let most = 2 + NODES.len() as u64 + 1;
    if after > most {
        return Err(format!("four requests for a lock were {after} commands instead of {most}"));
    }
    let end = waiting * 2 + FREED_WITHIN;
    until(stage, end, "the end of the queue", |stage| {
        stage.story.witness.granted("queue").len() == 1 + NODES.len()
            && stage.story.witness.all_free().is_ok()
    })?;
    let served = served.lock().unwrap_or_else(PoisonError::into_inner).clone();
    match served.is_sorted() && served.len() == 1 + NODES.len() {
        true => Ok(()),
        false => Err(format!("requests were served in the order {served:?}")),
    }
}
