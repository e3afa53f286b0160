//! Takes a backup apart, and believes none of it.

use super::format::{BODY_BYTES_MAX, End, HEAD_BYTES, Header, Kind, MAGIC, RAW_BYTES_MAX, VERSION};
use super::{Error, Progress};
use quorate_state::query::Checksum;
use quorate_state::{GroupId, codec, restore};
use std::fs::File;
use std::io::{BufRead, BufReader, ErrorKind};
use std::path::{Path, PathBuf};
use xxhash_rust::xxh3::xxh3_64;

/// A row.
pub(super) type Row<'a> = (&'a [u8], &'a [u8]);

/// An open backup, behind its header.
pub(super) struct Backup<R = BufReader<File>> {
    path: PathBuf,
    file: R,
    /// Bytes of the file, and how many of them are read.
    len: u64,
    at: u64,
    /// See [`End::header`].
    header_hash: String,
    pub(super) header: Header,
}

impl Backup {
    /// Opens a file and reads its header.
    pub(super) fn open(path: &Path) -> Result<Self, Error> {
        let file = File::open(path).map_err(Error::io("open", path))?;
        let len = file.metadata().map_err(Error::io("read", path))?.len();
        Self::begin(path, BufReader::new(file), len)
    }
}

impl<R: BufRead> Backup<R> {
    /// Reads the header of what is in a file of this name and length.
    pub(super) fn begin(path: &Path, file: R, len: u64) -> Result<Self, Error> {
        let mut backup = Self {
            path: path.to_owned(),
            file,
            len,
            at: 0,
            header_hash: String::new(),
            header: Header {
                cluster_id: String::new(),
                node_id: 0,
                version: String::new(),
                feature_level: 0,
                group_id: 0,
                applied: Default::default(),
                revision: 0,
                made_wall_ms: 0,
                linearizable: false,
                membership: Default::default(),
            },
        };
        let mut opening = [0; MAGIC.len() + 1];
        backup.fill(&mut opening, "its first bytes")?;
        let Some((version, magic)) = opening.split_last() else {
            return Err(backup.damaged("it is empty"));
        };
        if *magic != MAGIC {
            return Err(backup.damaged("it does not begin as a backup does"));
        }
        if *version != VERSION {
            return Err(Error::TooNew {
                path: path.to_owned(),
                reason: format!("it has format {version}, this version reads format {VERSION}"),
            });
        }
        let (kind, body) = backup.part()?;
        if kind != Kind::Header {
            return Err(backup.damaged("its first part is no header"));
        }
        backup.header_hash = format!("{:016x}", xxh3_64(&body));
        backup.header = serde_json::from_slice(&body)
            .map_err(|error| backup.damaged(&format!("its header: {error}")))?;
        let level = backup.header.feature_level;
        if level > codec::FEATURE_LEVEL {
            return Err(Error::TooNew {
                path: path.to_owned(),
                reason: format!(
                    "its rows have feature level {level}, this version knows up to {}",
                    codec::FEATURE_LEVEL
                ),
            });
        }
        let group = backup.header.group_id;
        if group != 0 {
            let why = format!("it is of group {group}, and this version has group 0");
            return Err(Error::TooNew { path: path.to_owned(), reason: why });
        }
        Ok(backup)
    }

    /// Hands out all rows, in their order, and says what they come to once all of it is found to be
    /// as it was written. Rows that were handed out before that may be of a damaged file.
    pub(super) fn rows(
        mut self,
        progress: &mut Progress<'_>,
        mut visit: impl FnMut(Row<'_>) -> Result<(), Error>,
    ) -> Result<(Header, End), Error> {
        let group = GroupId(self.header.group_id);
        let (mut rows, mut bytes, mut sum) = (0_u64, 0_u64, Checksum::default());
        let mut last: Vec<u8> = Vec::new();
        loop {
            progress(self.at, self.len);
            let (kind, body) = self.part()?;
            match kind {
                Kind::Header => return Err(self.damaged("it has two headers")),
                Kind::Rows => {
                    let block = zstd::bulk::decompress(&body, RAW_BYTES_MAX)
                        .map_err(|error| self.damaged(&format!("its rows: {error}")))?;
                    let mut rest = &block[..];
                    while !rest.is_empty() {
                        let row = row(&mut rest).ok_or_else(|| self.damaged("a row is cut off"))?;
                        let (key, value) = row;
                        if rows > 0 && key <= &last[..] {
                            return Err(self.damaged("its rows are out of order"));
                        }
                        if !restore::is_row_key(group, key) {
                            return Err(self.damaged(&format!("no table has its key {key:02x?}")));
                        }
                        last.clear();
                        last.extend_from_slice(key);
                        sum.row(key, value);
                        rows += 1;
                        bytes += (key.len() + value.len()) as u64;
                        visit(row)?;
                    }
                }
                Kind::End => {
                    let end: End = serde_json::from_slice(&body)
                        .map_err(|error| self.damaged(&format!("its end: {error}")))?;
                    let checksum = format!("{:016x}", sum.digest());
                    if end.header != self.header_hash {
                        return Err(self.damaged("its rows are those of another header"));
                    }
                    let header = end.header.clone();
                    if end != (End { rows, bytes, checksum, header }) {
                        return Err(self.damaged("its rows are not those that its end counts"));
                    }
                    // Not by its length: a pipe has none.
                    let behind = self.file.fill_buf().map_err(Error::io("read", &self.path))?;
                    if !behind.is_empty() {
                        return Err(self.damaged("something follows its end"));
                    }
                    progress(self.at, self.len.max(self.at));
                    return Ok((self.header, end));
                }
            }
        }
    }

    fn part(&mut self) -> Result<(Kind, Vec<u8>), Error> {
        let mut head = [0; HEAD_BYTES];
        self.fill(&mut head, "a part")?;
        let [kind, a, b, c, d, crc @ ..] = head;
        let len = u32::from_be_bytes([a, b, c, d]);
        let bytes = usize::try_from(len).unwrap_or(usize::MAX);
        // Before it is allocated: the length may be anything.
        if bytes > BODY_BYTES_MAX {
            return Err(self.damaged(&format!("a part would have {bytes} bytes")));
        }
        let mut body = vec![0; bytes];
        self.fill(&mut body, "a part")?;
        let computed = crc32c::crc32c_append(crc32c::crc32c(&head[..5]), &body);
        if computed != u32::from_be_bytes(crc) {
            return Err(self.damaged("a checksum does not fit"));
        }
        let kind = Kind::of(kind).ok_or_else(|| self.damaged("a part is of no known kind"))?;
        Ok((kind, body))
    }

    fn fill(&mut self, into: &mut [u8], what: &str) -> Result<(), Error> {
        match self.file.read_exact(into) {
            Ok(()) => {
                self.at += into.len() as u64;
                Ok(())
            }
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => {
                Err(self
                    .damaged(&format!("it ends within {what}: it was cut off, or never finished")))
            }
            Err(error) => Err(Error::io("read", &self.path)(error)),
        }
    }

    fn damaged(&self, what: &str) -> Error {
        let reason = format!("{what} (at byte {} of {})", self.at, self.len);
        Error::Damaged { path: self.path.clone(), reason }
    }
}

/// The next row of a block.
fn row<'a>(rest: &mut &'a [u8]) -> Option<Row<'a>> {
    let mut field = || {
        let (len, behind) = rest.split_first_chunk()?;
        let len = usize::try_from(u32::from_be_bytes(*len)).ok()?;
        let (field, behind) = behind.split_at_checked(len)?;
        *rest = behind;
        Some(field)
    };
    Some((field()?, field()?))
}
