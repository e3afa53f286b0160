//! Histories as files, so that a failing one can be kept, read and checked again.
//!
//! JSON lines: a header, then one operation a line, by invocation.

use super::event::{History, Operation};
use anyhow::{Context as _, Result, bail};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, BufWriter, Write as _};
use std::path::Path;

const FORMAT: &str = "quorate-history";
const FORMAT_VERSION: u32 = 1;

#[derive(Serialize, Deserialize)]
struct Header {
    format: String,
    version: u32,
    operations: usize,
}

/// Writes a history to a new file, and the directories above it.
///
/// # Errors
/// When the file can't be written.
pub fn save<O: Serialize, R: Serialize>(history: &History<O, R>, path: &Path) -> Result<()> {
    let write = || -> Result<()> {
        if let Some(directory) = path.parent() {
            fs::create_dir_all(directory)?;
        }
        let mut file = BufWriter::new(File::create(path)?);
        let operations = history.operations().len();
        let header = Header { format: FORMAT.to_owned(), version: FORMAT_VERSION, operations };
        serde_json::to_writer(&mut file, &header)?;
        file.write_all(b"\n")?;
        for operation in history.operations() {
            serde_json::to_writer(&mut file, operation)?;
            file.write_all(b"\n")?;
        }
        file.into_inner()?.sync_all()?;
        Ok(())
    };
    write().with_context(|| format!("could not save the history to {}", path.display()))
}

/// Reads a history that [`save`] wrote.
///
/// # Errors
/// When the file can't be read, is cut short, or is not a history of these operations.
pub fn load<O: DeserializeOwned, R: DeserializeOwned>(path: &Path) -> Result<History<O, R>> {
    let read = || -> Result<History<O, R>> {
        let mut lines = BufReader::new(File::open(path)?).lines();
        let header = lines.next().context("the file is empty")??;
        let header: Header = serde_json::from_str(&header).context("line 1 is not the header")?;
        if header.format != FORMAT || header.version != FORMAT_VERSION {
            bail!(
                "it has format {} {}, not {FORMAT} {FORMAT_VERSION}",
                header.format,
                header.version
            );
        }
        let mut operations: Vec<Operation<O, R>> = Vec::new();
        for (index, line) in lines.enumerate() {
            let operation = serde_json::from_str(&line?)
                .with_context(|| format!("line {} is not an operation", index + 2))?;
            operations.push(operation);
        }
        if operations.len() != header.operations {
            bail!("it has {} operations instead of {}", operations.len(), header.operations);
        }
        History::new(operations)
    };
    read().with_context(|| format!("could not load a history from {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::super::{Recorder, RegisterOp, RegisterRet};
    use super::*;

    #[test]
    fn a_saved_history_loads_as_it_was() {
        let recorder = Recorder::new();
        recorder.invoke(1, "k", RegisterOp::cas(3, "a\n\"é")).ok(RegisterRet::Set { version: 4 });
        recorder.invoke(2, "k", RegisterOp::Get).ok(RegisterRet::Get(None));
        recorder.invoke(2, "k", RegisterOp::delete()).failed();
        let under_way = recorder.invoke(2, "l", RegisterOp::create("b"));
        let history = recorder.history();
        drop(under_way);

        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("new/history.jsonl");
        save(&history, &path).unwrap();
        assert_eq!(load::<RegisterOp, RegisterRet>(&path).unwrap(), history);

        // A file cut short, at a line or within one, is not taken for a shorter history.
        let text = fs::read_to_string(&path).unwrap();
        let last_line = text.trim_end().rfind('\n').unwrap();
        for length in [last_line + 1, last_line + 5, 0] {
            fs::write(&path, &text[..length]).unwrap();
            assert!(load::<RegisterOp, RegisterRet>(&path).is_err(), "{length} bytes loaded");
        }
    }
}
