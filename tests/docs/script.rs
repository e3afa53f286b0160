//! What a shell is given for a block of commands.

use std::fmt::Write as _;

/// Commands that run until somebody ends them.
const LASTING: &[&str] = &[
    "quorate bus reply",
    "quorate bus sub",
    "quorate kv watch",
    "quorate lock watch",
    "quorate queue work",
    "quorate serve",
    "quorate top",
];
/// The cluster that every page is run on.
const CLUSTER: &str = "quorate dev --nodes 3";
/// How long a lasting command is looked at, in twentieths of a second: one that can't do what it shows
/// ends before that.
const LOOKS: u32 = 20;

/// A line with those that it goes on with, and the comment behind it.
struct Line<'a> {
    command: String,
    comment: &'a str,
}

/// A command without the comment behind it. A `#` in a quotation is none, and has no two spaces before it.
fn apart(line: &str) -> (&str, &str) {
    match line.find("  # ").or_else(|| line.starts_with("# ").then_some(0)) {
        Some(at) => {
            let (command, comment) = line.split_at(at);
            (command.trim_end(), comment.trim_start_matches([' ', '#']))
        }
        None => (line, ""),
    }
}

fn lines(text: &str) -> Vec<Line<'_>> {
    let (mut lines, mut begun) = (Vec::new(), String::new());
    for line in text.lines() {
        if let Some(part) = line.strip_suffix('\\') {
            begun += part;
            continue;
        }
        let (command, comment) = apart(line);
        let command = std::mem::take(&mut begun) + command;
        lines.push(Line { command, comment });
    }
    lines
}

/// The exit status that a comment says of its command: `exit code 4`, and nothing but a colon behind it.
/// `exit code 4 when …` tells of another time.
fn status(comment: &str) -> Option<u8> {
    let said = comment.strip_prefix("exit code ")?;
    let digits = said.find(|c: char| !c.is_ascii_digit()).unwrap_or(said.len());
    let (number, rest) = said.split_at(digits);
    (rest.is_empty() || rest.starts_with(':')).then(|| number.parse().ok()).flatten()
}

fn lasts(command: &str) -> bool {
    let command =
        command.split_inclusive(' ').skip_while(|word| word.contains('=')).collect::<String>();
    LASTING.iter().any(|lasting| command.starts_with(lasting)) || command.ends_with(" --watch")
}

/// A script for bash that does what the block shows, and fails when a command of it does. Lasting
/// commands run beside the others, and must not have failed when these are done.
pub(crate) fn script(text: &str) -> String {
    let mut script =
        String::from("set -euo pipefail\nlasting=(); ended() { echo \"$1\" >&2; exit 1; }\n");
    for (number, Line { command, comment }) in lines(text).into_iter().enumerate() {
        let written = if command.starts_with(CLUSTER) {
            writeln!(script, ": the cluster runs already")
        } else if lasts(&command) {
            writeln!(script, "( exec env {command} ) >lasting-{number}.out 2>&1 & lasting+=($!)")
        } else if let Some(status) = status(comment) {
            let wrong = format!("should end with {status}");
            writeln!(
                script,
                "became=0; {{ {command}\n}} || became=$?; [ $became = {status} ] || ended \"{wrong}, not $became\""
            )
        } else {
            writeln!(script, "{command}")
        };
        written.expect("a text takes whatever is written");
    }
    let after = format!(
        "export -p >.environment\n\
         for pid in \"${{lasting[@]}}\"; do\n\
         \tlooks={LOOKS}\n\
         \twhile kill -0 $pid 2>/dev/null && [ $((looks--)) -gt 0 ]; do sleep 0.05; done\n\
         \tif kill -TERM $pid 2>/dev/null; then wait $pid || true\n\
         \telse wait $pid || {{ cat lasting-*.out >&2; ended 'a lasting command failed'; }}; fi\n\
         done\n"
    );
    script + &after
}

/// The programs that a command of the block runs, as in `-- ./send-email`.
pub(crate) fn programs(text: &str) -> impl Iterator<Item = &str> {
    let words = text.split_whitespace();
    let behind = words.clone().zip(words.skip(1)).filter(|(before, _)| *before == "--");
    behind.filter_map(|(_, word)| word.strip_prefix("./"))
}

/// A command of a console with what it printed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Said {
    /// As it was typed.
    pub(crate) command: String,
    /// Both outputs.
    pub(crate) output: String,
}

/// The commands of a console, which may go on over lines while a quotation is open.
pub(crate) fn said(text: &str) -> Vec<Said> {
    let mut all: Vec<Said> = Vec::new();
    for line in text.lines() {
        if let Some(command) = line.strip_prefix("$ ") {
            all.push(Said { command: command.to_owned(), output: String::new() });
            continue;
        }
        let Some(said) = all.last_mut() else { continue };
        let quotes = said.command.matches('\'').count();
        if said.output.is_empty() && quotes % 2 == 1 {
            said.command += "\n";
            said.command += line;
        } else {
            said.output += line;
            said.output.push('\n');
        }
    }
    all
}

/// What two runs have alike: moments are moments, and large numbers (times, and what is left of them)
/// are large.
pub(crate) fn alike(output: &str) -> String {
    let mut alike = String::new();
    let mut rest = output;
    while let Some(at) = rest.find(|c: char| c.is_ascii_digit()) {
        let (before, from) = rest.split_at(at);
        alike += before;
        let moment = |c: char| c.is_ascii_digit() || "-:TZ.".contains(c);
        let long = from.find(|c: char| !moment(c)).unwrap_or(from.len());
        let digits = from.find(|c: char| !c.is_ascii_digit()).unwrap_or(from.len());
        let (word, length) = match &from[..long] {
            time if time.len() >= 20 && time.contains('T') => ("<time>", long),
            _ if digits >= 5 => ("<large>", digits),
            _ => (&from[..digits], digits),
        };
        alike += word;
        rest = &from[length..];
    }
    alike + rest
}

#[test]
fn a_block_becomes_a_script() {
    let text = "quorate dev --nodes 3   # the cluster\nquorate kv set a b \\\n  --ttl 1s  # exit code 4: it is there\n\
                quorate kv set '#a' b     # exit code 4 when it is there\nquorate bus sub 'a*' -o json\n";
    let script = script(text);
    let lines: Vec<_> = script.lines().collect();
    assert_eq!(lines[2], ": the cluster runs already");
    assert!(lines[3].contains("quorate kv set a b   --ttl 1s"), "{}", lines[3]);
    assert!(lines[4].contains("[ $became = 4 ]"), "{}", lines[4]);
    assert_eq!(lines[5], "quorate kv set '#a' b");
    assert!(lines[6].starts_with("( exec env quorate bus sub 'a*' -o json )"), "{}", lines[6]);
}

#[test]
fn a_console_is_taken_apart() {
    let said = said("$ sh -c 'a\n  b'\nx\ny\n$ echo $?\n0\n");
    assert_eq!(said.len(), 2);
    assert_eq!((said[0].command.as_str(), said[0].output.as_str()), ("sh -c 'a\n  b'", "x\ny\n"));
    assert_eq!((said[1].command.as_str(), said[1].output.as_str()), ("echo $?", "0\n"));
}

#[test]
fn moments_are_alike_and_small_numbers_are_not() {
    let one = "job 4, 2026-11-28T08:03:14Z, ms 1795852994741, left 29999";
    let two = "job 4, 2027-01-02T18:33:00Z, ms 1895852994742, left 29871";
    assert_eq!(alike(one), alike(two));
    assert_ne!(alike(one), alike(&one.replace("job 4", "job 5")));
    assert_eq!(alike(one), "job 4, <time>, ms <large>, left <large>");
}
