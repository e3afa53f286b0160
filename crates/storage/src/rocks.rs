//! What the databases of a node share: memory, options, and how their failures are told.

use crate::{Error, Failures, Tuning, rocks_check};
use rocksdb::{
    BlockBasedIndexType, BlockBasedOptions, Cache, DB, DBCompressionType, DBRecoveryMode,
    ErrorKind, InfoLogger, LogLevel, LruCacheOptions, Options, WriteBufferManager,
};
use std::path::Path;

/// Entries below this stay in the tables: the marks do, and what comes alone.
const LOG_BLOB_BYTES_MIN: u64 = 1 << 10;

/// Whether recovery is told of a hole between two write-ahead logs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Holes {
    Told,
    /// For a database that has no write-ahead log: it is refused when holes are told.
    Untold,
}

/// The memory that all databases of one node share, its bounds, and where their failures are noted.
/// Cheap to clone.
#[derive(Clone)]
pub struct Budget {
    tuning: Tuning,
    blocks: Cache,
    memtables: WriteBufferManager,
    failures: Failures,
}

impl Budget {
    /// Sets the memory up; nothing is allocated before it is needed.
    #[must_use]
    pub fn new(tuning: &Tuning) -> Self {
        let log = tuning.log_memtable_bytes * usize::from(tuning.log_memtables);
        let state = tuning.state_memtable_bytes * usize::from(tuning.state_memtables);
        Self {
            tuning: tuning.clone(),
            blocks: blocks(tuning.block_cache_bytes),
            // Never stalls a writer: past the sum it only starts a flush earlier.
            memtables: WriteBufferManager::new_write_buffer_manager(log + state, false),
            failures: Failures::default(),
        }
    }

    /// Where failures are noted that nobody waits for.
    pub(crate) fn failures(&self) -> &Failures {
        &self.failures
    }

    /// The bounds it was made with.
    #[must_use]
    pub fn tuning(&self) -> &Tuning {
        &self.tuning
    }

    /// Options of the log's database. Its write-ahead log is what makes a write durable.
    pub(crate) fn log_options(&self, holes: Holes) -> Options {
        let start = match holes {
            Holes::Told => with_tracked_write_ahead_logs(),
            Holes::Untold => Options::default(),
        };
        let (bytes, number) = (self.tuning.log_memtable_bytes, self.tuning.log_memtables);
        let mut options = self.options(start, bytes, number);
        // The flusher decides when the device syncs; see `log::flusher`.
        options.set_manual_wal_flush(true);
        // What a crash leaves is dropped: a half-written record at the very end, and what lies
        // behind a hole, which is where one write-ahead log ends before the next one begins. Only
        // what was never synced may go that way; `log::recovery` sees to it, and `rocks_check` to
        // damage anywhere else. Recycled files could not be told from damaged ones.
        options.set_wal_recovery_mode(DBRecoveryMode::PointInTime);
        options.set_recycle_log_file_num(0);
        options.set_track_and_verify_wals_in_manifest(true);
        // Entries live shortly and are already compact; two cores have better things to do.
        options.set_compression_type(DBCompressionType::None);
        // Values go into files of their own when a memtable is written, and these are deleted whole when
        // all in them is purged. All tables of the log overlap, because each has the marks beside its
        // entries; so a compaction, every 64 MiB of log, wrote everything anew that was not purged.
        options.set_enable_blob_files(true);
        options.set_min_blob_size(LOG_BLOB_BYTES_MIN);
        options.set_block_based_table_factory(&self.table(false));
        options
    }

    /// Options of a state database. It has no write-ahead log: the Raft log is one.
    pub(crate) fn state_options(&self) -> Options {
        let (bytes, number) = (self.tuning.state_memtable_bytes, self.tuning.state_memtables);
        let mut options = self.options(Options::default(), bytes, number);
        // There is one column family, so a flush is atomic anyway; this keeps it so if there
        // are ever two.
        options.set_atomic_flush(true);
        options.set_compression_type(DBCompressionType::Lz4);
        options.set_block_based_table_factory(&self.table(true));
        options
    }

    fn options(&self, mut options: Options, memtable_bytes: usize, memtables: u16) -> Options {
        options.create_if_missing(true);
        options.set_paranoid_checks(true);
        options.set_write_buffer_size(memtable_bytes);
        options.set_max_write_buffer_number(i32::from(memtables.max(2)));
        options.set_write_buffer_manager(&self.memtables);
        options.set_max_background_jobs(2);
        options.set_max_open_files(512);
        // Otherwise the default grows the manifest to 1 GiB before it is rewritten.
        options.set_max_manifest_file_size(16 << 20);
        // What the library has to say goes where everything else goes, not into files of its own
        // that a snapshot would have to skip.
        options.set_info_logger(InfoLogger::new_callback_logger(LogLevel::Warn, |level, text| {
            let text = text.trim_end();
            match level {
                LogLevel::Error | LogLevel::Fatal => tracing::error!(target: "rocksdb", "{text}"),
                // Hundreds of lines with every option, whenever a database is opened.
                LogLevel::Header => tracing::debug!(target: "rocksdb", "{text}"),
                _ => tracing::warn!(target: "rocksdb", "{text}"),
            }
        }));
        options
    }

    fn table(&self, bloom: bool) -> BlockBasedOptions {
        let mut table = BlockBasedOptions::default();
        table.set_block_cache(&self.blocks);
        table.set_cache_index_and_filter_blocks(true);
        table.set_pin_l0_filter_and_index_blocks_in_cache(true);
        // Indexes and filters in pieces of a few KiB: as one block each, of hundreds of KiB, they
        // push each other out of the cache, and are read and checked again for each key.
        table.set_index_type(BlockBasedIndexType::TwoLevelIndexSearch);
        table.set_pin_top_level_index_and_filter(true);
        if bloom {
            table.set_bloom_filter(10.0, false);
            table.set_partition_filters(true);
        }
        table
    }
}

/// Each write-ahead log begins with the end of the one before it, so that recovery sees when that
/// ends earlier now. `rocksdb` has no setter for it; and what is made of a text owns nothing that
/// was set before, so this comes first.
fn with_tracked_write_ahead_logs() -> Options {
    let tracked = Options::default().get_options_from_string("track_and_verify_wals=true");
    tracked.expect("RocksDB has had this option since 9.11")
}

/// A cache in few shards: a block that is larger than a shard can't be kept, and the default
/// makes shards of half a MiB.
fn blocks(bytes: usize) -> Cache {
    /// Sixteen: more than the threads that read at once.
    const SHARD_BITS: i32 = 4;
    let mut options = LruCacheOptions::default();
    options.set_capacity(bytes);
    options.set_num_shard_bits(SHARD_BITS);
    Cache::new_lru_cache_opts(&options)
}

/// Opens a database, having looked at its files.
pub(crate) fn open(options: &Options, path: &Path) -> Result<DB, Error> {
    // Before recovery, which removes what it has read.
    rocks_check::check(path)?;
    open_checked(options, path)
}

/// Opens a database whose files were looked at.
pub(crate) fn open_checked(options: &Options, path: &Path) -> Result<DB, Error> {
    DB::open(options, path).map_err(|error| db_error(path, error))
}

/// Opens a database to read it only, having looked at its files.
pub(crate) fn open_read_only(options: &Options, path: &Path) -> Result<DB, Error> {
    rocks_check::check(path)?;
    DB::open_for_read_only(options, path, false).map_err(|error| db_error(path, error))
}

/// As [`db_error`], of a database that other members have as well.
pub(crate) fn copy_error(path: &Path, error: rocksdb::Error) -> Error {
    db_error(path, error).of_copy()
}

/// What a failure of the database at `path` means to a node.
pub(crate) fn db_error(path: &Path, error: rocksdb::Error) -> Error {
    match error.kind() {
        ErrorKind::Corruption => {
            Error::Corrupt { location: path.display().to_string(), reason: error.into_string() }
        }
        _ => Error::Database { path: path.to_owned(), reason: error.into_string() },
    }
}

/// Whether that only says that a file has failed before, and not how.
pub(crate) fn tells_of_earlier(error: &Error) -> bool {
    let Error::Database { reason, .. } = error else { return false };
    ["Seen error. Skip writing buffer", "Writer has previous error"]
        .iter()
        .any(|text| reason.contains(text))
}
