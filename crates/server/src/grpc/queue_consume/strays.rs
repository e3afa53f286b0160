//! Consumers that the log has on this node, and that nobody is there for.

use crate::grpc::{Context, blocking, say};
use crate::news::Stray;
use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use quorate_state::{Command, ConsumerDetach, JobLease, query};
use quorate_storage::state::View;
use std::collections::BTreeSet;
use std::sync::Arc;
use tokio::sync::mpsc;

/// Consumers that are sent away at once.
const SAID_AT_ONCE: usize = 64;

/// Sends consumers away that have no stream here: first those of an earlier process of this node,
/// then whoever is given jobs here all the same, because what was to be said of it when it ended was
/// not heard.
pub(crate) async fn look_after(context: Context, mut strays: mpsc::Receiver<Stray>) {
    let stop = context.stop.clone();
    let look_after = async {
        send_predecessors_away(&context).await;
        // Each is found again with every job that comes before it is gone.
        let (mut leaving, mut sent) = (BTreeSet::new(), FuturesUnordered::new());
        loop {
            tokio::select! {
                stray = strays.recv(), if sent.len() < SAID_AT_ONCE => match stray {
                    Some(stray) if leaving.insert(stray.attachment.call) => {
                        sent.push(send_away(&context, stray));
                    }
                    Some(_) => {}
                    None => return,
                },
                Some(Stray { attachment, .. }) = sent.next() => {
                    leaving.remove(&attachment.call);
                }
            }
        }
    };
    tokio::select! {
        () = look_after => {}
        () = stop.cancelled() => {}
    }
}

/// A process that ended in order has said so of its consumers and pulls itself.
async fn send_predecessors_away(context: &Context) {
    let view = view(context).await;
    let node = context.replica.node_id();
    let here = blocking(|| query::consumers_on(&*view.tables, context.replica.group(), node));
    let here = match here {
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

/// Answers who it was.
async fn send_away(context: &Context, stray: Stray) -> Stray {
    let Stray { consumer, attachment, lease } = stray;
    // A node that was away is told again of what has long changed.
    let view = view(context).await;
    let standing = query::consumer(&*view.tables, context.replica.group(), consumer);
    drop(view);
    if !matches!(standing, Ok(Some(Some(at))) if at == attachment) {
        return stray;
    }
    tracing::info!(%consumer, "a consumer that nobody is there for is given jobs: it is detached");
    let delivered = JobLease(lease.0.saturating_sub(1));
    let detach = ConsumerDetach { consumer, attachment, delivered };
    // Until it is so: with its window full it is not given another job by which it would be found.
    say::until_applied(context, Command::ConsumerDetach(detach)).await;
    stray
}

/// What the cluster has applied, as soon as that can be told.
async fn view(context: &Context) -> Arc<View> {
    loop {
        match context.replica.read(say::SAY).await {
            Ok(view) => return view,
            Err(_) => tokio::time::sleep(say::SAY_AGAIN).await,
        }
    }
}
