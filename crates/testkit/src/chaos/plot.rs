//! Draws a run: answered calls per second over time, and above them what went wrong meanwhile.

use super::run::Outcome;
use crate::work::book::Ended;
use anyhow::Result;
use plotters::prelude::*;
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

const WIDTH: u32 = 1_400;
/// Of the curve.
const HEIGHT: u32 = 320;
/// Of one kind of fault.
const ROW: u32 = 18;
/// For names.
const MARGIN: u32 = 230;
/// Points of the curve in a second.
const PER_SECOND: usize = 2;

/// Writes the picture as SVG.
///
/// # Errors
/// When the file can't be written.
pub fn draw(path: &Path, title: &str, outcome: &Outcome) -> Result<()> {
    let problem = |error: DrawingAreaErrorKind<std::io::Error>| {
        anyhow::anyhow!("can't draw {}: {error}", path.display())
    };
    let end = outcome.records.iter().map(|record| record.ended).max().unwrap_or_default();
    let seconds = end.max(outcome.lasted).as_secs_f64().max(1.0);
    let mut rows: BTreeMap<&str, Vec<(f64, f64)>> = BTreeMap::new();
    for fault in &outcome.happened {
        // A moment is to be seen, too.
        let (from, until) = (fault.from.as_secs_f64(), fault.until.as_secs_f64());
        rows.entry(&fault.kind).or_default().push((from, until.max(from + seconds / 1_000.0)));
    }
    let above = ROW * u32::try_from(rows.len()).unwrap_or(u32::MAX) + 20;
    let root = SVGBackend::new(path, (WIDTH, above + HEIGHT + 40)).into_drawing_area();
    root.fill(&WHITE).map_err(problem)?;
    let root = root.titled(title, ("sans-serif", 20)).map_err(problem)?;
    let (upper, lower) = root.split_vertically(above);

    let mut chart = ChartBuilder::on(&upper)
        .margin_right(12)
        .set_label_area_size(LabelAreaPosition::Left, MARGIN)
        .build_cartesian_2d(0.0..seconds, 0.0..rows.len().max(1) as f64)
        .map_err(problem)?;
    let names: Vec<_> = rows.keys().copied().collect();
    for (row, spans) in rows.values().enumerate() {
        let color = Palette99::pick(row).to_rgba();
        let bars = spans.iter().map(|(from, until)| {
            let (low, high) = (row as f64 + 0.15, row as f64 + 0.85);
            Rectangle::new([(*from, low), (*until, high)], color.filled())
        });
        chart.draw_series(bars).map_err(problem)?;
    }
    for (row, name) in names.iter().enumerate() {
        let (_, y) = chart.backend_coord(&(0.0, row as f64 + 0.8));
        let style = ("sans-serif", 13).into_font();
        upper
            .draw(&Text::new((*name).to_owned(), (8, y - upper.get_base_pixel().1), style))
            .map_err(problem)?;
    }

    let per_point = 1.0 / PER_SECOND as f64;
    let curve = |how: Ended| -> Vec<(f64, f64)> {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "of a positive time"
        )]
        let point = |at: Duration| (at.as_secs_f64() / per_point) as usize;
        let mut counts = vec![0_u64; point(end) + 1];
        for record in outcome.records.iter().filter(|record| record.how == how) {
            counts[point(record.ended)] += 1;
        }
        let points = counts.into_iter().enumerate();
        points.map(|(at, count)| (at as f64 * per_point, count as f64 / per_point)).collect()
    };
    let answered = curve(Ended::Answered);
    let most = answered.iter().map(|(_, count)| *count).fold(1.0, f64::max);
    let mut chart = ChartBuilder::on(&lower)
        .margin_right(12)
        .x_label_area_size(40)
        .set_label_area_size(LabelAreaPosition::Left, MARGIN)
        .build_cartesian_2d(0.0..seconds, 0.0..most * 1.1)
        .map_err(problem)?;
    chart
        .configure_mesh()
        .disable_x_mesh()
        .x_desc("seconds")
        .y_desc("calls per second")
        .draw()
        .map_err(problem)?;
    let lines = [
        (answered, BLUE, "answered"),
        (curve(Ended::Failed), BLACK, "failed, without effect"),
        (curve(Ended::Unknown), RED, "of unknown outcome"),
    ];
    for (points, color, name) in lines {
        let line = chart.draw_series(LineSeries::new(points, &color)).map_err(problem)?;
        line.label(name).legend(move |(x, y)| PathElement::new([(x, y), (x + 16, y)], color));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperRight)
        .background_style(WHITE.mix(0.8))
        .border_style(BLACK)
        .draw()
        .map_err(problem)?;
    root.present().map_err(problem)
}
