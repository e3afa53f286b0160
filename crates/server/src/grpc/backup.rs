//! A backup as a stream: a view of this node's tables, written down piece by piece.

use super::{Context, Deadline, Refused};
use crate::backup::{Header, export, save};
use crate::wire;
use bytes::Bytes;
use futures::Stream;
use quorate_consensus::{Failure, Reason, SystemClock, WallClock as _};
use quorate_proto::v1;
use quorate_state::{codec, query};
use quorate_storage::state::View;
use std::ops::ControlFlow;
use std::sync::Arc;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tonic::Status;

/// Bytes of one message.
const PIECE_BYTES: usize = 256 << 10;
/// Messages made ahead of the client.
const PIECES_AHEAD: usize = 4;

type Piece = Result<v1::BackupPiece, Status>;

/// Begins a backup of everything; one at a time on each node, because each reads the whole state and
/// keeps what is deleted meanwhile.
pub(super) async fn begin(
    context: &Context,
    request: v1::BackupRequest,
    deadline: Deadline,
) -> Result<impl Stream<Item = Piece> + use<>, Status> {
    let replica = &context.replica;
    let v1::BackupRequest { group_id, stale, .. } = request;
    wire::group(group_id, replica.group()).map_err(Refused::from)?;
    let format = request.format();
    let Ok(turn) = Arc::clone(&context.backups).try_acquire_owned() else {
        return Err(Refused::from(Failure {
            unknown: false,
            reason: Reason::Overloaded,
            message: "this node is making a backup already; wait for it, or ask another node"
                .to_owned(),
        })
        .into());
    };
    let view = if stale {
        Arc::new(replica.stale())
    } else {
        replica.read(deadline.remaining()).await.map_err(Refused::from)?
    };
    let header = header(context, &view, stale)?;
    let (pieces, made) = mpsc::channel(PIECES_AHEAD);
    let (group, slow_reader_max) = (replica.group(), context.slow_reader_max);
    let (runtime, stop) = (Handle::current(), context.stop.clone());
    tokio::task::spawn_blocking(move || {
        let _turn = turn;
        let rows_estimate = view.tables.rows_estimate();
        let send = |piece: Piece| {
            let sent = runtime.block_on(async {
                tokio::select! {
                    biased;
                    sent = tokio::time::timeout(slow_reader_max, pieces.send(piece)) => sent,
                    () = stop.cancelled() => Ok(Err(mpsc::error::SendError(Err(stopping())))),
                }
            });
            // One that takes nothing is given up as one that is gone.
            matches!(sent, Ok(Ok(())))
        };
        let mut sink = |part: Vec<u8>, rows: u64| {
            let part = Bytes::from(part);
            let mut from = 0;
            while from < part.len() {
                let to = part.len().min(from + PIECE_BYTES);
                let data = part.slice(from..to);
                if !send(Ok(v1::BackupPiece { data, rows, rows_estimate, last: false })) {
                    return ControlFlow::Break(());
                }
                from = to;
            }
            ControlFlow::Continue(())
        };
        let written = match format {
            v1::BackupFormat::Jsonl => export(&header, &*view.tables, group, &mut sink),
            v1::BackupFormat::Unspecified | v1::BackupFormat::Backup => {
                save(&header, &*view.tables, group, &mut sink)
            }
        };
        let end = match written {
            Ok(()) => Ok(v1::BackupPiece { rows_estimate, last: true, ..Default::default() }),
            Err(error) => {
                tracing::warn!(%error, "a backup was not finished");
                Err(if stop.is_cancelled() {
                    stopping()
                } else {
                    Status::internal(format!("the backup could not be finished: {error}"))
                })
            }
        };
        // Whoever asked for it may be gone; and without the end it is known to be cut off.
        send(end);
    });
    Ok(tokio_stream::wrappers::ReceiverStream::new(made))
}

fn stopping() -> Status {
    Status::unavailable("the node stops; make the backup from another one")
}

fn header(context: &Context, view: &View, stale: bool) -> Result<Header, Status> {
    let replica = &context.replica;
    let (tables, group) = (&*view.tables, replica.group());
    let membership = tables.membership().map_err(|error| Status::internal(error.to_string()))?;
    let Some(applied) = view.applied else {
        return Err(Refused::from(Failure {
            unknown: false,
            reason: Reason::NoLeader,
            message: "this node has applied nothing yet; ask again, or ask another node".to_owned(),
        })
        .into());
    };
    let revision = query::revision(tables, group).map_err(Refused::from)?;
    let clocks = query::clocks(tables, group).map_err(Refused::from)?;
    Ok(Header {
        cluster_id: replica.cluster_id(),
        node_id: replica.node_id().0,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        feature_level: codec::WRITTEN_LEVEL,
        group_id: group.0,
        applied,
        revision: revision.0,
        lease_ms: clocks.lease_ms,
        made_wall_ms: SystemClock.now_ms(),
        linearizable: !stale,
        membership,
    })
}
