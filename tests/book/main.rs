//! The Rust of the documents: every block of it is a function here, made by `build.rs`, and so compiled
//! whenever the tests are. What blocks take for granted is in `world`.

#![allow(
    dead_code,
    unreachable_pub,
    clippy::print_stdout,
    reason = "examples are compiled, and not run"
)]

/// What a reader has before he reads a block: a client and its handles, and his own functions.
mod world {
    pub(super) use bytes::Bytes;
    pub(super) use quorate_client::bus::*;
    pub(super) use quorate_client::cache::BuildOptions;
    pub(super) use quorate_client::kv::*;
    pub(super) use quorate_client::lock::*;
    pub(super) use quorate_client::queue::*;
    pub(super) use quorate_client::*;
    pub(super) use std::time::Duration;

    pub(super) struct Given {
        pub(super) client: Client,
        pub(super) kv: KeyValue,
        pub(super) locks: Locks,
        pub(super) queue: Queue,
        pub(super) bus: Bus,
        pub(super) cache: Cache,
        pub(super) job: Job,
        pub(super) payload: &'static str,
        pub(super) order: &'static str,
        pub(super) result: &'static str,
        pub(super) report: &'static str,
        pub(super) ttl: Duration,
        pub(super) endpoints: [&'static str; 2],
        pub(super) current: fn() -> Option<TraceContext>,
    }

    /// Does what a job asks for.
    pub(super) async fn send(_payload: &Bytes) -> Result<(), std::io::Error> {
        Ok(())
    }

    /// Builds a value for the cache.
    pub(super) async fn make_report() -> Result<String, std::io::Error> {
        Ok(String::new())
    }

    /// Takes a message.
    pub(super) fn handle(_channel: String, _payload: Bytes) {}

    /// Reads anew what messages would have told.
    pub(super) fn reload(_missed: Option<u64>) {}
}

include!(concat!(env!("OUT_DIR"), "/book.rs"));

#[test]
fn every_rust_block_of_the_documents_is_compiled() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let docs = std::fs::read_dir(root.join("docs")).unwrap().map(|entry| entry.unwrap().path());
    let pages = docs.filter(|file| file.extension().is_some_and(|it| it == "md"));
    let pages = pages.chain([root.join("README.md")]);
    let count = |page| {
        let text: String = std::fs::read_to_string(page).unwrap();
        let lines: Vec<&str> = text.lines().map(str::trim_start).collect();
        let begins = |at: &usize| lines[*at].starts_with("```rust");
        let marked = |at: usize| at > 0 && lines[at - 1].starts_with("<!--");
        (0..lines.len()).filter(begins).filter(|at| !marked(*at)).count()
    };
    let found: usize = pages.map(count).sum();
    assert_eq!(found, BLOCKS);
    assert!(found > 10, "so few show little: {found}");
}
