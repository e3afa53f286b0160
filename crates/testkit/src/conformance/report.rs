//! What came of the checks.

use anyhow::{Result, bail};
use quorate_client::Error;
use std::fmt;
use std::time::Duration;

/// What came of one check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The adapter does it.
    Passed,
    /// The adapter says that it can't.
    Unsupported(String),
    /// The adapter does something else.
    Failed(String),
}

impl Outcome {
    pub(super) fn of(done: Result<()>) -> Self {
        let Err(error) = done else { return Self::Passed };
        match error.downcast_ref::<Error>() {
            Some(Error::Unsupported { message, .. }) => Self::Unsupported(message.clone()),
            _ => Self::Failed(format!("{error:#}")),
        }
    }
}

/// A check with what came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Its name, such as `kv/ttl_ends`.
    pub check: String,
    /// What came of it.
    pub outcome: Outcome,
    /// How long it took.
    pub took: Duration,
}

/// What came of all checks. Shown as a table.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "a report that nobody looks at proves nothing"]
pub struct Report {
    verdicts: Vec<Verdict>,
}

impl Report {
    pub(super) fn new(verdicts: Vec<Verdict>) -> Self {
        Self { verdicts }
    }

    /// All of it.
    pub fn verdicts(&self) -> &[Verdict] {
        &self.verdicts
    }

    fn names(&self, wanted: impl Fn(&Outcome) -> bool) -> Vec<&str> {
        let wanted = self.verdicts.iter().filter(|verdict| wanted(&verdict.outcome));
        wanted.map(|verdict| verdict.check.as_str()).collect()
    }

    /// Names of the checks that passed.
    pub fn passed(&self) -> Vec<&str> {
        self.names(|outcome| *outcome == Outcome::Passed)
    }

    /// Names of the checks that failed.
    pub fn failed(&self) -> Vec<&str> {
        self.names(|outcome| matches!(outcome, Outcome::Failed(_)))
    }

    /// Names of the checks that the adapter said it can't do.
    pub fn unsupported(&self) -> Vec<&str> {
        self.names(|outcome| matches!(outcome, Outcome::Unsupported(_)))
    }

    /// That nothing failed, and that exactly these checks are unsupported: so nothing that worked
    /// becomes unsupported unnoticed, and what begins to work is noted.
    ///
    /// # Errors
    /// When it is not so, with the table.
    pub fn expect_unsupported(&self, expected: &[&str]) -> Result<()> {
        let (mut unsupported, mut expected) = (self.unsupported(), expected.to_vec());
        unsupported.sort_unstable();
        expected.sort_unstable();
        if self.verdicts.is_empty() {
            bail!("no check was run");
        }
        if !self.failed().is_empty() {
            bail!("{} checks failed\n{self}", self.failed().len());
        }
        if unsupported != expected {
            bail!("unsupported is {unsupported:?}; it was to be {expected:?}\n{self}");
        }
        Ok(())
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.verdicts.iter().map(|verdict| verdict.check.len()).max().unwrap_or(0);
        for Verdict { check, outcome, took } in &self.verdicts {
            let (word, why) = match outcome {
                Outcome::Passed => ("passed", ""),
                Outcome::Unsupported(why) => ("unsupported", why.as_str()),
                Outcome::Failed(why) => ("FAILED", why.as_str()),
            };
            writeln!(f, "{check:width$}  {word:11}  {:6.2} s  {why}", took.as_secs_f64())?;
        }
        let (passed, unsupported) = (self.passed().len(), self.unsupported().len());
        write!(f, "{passed} passed, {unsupported} unsupported, {} failed", self.failed().len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::{Context as _, anyhow};

    fn report(outcomes: &[(&str, Result<(), &str>)]) -> Report {
        let verdicts = outcomes.iter().map(|(check, outcome)| Verdict {
            check: (*check).to_owned(),
            outcome: match outcome {
                Ok(()) => Outcome::Passed,
                Err("") => Outcome::Unsupported("it can't".to_owned()),
                Err(why) => Outcome::Failed((*why).to_owned()),
            },
            took: Duration::from_millis(1_500),
        });
        Report::new(verdicts.collect())
    }

    #[test]
    fn only_what_the_adapter_said_itself_is_unsupported() {
        let said = Err(Error::unsupported("a", "b")).context("while it was tried");
        assert!(matches!(Outcome::of(said), Outcome::Unsupported(_)));
        assert_eq!(Outcome::of(Err(anyhow!("b").context("a"))), Outcome::Failed("a: b".to_owned()));
        assert_eq!(Outcome::of(Ok(())), Outcome::Passed);
    }

    #[test]
    fn a_report_conforms_only_with_what_was_expected() {
        let fine = report(&[("a/b", Ok(())), ("a/c", Err("")), ("a/d", Err(""))]);
        fine.expect_unsupported(&["a/d", "a/c"]).expect("it is as expected");
        for unexpected in [&["a/c"][..], &[], &["a/c", "a/d", "a/b"]] {
            fine.expect_unsupported(unexpected).expect_err("it is another set");
        }
        let failed = report(&[("a/b", Err("why")), ("a/c", Err(""))]);
        let error = failed.expect_unsupported(&["a/c"]).expect_err("one failed").to_string();
        assert!(error.contains("a/b  FAILED         1.50 s  why"), "{error}");
        assert!(error.ends_with("0 passed, 1 unsupported, 1 failed"), "{error}");
        report(&[]).expect_unsupported(&[]).expect_err("nothing was run");
    }
}
