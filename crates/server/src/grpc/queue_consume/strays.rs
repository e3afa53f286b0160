//! Consumers that the log has on this node, and that nobody is there for.

use crate::grpc::{Context, say};
use crate::news::Stray;
use futures::StreamExt as _;
use quorate_state::{Command, ConsumerDetach, JobLease, query};
use tokio::sync::mpsc;

/// Consumers of an earlier process that are sent away at once.
const SAID_AT_ONCE: usize = 64;

/// Sends consumers away that have no stream here: first those of an earlier process of this node,
/// then whoever is given jobs here all the same, because what was to be said of it when it ended was
/// not heard.
pub(crate) async fn look_after(context: Context, mut strays: mpsc::Receiver<Stray>) {
    let stop = context.stop.clone();
    let look_after = async {
        send_predecessors_away(&context).await;
        while let Some(stray) = strays.recv().await {
            send_away(&context, stray).await;
        }
    };
    tokio::select! {
        () = look_after => {}
        () = stop.cancelled() => {}
    }
}

/// A process that ended in order has said so of its consumers and pulls itself.
async fn send_predecessors_away(context: &Context) {
    let view = loop {
        match context.replica.read(say::SAY).await {
            Ok(view) => break view,
            Err(_) => tokio::time::sleep(say::SAY_AGAIN).await,
        }
    };
    let node = context.replica.node_id();
    let here = match query::consumers_on(&*view.tables, context.replica.group(), node) {
        Ok(here) => here,
        Err(error) => {
            tracing::warn!(%error, "who consumed on this node before can't be read");
            return;
        }
    };
    drop(view);
    let before = here.into_iter().filter(|(_, at)| !context.is_own(*at));
    let said = before.map(|(consumer, attachment)| {
        // What was handed over nobody knows any more.
        let delivered = JobLease(u64::MAX);
        let detach = ConsumerDetach { consumer, attachment, delivered };
        say::until_applied(context, Command::ConsumerDetach(detach))
    });
    futures::stream::iter(said).buffer_unordered(SAID_AT_ONCE).for_each(async |()| {}).await;
}

async fn send_away(context: &Context, stray: Stray) {
    let Stray { consumer, attachment, lease } = stray;
    // A node that was away is told again of what has long changed.
    let Ok(view) = context.replica.read(say::SAY).await else { return };
    let standing = query::consumer(&*view.tables, context.replica.group(), consumer);
    drop(view);
    if !matches!(standing, Ok(Some(Some(at))) if at == attachment) {
        return;
    }
    tracing::info!(%consumer, "a consumer that nobody is there for is given jobs: it is detached");
    let delivered = JobLease(lease.0.saturating_sub(1));
    let detach = Command::ConsumerDetach(ConsumerDetach { consumer, attachment, delivered });
    // If it fails it is found again.
    let _ = context.replica.propose(say::own(detach), say::SAY).await;
}
