//! What was measured, as a table for reading and as JSON for everything else.

use crate::closed_loop::Figures;
use crate::system::{Promises, System};
use crate::work::Job;
use serde_json::{Map, Value, json};
use std::fmt::Write as _;

/// One measurement, or why there is none.
#[derive(Debug)]
pub(crate) struct Measurement {
    pub(crate) round: usize,
    pub(crate) job: Job,
    pub(crate) system: System,
    pub(crate) result: Result<Figures, String>,
}

/// A system with one work and load: the medians of all rounds.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) job: Job,
    pub(crate) system: System,
    /// None when no round has any.
    pub(crate) figures: Option<Figures>,
    /// Operations per second of Quorate for each of this one's.
    pub(crate) ratio: Option<f64>,
    pub(crate) rounds: usize,
    pub(crate) failed: usize,
}

/// A row for each work, load and system, in the order of the jobs.
pub(crate) fn rows(jobs: &[Job], measurements: &[Measurement]) -> Vec<Row> {
    let mut rows = Vec::new();
    for job in jobs {
        let figures = |system| {
            let of = measurements.iter().filter(move |measurement| {
                let measured = &measurement.job;
                measurement.system == system
                    && measured.work == job.work
                    && measured.load == job.load
            });
            let rounds = of.clone().count();
            let good: Vec<_> = of.filter_map(|of| of.result.as_ref().ok()).cloned().collect();
            (rounds, rounds - good.len(), median(good))
        };
        let ours = figures(System::Quorate).2;
        for system in System::ALL {
            let (rounds, failed, figures) = figures(system);
            if rounds == 0 {
                continue;
            }
            let ratio = ours.as_ref().zip(figures.as_ref()).filter(|_| system != System::Quorate);
            let ratio = ratio.map(|(ours, theirs)| ours.per_second / theirs.per_second);
            rows.push(Row { job: *job, system, figures, ratio, rounds, failed });
        }
    }
    rows
}

/// The measurement in the middle, by operations per second.
fn median(mut figures: Vec<Figures>) -> Option<Figures> {
    figures.sort_by(|a, b| a.per_second.total_cmp(&b.per_second));
    let middle = figures.len() / 2;
    (!figures.is_empty()).then(|| figures.swap_remove(middle))
}

fn said(promise: Option<(bool, &str)>) -> String {
    let word = |kept| if kept { "yes" } else { "no" };
    match promise {
        None => "–".to_owned(),
        Some((kept, "")) => word(kept).to_owned(),
        Some((kept, how)) => format!("{}: {how}", word(kept)),
    }
}

/// Markdown. The ratio is that of Quorate to the system of its line.
pub(crate) fn table(rows: &[Row]) -> String {
    let mut text = String::from(
        "| work | clients | system | ops/s | quorate is | p50 / p99 ms | fsynced on a majority before \
         the ack | linearizable read |\n|---|---|---|---|---|---|---|---|\n",
    );
    let ms = |us: u64| us as f64 / 1_000.0;
    for row in rows {
        let Promises { fsynced, linearizable } = row.system.promises(row.job.work);
        let (per_second, latency) = match &row.figures {
            None => ("failed".to_owned(), "–".to_owned()),
            Some(figures) => (
                format!("{:.0}", figures.per_second),
                format!("{:.2} / {:.2}", ms(figures.p50_us), ms(figures.p99_us)),
            ),
        };
        let ratio = row.ratio.map_or("–".to_owned(), |ratio| format!("{ratio:.2}x"));
        // Writing into a string does not fail.
        let _ = writeln!(
            text,
            "| {} | {} | {} | {per_second} | {ratio} | {latency} | {} | {} |",
            row.job.work.name(),
            row.job.load,
            row.system.name(),
            said(fsynced),
            said(linearizable),
        );
    }
    text.push('\n');
    let mut works: Vec<_> = rows.iter().map(|row| row.job.work).collect();
    works.dedup();
    for work in works {
        let _ = writeln!(text, "- {}: {}", work.name(), work.operation());
    }
    for Row { job, system, figures, failed, rounds, .. } in rows {
        let (work, load, name) = (job.work.name(), job.load, system.name());
        let gaps = figures.as_ref().and_then(|figures| figures.more.get("gaps")?.as_u64());
        if let Some(gaps @ 1..) = gaps {
            let what = "times subscribers were too slow and missed messages";
            let _ = writeln!(text, "- {work} with {load} on {name}: {gaps} {what}");
        }
        if *failed == 0 {
            continue;
        }
        let _ =
            writeln!(text, "- {work} with {load} on {name}: {failed} of {rounds} rounds failed");
    }
    text
}

fn described(job: &Job, system: System) -> Map<String, Value> {
    let clients = job.clients();
    let Promises { fsynced, linearizable } = system.promises(job.work);
    let promise = |promise: Option<(bool, &str)>| {
        promise.map(|(kept, how)| json!({ "promised": kept, "how": how }))
    };
    let Value::Object(described) = json!({
        "work": job.work.name(),
        "load": job.load.to_string(),
        "connections": clients.connections,
        "in_flight": clients.in_flight,
        "subscribers": job.subscribers(),
        "system": system.name(),
        "fsynced_on_a_majority_before_the_ack": promise(fsynced),
        "linearizable_read": promise(linearizable),
    }) else {
        unreachable!("it is an object")
    };
    described
}

fn insert(object: &mut Map<String, Value>, figures: &Figures) {
    let per_second = (figures.per_second * 10.0).round() / 10.0;
    object.insert("operations".into(), figures.operations.into());
    object.insert("operations_per_second".into(), per_second.into());
    object.insert("p50_us".into(), figures.p50_us.into());
    object.insert("p99_us".into(), figures.p99_us.into());
}

/// Everything, under what the run was.
pub(crate) fn json(run: Map<String, Value>, measurements: &[Measurement], rows: &[Row]) -> Value {
    let all = measurements.iter().map(|measurement| {
        let mut object = described(&measurement.job, measurement.system);
        object.insert("round".into(), measurement.round.into());
        match &measurement.result {
            Ok(figures) => {
                insert(&mut object, figures);
                object.insert("more".into(), figures.more.clone().into());
            }
            Err(error) => drop(object.insert("error".into(), error.as_str().into())),
        }
        Value::from(object)
    });
    let medians = rows.iter().map(|row| {
        let mut object = described(&row.job, row.system);
        if let Some(figures) = &row.figures {
            insert(&mut object, figures);
        }
        object.insert("quorate_ratio".into(), json!(row.ratio));
        object.insert("rounds".into(), row.rounds.into());
        object.insert("failed_rounds".into(), row.failed.into());
        Value::from(object)
    });
    let mut json = run;
    json.insert("medians".into(), medians.collect());
    json.insert("measurements".into(), all.collect());
    json.into()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::work::{Clients, Load, Work};

    pub(crate) fn example() -> (Vec<Job>, Vec<Measurement>) {
        let load = Load::Clients(Clients { connections: 4, in_flight: 64 });
        let job = Job { work: Work::Put, load, seconds: 1, value_bytes: 256, keys: 100 };
        let figures = |per_second| Figures { per_second, p50_us: 1_500, ..Figures::default() };
        let measured = |round, system, result: Result<f64, &str>| Measurement {
            round,
            job,
            system,
            result: result.map(figures).map_err(str::to_owned),
        };
        let measurements = vec![
            measured(1, System::Quorate, Ok(300.0)),
            measured(1, System::Etcd, Ok(100.0)),
            measured(2, System::Etcd, Ok(500.0)),
            measured(2, System::Quorate, Ok(100.0)),
            measured(3, System::Quorate, Ok(200.0)),
            measured(3, System::Etcd, Ok(50.0)),
            measured(3, System::Nats, Err("no leader")),
        ];
        (vec![job], measurements)
    }

    #[test]
    fn the_table_has_medians_and_ratios_and_says_what_failed() {
        let (jobs, measurements) = example();
        let text = table(&rows(&jobs, &measurements));
        assert!(
            text.contains("| put | 4x64 | quorate | 200 | – | 1.50 / 0.00 | yes | – |"),
            "{text}"
        );
        assert!(text.contains("| put | 4x64 | etcd | 100 | 2.00x |"), "{text}");
        assert!(text.contains("| nats | failed | – | – | no: in memory"), "{text}");
        assert!(text.contains("put with 4x64 on nats: 1 of 1 rounds failed"), "{text}");
    }

    #[test]
    fn the_json_has_every_measurement() {
        let (jobs, measurements) = example();
        let json = json(Map::new(), &measurements, &rows(&jobs, &measurements));
        assert_eq!(json["measurements"].as_array().unwrap().len(), 7);
        assert_eq!(json["measurements"][6]["error"], "no leader");
        assert_eq!(json["medians"][1]["quorate_ratio"], 2.0);
    }
}
