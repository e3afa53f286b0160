//! Three machines with TLS and tokens, as `docs/operations.md` has it: its commands and its configuration as
//! they stand there, in a network of their own with the addresses that it names. Only what systemd and
//! an administrator do otherwise is left out, and `/etc/quorate` is another directory for each machine.

use quorate_tests::processes::{Quorate, alone, say};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;
use tokio::process::Command;

/// What all of it may take.
const ALL_MAX: Duration = Duration::from_secs(120);

/// The fenced blocks of the section, by their language.
fn blocks(language: &str) -> Vec<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/operations.md");
    let text = std::fs::read_to_string(path).expect("the handbook is there");
    let from = text.find("## Three machines, with systemd").expect("the section is there");
    let section = &text[from..];
    let section = section.split("\n## ").next().expect("a split has a first part");
    let fence = format!("```{language}\n");
    let blocks = section.split(&fence).skip(1);
    blocks.map(|block| block.split("```").next().expect("it has one").to_owned()).collect()
}

/// A block with these words in it, of which there is one.
fn block(language: &str, words: &str) -> String {
    let found: Vec<_> =
        blocks(language).into_iter().filter(|block| block.contains(words)).collect();
    assert_eq!(found.len(), 1, "blocks with {words}: {found:?}");
    found.into_iter().next().expect("there is one")
}

/// For the machine of this number, from what stands there for the first.
fn for_machine(text: &str, n: u64) -> String {
    let (mut lines, list) = (Vec::new(), "initial_cluster");
    for line in text.lines() {
        let own = line
            .replace("node_id = 1", &format!("node_id = {n}"))
            .replace("node-1", &format!("node-{n}"))
            .replace("peer-1", &format!("peer-{n}"))
            .replace("/etc/quorate", &format!("etc-{n}"));
        lines.push(match line.starts_with(list) {
            true => line.to_owned(),
            false => own.replace("\"10.0.0.1:", &format!("\"10.0.0.{n}:")),
        });
    }
    lines.join("\n")
}

/// Whether this machine lets us have a network of our own.
async fn has_namespaces() -> bool {
    let tried = Command::new("unshare").args(["-rn", "true"]).output().await;
    tried.is_ok_and(|tried| tried.status.success())
}

#[tokio::test]
async fn three_machines_are_set_up_as_the_handbook_says() {
    let _alone = alone().await;
    if !has_namespaces().await {
        say("not tried: this machine lets nobody have a network of his own (unshare -rn)");
        return;
    }
    let directory = tempfile::tempdir().expect("a directory can be made");
    let (certificates, placed) = (block("sh", "certs create"), block("sh", "chown quorate:"));
    let (config, used) = (block("toml", "[auth]"), block("sh", "auth role put"));
    let mut script = String::from("set -eu\nip link set lo up\n");
    for n in 1..=3 {
        script += &format!("ip addr add 10.0.0.{n}/32 dev lo\n");
    }
    script += &certificates;
    for n in 1..=3 {
        // There is no user quorate here, and nobody else either.
        let placed = for_machine(&placed, n).replace("-g quorate ", "").replace("chown", ": chown");
        script += &format!(
            "{placed}\ncat >etc-{n}/quorate.toml <<'TOML'\n{}\nTOML\n",
            for_machine(&config, n)
        );
        script += &format!("quorate config check etc-{n}/quorate.toml >/dev/null\n");
        script += &format!(
            "quorate serve --config etc-{n}/quorate.toml --data-dir data-{n} >node-{n}.out 2>node-{n}.log &\n\
             pids=\"${{pids:-}} $!\"\n"
        );
    }
    script += "trap 'kill $pids' EXIT\n";
    for n in 1..=3 {
        script += &format!(
            "until quorate health --http https://10.0.0.{n}:8813 --ca-file certs/ca.pem; do :; done\n"
        );
    }
    script += &used;
    let quorate = Quorate::bare().command();
    let program = Path::new(quorate.as_std().get_program()).parent().expect("it has a directory");
    let path = format!("{}:{}", program.display(), std::env::var("PATH").unwrap_or_default());
    let mut shell = Command::new("unshare");
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("QUORATE_") {
            shell.env_remove(name);
        }
    }
    shell.args(["-rn", "bash", "-c", &script]).current_dir(directory.path()).env("PATH", path);
    shell.stdin(Stdio::null()).kill_on_drop(true);
    let ended = tokio::time::timeout(ALL_MAX, shell.output()).await;
    let ended = ended.expect("it ends in time").expect("there is a shell");
    let (said, wrong) =
        (String::from_utf8_lossy(&ended.stdout), String::from_utf8_lossy(&ended.stderr));
    let logs = std::fs::read_to_string(directory.path().join("node-1.log")).unwrap_or_default();
    assert!(ended.status.success(), "{said}\n{wrong}\n{logs}\n{script}");
    assert!(said.trim_end().ends_with("hello"), "{said}");
}
