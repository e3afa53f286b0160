//! Where the `quorate` binary is.

use crate::repeat;
use anyhow::{Result, bail};
use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// Environment variable that names the binary under test.
pub const BINARY_ENV: &str = "QUORATE_BIN";

const NAME: &str = "quorate";

/// The binary that [`BINARY_ENV`] names, else the one that was built beside the running test.
///
/// # Errors
/// When there is none, with how to build it.
pub fn find_binary() -> Result<PathBuf> {
    find(env::var_os(BINARY_ENV), env::current_exe().ok().as_deref())
}

fn find(named: Option<OsString>, test: Option<&Path>) -> Result<PathBuf> {
    if let Some(named) = named.filter(|named| !named.is_empty()) {
        let path = PathBuf::from(named);
        if path.is_file() {
            return Ok(path);
        }
        bail!("{BINARY_ENV} is {}, which is not a file; correct or unset it", path.display());
    }
    // A test is at target/<profile>/deps/<test>-<hash>, the binary at target/<profile>/quorate.
    let looked_at: Vec<PathBuf> = test
        .into_iter()
        .flat_map(|test| test.ancestors().skip(1).take(2))
        .map(|directory| directory.join(NAME))
        .collect();
    if let Some(path) = looked_at.iter().find(|path| path.is_file()) {
        return Ok(path.clone());
    }
    let looked_at: Vec<_> = looked_at.iter().map(|path| path.display().to_string()).collect();
    bail!(
        "the quorate binary is not built (looked for {}); run `{} build --release --locked --bin \
         quorate`, or set {BINARY_ENV} to its path",
        looked_at.join(" and "),
        repeat::cargo_beside(test)
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn looks_beside_the_test_and_says_how_to_build() {
        let target = tempfile::tempdir().unwrap();
        let deps = target.path().join("release/deps");
        fs::create_dir_all(&deps).unwrap();
        let test = deps.join("cluster-0123456789abcdef");

        let missing = find(None, Some(&test)).unwrap_err().to_string();
        let command = " cargo build --release --locked --bin quorate`";
        assert!(missing.contains(command), "{missing}");
        assert!(missing.contains(&format!("CARGO_TARGET_DIR={}", target.path().display())));

        let binary = target.path().join("release/quorate");
        fs::write(&binary, "").unwrap();
        assert_eq!(find(None, Some(&test)).unwrap(), binary);
        assert_eq!(find(Some(OsString::new()), Some(&test)).unwrap(), binary);
    }

    #[test]
    fn a_named_binary_must_exist() {
        let file = tempfile::NamedTempFile::new().unwrap();
        assert_eq!(find(Some(file.path().into()), None).unwrap(), file.path());
        let wrong = find(Some("/nowhere/quorate".into()), None).unwrap_err().to_string();
        assert!(wrong.contains("QUORATE_BIN is /nowhere/quorate"), "{wrong}");
    }
}
