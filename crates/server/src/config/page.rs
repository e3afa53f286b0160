//! `docs/configuration.md`, which is written from the table of settings: `UPDATE_DOCS=1` with the test
//! below writes it again.

use super::{Config, Kind, SETTINGS, Setting};
use std::fmt::Write as _;
use std::path::Path;

/// Where the page is, from this crate.
const FILE: &str = "../../docs/configuration.md";
/// What writes it.
const COMMAND: &str =
    "UPDATE_DOCS=1 cargo test --release --locked --workspace --lib the_page_of_settings";

const HEAD: &str = "\
# Settings

Every setting of `quorate serve`. This page is written from the table in `crates/server/src/config/settings.rs`, so change it
there; `deploy/quorate.toml` is a file with all of them to begin from.

A flag beats an environment variable, a variable beats the file that `--config` names, and the file beats the default. A name
with a dot stands in a section of the file: `raft.heartbeat_ms` is `heartbeat_ms` under `[raft]`. An unknown name is an error,
with the one that may have been meant. `quorate config check FILE` says what is wrong with a file, or what is in force and from
where.

Settings are read when a node starts, so a change needs a restart of that node; restart one after the other
(`docs/operations.md`). What stands in the files of certificates, keys and tokens is read again within 5 seconds after it
changed, and at once on SIGHUP; connections that are open keep what they began with.
";

/// What a section of the file is about; the first is the top of the file.
const SECTIONS: &[(&str, &str)] = &[
    (
        "",
        "Who the node is, where it listens, and which cluster it belongs to. They stand before any section.",
    ),
    ("tls", "Certificates: `docs/security.md`."),
    ("auth", "Who is served: `docs/security.md`."),
    ("limits", "What one request, and all that is under way, may take."),
    (
        "limits.per_caller",
        "What one caller may have of this node: whoever shows the same token or certificate, or, where nobody is asked who he is, \
         comes from the same address (of IPv6, the same /64). What is refused had no effect, and is answered `RESOURCE_EXHAUSTED` \
         with the reason `CALLER_LIMIT`.",
    ),
    ("raft", "The pace of elections. The same on all nodes."),
    ("storage", "Memory, snapshots, and what is kept of the log."),
    ("metrics", "What `/metrics` shows."),
];

/// The section a setting stands in.
fn section(setting: &Setting) -> &'static str {
    setting.name.rsplit_once('.').map_or("", |(section, _)| section)
}

/// What a setting holds, and between which bounds.
fn holds(setting: &Setting) -> String {
    let what = match setting.kind {
        Kind::Text if setting.placeholder == "FILE" => "the path of a file",
        Kind::Text if setting.placeholder == "DIR" => "the path of a directory",
        Kind::Text => return format!("a text: `{}`", setting.placeholder),
        Kind::Secret => "a text, which is shown to nobody",
        Kind::Number => setting.unit().unwrap_or("a whole number"),
        Kind::Switch => "true or false",
    };
    match setting.bounds {
        Some((min, max)) => format!("{what}, from {min} to {max}"),
        None => what.to_owned(),
    }
}

fn entry(page: &mut String, setting: &Setting) {
    let default = setting.default.map_or_else(|| "none".to_owned(), |text| format!("`{text}`"));
    let after =
        if setting.watched { "; what is in the file is read again when it changes" } else { "" };
    let written = write!(
        page,
        "\n### {}\n\n{}.\n\n- flag `--{}`, variable `{}`\n- {}; default: {default}\n- takes effect after a restart{after}\n",
        setting.name,
        setting.help,
        setting.flag(),
        setting.variable(),
        holds(setting),
    );
    written.expect("a text takes whatever is written");
}

fn page() -> String {
    let mut page = HEAD.to_owned();
    for (name, about) in SECTIONS {
        let title = if name.is_empty() { "The node" } else { name };
        let _ = write!(page, "\n## {title}\n\n{about}\n");
        for setting in SETTINGS.iter().filter(|setting| section(setting) == *name) {
            entry(&mut page, setting);
        }
    }
    page
}

#[test]
fn the_page_of_settings_says_what_the_code_does() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(FILE);
    let page = page();
    if std::env::var("UPDATE_DOCS").is_ok_and(|value| value == "1") {
        std::fs::write(&file, &page).unwrap();
    }
    let written = std::fs::read_to_string(&file).unwrap_or_default();
    let differs = page.lines().zip(written.lines()).find(|(is, was)| is != was);
    assert!(
        page == written,
        "docs/configuration.md is not what the settings say; first difference, is and was: \
         {differs:?}; this writes it again: {COMMAND}"
    );
}

#[test]
fn every_section_is_on_the_page() {
    for setting in SETTINGS {
        let section = section(setting);
        assert!(SECTIONS.iter().any(|(name, _)| *name == section), "[{section}] is not on it");
    }
}

#[test]
fn the_bounds_on_the_page_are_those_that_hold() {
    let tried = |setting: &Setting, number: u64| {
        let name = setting.name;
        Config::load(&[(name, number.to_string())], [], None).map_err(|error| error.to_string())
    };
    for setting in SETTINGS.iter().filter(|setting| setting.kind == Kind::Number) {
        let (min, max) = setting.bounds.expect("a number has bounds");
        for beyond in [min.checked_sub(1), max.checked_add(1)].into_iter().flatten() {
            let error = tried(setting, beyond).expect_err(setting.name);
            assert!(error.starts_with(setting.name), "{error}");
        }
        for within in [min, max] {
            // Those of raft have to fit each other as well; no other may be refused within.
            if let Err(error) = tried(setting, within) {
                assert!(section(setting) == "raft" && !error.contains("range"), "{error}");
            }
        }
    }
}
