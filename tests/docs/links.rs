//! Links of the documents lead somewhere, and every page is in the book.

use super::pages::{Page, pages, planted, root};
use std::collections::BTreeSet;

/// The targets of links in the running text, by line.
fn targets(text: &str) -> Vec<(usize, String)> {
    let (mut targets, mut fenced) = (Vec::new(), false);
    for (number, line) in (1..).zip(text.lines()) {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        }
        if fenced {
            continue;
        }
        // What is quoted is shown as it is, and links nowhere.
        let said: String = line.split('`').step_by(2).collect::<Vec<_>>().join("`");
        let ends = said.split("](").skip(1).filter_map(|rest| rest.split(')').next());
        targets.extend(ends.map(|target| (number, target.to_owned())));
    }
    targets
}

/// The name of a heading in a link, as GitHub and mdBook make it.
fn anchor(title: &str) -> String {
    let kept = title.to_lowercase();
    let kept = kept.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}

fn anchors(text: &str) -> BTreeSet<String> {
    let (mut anchors, mut fenced) = (BTreeSet::new(), false);
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        }
        if !fenced && line.starts_with('#') {
            anchors.insert(anchor(line.trim_start_matches('#').trim()));
        }
    }
    anchors
}

fn link_breaches(page: &Page, all: &[Page]) -> Vec<String> {
    let mut breaches = Vec::new();
    let directory = page.path.rsplit_once('/').map_or("", |(directory, _)| directory);
    for (line, target) in targets(&page.text) {
        if target.starts_with("http://") || target.starts_with("https://") {
            continue;
        }
        let (file, name) = target.split_once('#').unwrap_or((&target, ""));
        let path = match file {
            "" => page.path.clone(),
            _ if directory.is_empty() => file.to_owned(),
            _ => format!("{directory}/{file}"),
        };
        match all.iter().find(|page| page.path == path) {
            Some(to) if name.is_empty() || anchors(&to.text).contains(name) => {}
            Some(_) => {
                breaches.push(format!("{}:{line}: {path} has no heading #{name}", page.path));
            }
            // The book has nothing else; the README is read beside the sources.
            None if directory.is_empty() && root().join(&path).exists() => {}
            None => breaches.push(format!("{}:{line}: there is no page {path}", page.path)),
        }
    }
    breaches
}

#[test]
fn links_lead_somewhere() {
    let pages = pages();
    let breaches: Vec<_> = pages.iter().flat_map(|page| link_breaches(page, &pages)).collect();
    assert!(breaches.is_empty(), "{breaches:#?}");
}

/// Pages that the book leaves out, and such as it has twice.
fn summary_breaches(summary: &str, files: &[&str]) -> Vec<String> {
    let named: Vec<_> = targets(summary).into_iter().map(|(_, target)| target).collect();
    let mut breaches = Vec::new();
    for file in files.iter().filter(|file| **file != "SUMMARY.md") {
        let count = named.iter().filter(|named| named == file).count();
        if count != 1 {
            breaches.push(format!("docs/SUMMARY.md has {file} {count} times"));
        }
    }
    breaches
}

#[test]
fn every_page_is_in_the_book() {
    let pages = pages();
    let files: Vec<_> = pages.iter().filter_map(|page| page.path.strip_prefix("docs/")).collect();
    let summary = pages.iter().find(|page| page.path == "docs/SUMMARY.md").expect("it is there");
    let breaches = summary_breaches(&summary.text, &files);
    assert!(breaches.is_empty(), "{breaches:#?}");
}

#[test]
fn planted_links_are_found() {
    let page = planted(
        "# A title, with `code`\n[a](gone.md) [b](other.md#there) [c](other.md#gone) `[d](gone)`\n\
         [e](#a-title-with-code) [f](https://example.org)\n```text\n[g](gone.md)\n```\n",
    );
    let mut other = planted("## There\n```sh\n# gone\n```\n");
    other.path = "docs/other.md".to_owned();
    let breaches = link_breaches(&page, &[page.clone(), other]);
    let expected = [":2: there is no page docs/gone.md", ":2: docs/other.md has no heading #gone"];
    assert_eq!(breaches.len(), expected.len(), "{breaches:#?}");
    assert!(breaches.iter().zip(expected).all(|(breach, part)| breach.contains(part)));
    let left = summary_breaches("[A](a.md) [B](b.md) [B](b.md)", &["a.md", "b.md", "c.md"]);
    assert_eq!(left.len(), 2, "{left:#?}");
}
