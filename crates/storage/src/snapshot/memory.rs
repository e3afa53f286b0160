//! Snapshots in memory: the tables, encoded, in files of bounded length, so that transfers are
//! resumed in simulations as they are in earnest.

use super::{Snapshot, SnapshotFile, SnapshotReceiver, SnapshotStore, manifest};
use crate::Error;
use crate::memory::MemoryDisk;
use crate::state::AppliedMeta;
use crate::state::memory::Tables;
use bytes::Bytes;
#[cfg(feature = "planted-faults")]
use quorate_state::planted::{Fault, is_planted};
use quorate_state::{GroupId, LogPosition, MemoryTables, Read, StoredMembership, Txn, codec};
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

/// Bytes of rows in one file, about.
const FILE_BYTES: usize = 16 << 10;
/// Bytes of a received snapshot, at most: it lies in memory.
const BYTES_MAX: u64 = 1 << 30;

/// Behind every key: none is longer than 4 KiB, and this is longer than any.
const KEYS_END: &[u8] = &[0xff; 8 << 10];

/// One group's snapshots on the disk.
#[derive(Default)]
pub(crate) struct SnapshotImage {
    current: Option<Arc<MemorySnapshot>>,
    incoming: Option<Incoming>,
}

/// A transfer: what was announced, and the files that are complete.
struct Incoming {
    transfer: u64,
    meta: AppliedMeta,
    files: Vec<SnapshotFile>,
    complete: BTreeMap<usize, Bytes>,
}

/// A complete snapshot.
pub struct MemorySnapshot {
    meta: AppliedMeta,
    files: Vec<SnapshotFile>,
    contents: Vec<Bytes>,
}

type Pairs = Vec<(Vec<u8>, Vec<u8>)>;

impl MemorySnapshot {
    fn of(tables: &Tables) -> Self {
        let meta = &tables.meta;
        let mut contents = vec![codec::encode(&(meta.applied, &meta.membership))];
        let (mut pairs, mut bytes) = (Pairs::new(), 0);
        let mut add = |key: &[u8], value: &[u8]| {
            bytes += key.len() + value.len();
            pairs.push((key.to_owned(), value.to_owned()));
            if bytes >= FILE_BYTES {
                contents.push(codec::encode(&std::mem::take(&mut pairs)));
                bytes = 0;
            }
            ControlFlow::Continue(())
        };
        tables.rows.scan(&[], KEYS_END, &mut add).expect("tables in memory do not fail");
        contents.push(codec::encode(&pairs));
        let contents: Vec<Bytes> = contents.into_iter().map(Bytes::from).collect();
        let files = contents
            .iter()
            .enumerate()
            .map(|(number, content)| SnapshotFile {
                name: format!("part-{number:06}"),
                len: u64::try_from(content.len()).expect("a length fits in 64 bits"),
                crc32c: crc32c::crc32c(content),
            })
            .collect();
        Self { meta: meta.clone(), files, contents }
    }

    /// The tables in it, which must be those its description says.
    pub(crate) fn tables(&self) -> Result<Tables, Error> {
        let corrupt = |reason: String| Error::CorruptCopy {
            location: String::from("a snapshot in memory"),
            reason,
        };
        let decoding = |error: codec::CodecError| corrupt(error.to_string());
        let (first, rest) =
            self.contents.split_first().ok_or_else(|| corrupt(String::from("it is empty")))?;
        let (applied, membership): (Option<LogPosition>, StoredMembership) =
            codec::decode(first).map_err(decoding)?;
        let meta = AppliedMeta { applied, membership };
        if meta != self.meta {
            return Err(corrupt(String::from("it ends elsewhere than announced")));
        }
        let mut rows = MemoryTables::default();
        for content in rest {
            let pairs: Pairs = codec::decode(content).map_err(decoding)?;
            pairs.iter().for_each(|(key, value)| rows.put(key, value));
        }
        Ok(Tables { meta, rows })
    }
}

impl Snapshot for MemorySnapshot {
    fn meta(&self) -> &AppliedMeta {
        &self.meta
    }

    fn files(&self) -> &[SnapshotFile] {
        &self.files
    }

    fn read(&self, file: usize, offset: u64, len: usize) -> Result<Bytes, Error> {
        let Some(content) = self.contents.get(file) else {
            return Err(Error::Invariant(format!("the snapshot has no file number {file}")));
        };
        let from = usize::try_from(offset).unwrap_or(usize::MAX).min(content.len());
        let to = from.saturating_add(len).min(content.len());
        Ok(content.slice(from..to))
    }

    fn check(&self, file: usize) -> Result<(), Error> {
        // Memory does not rot.
        self.read(file, 0, 0).map(drop)
    }

    fn as_any(&self) -> &dyn std::any::Any {
        self
    }
}

/// One group's snapshots. A handle from before a crash of its disk refuses everything.
pub struct MemorySnapshots {
    disk: MemoryDisk,
    epoch: u64,
    group: GroupId,
}

impl MemorySnapshots {
    /// Opens the snapshots of a group, as of this epoch of the disk.
    #[must_use]
    pub fn open(disk: &MemoryDisk, group: GroupId) -> Self {
        Self { disk: disk.clone(), epoch: disk.epoch(), group }
    }
}

impl SnapshotImage {
    /// Makes a snapshot current unless a newer one is.
    fn adopt(&mut self, snapshot: &Arc<MemorySnapshot>) {
        let index = |snapshot: &MemorySnapshot| snapshot.meta.applied.map(|at| at.index);
        if self.current.as_deref().is_none_or(|current| index(current) <= index(snapshot)) {
            self.current = Some(Arc::clone(snapshot));
        }
    }
}

impl SnapshotStore for MemorySnapshots {
    fn build(&self) -> Result<Arc<dyn Snapshot>, Error> {
        self.disk.with(self.epoch, |disk| {
            let state = disk.states.entry(self.group).or_default();
            #[cfg(feature = "planted-faults")]
            let older = state.flushed_as_current();
            state.flush();
            let tables = &state.current;
            #[cfg(feature = "planted-faults")]
            let tables = if is_planted(Fault::SnapshotMetaAhead) { &older } else { tables };
            let snapshot = Arc::new(MemorySnapshot::of(tables));
            disk.snapshots.entry(self.group).or_default().adopt(&snapshot);
            Ok(snapshot as Arc<dyn Snapshot>)
        })
    }

    fn renew(&self) -> Result<Arc<dyn Snapshot>, Error> {
        self.build()
    }

    fn current(&self) -> Option<Arc<dyn Snapshot>> {
        let current = self.disk.with(self.epoch, |disk| {
            Ok(disk.snapshots.get(&self.group).and_then(|image| image.current.clone()))
        });
        current.ok().flatten().map(|snapshot| snapshot as Arc<dyn Snapshot>)
    }

    fn receive(
        &self,
        meta: AppliedMeta,
        files: Vec<SnapshotFile>,
    ) -> Result<Box<dyn SnapshotReceiver>, Error> {
        manifest::check(Path::new("memory"), &files, BYTES_MAX)?;
        let transfer = self.disk.with(self.epoch, |disk| {
            let image = disk.snapshots.entry(self.group).or_default();
            let (number, complete) = match image.incoming.take() {
                Some(old) if old.meta == meta && old.files == files => (old.transfer, old.complete),
                Some(old) => (old.transfer, BTreeMap::new()),
                None => (0, BTreeMap::new()),
            };
            let incoming = Incoming { transfer: number + 1, meta, files: files.clone(), complete };
            Ok(image.incoming.insert(incoming).transfer)
        })?;
        Ok(Box::new(MemoryReceiver {
            disk: self.disk.clone(),
            epoch: self.epoch,
            group: self.group,
            transfer,
            files,
            part: None,
        }))
    }
}

struct MemoryReceiver {
    disk: MemoryDisk,
    epoch: u64,
    group: GroupId,
    transfer: u64,
    files: Vec<SnapshotFile>,
    /// The file under way.
    part: Option<(usize, Vec<u8>)>,
}

fn refuse(reason: String) -> Error {
    Error::Transfer { path: "memory".into(), reason }
}

impl MemoryReceiver {
    /// The transfer on the disk, unless a later one has taken over.
    fn incoming<T>(&self, act: impl FnOnce(&mut Incoming) -> Result<T, Error>) -> Result<T, Error> {
        self.disk.with(self.epoch, |disk| {
            let image = disk.snapshots.entry(self.group).or_default();
            let incoming = image.incoming.as_mut().filter(|it| it.transfer == self.transfer);
            let incoming = incoming
                .ok_or_else(|| refuse(String::from("a later transfer of a snapshot has begun")))?;
            act(incoming)
        })
    }
}

impl SnapshotReceiver for MemoryReceiver {
    fn missing(&self) -> Vec<usize> {
        let complete = self.incoming(|it| Ok(it.complete.keys().copied().collect::<Vec<_>>()));
        let complete = complete.unwrap_or_default();
        (0..self.files.len()).filter(|number| !complete.contains(number)).collect()
    }

    fn write(&mut self, file: usize, offset: u64, data: &[u8]) -> Result<(), Error> {
        let Some(expected) = self.files.get(file).cloned() else {
            return Err(refuse(format!("there is no file number {file}")));
        };
        if self.incoming(|it| Ok(it.complete.contains_key(&file)))? {
            return Err(refuse(format!("file {} is complete already", expected.name)));
        }
        let under_way = self.part.take().filter(|(number, part)| {
            *number == file && offset > 0 && u64::try_from(part.len()).ok() == Some(offset)
        });
        let mut part = match under_way {
            Some((_, part)) => part,
            None if offset == 0 => Vec::new(),
            None => return Err(refuse(format!("a piece of file {file} comes out of order"))),
        };
        part.extend_from_slice(data);
        let len = u64::try_from(part.len()).expect("a length fits in 64 bits");
        if len > expected.len {
            return Err(refuse(format!(
                "file {} is longer than its {} bytes",
                expected.name, expected.len
            )));
        }
        if len < expected.len {
            self.part = Some((file, part));
            return Ok(());
        }
        if crc32c::crc32c(&part) != expected.crc32c {
            return Err(refuse(format!(
                "file {} has another checksum: it must be sent again",
                expected.name
            )));
        }
        self.incoming(|it| {
            it.complete.insert(file, Bytes::from(part));
            Ok(())
        })
    }

    fn finish(self: Box<Self>) -> Result<Arc<dyn Snapshot>, Error> {
        let missing = self.missing();
        let snapshot = self.incoming(|it| {
            if !missing.is_empty() {
                return Err(refuse(format!("{} files are missing", missing.len())));
            }
            Ok(Arc::new(MemorySnapshot {
                meta: it.meta.clone(),
                files: it.files.clone(),
                contents: it.complete.values().cloned().collect(),
            }))
        })?;
        let whole = snapshot.tables();
        self.disk.with(self.epoch, |disk| {
            let image = disk.snapshots.entry(self.group).or_default();
            // Its number stays, so that this transfer and older ones are over.
            if let Some(incoming) = image.incoming.as_mut() {
                incoming.transfer += 1;
                incoming.files.clear();
                incoming.complete.clear();
            }
            whole.map_err(|error| refuse(error.to_string()))?;
            image.adopt(&snapshot);
            Ok(snapshot as Arc<dyn Snapshot>)
        })
    }
}
