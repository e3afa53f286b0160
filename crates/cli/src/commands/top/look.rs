//! Asks a cluster what is to be shown of it, everything at the same time.

use super::seen::{Cache, Channel, Cluster, Holder, Listed, Lock, Node, Queue, Session};
use super::view::PageName;
use crate::commands::cluster::{plan_text, role};
use crate::commands::lock::mode;
use crate::duration::millis;
use futures::future::{BoxFuture, join_all};
use futures::{FutureExt as _, Stream, StreamExt as _, TryStreamExt as _};
use quorate_client::bus::ChannelInfo;
use quorate_client::lock::LockState;
use quorate_client::queue::QueueInfo;
use quorate_client::{Client, Error, NodeStatus, SessionInfo, Status};
use std::time::Duration;
use tokio::time::Instant;

/// Items of a list that are asked for.
pub(super) const ITEMS_MAX: usize = 500;
/// How long a node may take to tell this machine what it has counted.
const COUNTERS_TIMEOUT: Duration = Duration::from_secs(1);

/// What is to be looked at; the cluster itself always is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) pages: Vec<PageName>,
    /// Only names with this in them.
    pub(super) filter: String,
}

/// What was seen at a moment; none: it was not looked for.
#[derive(Debug)]
pub(super) struct Look {
    pub(super) at: Instant,
    pub(super) cluster: Result<Cluster, Error>,
    pub(super) queues: Option<Result<Listed<Queue>, Error>>,
    pub(super) locks: Option<Result<Listed<Lock>, Error>>,
    pub(super) cache: Option<Result<Cache, Error>>,
    pub(super) bus: Option<Result<Listed<Channel>, Error>>,
    pub(super) sessions: Option<Result<Listed<Session>, Error>>,
}

/// Looks at the cluster once.
pub(super) fn look(client: Client, wanted: Wanted) -> BoxFuture<'static, Look> {
    // So many calls at once are a large future.
    look_at_all(client, wanted).boxed()
}

async fn look_at_all(client: Client, wanted: Wanted) -> Look {
    let (client, pattern) = (&client, &pattern(&wanted.filter));
    let at = Instant::now();
    let wants = |page| wanted.pages.contains(&page);
    let (cluster, queues, locks, cache, bus, sessions) = tokio::join!(
        look_at_cluster(client),
        when(wants(PageName::Queues), queues(client, pattern)),
        when(wants(PageName::Locks), locks(client, pattern)),
        when(wants(PageName::Cache), cache(client)),
        when(wants(PageName::Bus), channels(client, pattern)),
        when(wants(PageName::Sessions), sessions(client)),
    );
    Look { at, cluster, queues, locks, cache, bus, sessions }
}

async fn when<T>(wanted: bool, asked: impl Future<Output = T>) -> Option<T> {
    if wanted { Some(asked.await) } else { None }
}

/// What matches all names with `filter` in them.
fn pattern(filter: &str) -> String {
    let mut pattern = "*".to_owned();
    for c in filter.chars() {
        if matches!(c, '*' | '?' | '[' | ']' | '\\') {
            pattern.push('\\');
        }
        pattern.push(c);
    }
    if filter.is_empty() { pattern } else { pattern + "*" }
}

async fn look_at_cluster(client: &Client) -> Result<Cluster, Error> {
    let cluster = client.cluster();
    let (status, members) = tokio::try_join!(cluster.status(), cluster.members())?;
    let counters = members.members.iter().map(async |member| {
        let node = cluster.at(&member.client_addr).ok()?;
        node.timeout(COUNTERS_TIMEOUT).counters().await.ok()
    });
    let counters = join_all(counters).await;
    let nodes = members.members.iter().zip(counters).map(|(member, counters)| Node {
        id: member.node_id,
        voter: member.voter,
        client_addr: member.client_addr.clone(),
        counters,
        ..told(&status, member.node_id)
    });
    Ok(Cluster {
        nodes: nodes.collect(),
        plans: members.plans.iter().map(plan_text).collect(),
        cluster_id: status.cluster_id,
        term: status.term,
        leader: status.leader_id,
        answered_by: status.answered_by,
        feature_level: status.feature_level,
    })
}

/// What a member tells of itself.
fn told(status: &Status, id: u64) -> Node {
    let of = |id| status.nodes.iter().find(|node| node.node_id == id);
    let Some(node) = of(id) else {
        let problem = "it has only just become a member".to_owned();
        return Node { role: "unknown", problem, ..Node::default() };
    };
    let leader = status.leader_id.and_then(of);
    let lag = |leader: &NodeStatus| {
        let behind = leader.last_log?.saturating_sub(node.last_log.unwrap_or(0));
        // Of one that does not answer nothing is known.
        (!node.version.is_empty()).then_some(behind)
    };
    Node {
        role: role(node.role),
        healthy: node.healthy,
        problem: node.problem.clone(),
        version: node.version.clone(),
        applied: node.applied,
        lag: leader.and_then(lag),
        fsync_p50_us: node.fsync.map(|fsync| fsync.p50_us),
        fsync_p99_us: node.fsync.map(|fsync| fsync.p99_us),
        disk_free_bytes: node.disk_free_bytes,
        writes_refused: node.writes_refused,
        elections_hour: node.elections_hour,
        ..Node::default()
    }
}

/// The first items of a list.
async fn listed<A, T>(
    items: impl Stream<Item = Result<A, Error>>,
    of: impl Fn(A) -> T,
) -> Result<Listed<T>, Error> {
    let items: Vec<A> = items.take(ITEMS_MAX + 1).try_collect().await?;
    let more = items.len() > ITEMS_MAX;
    Ok(Listed { items: items.into_iter().take(ITEMS_MAX).map(of).collect(), more, stale: false })
}

/// Without a quorum, what the node that is asked knows.
async fn queues(client: &Client, pattern: &str) -> Result<Listed<Queue>, Error> {
    let list = client.queue().list_queues(pattern.as_bytes());
    match listed(list.clone().stream(), queue).await {
        Err(Error::Unavailable { .. }) => {
            let old = listed(list.stale().stream(), queue).await?;
            Ok(Listed { stale: true, ..old })
        }
        answer => answer,
    }
}

fn queue(info: QueueInfo) -> Queue {
    let totals = &info.totals;
    Queue {
        paused: info.paused,
        ready: info.ready,
        delayed: info.delayed,
        leased: info.leased,
        dead: info.dead,
        oldest_ready_ms: info.oldest_ready.map(millis),
        body_bytes: info.body_bytes,
        pushed: totals.pushed,
        delivered: totals.delivered,
        acked: totals.acked,
        nacked: totals.nacked,
        lapsed: totals.lapsed,
        died: totals.died,
        queue: info.name,
    }
}

async fn locks(client: &Client, pattern: &str) -> Result<Listed<Lock>, Error> {
    listed(client.locks().list(pattern.as_bytes()).stream(), lock).await
}

fn lock(state: LockState) -> Lock {
    let holder = |holder: &quorate_client::lock::Holder| Holder {
        token: holder.fencing_token,
        session: holder.session_id,
        mode: mode(holder.mode),
        held_ms: millis(holder.held),
        ttl_ms: millis(holder.ttl),
    };
    let holders = state.holders.iter().map(holder).collect();
    Lock { name: state.name, waiters: state.waiters, holders }
}

async fn cache(client: &Client) -> Result<Cache, Error> {
    let stats = client.cache().stats().await?;
    Ok(Cache {
        entries: stats.entries,
        bytes: stats.bytes,
        bytes_max: stats.bytes_max,
        builds: stats.builds,
        node_id: stats.node_id,
    })
}

async fn channels(client: &Client, pattern: &str) -> Result<Listed<Channel>, Error> {
    listed(client.bus().channels(pattern).stream(), channel).await
}

fn channel(info: ChannelInfo) -> Channel {
    Channel {
        pattern: info.pattern,
        subscribers: info.subscribers,
        nodes: info.nodes,
        queue_groups: info.queue_groups,
        members: info.members,
        last_sequence: info.last_sequence,
    }
}

async fn sessions(client: &Client) -> Result<Listed<Session>, Error> {
    listed(client.sessions().list(), session).await
}

fn session(info: SessionInfo) -> Session {
    Session { session: info.id, ttl_ms: millis(info.ttl), locks: info.locks, keys: info.keys }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_is_taken_as_it_is() {
        assert_eq!(pattern(""), "*");
        assert_eq!(pattern("mail"), "*mail*");
        assert_eq!(pattern("a*[b]\\?"), "*a\\*\\[b\\]\\\\\\?*");
    }

    #[tokio::test]
    async fn a_list_is_bounded_and_says_so() {
        let items = |count: usize| futures::stream::iter((0..count).map(Ok::<_, Error>));
        let all = listed(items(ITEMS_MAX), |item| item).await.expect("nothing fails");
        assert_eq!((all.items.len(), all.more), (ITEMS_MAX, false));
        let first = listed(items(ITEMS_MAX + 7), |item| item).await.expect("nothing fails");
        assert_eq!((first.items.len(), first.more), (ITEMS_MAX, true));
    }
}
