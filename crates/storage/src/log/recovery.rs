//! Opens the log's database after whatever ended the process before.
//!
//! All writes are one stream, and a completion says that everything before it is on disk. So any
//! beginning of the stream that has all that was synced is a log this node may go on with: nobody
//! was told of what is missing, and votes, commit and purge marks are those of that moment, because
//! they are in the stream. What a crash leaves is not always a beginning. Each write-ahead log
//! reaches the disk when it likes until it is synced, and a failed sync may take the end of one and
//! leave the next: a hole. Each one says where the one before it ended, and RocksDB keeps what lies
//! before the first hole. The mark beside the database says whether that is enough.

use crate::Error;
use crate::rocks::{self, Budget, Holes};
use crate::rocks_check;
use rocksdb::DB;
use std::path::Path;

/// Opens the database at `path`, or creates it. It is refused when it has less than everything up
/// to the sequence number `synced`; a hole between two write-ahead logs that are there is refused
/// before anything is changed.
pub(super) fn open(path: &Path, budget: &Budget, synced: u64) -> Result<DB, Error> {
    let exists = path.join("CURRENT").exists();
    let found = rocks_check::check(path)?;
    let options = budget.log_options(Holes::Told);
    if found.hole {
        // Opening deletes what it does not keep: first a look.
        let db = rocks::open_read_only(&options, path)?;
        check_synced(path, &db, synced)?;
        let kept = db.latest_sequence_number();
        if kept < found.last {
            tracing::warn!(
                path = %path.display(), kept, found.last, synced,
                "the write-ahead logs have a hole, as a power failure or a failed sync leaves one: \
                 what was written behind it was never acknowledged, and is dropped"
            );
        }
    }
    if exists && found.write_ahead_logs == 0 {
        // It ended before it had made the first one, which is refused where holes are told.
        drop(rocks::open_checked(&budget.log_options(Holes::Untold), path)?);
    }
    let db = rocks::open_checked(&options, path)?;
    check_synced(path, &db, synced)?;
    Ok(db)
}

fn check_synced(path: &Path, db: &DB, synced: u64) -> Result<(), Error> {
    let recovered = db.latest_sequence_number();
    if recovered >= synced {
        return Ok(());
    }
    Err(Error::Corrupt {
        location: path.display().to_string(),
        reason: format!(
            "the write-ahead log ends at sequence number {recovered}, but {synced} was synced: its \
             end was damaged or cut off"
        ),
    })
}
