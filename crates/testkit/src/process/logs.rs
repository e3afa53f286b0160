//! What nodes wrote to their standard output and error.

use std::fmt::Write as _;
use std::fs;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

/// Lines of each log that an error shows.
const TAIL_LINES: usize = 15;
/// Bytes of each log that are read for them.
const TAIL_BYTES: u64 = 16 << 10;
/// Characters of a line that are shown.
const LINE_CHARS_MAX: usize = 400;

/// Searches the logs of nodes.
pub struct LogScan {
    logs: Vec<PathBuf>,
}

impl LogScan {
    /// Over these files. One that does not exist is empty.
    pub fn new(logs: impl IntoIterator<Item = PathBuf>) -> Self {
        Self { logs: logs.into_iter().collect() }
    }

    /// The files.
    pub fn paths(&self) -> &[PathBuf] {
        &self.logs
    }

    /// Lines that contain `text`, each with the name of its file.
    ///
    /// # Errors
    /// When a log can't be read.
    pub fn lines_with(&self, text: &str) -> io::Result<Vec<String>> {
        let mut found = Vec::new();
        for log in &self.logs {
            let bytes = match fs::read(log) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                read => read?,
            };
            let name = log.file_name().unwrap_or(log.as_os_str()).to_string_lossy();
            let lines = String::from_utf8_lossy(&bytes);
            let lines = lines.lines().filter(|line| line.contains(text));
            found.extend(lines.map(|line| format!("{name}: {}", cut(line))));
        }
        Ok(found)
    }

    /// Lines in which a thread of a node tells that it panicked.
    ///
    /// # Errors
    /// When a log can't be read.
    pub fn panics(&self) -> io::Result<Vec<String>> {
        self.lines_with("panicked at")
    }

    /// Passes when no node panicked.
    ///
    /// # Panics
    /// When one did, with its words, or when a log can't be read.
    pub fn assert_no_panics(&self) {
        let panics = self.panics().expect("the logs of the nodes can be read");
        assert!(panics.is_empty(), "a node panicked:\n{}", panics.join("\n"));
    }

    /// The last lines of every log, to be printed.
    pub fn tails(&self) -> String {
        let mut text = String::new();
        for log in &self.logs {
            let (tail, problem) = match tail(log) {
                Ok(tail) => (tail, String::new()),
                Err(error) => (String::new(), format!(" can't be read: {error}")),
            };
            // Writing to a string does not fail.
            let _ = writeln!(text, "--- end of {}{problem}", log.display());
            let lines: Vec<_> = tail.lines().collect();
            for line in &lines[lines.len().saturating_sub(TAIL_LINES)..] {
                let _ = writeln!(text, "    {}", cut(line));
            }
        }
        text
    }
}

fn tail(log: &Path) -> io::Result<String> {
    let mut file = fs::File::open(log)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(TAIL_BYTES)))?;
    let mut bytes = Vec::new();
    file.take(TAIL_BYTES).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn cut(line: &str) -> &str {
    line.char_indices().nth(LINE_CHARS_MAX).map_or(line, |(end, _)| &line[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scan(logs: &[&str]) -> (tempfile::TempDir, LogScan) {
        let directory = tempfile::tempdir().unwrap();
        let paths: Vec<_> =
            (1..=logs.len()).map(|n| directory.path().join(format!("node-{n}.log"))).collect();
        for (path, log) in paths.iter().zip(logs) {
            fs::write(path, log).unwrap();
        }
        (directory, LogScan::new(paths))
    }

    #[test]
    fn finds_a_panic_and_whose_it_is() {
        let (_directory, scan) =
            scan(&["all is well\n", "thread 'main' panicked at src/main.rs:1:1:\noh\n"]);
        assert_eq!(
            scan.panics().unwrap(),
            ["node-2.log: thread 'main' panicked at src/main.rs:1:1:"]
        );
        let failure = std::panic::catch_unwind(|| scan.assert_no_panics()).unwrap_err();
        assert!(failure.downcast::<String>().unwrap().contains("node-2.log"));
    }

    #[test]
    fn passes_calm_and_missing_logs() {
        let (directory, scan) = scan(&["all is well\n"]);
        scan.assert_no_panics();
        LogScan::new([directory.path().join("none.log")]).assert_no_panics();
    }

    #[test]
    fn shows_the_last_lines_only() {
        let long: String = (0..5_000).map(|n| format!("line {n}\n")).collect();
        let (_directory, scan) = scan(&[&long, &"é".repeat(20_000)]);
        let tails = scan.tails();
        assert!(tails.contains("line 4999") && tails.contains("line 4985"), "{tails}");
        assert!(!tails.contains("line 4984"), "{tails}");
        assert!(tails.len() < 4_000, "{} bytes", tails.len());
    }
}
