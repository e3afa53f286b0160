//! The token in a file of the node, which may do everything: with it the first ones are made, and with
//! it one gets in when all others are lost.

use super::same;
use quorate_tls::{Error, Reload, Source, read_file};
use sha2::{Digest as _, Sha256};
use std::path::PathBuf;

/// Characters of it at least: it is as good as a root password, and nobody types it.
const CHARS_MIN: usize = 24;
/// Characters at most.
const CHARS_MAX: usize = 512;

const WHAT: &str = "the file with the admin's token";

/// Where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct AdminTokenFile(pub(crate) PathBuf);

/// What stands there; only a hash is kept.
pub(crate) struct AdminToken([u8; 32]);

impl AdminToken {
    /// Whether somebody shows this one.
    pub(super) fn is(&self, token: &str) -> bool {
        same(&Sha256::digest(token.as_bytes()), &self.0)
    }
}

impl Reload for AdminTokenFile {
    type Config = AdminToken;

    fn read(&self) -> Result<Source, Error> {
        Ok(Source::new(vec![read_file(WHAT, &self.0)?]))
    }

    fn config(&self, source: &Source) -> Result<AdminToken, Error> {
        let wrong = |problem: String| Error::content(WHAT, &self.0, problem);
        let bytes = source.files().first().map(Vec::as_slice).unwrap_or_default();
        let text =
            std::str::from_utf8(bytes).map_err(|_| wrong("it is no text".to_owned()))?.trim();
        if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(wrong("it has more in it than one word of printable ASCII".to_owned()));
        }
        if !(CHARS_MIN..=CHARS_MAX).contains(&text.len()) {
            return Err(wrong(format!(
                "the token has {} characters; it must have {CHARS_MIN} to {CHARS_MAX}. A good one: openssl \
                 rand -hex 32",
                text.len()
            )));
        }
        Ok(AdminToken(Sha256::digest(text.as_bytes()).into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<AdminToken, String> {
        let dir = tempfile::tempdir().unwrap();
        let file = AdminTokenFile(dir.path().join("token"));
        std::fs::write(&file.0, text).unwrap();
        file.config(&file.read().unwrap()).map_err(|error| error.to_string())
    }

    #[test]
    fn a_token_that_is_guessed_or_no_single_word_is_refused_and_not_told() {
        let token = "0123456789abcdef0123456789abcdef";
        assert!(read(&format!("{token}\n")).unwrap().is(token));
        assert!(!read(token).unwrap().is("0123456789abcdef0123456789abcdeg"));
        for wrong in ["", "hunter2", "0123456789abcdef 0123456789abcdef", &"x".repeat(600)] {
            let error = read(wrong).map(drop).unwrap_err();
            assert!(!error.contains("hunter2") && error.contains("token"), "{error}");
        }
    }
}
