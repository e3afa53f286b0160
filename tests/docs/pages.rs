//! The documents.

use super::blocks::{Block, blocks};
use std::path::{Path, PathBuf};

/// A document: a page of the book, or the README.
#[derive(Clone, Debug)]
pub(crate) struct Page {
    /// Its path from the root of the repository, as `docs/queues.md`.
    pub(crate) path: String,
    /// All of it.
    pub(crate) text: String,
}

impl Page {
    /// Its fenced blocks.
    pub(crate) fn blocks(&self) -> Vec<Block> {
        blocks(&self.text)
    }

    /// Where a block is, for a reader of an error.
    pub(crate) fn place(&self, block: &Block) -> String {
        format!("{}:{}", self.path, block.line)
    }
}

/// The root of the repository.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the package tests is below the root")
}

/// All documents, of which there may be more tomorrow.
pub(crate) fn pages() -> Vec<Page> {
    let docs = std::fs::read_dir(root().join("docs")).expect("there are documents");
    let mut files: Vec<PathBuf> = docs.map(|entry| entry.expect("it can be read").path()).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "md"));
    files.push(root().join("README.md"));
    files.sort();
    let page = |file: &PathBuf| {
        let path = file.strip_prefix(root()).expect("it is below the root");
        let text = std::fs::read_to_string(file).expect("a document that was listed can be read");
        Page { path: path.to_string_lossy().into_owned(), text }
    };
    let pages: Vec<_> = files.iter().map(page).collect();
    assert!(pages.len() > 10, "so few documents show little: {}", pages.len());
    pages
}

/// A page that was never written.
#[cfg(test)]
pub(crate) fn planted(text: &str) -> Page {
    Page { path: "docs/planted.md".to_owned(), text: text.to_owned() }
}
