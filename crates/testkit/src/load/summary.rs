//! Numbers as people read them: the ends and the middle of a set of times, and aligned tables.

use std::fmt;
use std::time::Duration;

/// Shortest, median and longest of a set of times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Summary {
    /// The shortest.
    pub min: Duration,
    /// The middle one; of an even number, the longer of the two.
    pub median: Duration,
    /// The longest.
    pub max: Duration,
}

impl Summary {
    /// Of these times; `None` when there are none.
    pub fn of(times: impl IntoIterator<Item = Duration>) -> Option<Self> {
        let mut times: Vec<_> = times.into_iter().collect();
        times.sort_unstable();
        Some(Self { min: *times.first()?, median: times[times.len() / 2], max: *times.last()? })
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { min, median, max } = self;
        let [min, median, max] = [min, median, max].map(Duration::as_millis);
        write!(f, "min {min} ms, median {median} ms, max {max} ms")
    }
}

/// Rows under a header, columns aligned to the right, two spaces between them.
pub fn table(header: &[&str], rows: &[Vec<String>]) -> String {
    let header: Vec<String> = header.iter().map(|&cell| cell.to_owned()).collect();
    let lines: Vec<&Vec<String>> = std::iter::once(&header).chain(rows).collect();
    let width = |column: usize| {
        let cells = lines.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..header.len()).map(width).collect();
    let aligned = lines.iter().map(|row| {
        let cells = row.iter().zip(&widths).map(|(cell, &width)| format!("{cell:>width$}"));
        cells.collect::<Vec<_>>().join("  ")
    });
    aligned.collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_ends_and_the_middle() {
        let of = |ms: &[u64]| Summary::of(ms.iter().copied().map(Duration::from_millis));
        assert_eq!(of(&[]), None);
        assert_eq!(of(&[9, 2, 5]).unwrap().to_string(), "min 2 ms, median 5 ms, max 9 ms");
        assert_eq!(of(&[1, 2, 3, 4]).unwrap().median, Duration::from_millis(3));
    }

    #[test]
    fn columns_are_aligned() {
        let rows = [vec!["1".to_owned(), "812".to_owned()], vec!["10".to_owned(), "7".to_owned()]];
        assert_eq!(table(&["round", "ms"], &rows), "round   ms\n    1  812\n   10    7");
    }
}
