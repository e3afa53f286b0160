//! Blocks that are not run are what they say they are; and few are left out of all of that.

use super::blocks::Mark;
use super::pages::{Page, pages, planted, root};
use quorate_tests::processes::{Ended, Quorate};
use std::io::Write as _;

/// The languages of blocks, each of which somebody looks at. `text` shows what programs print.
const LANGUAGES: &[&str] = &["console", "json", "rust", "sh", "text", "toml", "ts", "yaml"];
/// Blocks that nobody runs or compiles, in all documents: one more is a decision.
const NOT_RUN_MAX: usize = 23;
/// A reason has some words.
const REASON_BYTES_MIN: usize = 20;

fn language_breaches(page: &Page) -> Vec<String> {
    let mut breaches = Vec::new();
    for block in page.blocks() {
        let at = page.place(&block);
        if !LANGUAGES.contains(&block.language.as_str()) {
            breaches
                .push(format!("{at}: a block in {:?}; there are {LANGUAGES:?}", block.language));
        }
        match &block.mark {
            Some(Mark::NotRun(reason)) if reason.len() < REASON_BYTES_MIN => {
                breaches.push(format!("{at}: say why it is not run"));
            }
            Some(Mark::RunBy(test)) if !root().join(test).is_file() => {
                breaches.push(format!("{at}: there is no test {test}"));
            }
            _ => {}
        }
        if block.mark.is_some() && !["sh", "console", "rust"].contains(&&*block.language) {
            breaches.push(format!("{at}: a block in {} has no mark", block.language));
        }
    }
    breaches
}

#[test]
fn blocks_have_a_language_and_those_that_are_not_run_a_reason() {
    let breaches: Vec<_> = pages().iter().flat_map(language_breaches).collect();
    assert!(breaches.is_empty(), "{breaches:#?}");
}

#[test]
fn few_commands_are_not_run() {
    let all = pages();
    let blocks = all.iter().flat_map(|page| page.blocks().into_iter().map(move |b| (page, b)));
    let left: Vec<_> = blocks
        .filter(|(_, block)| matches!(block.mark, Some(Mark::NotRun(_))))
        .map(|(page, block)| page.place(&block))
        .collect();
    assert!(left.len() <= NOT_RUN_MAX, "{} are not run: {left:#?}", left.len());
}

/// Scripts that blocks name, which are not run with them.
fn script_breaches(page: &Page, exists: impl Fn(&str) -> bool) -> Vec<String> {
    let mut breaches = Vec::new();
    for block in page.blocks().iter().filter(|block| block.language == "sh") {
        for word in block.text.split_whitespace().filter(|word| word.starts_with("scripts/")) {
            if !exists(word) {
                breaches.push(format!("{}: there is no {word}", page.place(block)));
            }
        }
    }
    breaches
}

#[test]
fn scripts_in_blocks_are_there() {
    let exists = |script: &str| root().join(script).is_file();
    let breaches: Vec<_> = pages().iter().flat_map(|page| script_breaches(page, exists)).collect();
    assert!(breaches.is_empty(), "{breaches:#?}");
}

/// What `quorate config check` says of a configuration.
async fn check(text: &str) -> Ended {
    let mut file = tempfile::NamedTempFile::new().expect("a file can be made");
    file.write_all(text.as_bytes()).expect("it can be written");
    Quorate::bare().run(&format!("config check {}", file.path().display())).await
}

#[tokio::test]
async fn configurations_are_taken() {
    let mut found = 0;
    for page in pages() {
        for block in page.blocks().iter().filter(|block| block.language == "toml") {
            found += 1;
            // Files that it names are on other machines.
            let nowhere = block.text.replace("/etc/quorate/", "/nonexistent/");
            let ended = check(&nowhere).await;
            let read = ended.status == Some(0) || ended.stderr.contains("/nonexistent/");
            assert!(read, "{}: {ended:?}", page.place(block));
        }
    }
    assert!(found > 0, "there is one");
    let ended = check("nod_id = 1\n").await;
    assert!(ended.status != Some(0) && ended.stderr.contains("nod_id"), "{ended:?}");
}

fn data_breaches(page: &Page) -> Vec<String> {
    let mut breaches = Vec::new();
    for block in page.blocks() {
        let wrong = match block.language.as_str() {
            "json" => serde_json::from_str::<serde_json::Value>(&block.text)
                .err()
                .map(|error| error.to_string()),
            "yaml" => serde_saphyr::from_str::<serde_json::Value>(&block.text)
                .err()
                .map(|error| error.to_string()),
            _ => None,
        };
        breaches.extend(wrong.map(|wrong| format!("{}: {wrong}", page.place(&block))));
    }
    breaches
}

#[test]
fn json_and_yaml_can_be_read() {
    let breaches: Vec<_> = pages().iter().flat_map(data_breaches).collect();
    assert!(breaches.is_empty(), "{breaches:#?}");
}

#[test]
fn planted_blocks_are_found() {
    let page = planted(
        "```\nx\n```\n<!-- not run: no -->\n```sh\nscripts/gone --x\n```\n\
         <!-- run by tests/gone.rs -->\n\n```sh\ny\n```\n<!-- not run: the reason that counts -->\n\
         ```json\n{]\n```\n```yaml\na: [\n```\n",
    );
    let (languages, data) = (language_breaches(&page), data_breaches(&page));
    assert_eq!(languages.len(), 4, "{languages:#?}");
    assert_eq!(data.len(), 2, "{data:#?}");
    assert_eq!(script_breaches(&page, |_| false).len(), 1);
}
