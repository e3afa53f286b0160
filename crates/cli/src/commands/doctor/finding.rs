//! What an examination finds, and how it is shown.

use serde_json::{Value, json};
use std::cmp::Reverse;
use std::fmt;
use std::path::PathBuf;

/// How bad it is, the better first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Severity {
    /// As it should be.
    Ok,
    /// Worth knowing; nothing has to be done.
    Note,
    /// It works, and will not for long, or not as it should.
    Warning,
    /// Something is broken now.
    Problem,
}

impl Severity {
    /// The worst first.
    const ALL: [Self; 4] = [Self::Problem, Self::Warning, Self::Note, Self::Ok];

    fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Note => "note",
            Self::Warning => "warning",
            Self::Problem => "problem",
        }
    }
}

/// What a finding is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Subject {
    /// The cluster as a whole.
    Cluster,
    /// One node.
    Node(u64),
    /// The configuration of a node.
    Config,
    /// The machine this command runs on.
    Machine,
    /// A directory on it.
    Directory(PathBuf),
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cluster => f.write_str("cluster"),
            Self::Node(node) => write!(f, "node {node}"),
            Self::Config => f.write_str("config"),
            Self::Machine => f.write_str("machine"),
            Self::Directory(path) => write!(f, "directory {}", path.display()),
        }
    }
}

/// One thing that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Finding {
    pub(super) severity: Severity,
    pub(super) subject: Subject,
    /// A stable word.
    pub(super) code: &'static str,
    /// What was seen, with the figure.
    pub(super) found: String,
    /// What that means; empty when it says it all.
    pub(super) means: String,
    /// What to do about it; empty when there is nothing to do.
    pub(super) does: String,
}

impl Finding {
    pub(super) fn new(
        severity: Severity,
        subject: Subject,
        code: &'static str,
        found: impl Into<String>,
    ) -> Self {
        let found = found.into();
        Self { severity, subject, code, found, means: String::new(), does: String::new() }
    }

    pub(super) fn means(self, means: impl Into<String>) -> Self {
        Self { means: means.into(), ..self }
    }

    pub(super) fn fix(self, does: impl Into<String>) -> Self {
        Self { does: does.into(), ..self }
    }

    fn json(&self) -> Value {
        json!({
            "severity": self.severity.as_str(),
            "subject": self.subject.to_string(),
            "code": self.code,
            "found": self.found,
            "means": self.means,
            "do": self.does,
        })
    }

    fn text(&self) -> String {
        let mut text = format!("{:<8} {}: {}", self.severity.as_str(), self.subject, self.found);
        for (word, rest) in [("means", &self.means), ("do", &self.does)] {
            if !rest.is_empty() {
                text.push_str(&format!("\n         {word:<6} {rest}"));
            }
        }
        text
    }
}

/// All that was found, the worst first.
#[derive(Debug)]
pub(super) struct Report(Vec<Finding>);

impl Report {
    pub(super) fn new(mut findings: Vec<Finding>) -> Self {
        // What is equally bad stays in the order of the rules.
        findings.sort_by_key(|finding| Reverse(finding.severity));
        Self(findings)
    }

    /// How bad the worst is.
    pub(super) fn worst(&self) -> Severity {
        self.0.first().map_or(Severity::Ok, |finding| finding.severity)
    }

    pub(super) fn json(&self) -> Value {
        let findings: Vec<Value> = self.0.iter().map(Finding::json).collect();
        json!({ "findings": findings, "worst": self.worst().as_str() })
    }

    /// Groups by severity, then how many there are of each.
    pub(super) fn text(&self) -> String {
        let of = |severity| self.0.iter().filter(move |finding| finding.severity == severity);
        let mut groups: Vec<String> = Vec::new();
        for severity in Severity::ALL {
            let group: Vec<String> = of(severity).map(Finding::text).collect();
            if !group.is_empty() {
                groups.push(group.join("\n"));
            }
        }
        let count = |severity, one: &str, many: &str| match of(severity).count() {
            1 => format!("1 {one}"),
            count => format!("{count} {many}"),
        };
        groups.push(format!(
            "{}, {}, {}; {} ok",
            count(Severity::Problem, "problem", "problems"),
            count(Severity::Warning, "warning", "warnings"),
            count(Severity::Note, "note", "notes"),
            of(Severity::Ok).count(),
        ));
        groups.join("\n\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(severity: Severity, node: u64) -> Finding {
        Finding::new(severity, Subject::Node(node), "CODE", "it is so")
    }

    #[test]
    fn the_worst_comes_first_and_is_counted() {
        let report = Report::new(vec![
            found(Severity::Ok, 1),
            found(Severity::Warning, 2).means("that much").fix("this"),
            found(Severity::Problem, 3),
            found(Severity::Warning, 1),
        ]);
        assert_eq!(report.worst(), Severity::Problem);
        assert_eq!(
            report.text(),
            "problem  node 3: it is so\n\n\
             warning  node 2: it is so\n         means  that much\n         do     this\n\
             warning  node 1: it is so\n\n\
             ok       node 1: it is so\n\n\
             1 problem, 2 warnings, 0 notes; 1 ok"
        );
        let json = report.json();
        assert_eq!(json["worst"], "problem");
        assert_eq!(
            json["findings"][1],
            json!({"severity": "warning", "subject": "node 2", "code": "CODE", "found": "it is so",
                   "means": "that much", "do": "this"})
        );
    }

    #[test]
    fn nothing_found_is_fine() {
        assert_eq!(Report::new(Vec::new()).worst(), Severity::Ok);
    }
}
