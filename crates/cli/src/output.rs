//! The only place that writes: results to stdout, the rest to stderr. But for `top`, which draws.

use crate::exit::Failure;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use futures::{Stream, StreamExt as _, TryStreamExt as _};
use quorate_client::Error;
use serde_json::{Map, Value};
use std::io::{self, IsTerminal, Write};
use std::pin::pin;

/// Integers from here on are not exact in JSON readers that use floating point.
const EXACT_LIMIT: i64 = 1 << 53;
/// Items of a table whose columns are aligned together: what is held in memory at once.
const TABLE_ITEMS_MAX: usize = 1_000;

/// How results are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    /// For people: lines and aligned columns.
    #[default]
    #[value(alias = "plain", alias = "text")]
    Table,
    /// One JSON object, or one per line where there are many.
    Json,
}

/// Where a command's words go.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Output {
    format: Format,
}

impl Output {
    pub(crate) fn new(format: Format) -> Self {
        Self { format }
    }

    pub(crate) fn is_json(self) -> bool {
        self.format == Format::Json
    }

    /// The result: `json` as one object, or `text` as lines, whichever is asked for.
    pub(crate) fn result(
        self,
        json: impl FnOnce() -> Value,
        text: impl FnOnce() -> String,
    ) -> Result<(), Failure> {
        let line = if self.is_json() { json().to_string() } else { text() };
        self.line(&line)
    }

    /// As [`Output::result`], of something that has happened: when it can't be written, that is
    /// told apart from something that failed.
    pub(crate) fn done(
        self,
        json: impl FnOnce() -> Value,
        text: impl FnOnce() -> String,
    ) -> Result<(), Failure> {
        let line = if self.is_json() { json().to_string() } else { text() };
        let mut stdout = io::stdout().lock();
        match writeln!(stdout, "{line}").and_then(|()| stdout.flush()) {
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
                Err(Failure::DoneUnwritten(error))
            }
            _ => Ok(()),
        }
    }

    /// Many results, as they come: each as a JSON object on a line of its own, or as rows of a
    /// table, which gets a header again after [`TABLE_ITEMS_MAX`] of them.
    pub(crate) async fn items<T>(
        self,
        items: impl Stream<Item = Result<T, Error>>,
        header: &[&str],
        json: impl Fn(&T) -> Value,
        rows: impl Fn(&T) -> Vec<Vec<String>>,
    ) -> Result<(), Failure> {
        let mut items = pin!(items.fuse());
        if self.is_json() {
            while let Some(item) = items.try_next().await? {
                self.line(&json(&item).to_string())?;
            }
            return Ok(());
        }
        let mut chunks = pin!(items.try_chunks(TABLE_ITEMS_MAX));
        while let Some(chunk) = chunks.next().await {
            let chunk = chunk.map_err(|broken| broken.1)?;
            let rows: Vec<_> = chunk.iter().flat_map(&rows).collect();
            self.line(&table(header, &rows))?;
        }
        Ok(())
    }

    /// A line on stdout.
    #[allow(clippy::unused_self, reason = "whoever writes has been given the output")]
    pub(crate) fn line(self, line: &str) -> Result<(), Failure> {
        let mut stdout = io::stdout().lock();
        writeln!(stdout, "{line}")?;
        Ok(stdout.flush()?)
    }

    /// Exactly these bytes; on a terminal a line end follows.
    #[allow(clippy::unused_self, reason = "whoever writes has been given the output")]
    pub(crate) fn bytes(self, bytes: &[u8]) -> Result<(), Failure> {
        let mut stdout = io::stdout().lock();
        stdout.write_all(bytes)?;
        if stdout.is_terminal() {
            stdout.write_all(b"\n")?;
        }
        Ok(stdout.flush()?)
    }

    /// For what is shown again and again.
    #[allow(clippy::unused_self, reason = "whoever writes has been given the output")]
    pub(crate) fn screen(self) -> Screen {
        Screen { in_place: io::stdout().is_terminal(), lines: 0 }
    }

    /// A line on stderr. Nobody reading it is no reason to fail.
    #[allow(clippy::unused_self, reason = "whoever writes has been given the output")]
    pub(crate) fn note(self, line: &str) {
        let _ = writeln!(io::stderr().lock(), "{line}");
    }

    /// Tells why the command failed.
    pub(crate) fn error(self, failure: &Failure) {
        match failure {
            Failure::BrokenPipe | Failure::Ran(_) | Failure::Findings => {}
            failure if self.is_json() => self.note(&failure.json().to_string()),
            failure => self.note(&format!("quorate: {}", failure.text())),
        }
    }
}

/// Something that is shown again and again: in place on a terminal, else line by line.
#[derive(Debug)]
pub(crate) struct Screen {
    in_place: bool,
    /// How many there are above the cursor.
    lines: usize,
}

impl Screen {
    /// Shows how it is now: `full` in place of what was there before, or `line` behind it.
    pub(crate) fn show(
        &mut self,
        full: impl FnOnce() -> String,
        line: impl FnOnce() -> String,
    ) -> Result<(), Failure> {
        let mut stdout = io::stdout().lock();
        if !self.in_place {
            writeln!(stdout, "{}", line())?;
            return Ok(stdout.flush()?);
        }
        if self.lines > 0 {
            // Up, and everything below is cleared.
            write!(stdout, "\x1b[{}A\x1b[J", self.lines)?;
        }
        let full = full();
        self.lines = full.lines().count();
        writeln!(stdout, "{full}")?;
        Ok(stdout.flush()?)
    }
}

/// Sets `name` to the bytes as text if they are UTF-8, else `name_base64`.
pub(crate) fn put_bytes(object: &mut Map<String, Value>, name: &str, bytes: &[u8]) {
    match std::str::from_utf8(bytes) {
        Ok(text) => object.insert(name.to_owned(), Value::from(text)),
        Err(_) => object.insert(format!("{name}_base64"), Value::from(STANDARD.encode(bytes))),
    };
}

/// As [`number`], of what has no sign.
pub(crate) fn id(id: u64) -> Value {
    i64::try_from(id).map_or_else(|_| Value::from(id.to_string()), number)
}

/// A number as JSON: from 2^53 on as a string, because many readers would round it.
pub(crate) fn number(value: i64) -> Value {
    if (-EXACT_LIMIT..EXACT_LIMIT).contains(&value) {
        Value::from(value)
    } else {
        Value::from(value.to_string())
    }
}

/// Rows under a header, columns aligned, two spaces between them.
pub(crate) fn table(header: &[&str], rows: &[Vec<String>]) -> String {
    let header: Vec<String> = header.iter().map(|&cell| cell.to_owned()).collect();
    let lines: Vec<&Vec<String>> = std::iter::once(&header).chain(rows).collect();
    let width = |column: usize| {
        lines.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max()
    };
    let widths: Vec<usize> = (0..header.len()).map(|column| width(column).unwrap_or(0)).collect();
    let aligned = lines.iter().map(|row| {
        let cells = row.iter().zip(&widths).map(|(cell, &width)| format!("{cell:<width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    });
    aligned.collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_text_only_when_they_are_utf8() {
        let mut object = Map::new();
        put_bytes(&mut object, "value", "é".as_bytes());
        put_bytes(&mut object, "key", &[0xff, 0x00]);
        assert_eq!(Value::from(object).to_string(), r#"{"key_base64":"/wA=","value":"é"}"#);
    }

    #[test]
    fn large_numbers_are_strings() {
        assert_eq!(number(EXACT_LIMIT - 1).to_string(), "9007199254740991");
        assert_eq!(number(EXACT_LIMIT).to_string(), r#""9007199254740992""#);
        assert_eq!(number(-EXACT_LIMIT).to_string(), "-9007199254740992");
        assert_eq!(number(i64::MIN).to_string(), r#""-9223372036854775808""#);
        assert_eq!(id((1 << 53) - 1).to_string(), "9007199254740991");
        assert_eq!(id(1 << 53).to_string(), r#""9007199254740992""#);
        assert_eq!(id(u64::MAX).to_string(), r#""18446744073709551615""#);
    }

    #[test]
    fn columns_are_aligned() {
        let rows =
            [vec!["1".to_owned(), "leader".to_owned()], vec!["22".to_owned(), String::new()]];
        assert_eq!(table(&["NODE", "ROLE"], &rows), "NODE  ROLE\n1     leader\n22");
    }
}
