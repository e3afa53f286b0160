//! The ratios as bars: how many operations per second Quorate does for each one of a peer. By hand, as
//! rectangles and text are all there is to draw.

use crate::report::Row;
use crate::system::{Peer, System};
use std::fmt::Write as _;

const WIDTH: f64 = 960.0;
/// Where bars begin at the least, after the labels, and end at the most, before their figures.
const LEFT: f64 = 260.0;
const RIGHT: f64 = 880.0;
const TOP: f64 = 84.0;
const BAR: f64 = 16.0;
const GAP: f64 = 10.0;

fn colour(system: System) -> &'static str {
    match system.peer() {
        None => "#666666",
        Some(Peer::Etcd) => "#3b7dd8",
        Some(Peer::Nats) => "#2a9d6f",
        Some(Peer::Redis) => "#d1495b",
        Some(Peer::Rabbitmq) => "#e08a1e",
    }
}

/// Whether the peer promises as much as Quorate does, so that its bar compares like with like.
fn alike(row: &Row) -> bool {
    let work = row.job.work;
    let (ours, theirs) = (System::Quorate.promises(work), row.system.promises(work));
    let kept = |promise: Option<(bool, &str)>| promise.map(|(kept, _)| kept);
    // Whatever one node promises is gone with it.
    row.system.peer() != Some(Peer::Redis)
        && kept(ours.fsynced) == kept(theirs.fsynced)
        && kept(ours.linearizable) == kept(theirs.linearizable)
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// A picture of all ratios; `about` says what run it is of.
pub(crate) fn draw(rows: &[Row], about: &str) -> String {
    let bars: Vec<_> = rows.iter().filter_map(|row| Some((row, row.ratio?))).collect();
    // Powers of two, with one in the middle of things whatever the ratios are.
    let exponents = bars.iter().map(|(_, ratio)| ratio.max(1e-6).log2());
    let least = exponents.clone().fold(-1.0, f64::min).floor();
    let most = exponents.fold(1.0, f64::max).ceil();
    let x = |ratio: f64| LEFT + (ratio.max(1e-6).log2() - least) / (most - least) * (RIGHT - LEFT);

    let mut drawn = String::new();
    let mut y = TOP;
    let mut last = None;
    for (row, ratio) in &bars {
        let group = (row.job.work, row.job.load);
        if last.is_some_and(|last| last != group) {
            y += GAP;
        }
        let middle = y + BAR / 2.0 + 4.0;
        if last != Some(group) {
            let label = format!("{} {}", row.job.work.name(), row.job.load);
            let _ =
                writeln!(drawn, r#"<text x="12" y="{middle}" font-weight="bold">{label}</text>"#);
        }
        last = Some(group);
        let (from, to) = (x(*ratio).min(x(1.0)), x(*ratio).max(x(1.0)));
        let opacity = if alike(row) { 1.0 } else { 0.45 };
        let _ = writeln!(
            drawn,
            r#"<text x="{:.1}" y="{middle}" text-anchor="end">{}</text>
<rect x="{from:.1}" y="{y}" width="{:.1}" height="{}" fill="{}" fill-opacity="{opacity}"/>
<text x="{:.1}" y="{middle}">{ratio:.2}x</text>"#,
            LEFT - 8.0,
            row.system.name(),
            (to - from).max(1.0),
            BAR - 3.0,
            colour(row.system),
            to + 5.0,
        );
        y += BAR;
    }

    let height = y + 24.0;
    let mut svg = format!(
        r##"<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}" font-family="sans-serif" font-size="12">
<rect width="100%" height="100%" fill="#ffffff"/>
<text x="12" y="22" font-size="16" font-weight="bold">Operations per second of Quorate for each one of a peer</text>
<text x="12" y="40" fill="#555555">{}</text>
<text x="12" y="56" fill="#555555">Right of 1x Quorate does more. Pale: a peer that promises less (or more) than Quorate when it answers.</text>
"##,
        escaped(about)
    );
    let mut exponent = least;
    while exponent <= most {
        let (at, one) = (x(exponent.exp2()), exponent.abs() < 0.5);
        let stroke = if one { "#222222" } else { "#dddddd" };
        let _ = writeln!(
            svg,
            r##"<line x1="{at:.1}" y1="{:.1}" x2="{at:.1}" y2="{y:.1}" stroke="{stroke}"/>
<text x="{at:.1}" y="{:.1}" text-anchor="middle" fill="#555555">{}x</text>"##,
            TOP - 6.0,
            TOP - 10.0,
            exponent.exp2(),
        );
        exponent += 1.0;
    }
    svg + &drawn + "</svg>\n"
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{rows, tests::example};

    #[test]
    fn there_is_a_bar_for_each_ratio() {
        let (jobs, measurements) = example();
        let svg = draw(&rows(&jobs, &measurements), "a < b");
        assert!(svg.contains("put 4x64") && svg.contains(">2.00x<") && svg.contains("a &lt; b"));
        // The ground, and the one peer that has figures.
        assert_eq!(svg.matches("<rect").count(), 2);
    }
}
