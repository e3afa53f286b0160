//! A backup of everything a cluster holds, as a stream.

use crate::Error;
use crate::call::{Effect, Plan};
use crate::client::Inner;
use bytes::Bytes;
use futures::Stream;
use quorate_proto::v1;
use std::sync::Arc;
use tonic::Status;

/// How a backup is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum BackupFormat {
    /// For `quorate backup restore`.
    #[default]
    Backup,
    /// For other programs: a JSON object a line.
    Jsonl,
}

/// What comes next of a backup.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct BackupPiece {
    /// Bytes of the file.
    pub data: Bytes,
    /// How many rows (or lines) are written so far.
    pub rows: u64,
    /// About how many there are; 0: nobody knows.
    pub rows_estimate: u64,
}

/// Opens it; see [`crate::Cluster::backup`].
pub(crate) async fn open(
    inner: Arc<Inner>,
    plan: &Plan,
    format: BackupFormat,
    stale: bool,
) -> Result<impl Stream<Item = Result<BackupPiece, Error>> + use<>, Error> {
    debug_assert!(plan.effect == Effect::Read, "a backup changes nothing");
    let format = match format {
        BackupFormat::Backup => v1::BackupFormat::Backup,
        BackupFormat::Jsonl => v1::BackupFormat::Jsonl,
    };
    let request = v1::BackupRequest { group_id: 0, stale, format: format.into() };
    let pieces = inner.engine.open_backup(plan, request).await?;
    // The client stays as long as the stream: its connection is the client's.
    Ok(futures::stream::try_unfold((inner, pieces), |(inner, mut pieces)| async {
        let cut_off = || Status::unavailable("the backup was cut off; make it anew");
        match pieces.message().await {
            Ok(Some(v1::BackupPiece { last: true, .. })) => Ok(None),
            Ok(Some(v1::BackupPiece { data, rows, rows_estimate, last: false })) => {
                Ok(Some((BackupPiece { data, rows, rows_estimate }, (inner, pieces))))
            }
            Ok(None) => Err(Error::stream_ended(&cut_off())),
            Err(status) => Err(Error::stream_ended(&status)),
        }
    }))
}
