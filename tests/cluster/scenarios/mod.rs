//! The scenarios that every client runs alike, see `tests/scenarios/README.md`. With QUORATE_SCENARIO only
//! those whose names have that text.

mod calls;
mod kept;
mod queue;
mod txn;

use anyhow::{Context as _, Result, bail, ensure};
use calls::{Failure, Scenario};
use quorate_testkit::process::ProcessCluster;
use quorate_tests::processes::alone;
use serde_json::{Map, Value};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use tokio::sync::Mutex;

/// One scenario of a file.
struct Written {
    file: String,
    name: String,
    steps: Vec<Value>,
}

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios")
}

/// All scenarios, in the order of the files' names.
fn written() -> Result<Vec<Written>> {
    let mut files: Vec<_> = std::fs::read_dir(directory())?
        .map(|entry| Ok(entry?.path()))
        .collect::<Result<Vec<_>>>()?
        .into_iter()
        .filter(|path| path.extension().is_some_and(|extension| extension == "json"))
        .collect();
    files.sort();
    let mut all = Vec::new();
    for path in files {
        let file = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let text = std::fs::read_to_string(&path)?;
        let mut document: Value = serde_json::from_str(&text).with_context(|| file.clone())?;
        let Value::Array(scenarios) = document["scenarios"].take() else {
            bail!("{file} has no list of scenarios");
        };
        for mut scenario in scenarios {
            let name = scenario["name"].as_str().with_context(|| file.clone())?.to_owned();
            let Value::Array(steps) = scenario["steps"].take() else {
                bail!("{name} has no steps")
            };
            all.push(Written { file: file.clone(), name, steps });
        }
    }
    Ok(all)
}

type Done<'a> = Pin<Box<dyn Future<Output = Result<()>> + Send + 'a>>;

/// Does steps one after the other; `turn` is the number of the turn they are repeated in.
fn steps(scenario: Arc<Scenario>, steps: &[Value], turn: Option<u64>) -> Done<'_> {
    Box::pin(async move {
        for step in steps {
            if let Some(times) = step["repeat"].as_u64() {
                let list = step["steps"].as_array().context("repeat has no steps")?;
                for turn in 1..=times {
                    self::steps(Arc::clone(&scenario), list, Some(turn)).await?;
                }
            } else if let Some(lists) = step["parallel"].as_array() {
                let beside = lists.iter().map(|list| {
                    let list = list.as_array().map_or(&[][..], Vec::as_slice);
                    self::steps(Arc::clone(&scenario), list, turn)
                });
                futures::future::try_join_all(beside).await?;
            } else {
                one(&scenario, turned(step, turn)).await?;
            }
        }
        Ok(())
    })
}

/// One call, held against what the step expects of it.
async fn one(scenario: &Scenario, step: Value) -> Result<()> {
    let Value::Object(step) = step else { bail!("{step} is no step") };
    let call = step.get("do").and_then(Value::as_str).context("a step does nothing")?;
    let empty = Map::new();
    let with = step.get("with").and_then(Value::as_object).unwrap_or(&empty);
    let by = step.get("client").and_then(Value::as_str).unwrap_or("a");
    let name = step.get("as").and_then(Value::as_str);
    let text = Value::Object(step.clone()).to_string();
    let came = scenario.call(call, with, by, name).await;
    match (came, step.get("error")) {
        (Ok(came), None) => {
            if let Some(expected) = step.get("expect") {
                ensure!(came == *expected, "{text} came to {came}");
            }
        }
        (Ok(came), Some(_)) => bail!("{text} came to {came}"),
        (Err(Failure::Call { kind, reason, .. }), Some(expected)) => {
            ensure!(expected["kind"] == kind, "{text} failed as {kind}/{reason}");
            if let Some(word) = expected["reason"].as_str() {
                ensure!(word == reason, "{text} failed as {kind}/{reason}");
            }
        }
        (Err(failure), _) => bail!("{text} failed: {failure}"),
    }
    Ok(())
}

/// The step of a turn: `#` in its texts is the turn's number.
fn turned(value: &Value, turn: Option<u64>) -> Value {
    let Some(number) = turn else { return value.clone() };
    match value {
        Value::String(text) if text == "#" => number.into(),
        Value::String(text) => text.replace('#', &number.to_string()).into(),
        Value::Array(items) => items.iter().map(|item| turned(item, turn)).collect(),
        Value::Object(fields) => {
            fields.iter().map(|(name, item)| (name.clone(), turned(item, turn))).collect()
        }
        other => other.clone(),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn scenarios() {
    let _alone = alone().await;
    let mut cluster = ProcessCluster::start(3).await.expect("the nodes start");
    cluster.wait_ready().await.expect("one leads");
    let cluster = Arc::new(Mutex::new(cluster));
    let only = std::env::var("QUORATE_SCENARIO").unwrap_or_default();
    let written = written().expect("the scenarios can be read");
    let chosen: Vec<_> =
        written.iter().enumerate().filter(|(_, one)| one.name.contains(&only)).collect();
    assert!(!chosen.is_empty(), "no scenario has {only:?} in its name");
    for (at, Written { file, name, steps: list }) in chosen {
        let scenario = Scenario::new(Arc::clone(&cluster), format!("scenario-{at}")).await;
        let scenario = Arc::new(scenario);
        if let Err(error) = steps(Arc::clone(&scenario), list, None).await {
            cluster.lock().await.mark_failed();
            panic!("{file}: {name}: {error:#}\nrepeat it with QUORATE_SCENARIO={name:?}");
        }
        scenario.end().await;
        quorate_tests::processes::say(format_args!("{file}: {name}"));
    }
}
