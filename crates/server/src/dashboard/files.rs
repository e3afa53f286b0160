//! The pages, which are part of the binary: nothing is read from a disk, and no name of a file comes from
//! a request.

use super::answer::Refusal;
use axum::extract::Path;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use std::collections::HashMap;
use std::sync::LazyLock;
use xxhash_rust::xxh3::xxh3_64;

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const SVG: &str = "image/svg+xml";

/// One of the files.
struct File {
    kind: &'static str,
    content: &'static [u8],
    etag: HeaderValue,
}

/// A table of files by name.
macro_rules! files {
    ($($name:literal $kind:ident),+ $(,)?) => {
        HashMap::from([$(($name, File::new($kind, include_bytes!(concat!("../../assets/ui/", $name))))),+])
    };
}

static FILES: LazyLock<HashMap<&'static str, File>> = LazyLock::new(|| {
    files! {
        "index.html" HTML, "app.css" CSS, "icon.svg" SVG,
        "api.js" SCRIPT, "app.js" SCRIPT, "bus.js" SCRIPT, "cache.js" SCRIPT, "chart.js" SCRIPT,
        "cluster.js" SCRIPT, "confirm.js" SCRIPT, "dom.js" SCRIPT, "format.js" SCRIPT, "jobs.js" SCRIPT,
        "keys.js" SCRIPT, "live.js" SCRIPT, "locks.js" SCRIPT, "page.js" SCRIPT, "problems.js" SCRIPT,
        "queue.js" SCRIPT, "queues.js" SCRIPT, "router.js" SCRIPT, "sessions.js" SCRIPT,
        "sign-in.js" SCRIPT, "table.js" SCRIPT, "theme.js" SCRIPT, "traffic.js" SCRIPT,
        "values.js" SCRIPT,
    }
});

impl File {
    fn new(kind: &'static str, content: &'static [u8]) -> Self {
        let etag = format!("\"{:016x}\"", xxh3_64(content));
        let etag = HeaderValue::from_str(&etag).expect("hexadecimal digits may stand in a header");
        Self { kind, content, etag }
    }
}

/// The page that all of them belong to.
pub(super) async fn index(headers: HeaderMap) -> Result<Response, Refusal> {
    file(&headers, "index.html")
}

pub(super) async fn get(Path(name): Path<String>, headers: HeaderMap) -> Result<Response, Refusal> {
    file(&headers, &name)
}

fn file(asked: &HeaderMap, name: &str) -> Result<Response, Refusal> {
    let Some(File { kind, content, etag }) = FILES.get(name) else {
        let why = "the dashboard has no such file";
        return Err(Refusal::new(StatusCode::NOT_FOUND, "NOT_FOUND", why));
    };
    // It may be kept, and is asked for again each time, since another version may run by then.
    let kept = HeaderValue::from_static("no-cache");
    let headers = [(header::CACHE_CONTROL, kept), (header::ETAG, etag.clone())];
    if asked.get(header::IF_NONE_MATCH) == Some(etag) {
        return Ok((StatusCode::NOT_MODIFIED, headers).into_response());
    }
    let kind = [(header::CONTENT_TYPE, *kind)];
    Ok((headers, kind, *content).into_response())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_of_the_pages_is_served() {
        let there = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/assets/ui")).unwrap();
        let names = there.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<String> = names.filter(|name| name != "API.md").collect();
        names.sort();
        let mut served: Vec<&str> = FILES.keys().copied().collect();
        served.sort_unstable();
        assert_eq!(served, names);
    }
}
