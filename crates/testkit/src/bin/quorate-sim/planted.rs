//! `quorate-sim planted`: each fault is planted, and the story runs that must notice it.

use crate::{Format, bar, directory};
use quorate_testkit::sim::{Case, Caught, Fault, Missed, cases, prove};
use serde_json::json;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

const HEAD: &str = "\
| fault | caught by | check | seed | seeds | real s | virtual s |
|---|---|---|---|---|---|---|";

type Proved = (Case, Result<Caught, Missed>);

/// Whether all were caught, or this one.
///
/// # Errors
/// When no fault has that name.
pub(super) fn run(
    output: Format,
    fault: Option<&str>,
    threads: usize,
) -> Result<bool, <Fault as std::str::FromStr>::Err> {
    let mut cases = cases();
    if let Some(name) = fault {
        let fault: Fault = name.parse()?;
        cases.retain(|case| case.fault == fault);
    }
    let begun = Instant::now();
    let proved = prove_all(&cases, threads);
    match output {
        Format::Json => proved.iter().for_each(print_json),
        Format::Text => {
            println!("{HEAD}");
            proved.iter().for_each(print_row);
            println!("\n{} faults in {:.0} s", proved.len(), begun.elapsed().as_secs_f64());
            proved.iter().for_each(print_missed);
        }
    }
    Ok(proved.iter().all(|(_, result)| result.is_ok()))
}

/// All cases on so many threads; answered in their order.
fn prove_all(cases: &[Case], threads: usize) -> Vec<Proved> {
    let bar = bar(cases.len() as u64, "planted");
    let (next, proved) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..threads.max(1) {
            scope.spawn(|| {
                loop {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    let Some(case) = cases.get(at) else { return };
                    bar.set_message(case.fault.name());
                    let result = prove(case, &directory());
                    bar.inc(1);
                    proved.lock().expect("nobody panics with it").push((at, (*case, result)));
                }
            });
        }
    });
    bar.finish_and_clear();
    let mut proved = proved.into_inner().expect("nobody panics with it");
    proved.sort_by_key(|(at, _)| *at);
    proved.into_iter().map(|(_, proved)| proved).collect()
}

fn print_row((case, result): &Proved) {
    let Case { fault, story, check, .. } = case;
    match result {
        Ok(caught) => println!(
            "| {fault} | {story} | {check} | {} | {} | {:.1} | {:.0} |",
            caught.seed,
            caught.seeds,
            caught.real.as_secs_f64(),
            caught.simulated.as_secs_f64()
        ),
        Err(missed) => println!(
            "| {fault} | NOT CAUGHT by {story} | {check} | | {} | {:.1} | |",
            missed.seeds,
            missed.real.as_secs_f64()
        ),
    }
}

fn print_missed((case, result): &Proved) {
    let Err(missed) = result else { return };
    println!("\n{} was not caught: {}", case.fault, case.fault.about());
    missed.told.iter().take(10).for_each(|problem| println!("    instead: {problem}"));
}

fn print_json((case, result): &Proved) {
    let Case { fault, story, check, .. } = case;
    let result = match result {
        Ok(caught) => json!({
            "caught": true,
            "seed": caught.seed,
            "seeds": caught.seeds,
            "real_seconds": caught.real.as_secs_f64(),
            "virtual_seconds": caught.simulated.as_secs_f64(),
            "problem": caught.problem,
        }),
        Err(missed) => json!({
            "caught": false,
            "seeds": missed.seeds,
            "real_seconds": missed.real.as_secs_f64(),
            "instead": missed.told,
        }),
    };
    let of = json!({
        "fault": fault.name(),
        "about": fault.about(),
        "story": story.name(),
        "check": check,
    });
    println!("{}", crate::merged(of, result));
}
