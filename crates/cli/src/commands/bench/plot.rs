//! Draws what was measured: operations per second over time, latency over the share of operations.

use super::measured::Measured;
use plotters::prelude::*;
use std::path::Path;

const SIZE: (u32, u32) = (900, 700);
/// Shares at which the latency curve is drawn: from the median far into the tail.
const SHARES: usize = 400;

/// Writes the picture as SVG.
pub(super) fn draw(path: &Path, title: &str, measured: &Measured) -> anyhow::Result<()> {
    let problem = |error: DrawingAreaErrorKind<std::io::Error>| {
        anyhow::anyhow!("can't draw {}: {error}", path.display())
    };
    let root = SVGBackend::new(path, SIZE).into_drawing_area();
    root.fill(&WHITE).map_err(problem)?;
    let root = root.titled(title, ("sans-serif", 20)).map_err(problem)?;
    let (upper, lower) = root.split_vertically(SIZE.1 / 2 - 20);

    let per_second = &measured.per_second;
    let most = per_second.iter().copied().max().unwrap_or(0).max(1) as f64;
    let seconds = per_second.len().max(1) as f64;
    let mut chart = ChartBuilder::on(&upper)
        .margin(12)
        .x_label_area_size(40)
        .y_label_area_size(80)
        .build_cartesian_2d(0.0..seconds, 0.0..most * 1.1)
        .map_err(problem)?;
    chart
        .configure_mesh()
        .x_desc("seconds")
        .y_desc("operations per second")
        .draw()
        .map_err(problem)?;
    let points = per_second.iter().zip(1_u32..).map(|(count, at)| (at.into(), *count as f64));
    chart.draw_series(LineSeries::new(points, &BLUE)).map_err(problem)?;

    // The nines: 1 is 90 %, 2 is 99 %, 3 is 99.9 %.
    let nines = 4.0;
    let latency = |nines: f64| measured.latencies.at(1.0 - 10_f64.powf(-nines)) as f64 / 1_000.0;
    let longest = latency(nines).max(0.001);
    let mut chart = ChartBuilder::on(&lower)
        .margin(12)
        .x_label_area_size(40)
        .y_label_area_size(80)
        .build_cartesian_2d(0.0..nines, 0.0..longest * 1.1)
        .map_err(problem)?;
    let share = |nines: &f64| format!("{:.2} %", 100.0 * (1.0 - 10_f64.powf(-nines)));
    chart
        .configure_mesh()
        .x_desc("share of operations that took at most ...")
        .y_desc("milliseconds")
        .x_label_formatter(&share)
        .draw()
        .map_err(problem)?;
    let points = (0..=SHARES).map(|step| {
        let at = nines * step as f64 / SHARES as f64;
        (at, latency(at))
    });
    chart.draw_series(LineSeries::new(points, &RED)).map_err(problem)?;
    lower.present().map_err(problem)?;
    root.present().map_err(problem)
}

#[cfg(test)]
mod tests {
    use super::super::measured::Latencies;
    use super::*;
    use std::collections::BTreeMap;
    use std::time::Duration;

    #[test]
    fn a_picture_is_drawn_also_of_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("p.svg");
        let mut measured = Measured {
            latencies: Latencies::new(),
            failures: BTreeMap::new(),
            not_begun: 0,
            elapsed: Duration::from_secs(1),
            counted: BTreeMap::new(),
            silent_nodes: 0,
            per_second: Vec::new(),
        };
        draw(&path, "nothing", &measured).unwrap();
        measured.latencies.record(Duration::from_millis(3));
        measured.per_second = vec![1, 2, 3];
        draw(&path, "something", &measured).unwrap();
        let svg = std::fs::read_to_string(&path).unwrap();
        assert!(svg.contains("<svg") && svg.contains("operations per second"));
    }
}
