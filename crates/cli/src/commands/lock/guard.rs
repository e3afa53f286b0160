//! `--guard NAME:TOKEN`: the lock that a mutation depends on.

use clap::Args;
use quorate_client::LockGuard;

/// What a mutation depends on.
#[derive(Clone, Debug, Args)]
pub(crate) struct Guarded {
    /// Only if this lock is held under this token (exit status 4 if not)
    #[arg(long, value_name = "LOCK:TOKEN", value_parser = parse)]
    pub(crate) guard: Option<LockGuard>,
}

/// The name may have colons in it, the token has none.
fn parse(text: &str) -> Result<LockGuard, String> {
    let wrong = || format!("{text:?} is not a lock and its token, such as report:17");
    let (name, token) = text.rsplit_once(':').ok_or_else(wrong)?;
    let fencing_token = token.parse().ok().filter(|token| *token > 0).ok_or_else(wrong)?;
    match name.is_empty() {
        true => Err(wrong()),
        false => Ok(LockGuard { name: name.to_owned(), fencing_token }),
    }
}

/// Adds the guard to a request that may have one.
macro_rules! guarded {
    ($request:expr, $guarded:expr) => {{
        let request = $request;
        match &$guarded.guard {
            Some(guard) => request.guard(guard),
            None => request,
        }
    }};
}
pub(crate) use guarded;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guard_is_a_name_and_a_token() {
        let guard = |name: &str, fencing_token| LockGuard { name: name.to_owned(), fencing_token };
        assert_eq!(parse("report:17"), Ok(guard("report", 17)));
        assert_eq!(parse("a:b:3"), Ok(guard("a:b", 3)));
        for text in ["", "report", "report:", ":17", "report:0", "report:-1", "report:x", "17"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
