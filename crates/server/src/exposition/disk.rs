//! What a page of metrics shows of the disk that a node's data is on.

use super::Page;
use nix::sys::statvfs::statvfs;
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Unit;
use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

/// Files and directories that are looked at; a node has some hundreds.
const ENTRIES_MAX: usize = 20_000;

impl Page<'_> {
    /// How much room there is where the data lies, and how much of it each part of the data takes.
    pub(super) fn disk(&mut self, data_dir: &Path) -> fmt::Result {
        if let Ok(system) = statvfs(data_dir) {
            let bytes = |blocks: u64| blocks.saturating_mul(system.fragment_size());
            let help = "Bytes that may still be written on the disk of the data directory.";
            self.0
                .encode_descriptor("disk_free", help, Some(&Unit::Bytes), MetricType::Gauge)?
                .encode_gauge(&bytes(system.blocks_available()))?;
            let help = "Bytes that the disk of the data directory has.";
            self.0
                .encode_descriptor("disk_size", help, Some(&Unit::Bytes), MetricType::Gauge)?
                .encode_gauge(&bytes(system.blocks()))?;
        }
        let help = "Bytes of the files in the data directory, by what lies at its top; one that has \
                    several names counts once.";
        let mut taken = self.0.encode_descriptor(
            "data_directory",
            help,
            Some(&Unit::Bytes),
            MetricType::Gauge,
        )?;
        for (part, bytes) in parts(data_dir) {
            taken.encode_family(&[("part", part.as_str())])?.encode_gauge(&bytes)?;
        }
        Ok(())
    }
}

/// Bytes below each directory of `data_dir`, and of its own files together as `files`. What goes away
/// meanwhile counts nothing.
fn parts(data_dir: &Path) -> BTreeMap<String, u64> {
    let mut parts = BTreeMap::new();
    let mut seen = std::collections::HashSet::new();
    let mut left = vec![(data_dir.to_owned(), None::<String>)];
    let mut entries = 0;
    while let Some((directory, part)) = left.pop() {
        for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
            entries += 1;
            if entries > ENTRIES_MAX {
                return parts;
            }
            // Of a link itself, not of what it shows to.
            let Ok(found) = entry.metadata() else { continue };
            let name = || entry.file_name().to_string_lossy().into_owned();
            if found.is_dir() {
                let part = part.clone().unwrap_or_else(name);
                parts.entry(part.clone()).or_insert(0);
                left.push((entry.path(), Some(part)));
            } else if found.is_file() && seen.insert((found.dev(), found.ino())) {
                let part = part.clone().unwrap_or_else(|| "files".to_owned());
                *parts.entry(part).or_insert(0) += found.len();
            }
        }
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_part_counts_its_files_once() {
        let directory = tempfile::tempdir().expect("it can be made");
        let path = |name: &str| directory.path().join(name);
        fs::create_dir_all(path("state/deep")).expect("it can be made");
        fs::create_dir(path("empty")).expect("it can be made");
        for (name, bytes) in [("identity", 7), ("state/a", 100), ("state/deep/b", 20)] {
            fs::write(path(name), vec![0; bytes]).expect("it can be written");
        }
        fs::hard_link(path("state/a"), path("state/deep/again")).expect("it can be linked");
        let expected = [("empty", 0), ("files", 7), ("state", 120)];
        let expected = expected.map(|(part, bytes)| (part.to_owned(), bytes));
        assert_eq!(parts(directory.path()), BTreeMap::from(expected));
        assert_eq!(parts(&path("none")), BTreeMap::new());
    }
}
