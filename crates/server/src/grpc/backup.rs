//! A backup as a stream: a view of this node's tables, written down piece by piece.

use super::{Context, Deadline, Refused};
use crate::backup::{Header, export, save};
use crate::wire;
use bytes::Bytes;
use futures::Stream;
use quorate_consensus::{Failure, Reason, SystemClock, WallClock as _};
use quorate_proto::v1;
use quorate_state::query;
use quorate_storage::state::View;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tonic::Status;

/// Bytes of one message.
const PIECE_BYTES: usize = 256 << 10;
/// Messages made ahead of the client.
const PIECES_AHEAD: usize = 4;

/// What a client has to take on average, so that its view of the state is not kept for ever: slower
/// than any network that a backup would be sent over.
const BYTES_PER_SECOND_MIN: u64 = 64 << 10;
/// How long the end waits for room.
const LAST_WORD_MAX: Duration = Duration::from_secs(1);

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
        let rows_estimate = view.tables.rows_estimate();
        let mut client =
            Client { pieces, runtime, stop, slow_reader_max, begun: Instant::now(), bytes: 0 };
        let mut why = None;
        let mut sink = |part: Vec<u8>, rows: u64| {
            let part = Bytes::from(part);
            for from in (0..part.len()).step_by(PIECE_BYTES) {
                let data = part.slice(from..part.len().min(from + PIECE_BYTES));
                let piece = v1::BackupPiece { data, rows, rows_estimate, last: false };
                if let Err(status) = client.give(piece) {
                    why = Some(status);
                    return ControlFlow::Break(());
                }
            }
            ControlFlow::Continue(())
        };
        let written = match format {
            v1::BackupFormat::Jsonl => export(&header, &*view.tables, group, &mut sink),
            v1::BackupFormat::Unspecified | v1::BackupFormat::Backup => {
                save(&header, &*view.tables, group, &mut sink)
            }
        };
        // Nobody has to wait for a client that takes nothing.
        drop((view, turn));
        let end = match (written, why) {
            (Ok(()), _) => Ok(v1::BackupPiece { rows_estimate, last: true, ..Default::default() }),
            (Err(error), why) => {
                let status = why.unwrap_or_else(|| {
                    Status::internal(format!("the backup could not be finished: {error}"))
                });
                tracing::warn!(%status, "a backup was not finished");
                Err(status)
            }
        };
        client.end(end);
    });
    Ok(tokio_stream::wrappers::ReceiverStream::new(made))
}

/// Whoever asked for it.
struct Client {
    pieces: mpsc::Sender<Piece>,
    runtime: Handle,
    stop: CancellationToken,
    slow_reader_max: Duration,
    begun: Instant,
    bytes: u64,
}

impl Client {
    /// Waits until there is room for a piece; not for a client that takes nothing, or so little that
    /// the view would be kept for days.
    fn give(&mut self, piece: v1::BackupPiece) -> Result<(), Status> {
        if self.stop.is_cancelled() {
            return Err(stopping());
        }
        self.bytes += piece.data.len() as u64;
        let elapsed = self.begun.elapsed();
        let least = elapsed.as_secs().saturating_mul(BYTES_PER_SECOND_MIN);
        if elapsed > self.slow_reader_max && self.bytes < least {
            return Err(slow());
        }
        let Self { pieces, runtime, stop, slow_reader_max, .. } = self;
        runtime.block_on(async {
            tokio::select! {
                sent = tokio::time::timeout(*slow_reader_max, pieces.send(Ok(piece))) => match sent {
                    Ok(Ok(())) => Ok(()),
                    Ok(Err(_)) => Err(Status::cancelled("whoever asked for the backup is gone")),
                    Err(_) => Err(slow()),
                },
                () = stop.cancelled() => Err(stopping()),
            }
        })
    }

    /// The last word, if there is soon room for it. Without it the client knows that it was cut off.
    fn end(self, end: Piece) {
        let Self { pieces, runtime, .. } = self;
        let said = runtime.block_on(tokio::time::timeout(LAST_WORD_MAX, pieces.send(end)));
        drop(said);
    }
}

fn slow() -> Status {
    Status::resource_exhausted(
        "the backup was taken too slowly: its node keeps what is deleted meanwhile. Save it nearer to \
         the node",
    )
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
    let level = query::feature_level(tables, group).map_err(Refused::from)?;
    Ok(Header {
        cluster_id: replica.cluster_id(),
        node_id: replica.node_id().0,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        feature_level: level.0,
        group_id: group.0,
        applied,
        revision: revision.0,
        made_wall_ms: SystemClock.now_ms(),
        linearizable: !stale,
        membership,
    })
}
