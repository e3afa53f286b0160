//! The commands that the documents show are there, with the flags they are shown with.

use quorate_tests::processes::Quorate;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The command lines in a document: in its fenced blocks, and where one is quoted in the text.
fn commands(text: &str) -> Vec<String> {
    let mut commands = Vec::new();
    let mut fenced = false;
    let mut continued = String::new();
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
            continue;
        }
        if !fenced {
            commands.extend(line.split('`').skip(1).step_by(2).map(str::to_owned));
            continue;
        }
        let line = line.trim().trim_start_matches("$ ");
        if let Some(begun) = line.strip_suffix('\\') {
            continued += begun;
            continue;
        }
        let whole = std::mem::take(&mut continued) + line;
        commands.extend(whole.split(" | ").map(str::to_owned));
    }
    commands.retain(|command| command.starts_with("quorate "));
    commands
}

/// The flags that a command takes: those that its list of options has. What its text says of others
/// counts for nothing.
fn flags(help: &str) -> impl Iterator<Item = &str> {
    let options = help.lines().filter_map(|line| {
        let option = line.trim_start();
        // A value that is possible begins with a dash, too, and a space.
        let is_one = option.len() < line.len() && option.starts_with('-');
        let is_one = is_one && !option.starts_with("- ");
        // What it is for may stand behind it.
        is_one.then(|| option.split("  ").next().unwrap_or(option))
    });
    options.flat_map(|option| option.split(|c: char| !c.is_alphanumeric() && c != '-'))
}

/// The documents, of which there may be more tomorrow.
fn documents() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let docs = std::fs::read_dir(root.join("docs")).expect("there are documents");
    let mut documents: Vec<_> = docs.map(|entry| entry.expect("it can be read").path()).collect();
    documents.retain(|path| path.extension().is_some_and(|extension| extension == "md"));
    assert!(!documents.is_empty(), "there are documents");
    documents.push(root.join("README.md"));
    documents
}

/// What each command says of itself, by its words.
struct Helps {
    quorate: Quorate,
    known: BTreeMap<String, String>,
}

impl Helps {
    async fn of(&mut self, words: &str) -> String {
        if let Some(help) = self.known.get(words) {
            return help.clone();
        }
        let help = self.quorate.run(&format!("{words} --help")).await.expect(0).text();
        self.known.insert(words.to_owned(), help.clone());
        help
    }

    /// What is not there of a command line.
    async fn missing(&mut self, command: &str) -> Option<String> {
        let mut words = String::new();
        let mut help = self.of("").await;
        for word in command.split_whitespace().skip(1).take_while(|word| *word != "--") {
            let flag = word.split('=').next().unwrap_or(word);
            if flag.starts_with("--") {
                if !flags(&help).any(|shown| shown == flag) {
                    return Some(format!("`{command}`: `quorate {}` has no {flag}", words.trim()));
                }
                continue;
            }
            let Some((_, subcommands)) = help.split_once("\nCommands:\n") else { continue };
            let is_one = |word: &str| {
                let named = |line: &str| line.split_whitespace().next() == Some(word);
                subcommands.lines().take_while(|line| line.starts_with("  ")).any(named)
            };
            // As in the text: `set|get`.
            if let Some(other) = word.split('|').find(|word| !is_one(word)) {
                if other.starts_with(char::is_alphabetic) {
                    return Some(format!("`{command}`: there is no `quorate{words} {other}`"));
                }
                return None;
            }
            words = format!("{words} {}", word.split('|').next().unwrap_or(word));
            help = self.of(&words).await;
        }
        None
    }
}

#[tokio::test]
async fn the_commands_in_the_documents_are_there() {
    let mut helps = Helps { quorate: Quorate::bare(), known: BTreeMap::new() };
    let mut found = 0;
    for document in documents() {
        let text = std::fs::read_to_string(&document).expect("the document is there");
        for command in commands(&text) {
            found += 1;
            assert_eq!(helps.missing(&command).await, None, "{}", document.display());
        }
    }
    assert!(found > 50, "so few show little: {found}");
}

#[tokio::test]
async fn planted_commands_are_found() {
    let text = "`quorate queue schedule list` and `quorate queue …`, `quorate kv set|get`, `other x`\n\
                `quorate kv sets k v` `quorate kv set|gat`\n\
                ```sh\n\
                $ quorate queue push q x --delay 5s --dedupe-kay k\n\
                printf x | quorate queue push q \\\n  --lanes\n\
                quorate queue work q --parallel 4 -- ./any --flag\n\
                quorate lock acquire l --token 7\n\
                ```\n";
    let mut helps = Helps { quorate: Quorate::bare(), known: BTreeMap::new() };
    let mut missing = Vec::new();
    for command in commands(text) {
        missing.extend(helps.missing(&command).await);
    }
    // The last one is named in the text of that command's help.
    let expected =
        ["quorate kv sets", "quorate kv gat", "no --dedupe-kay", "no --lanes", "no --token"];
    assert_eq!(missing.len(), expected.len(), "{missing:#?}");
    for (missing, part) in missing.iter().zip(expected) {
        assert!(missing.contains(part), "{missing}: {part}");
    }
}
