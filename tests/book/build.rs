//! Makes functions of the Rust blocks of the documents, for `main.rs`.

#[path = "../docs/blocks.rs"]
#[allow(dead_code, reason = "only a part of it is needed here")]
mod blocks;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let here = std::env::var_os("CARGO_MANIFEST_DIR").ok_or("cargo sets it")?;
    let root = Path::new(&here).join("../..");
    let mut pages = vec![root.join("README.md")];
    for entry in std::fs::read_dir(root.join("docs"))? {
        pages.push(entry?.path());
    }
    pages.retain(|page| page.extension().is_some_and(|extension| extension == "md"));
    pages.sort();
    // The directory for new pages, and each page.
    println!("cargo::rerun-if-changed={}", root.join("docs").display());
    let (mut book, mut count) = (String::new(), 0);
    for page in &pages {
        println!("cargo::rerun-if-changed={}", page.display());
        let name = page.file_stem().ok_or("a page has a name")?.to_string_lossy().into_owned();
        for block in blocks::blocks(&std::fs::read_to_string(page)?) {
            // One that is marked is compiled by somebody else, or has parts left out.
            if block.language == "rust" && block.mark.is_none() {
                count += 1;
                function(&mut book, &name, &block)?;
            }
        }
    }
    writeln!(book, "pub(crate) const BLOCKS: usize = {count};")?;
    let out = std::env::var_os("OUT_DIR").ok_or("cargo sets OUT_DIR")?;
    std::fs::write(PathBuf::from(out).join("book.rs"), book)?;
    Ok(())
}

/// A block as a module: its imports, and the rest in a function that has what blocks take for granted. A
/// whole program stays as it is.
fn function(book: &mut String, page: &str, block: &blocks::Block) -> std::fmt::Result {
    let name = page.to_lowercase().replace('-', "_");
    writeln!(book, "// {page}.md:{}\nmod {name}_{} {{", block.line, block.line)?;
    if block.text.contains("fn main()") {
        writeln!(book, "#![allow(unused, reason = \"an example\")]\n{}}}", block.text)?;
        return Ok(());
    }
    writeln!(book, "use super::world::*;\n{EXAMPLE}\n{}Ok(())\n}}\n}}", block.text)
}

const EXAMPLE: &str = "#[allow(unused, clippy::all, reason = \"an example\")]
async fn example(given: Given) -> Result<(), Box<dyn std::error::Error>> {
let Given { client, kv, locks, queue, bus, cache, job, payload, order, result, report, ttl, endpoints, current } = given;";
