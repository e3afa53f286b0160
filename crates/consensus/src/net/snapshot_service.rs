//! Receives a snapshot: says which files are missing, takes their pieces, checks, installs.

use crate::replica::Replica;
use crate::types::{Vote, position, stored_membership};
use crate::wire;
use futures::StreamExt;
use futures::stream::BoxStream;
use openraft::SnapshotMeta;
use openraft::storage::Snapshot;
use quorate_proto::peer::{self as pb, snapshot_request, snapshot_response};
use quorate_state::NodeId;
use quorate_storage::snapshot::{Snapshot as StoredSnapshot, SnapshotFile};
use quorate_storage::state::AppliedMeta;
use std::sync::Arc;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

type Answers = mpsc::Sender<Result<pb::SnapshotResponse, Status>>;

/// Works through the stream in a task of its own and answers on the returned one.
pub(crate) fn receive_snapshot(
    replica: Replica,
    from: NodeId,
    pieces: Streaming<pb::SnapshotRequest>,
) -> BoxStream<'static, Result<pb::SnapshotResponse, Status>> {
    let (answers, answered) = mpsc::channel(2);
    tokio::spawn(async move {
        if let Err(status) = receive(&replica, from, pieces, &answers).await {
            tracing::warn!(%from, %status, "a snapshot could not be received");
            // The sender may be gone as well.
            let _ = answers.send(Err(status)).await;
        }
    });
    ReceiverStream::new(answered).boxed()
}

fn malformed(what: &str) -> Status {
    Status::invalid_argument(format!("malformed snapshot stream: {what}"))
}

fn failed(error: impl std::fmt::Display) -> Status {
    Status::internal(error.to_string())
}

/// What the sender is told of a failure of this node's storage, which is noted when it is one of the
/// disk. Nothing is tried again then: a sync that has failed says nothing of what a second one finds.
fn storage_failed(replica: &Replica, error: &quorate_storage::Error) -> Status {
    match error {
        quorate_storage::Error::Transfer { .. } => failed(error),
        // The files are what was announced: the sender has to look at its own.
        quorate_storage::Error::CorruptCopy { .. } => Status::data_loss(error.to_string()),
        _ => {
            replica.failures().note(error);
            failed(error)
        }
    }
}

async fn answer(answers: &Answers, part: snapshot_response::Part) -> Result<(), Status> {
    answers
        .send(Ok(pb::SnapshotResponse { part: Some(part) }))
        .await
        .map_err(|_| Status::cancelled("the sender of the snapshot is gone"))
}

async fn receive(
    replica: &Replica,
    from: NodeId,
    mut pieces: Streaming<pb::SnapshotRequest>,
    answers: &Answers,
) -> Result<(), Status> {
    let Some(snapshot_request::Part::Header(header)) =
        pieces.message().await?.and_then(|message| message.part)
    else {
        return Err(malformed("it does not begin with a header"));
    };
    let vote = wire::ballot_in(header.ballot)?;
    let last_log = header.last_log.map(wire::log_id_in);
    // openraft takes these for granted and would stop this node.
    if !vote.committed || last_log.is_some_and(|last| *last.leader_id > vote.leader_id.term) {
        return Err(malformed("the snapshot is not one of the leader it names"));
    }
    let membership = wire::stored_membership_in(header.membership_log, header.membership)?;
    let meta = AppliedMeta {
        applied: last_log.as_ref().map(position),
        membership: stored_membership(&membership),
    };
    let files = header
        .files
        .into_iter()
        .map(|file| SnapshotFile { name: file.name, len: file.len, crc32c: file.crc32c })
        .collect();
    let (snapshots, offload) = replica.snapshots();
    let mut receiver = {
        let snapshots = Arc::clone(&snapshots);
        let opened = offload.run(move || snapshots.receive(meta, files)).await;
        opened.map_err(|error| storage_failed(replica, &error))?
    };
    let missing = receiver.missing();
    let need = missing.iter().filter_map(|file| u32::try_from(*file).ok()).collect();
    answer(answers, snapshot_response::Part::Need(pb::SnapshotNeed { files: need })).await?;
    while let Some(message) = pieces.message().await? {
        let Some(snapshot_request::Part::Piece(piece)) = message.part else {
            return Err(malformed("a second header"));
        };
        let file = usize::try_from(piece.file).map_err(|_| malformed("file number"))?;
        let (back, written) = offload
            .run(move || {
                let written = receiver.write(file, piece.offset, &piece.data);
                (receiver, written)
            })
            .await;
        written.map_err(|error| storage_failed(replica, &error))?;
        receiver = back;
    }
    let complete = offload.run(move || receiver.finish()).await;
    let complete = complete.map_err(|error| storage_failed(replica, &error))?;
    tracing::info!(%from, files = missing.len(), "a snapshot arrived, installing it");
    let ballot = install(
        replica,
        vote,
        SnapshotMeta { last_log_id: last_log, last_membership: membership },
        complete,
    )
    .await?;
    answer(answers, snapshot_response::Part::Installed(wire::ballot_out(&ballot))).await
}

async fn install(
    replica: &Replica,
    vote: Vote,
    meta: openraft::alias::SnapshotMetaOf<crate::types::TypeConfig>,
    snapshot: Arc<dyn StoredSnapshot>,
) -> Result<Vote, Status> {
    let installed = replica.raft().install_full_snapshot(vote, Snapshot { meta, snapshot }).await;
    Ok(installed.map_err(failed)?.vote)
}
