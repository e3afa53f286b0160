//! Commands that a person is told to run, as a shell takes them.

use std::env;
use std::path::Path;

/// `cargo`, with the target directory of the running test: in another one everything would be
/// compiled anew, RocksDB first.
pub fn cargo() -> String {
    cargo_beside(env::current_exe().ok().as_deref())
}

/// A test is at target/<profile>/deps/<test>-<hash>. Whatever is elsewhere gets the plain command.
pub(crate) fn cargo_beside(test: Option<&Path>) -> String {
    let deps = test.and_then(Path::parent).filter(|deps| deps.ends_with("deps"));
    match deps.and_then(|deps| deps.ancestors().nth(2)) {
        Some(target) => {
            format!("CARGO_TARGET_DIR={} cargo", shell_word(&target.to_string_lossy()))
        }
        None => "cargo".to_owned(),
    }
}

/// A word as a shell takes it.
pub fn shell_word(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-=:,+@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cargo_builds_where_the_test_was_built() {
        let beside = |test: &str| cargo_beside(Some(Path::new(test)));
        assert_eq!(
            beside("/build here/release/deps/faults-0123"),
            "CARGO_TARGET_DIR='/build here' cargo"
        );
        assert_eq!(beside("/usr/bin/faults"), "cargo");
        assert_eq!(cargo_beside(None), "cargo");
    }

    #[test]
    fn a_word_is_quoted_when_it_must_be() {
        assert_eq!(shell_word("a=/b.c-d"), "a=/b.c-d");
        assert_eq!(shell_word(""), "''");
        assert_eq!(shell_word("it's"), r"'it'\''s'");
    }
}
